import { beforeEach, describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { SseParser, type SseFrame } from '../contract/sse.ts'
import { type EngineRig, useRig } from '../engine/testing/rig.ts'
import type { RunningEngine } from '../engine/create-engine.ts'
import { listEvents } from '../store/events/events.ts'
import { putToken } from '../store/tokens/tokens.ts'
import { type Api, createApi } from './create-api.ts'

const manifest = (name: string, more: { labels?: string; lifecycle?: string; command?: string } = {}): string => `
apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: ${name}, labels: { ${more.labels ?? ''} } }
spec:
  lifecycle: ${more.lifecycle ?? 'active'}
  steps: [{ name: a, command: "${more.command ?? 'true'}" }]
`
const ONE = '/v1/namespaces/default/workflows/one'

describe('the API of resources', () => {
  let rig: EngineRig
  let engine: RunningEngine
  let api: Api
  useRig((given) => {
    rig = given
  })
  beforeEach(async () => {
    engine = rig.engine()
    const metrics = { contentType: 'text/plain', metrics: () => '' }
    api = createApi({ engine, clock: rig.clock, ids: rig.ids, log: silentLog, version: '0', metrics })
    const token = { name: 't', namespaces: null } as const
    await putToken(rig.db, { ...token, id: 'tok_admin', secret: 'admin', role: 'admin' })
    await putToken(rig.db, { ...token, id: 'tok_worker', secret: 'worker', role: 'worker' })
    await putToken(rig.db, { ...token, id: 'tok_ops', secret: 'ops', role: 'admin', namespaces: ['ops'] })
  })

  interface Asked {
    body?: string
    token?: string
    headers?: Record<string, string>
    signal?: AbortSignal
  }
  const ask = (method: string, path: string, { body, token = 'admin', headers = {}, signal }: Asked = {}) =>
    api.fetch(
      new Request(`http://host${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, ...headers },
        ...(body === undefined ? {} : { body }),
        ...(signal ? { signal } : {}),
      }),
    )
  /** Status and body. */
  const json = async (method: string, path: string, asked: Asked = {}) => {
    const response = await ask(method, path, asked)
    return { status: response.status, headers: response.headers, body: (await response.json()) as never }
  }
  const apply = (body: string, query = '') => json('POST', `/v1/apply${query}`, { body })
  const run = (body: object) =>
    json('POST', '/v1/runs', { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } })

  test('apply takes several documents of YAML, or JSON, and answers a row for each', async () => {
    const headers = { 'content-type': 'application/yaml' }
    const body = `${manifest('one')}---${manifest('two')}`
    expect(await json('POST', '/v1/apply', { body, headers })).toMatchObject({
      status: 200,
      body: {
        dryRun: false,
        resources: [
          {
            kind: 'Workflow',
            namespace: 'default',
            name: 'one',
            outcome: 'created',
            generation: 1,
            resourceVersion: expect.any(String),
          },
          { name: 'two', outcome: 'created' },
        ],
      },
    })
    const one = (await json('GET', ONE)).body
    const printed = { body: JSON.stringify(one), headers: { 'content-type': 'application/json' } }
    expect(await json('POST', '/v1/apply', printed)).toMatchObject({ body: { resources: [{ outcome: 'unchanged' }] } })
    expect(await apply(manifest('three'), '?dryRun=true')).toMatchObject({
      body: { dryRun: true, resources: [{ outcome: 'created' }] },
    })
    expect(await json('GET', '/v1/namespaces/default/workflows/three')).toMatchObject({
      status: 404,
      body: { code: 'resource.not_found' },
    })
    expect(await apply(manifest('four'), '?namespace=ops')).toMatchObject({
      body: { resources: [{ namespace: 'ops' }] },
    })
  })

  test('what is wrong is told with places, and nothing is stored', async () => {
    const answer = await apply(`${manifest('one')}---${manifest('two').replace('steps', 'stepz')}`)
    expect(answer).toMatchObject({
      status: 400,
      body: {
        code: 'manifest.invalid',
        problems: [
          { path: 'spec.steps', message: 'is required', document: 2, line: 13 },
          { path: 'spec.stepz', nearest: 'steps', document: 2, line: 14, column: 3 },
        ],
      },
    })
    expect((await json('GET', ONE)).status).toBe(404)
    expect(
      await json('POST', '/v1/apply', { body: 'x', headers: { 'content-type': 'application/pdf' } }),
    ).toMatchObject({
      status: 400,
      body: { code: 'request.invalid', detail: expect.stringContaining('1 problem') },
    })
    expect(await apply(manifest('one'), '?dryrun=true')).toMatchObject({ body: { problems: [{ nearest: 'dryRun' }] } })
    const secret = 'apiVersion: orrery.dev/v1\nkind: Secret\nmetadata: { name: db }\nspec: { data: { k: v } }\n'
    expect(await apply(secret)).toMatchObject({ status: 503, body: { code: 'secret.sealing_unavailable' } })
  })

  test('PUT creates and replaces; the ETag guards it', async () => {
    const created = await json('PUT', ONE, { body: manifest('one'), headers: { 'if-none-match': '*' } })
    expect(created).toMatchObject({ status: 201, body: { kind: 'Workflow', metadata: { name: 'one', generation: 1 } } })
    const etag = created.headers.get('etag') ?? ''
    expect((await json('GET', ONE)).headers.get('etag')).toBe(etag)
    const body = manifest('one', { command: 'false' })
    expect(await json('PUT', `${ONE}?dryRun=true`, { body, headers: { 'if-match': etag } })).toMatchObject({
      status: 200,
      body: { resources: [{ outcome: 'configured' }] },
    })
    expect((await json('PUT', ONE, { body, headers: { 'if-match': etag } })).status).toBe(200)
    const failed = { status: 412, body: { code: 'resource.precondition_failed' } }
    expect(await json('PUT', ONE, { body, headers: { 'if-match': etag } })).toMatchObject(failed)
    expect(await json('PUT', ONE, { body, headers: { 'if-none-match': '*' } })).toMatchObject(failed)
    expect(await json('DELETE', ONE, { headers: { 'if-match': `${etag}, "1"` } })).toMatchObject(failed)
    expect(await json('PUT', ONE, { body, headers: { 'if-match': 'x y' } })).toMatchObject({ status: 400 })
    expect(await json('PUT', ONE, { body, headers: { 'if-none-match': etag } })).toMatchObject({ status: 400 })
    expect(await json('PUT', ONE, { body: manifest('two') })).toMatchObject({
      status: 400,
      body: { problems: [{ path: 'metadata.name' }] },
    })
    expect(await json('PUT', ONE, { body: `${manifest('one')}---${manifest('two')}` })).toMatchObject({
      status: 400,
      body: { problems: [{ message: 'must be one document, not 2' }] },
    })
    const stale = JSON.stringify(created.body)
    expect(await json('PUT', ONE, { body: stale })).toMatchObject({ status: 409, body: { code: 'resource.conflict' } })
    expect(await json('DELETE', `${ONE}?dryRun=true`)).toMatchObject({ status: 200 })
    expect(await json('DELETE', ONE)).toMatchObject({ status: 200, body: { metadata: { name: 'one' } } })
    expect(await json('DELETE', ONE)).toMatchObject({ status: 404, body: { code: 'resource.not_found' } })
  })

  test('lists take selectors and pages; a wrong one is told', async () => {
    await apply(
      `${manifest('a', { labels: 'tier: web' })}---${manifest('b')}---${manifest('c', { labels: 'tier: web' })}`,
    )
    const names = async (path: string) =>
      ((await json('GET', path)).body as { items: { metadata: { name: string } }[] }).items.map((r) => r.metadata.name)
    expect(await names('/v1/workflows')).toEqual(['a', 'b', 'c'])
    expect(await names('/v1/namespaces/default/workflows?labelSelector=tier%3Dweb')).toEqual(['a', 'c'])
    expect(await names('/v1/workflows?fieldSelector=metadata.name%3Db')).toEqual(['b'])
    expect(await names('/v1/namespaces/none/workflows')).toEqual([])
    expect(await json('GET', '/v1/workflows?limit=2')).toMatchObject({
      body: { kind: 'List', next: expect.any(String) },
    })
    for (const [query, path] of [
      ['labelSelector=a%3Cb', 'labelSelector'],
      ['fieldSelector=spec.x%3D1', 'fieldSelector'],
      ['resourceVersion=1', 'resourceVersion'],
      ['watch=true&limit=5', 'limit'],
      ['watch=true&cursor=x', 'cursor'],
      ['limit=0', 'limit'],
      ['cursor=x', 'cursor'],
    ])
      expect(await json('GET', `/v1/workflows?${query}`)).toMatchObject({
        status: 400,
        body: { code: 'request.invalid', problems: [{ path }] },
      })
  })

  test('a watch is a stream of events that goes on where it was cut', async () => {
    await apply(manifest('one'))
    /** Frames of a watch until there are `count` of them. */
    const frames = async (query: string, count: number, headers: Record<string, string> = {}): Promise<SseFrame[]> => {
      const stop = new AbortController()
      const response = await ask('GET', `/v1/workflows?watch=true${query}`, { headers, signal: stop.signal })
      expect(response.headers.get('content-type')).toContain('text/event-stream')
      const parser = new SseParser()
      const decoder = new TextDecoder()
      const found: SseFrame[] = []
      const reader = (response.body as ReadableStream<Uint8Array>).getReader() // a stream has a body
      while (found.length < count) {
        const { value } = await reader.read()
        found.push(...parser.push(decoder.decode(value, { stream: true })))
      }
      stop.abort()
      await reader.cancel()
      return found
    }
    const [first] = await frames('', 1)
    expect(first).toMatchObject({ event: 'added' })
    expect(JSON.parse(first?.data ?? '')).toMatchObject({
      kind: 'Workflow',
      metadata: { name: 'one', resourceVersion: first?.id },
    })
    await apply(manifest('one', { command: 'false' }))
    await json('DELETE', ONE)
    const resumed = await frames('&resourceVersion=0', 1, { 'last-event-id': first?.id ?? '' })
    expect(resumed).toMatchObject([{ event: 'deleted' }])
    expect(await json('GET', '/v1/workflows?watch=true&resourceVersion=999999')).toMatchObject({
      status: 410,
      body: { code: 'resource.watch_too_old' },
    })
  })

  test('a run names a stored workflow, or a version of it', async () => {
    await apply(manifest('one', { labels: 'team: core, env: dev' }))
    await apply(manifest('one', { labels: 'team: core, env: dev', command: 'false', lifecycle: 'draft' }))
    const started = await run({ workflowRef: 'one', labels: { env: 'prod' } })
    expect(started.status).toBe(201)
    expect(started.headers.get('warning')).toBeNull()
    const { id } = started.body as { id: string }
    expect(await json('GET', `/v1/runs/${id}`)).toMatchObject({
      body: { workflow: 'one', labels: { team: 'core', env: 'prod' } },
    })
    expect(await run({ workflowRef: 'one@1' })).toMatchObject({ status: 201 })
    expect(await run({ workflowRef: 'one@2' })).toMatchObject({ status: 409, body: { code: 'workflow.inactive' } })
    expect(await run({ workflowRef: 'one@3' })).toMatchObject({ status: 404, body: { code: 'workflow.not_found' } })
    expect(await run({ workflowRef: 'one', namespace: 'ops' })).toMatchObject({
      status: 404,
      body: { code: 'workflow.not_found', evidence: { namespaces: ['default'] } },
    })
    expect(await run({ workflowRef: 'One' })).toMatchObject({
      status: 400,
      body: { problems: [{ path: 'workflowRef' }] },
    })
    expect(await run({ workflowRef: 'one', definition: 'x' })).toMatchObject({ status: 400 })
    expect(await run({ definition: 'x', namespace: 'ops' })).toMatchObject({
      status: 400,
      body: { problems: [{ message: 'namespace is for workflowRef only' }] },
    })

    await apply(manifest('one', { lifecycle: 'deprecated' }))
    const warned = await run({ workflowRef: 'one' })
    expect(warned.headers.get('warning')).toContain('default/one is deprecated; version 3 was started')
    expect(warned.body).toMatchObject({ warnings: [expect.stringContaining('deprecated')] })
    const events = await listEvents(rig.db, (warned.body as { id: string }).id, 0, 1)
    expect(JSON.stringify(events)).toContain('is deprecated')
    const bulk = await json('POST', '/v1/runs:bulk', {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ workflowRef: 'one', items: [{}, { labels: { a: 'b' } }] }),
    })
    expect(bulk.status).toBe(201)
    expect(bulk.headers.get('warning')).toContain('deprecated')
  })

  test('versions of a workflow are listed and read', async () => {
    await apply(manifest('one'))
    await apply(manifest('one', { command: 'false' }))
    expect(await json('GET', `${ONE}/versions`)).toMatchObject({
      body: { items: [{ version: 2, lifecycle: 'active', createdBy: 'tok_admin' }, { version: 1 }], next: null },
    })
    expect(await json('GET', `${ONE}/versions/active`)).toMatchObject({
      body: { version: 2, spec: { steps: [{ command: 'false' }] } },
    })
    for (const version of ['3', '0', 'x'])
      expect(await json('GET', `${ONE}/versions/${version}`)).toMatchObject({ status: 404 })
  })

  test('a worker reads nothing and changes nothing; a token of another namespace sees nothing', async () => {
    await apply(manifest('one'))
    for (const [method, path] of [
      ['GET', ONE],
      ['PUT', ONE],
      ['DELETE', ONE],
      ['POST', '/v1/apply'],
      ['GET', '/v1/workflows'],
      ['GET', `${ONE}/versions`],
    ] as const)
      expect(
        (
          await ask(method, path, {
            token: 'worker',
            ...(method === 'PUT' || method === 'POST' ? { body: manifest('one') } : {}),
          })
        ).status,
      ).toBe(403)
    expect((await ask('GET', ONE, { token: 'ops' })).status).toBe(404)
    expect((await ask('DELETE', ONE, { token: 'ops' })).status).toBe(404)
    expect((await ask('GET', `${ONE}/versions`, { token: 'ops' })).status).toBe(404)
    expect((await ask('GET', `${ONE}/versions/1`, { token: 'ops' })).status).toBe(404)
    expect((await ask('GET', `${ONE}/versions/active`, { token: 'ops' })).status).toBe(404)
    expect(await json('GET', '/v1/workflows', { token: 'ops' })).toMatchObject({ body: { items: [] } })
    expect((await ask('PUT', ONE, { token: 'ops', body: manifest('one') })).status).toBe(403)
    expect((await ask('PATCH', ONE)).headers.get('allow')).toBe('GET, PUT, DELETE, HEAD, OPTIONS')
  })
})
