import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createClient, createExchangeLane, handlerTransport, httpTransport, type Transport } from '../client/index.ts'
import { Secret } from '../base/secret.ts'
import type { ProblemDetails } from '../contract/api-types.ts'
import { ROUTES } from '../contract/routes.ts'
import { Failure } from '../domain/failure.ts'
import { ADMIN, type ApiRig, makeApi, REGISTER, serveApi } from './api-rig.ts'
import { ADMIN_TOKEN, APPROVAL_ID, RUN_ID, WORKER_TOKEN } from './scripted-engine.ts'
import type { Serving } from './serve.ts'

const MANIFEST = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: demo }
spec:
  steps:
    - name: one
      command: [echo, hi]
`
const JSON_TYPE = { 'content-type': 'application/json' }

let rig: ApiRig
let serving: Serving
beforeAll(async () => {
  rig = makeApi()
  serving = await serveApi({
    fetch: (request, env) => rig.api.fetch(request, env),
    answer: (incoming, outgoing) => rig.api.answer(incoming, outgoing),
    answerHere: (request) => rig.api.answerHere(request),
  })
})
beforeEach(() => {
  rig = makeApi()
})
afterAll(() => serving.close())

const ask = (path: string, init: RequestInit = {}) =>
  rig.api.fetch(new Request(`http://x${path}`, { ...init, headers: { ...ADMIN, ...JSON_TYPE, ...init.headers } }))
const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  ask(path, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body), headers })
const problem = async (response: Response) => {
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  return (await response.json()) as ProblemDetails
}

test.for(['createRun', 'poll', 'report', 'append', 'heartbeat'] as const)(
  '%s is answered in memory as it is by the long way, whatever is asked',
  async (id) => {
    const route = ROUTES.find((one) => one.id === id)
    const path = route?.path ?? ''
    const token = { authorization: `Bearer ${id === 'createRun' ? ADMIN_TOKEN : WORKER_TOKEN}` }
    const asked: [Record<string, string>, string | null][] = [
      [{ ...token, ...JSON_TYPE }, JSON.stringify({ definition: 'd', session: 's', nonsense: 1 })],
      [{ ...token, ...JSON_TYPE }, '{'],
      [{ ...token, ...JSON_TYPE }, '{"a":"\\u0000"}'],
      [{ ...token, ...JSON_TYPE }, null],
      [{ ...token, 'content-type': 'text/plain' }, '{}'],
      [{ ...token, ...JSON_TYPE }, `"${'x'.repeat((route?.bodyBytes ?? 0) + 1)}"`],
      [{ ...JSON_TYPE }, '{}'],
      [{ ...JSON_TYPE, authorization: 'Bearer nobody' }, '{}'],
      [{ ...JSON_TYPE, authorization: 'Basic x' }, '{}'],
    ]
    for (const [headers, body] of asked) {
      const named = { ...headers, 'x-request-id': 'req_01k8zq3v9mh4d5e6f7g8h9jkmn' }
      const answer = await rig.api.answerHere({ method: 'POST', path, headers: named, body })
      const long = await rig.api.fetch(new Request(`http://x${path}`, { method: 'POST', headers: named }), {
        body: body ?? '',
      })
      expect(answer).toEqual({
        status: long.status,
        headers: Object.fromEntries(long.headers),
        body: await long.text(),
      })
    }
    expect(rig.api.answerHere({ method: 'GET', path, headers: token, body: null })).toBeNull()
    expect(rig.api.answerHere({ method: 'POST', path: `${path}?a=1`, headers: token, body: '{}' })).toBeNull()
  },
)

describe.each(['in process', 'in process by the short way', 'over a socket'])(
  'every route through the client, %s',
  (way) => {
    let transport: Transport
    beforeEach(() => {
      const { fetch, answerHere } = rig.api
      transport =
        way === 'over a socket'
          ? httpTransport({ address: `http://127.0.0.1:${serving.port}` })
          : handlerTransport(fetch, way === 'in process' ? undefined : answerHere)
      return () => transport.close()
    })

    test('public routes', async () => {
      const client = createClient({ transport, token: new Secret(ADMIN_TOKEN) })
      const stored = await client.putDefinition({ manifest: MANIFEST })
      expect(stored).toMatchObject({ hash: 'sha256:demo', name: 'demo', nodes: [{ name: 'one', needs: [] }] })
      const first = await client.createRun({ definition: stored.hash, inputs: { a: 1 } }, { idempotencyKey: 'k' })
      expect(first.run).toBeNull()
      expect(rig.engine.created).toMatchObject([{ definition: stored.hash, inputs: { a: 1 }, idempotencyKey: 'k' }])
      const again = await client.createRun({ definition: stored.hash, inputs: { a: 1 } }, { idempotencyKey: 'k' })
      expect(again).toMatchObject({ id: first.id, run: { id: first.id } })
      await expect(client.createRun({ definition: 'other' }, { idempotencyKey: 'k' })).rejects.toMatchObject({
        code: 'idempotency.key_reused',
        evidence: { runId: first.id },
      })
      expect(await client.createRun({ manifest: MANIFEST }, { waitMs: 500 })).toMatchObject({
        run: { state: 'succeeded' },
      })
      expect(rig.engine.calls.at(-1)).toMatchObject({ name: 'waitForRun' })
      expect(rig.engine.calls.at(-1)?.args[2]).toBe(500)
      expect((await client.createRuns({ definition: 'd', items: [{}, { inputs: { b: 2 } }] })).ids).toHaveLength(2)
      expect(await client.getRun(RUN_ID)).toMatchObject({ id: RUN_ID })
      const since = '2026-01-02T12:00:00+01:00'
      await client.listRuns({ labelSelector: 'team=core,!web', since })
      expect(rig.engine.calls.at(-1)?.args[1]).toMatchObject({
        terms: [
          { op: 'in', key: 'team', values: ['core'] },
          { op: 'absent', key: 'web' },
        ],
        since,
      })
      for (const query of [{ labelSelector: '==' }, { since: 'yesterday' }])
        await expect(client.listRuns(query)).rejects.toMatchObject({ code: 'request.invalid' })
      await client.listRuns({ namespace: 'n', workflow: 'w', states: ['failed', 'canceled'], cursor: 'c', limit: 7 })
      expect(rig.engine.calls.at(-1)?.args[1]).toEqual({
        namespace: 'n',
        workflow: 'w',
        states: ['failed', 'canceled'],
        terms: [],
        since: null,
        cursor: 'c',
        limit: 7,
      })
      expect(await client.listSteps(RUN_ID, { limit: 2 })).toEqual({ items: [], next: null })
      expect(await client.cancelRun(RUN_ID)).toMatchObject({ canceling: true })
      expect(await client.skipStep(RUN_ID, 'measure[3]', { a: [1] })).toMatchObject({ id: RUN_ID })
      expect(rig.engine.calls.at(-1)?.args.slice(1)).toEqual([RUN_ID, 'measure[3]', { a: [1] }])
      expect(await client.retryStep(RUN_ID, 'measure[3]')).toMatchObject({ id: RUN_ID })
      expect(rig.engine.calls.at(-1)).toMatchObject({ args: [{}, RUN_ID, 'measure[3]'] })
      expect(await client.nudgeRun(RUN_ID)).toMatchObject({ run: { id: RUN_ID }, changed: [], waiting: [] })
      const sent = await client.sendEvent(RUN_ID, { name: 'paid', payload: { n: 1 } }, { idempotencyKey: 'order-1' })
      expect(sent).toMatchObject({ name: 'paid', state: 'kept' })
      expect(rig.engine.calls.at(-1)?.args.slice(1)).toEqual([
        RUN_ID,
        { name: 'paid', payload: { n: 1 }, key: 'order-1' },
      ])
      await client.sendEvent(RUN_ID, { name: 'bare' })
      expect(rig.engine.calls.at(-1)?.args.slice(1)).toEqual([RUN_ID, { name: 'bare', payload: null, key: null }])
      await client.listApprovals({ namespace: 'n', run: RUN_ID, step: 's', states: ['pending'], cursor: 'c', limit: 3 })
      expect(rig.engine.calls.at(-1)?.args[1]).toEqual({
        namespace: 'n',
        runId: RUN_ID,
        step: 's',
        states: ['pending'],
        cursor: 'c',
        limit: 3,
      })
      expect(await client.getApproval(APPROVAL_ID)).toMatchObject({ id: APPROVAL_ID, message: 'Ship it?' })
      expect(await client.approve(APPROVAL_ID, { comment: 'good', inputs: { a: 1 } })).toMatchObject({
        state: 'approved',
      })
      expect(rig.engine.calls.at(-1)?.args[2]).toEqual({
        approved: true,
        comment: 'good',
        inputs: { a: 1 },
        input: null,
        output: null,
      })
      expect(await client.deny(APPROVAL_ID)).toMatchObject({ state: 'denied' })
      expect(rig.engine.calls.at(-1)?.args[2]).toMatchObject({ approved: false, comment: null, inputs: null })
      expect(await client.listWorkers()).toEqual([])
      const kept = await client.putSecret('default', 'github', { values: { token: 'hunter2' } })
      expect(kept).toMatchObject({ name: 'github', keys: ['token'] })
      expect(rig.engine.calls.at(-1)?.args.slice(1)).toEqual([
        { namespace: 'default', secret: 'github' },
        { values: { token: 'hunter2' }, replace: false },
      ])
      expect(await client.listSecrets('default', { limit: 3 })).toEqual({ items: [], next: null })
      expect(await client.getSecret('default', 'github', { keys: ['a', 'b'] })).toMatchObject({ name: 'github' })
      expect(rig.engine.calls.at(-1)?.args[2]).toEqual({ asked: ['a', 'b'] })
      expect(await client.deleteSecret('default', 'github')).toEqual({ deleted: ['token'] })
      expect(rig.engine.calls.at(-1)?.args[2]).toEqual({ keys: null })
      expect(await client.rotateSecrets({ newKey: true })).toMatchObject({ activeKey: 'k1' })
      expect(rig.engine.calls.at(-1)?.args[1]).toEqual({ newKey: true })
      expect(await client.getHealth()).toMatchObject({ status: 'ok' })
      expect(rig.errors).toEqual([])
    })

    test('a refused recovery says what is allowed now, and its failure keeps code, evidence and remedy', async () => {
      const client = createClient({ transport, token: new Secret(ADMIN_TOKEN) })
      const failure = (await client.retryRun(RUN_ID).catch((e: unknown) => e)) as Failure
      expect(failure).toBeInstanceOf(Failure)
      expect(failure).toMatchObject({
        code: 'run.not_recoverable',
        evidence: { state: 'running', allowed: ['cancel'] },
      })
    })

    test('the worker exchange', async () => {
      const lane = createExchangeLane({ transport, token: new Secret(WORKER_TOKEN) })
      const registered = await lane.register(REGISTER)
      expect(registered.session).toBe('ses_1')
      const common = { step: `${RUN_ID}.0`, fence: 1, startedAgoMs: 1, endedAgoMs: 0 }
      const answer = await lane.report({
        session: 'ses_1',
        free: 0,
        draining: false,
        reports: [
          { ...common, seq: 1, kind: 'succeeded', output: 'good' },
          { ...common, seq: 2, kind: 'succeeded', output: 'bad \0' },
        ],
      })
      expect(answer.acks).toMatchObject([
        { seq: 1, outcome: 'recorded' },
        { seq: 2, outcome: 'rejected', failure: { code: 'request.invalid' } },
      ])
      expect(await lane.heartbeat({ session: 'ses_1', clock: 1 })).toMatchObject({ leaseMs: 8000 })
      expect(await lane.poll({ session: 'ses_1', free: 0, held: [], draining: false })).toMatchObject({ drain: false })
    })

    test('tokens: missing, wrong, of the wrong role', async () => {
      await expect(createClient({ transport, token: null }).listRuns()).rejects.toMatchObject({
        code: 'client.unauthorized',
        evidence: { token: 'missing' },
      })
      await expect(createClient({ transport, token: new Secret('nope') }).listRuns()).rejects.toMatchObject({
        code: 'client.unauthorized',
      })
      await expect(createClient({ transport, token: new Secret(WORKER_TOKEN) }).listRuns()).rejects.toMatchObject({
        code: 'client.forbidden',
        evidence: { role: 'worker', required: 'viewer' },
      })
      const lane = createExchangeLane({ transport, token: new Secret('revoked') })
      await expect(lane.heartbeat({ session: 's', clock: 1 })).rejects.toMatchObject({ code: 'worker.auth_failed' })
      // What was shown and not taken is handed on for the audit log; a request without a token shows nothing.
      const noted = rig.engine.calls.filter((call) => call.name === 'noteRefused')
      expect(noted.map((call) => call.args[0])).toMatchObject([
        { token: 'nope', path: '/v1/runs', requestId: expect.any(String) as string },
        { token: 'revoked', path: expect.stringContaining('heartbeat') as string },
      ])
    })
  },
)

describe('requests that are not in order', () => {
  test.each([
    ['not JSON', '{', ''],
    ['empty', '', ''],
    ['a list', '[]', ''],
    ['nothing to run', '{}', ''],
    ['two sources', '{"definition":"a","manifest":"b"}', ''],
    ['an unknown member', '{"definition":"a","input":{}}', 'input'],
    ['inputs of the wrong type', '{"definition":"a","inputs":[]}', 'inputs'],
    ['U+0000', '{"definition":"a","inputs":{"x":"\\u0000"}}', 'inputs.x'],
    ['a number out of range', '{"definition":"a","inputs":{"x":1e999}}', 'inputs.x'],
    ['too deep', `{"definition":"a","inputs":{"x":${'['.repeat(100)}${']'.repeat(100)}}}`, ''],
  ])('%s is refused with its place', async (_, body, path) => {
    const response = await post('/v1/runs', body)
    expect(response.status).toBe(400)
    expect(await problem(response)).toMatchObject({ code: 'request.invalid', problems: [{ path }] })
    expect(rig.engine.created).toEqual([])
  })

  test('a misspelled member names the one that was meant', async () => {
    expect((await problem(await post('/v1/runs', { definition: 'a', input: {} }))).problems?.[0]?.nearest).toBe(
      'inputs',
    )
  })

  test('a manifest with problems lists them', async () => {
    const answer = await problem(await post('/v1/runs', { manifest: 'kind: Nothing' }))
    expect(answer.status).toBe(400)
    expect(answer.problems?.length).toBeGreaterThan(0)
    const workflow = await problem(await post('/v1/definitions', { workflow: { kind: 'Workflow' } }))
    expect(workflow.problems?.length).toBeGreaterThan(0)
  })

  test('headers: Idempotency-Key, Content-Type, Last-Event-ID', async () => {
    const run = { definition: 'a' }
    expect((await post('/v1/runs', run, { 'idempotency-key': 'x'.repeat(256) })).status).toBe(400)
    expect((await post('/v1/runs', run, { 'idempotency-key': 'é' })).status).toBe(400)
    expect((await post('/v1/runs', run, { 'content-type': 'text/yaml' })).status).toBe(400)
    expect((await post('/v1/runs', run, { 'content-encoding': 'gzip' })).status).toBe(400)
    expect((await post('/v1/runs', run, { prefer: 'wait=soon' })).status).toBe(201)
    expect((await ask(`/v1/runs/${RUN_ID}/events`, { headers: { 'last-event-id': 'x' } })).status).toBe(400)
  })

  test('queries: unknown, twice, out of range', async () => {
    for (const query of ['stat=failed', 'state=done', 'limit=0', 'limit=9999', 'limit=1&limit=2', 'cursor=%00'])
      expect((await problem(await ask(`/v1/runs?${query}`))).code).toBe('request.invalid')
    expect((await ask(`/v1/runs/${RUN_ID}?x=1`)).status).toBe(400)
  })

  test('names that cannot be: 404 without asking the engine', async () => {
    expect((await problem(await ask('/v1/runs/run_x'))).code).toBe('run.not_found')
    expect((await problem(await ask('/v1/runs/%00'))).code).toBe('run.not_found')
    expect((await problem(await ask('/v1/definitions/%00'))).code).toBe('definition.not_found')
    expect((await problem(await ask('/v1/approvals/apr_x'))).code).toBe('approval.not_found')
    expect((await problem(await post('/v1/approvals/apr_x:deny', {}))).code).toBe('approval.not_found')
    expect((await problem(await post(`/v1/runs/${RUN_ID}/steps/%00:skip`, { output: 1 }))).code).toBe('step.not_found')
    expect(rig.engine.calls).toEqual([])
  })

  test('wrong addresses and methods', async () => {
    const lost = await ask('/v1/run')
    expect(await problem(lost)).toMatchObject({
      status: 404,
      code: 'request.not_found',
      evidence: { nearest: '/v1/runs' },
    })
    const wrong = await ask('/v1/runs', { method: 'DELETE' })
    expect(wrong.headers.get('allow')).toBe('POST, GET, HEAD, OPTIONS')
    expect(await problem(wrong)).toMatchObject({ status: 405, code: 'request.method_not_allowed' })
    const options = await ask(`/v1/runs/${RUN_ID}:cancel`, { method: 'OPTIONS' })
    expect([options.status, options.headers.get('allow')]).toEqual([204, 'POST, OPTIONS'])
    const head = await ask(`/v1/runs/${RUN_ID}`, { method: 'HEAD' })
    expect([head.status, await head.text()]).toEqual([200, ''])
    await ask(`/v1/runs/${RUN_ID}/events`, { method: 'HEAD' })
    expect(rig.engine.followers).toBe(0)
  })
})

describe('answers', () => {
  test('carry a request id, the given one when it is sane, and security headers', async () => {
    const given = await ask('/healthz', { headers: { 'x-request-id': 'abc-1' } })
    expect(given.headers.get('x-request-id')).toBe('abc-1')
    expect(given.headers.get('x-content-type-options')).toBe('nosniff')
    const made = await ask('/nope', { headers: { 'x-request-id': 'a b' } })
    expect(made.headers.get('x-request-id')).toMatch(/^req_/)
    expect((await problem(made)).requestId).toBe(made.headers.get('x-request-id'))
  })

  test('401 names the scheme', async () => {
    const response = await rig.api.fetch(new Request('http://x/v1/runs'))
    expect([response.status, response.headers.get('www-authenticate')]).toEqual([401, 'Bearer realm="orrery"'])
  })

  test('a new run: 201 with its place; the same key again: 200; waited: the preference is confirmed', async () => {
    const made = await post('/v1/runs', { definition: 'd' }, { 'idempotency-key': 'k' })
    const body = (await made.json()) as { id: string }
    expect(made.status).toBe(201)
    expect(made.headers.get('location')).toBe(`/v1/runs/${body.id}`)
    expect(body).toMatchObject({ state: 'pending', definition: 'd' })
    expect((await post('/v1/runs', { definition: 'd' }, { 'idempotency-key': 'k' })).status).toBe(200)
    const waited = await post('/v1/runs', { definition: 'd' }, { prefer: 'respond-async, wait=10' })
    expect(waited.headers.get('preference-applied')).toBe('wait')
  })

  test('a bug is told without details and logged; a failing database fails readiness', async () => {
    rig.engine.broken = new Error('secret detail')
    const bug = await problem(await ask(`/v1/runs/${RUN_ID}`))
    expect(bug).toMatchObject({ status: 500, code: 'internal.bug' })
    expect(JSON.stringify(bug)).not.toContain('secret detail')
    expect(rig.errors).toEqual(['request met a bug'])
    rig.engine.broken = new Failure('storage.unreachable', 'asking the database')
    const ready = await ask('/readyz')
    expect([ready.status, ready.headers.get('retry-after')]).toEqual([503, '1'])
  })

  test('metrics and the description', async () => {
    expect(await (await ask('/metrics')).text()).toBe('up 1\n')
    expect(await (await ask('/openapi.json')).json()).toMatchObject({ openapi: '3.1.1' })
  })
})

test('whatever is sent, the answer is never 5xx and every refusal is a problem', async () => {
  const path = fc.oneof(
    fc.constantFrom(...ROUTES.map((r) => r.path.replace('{id}', RUN_ID).replace('{hash}', 'h').replace('{name}', 'n'))),
    fc.webPath().map((p) => `/v1${p}`),
  )
  const body = fc.oneof(fc.string({ unit: 'binary' }), fc.json(), fc.constant('{"definition":"a"}'))
  const headerValue = fc.stringMatching(/^[\x21-\x7e]{0,30}$/)
  const headers = fc.dictionary(
    fc.constantFrom('idempotency-key', 'prefer', 'accept', 'x-request-id', 'content-type', 'authorization'),
    headerValue,
  )
  const query = fc.oneof(
    fc.constant(''),
    fc.webQueryParameters().map((q) => `?${q}`),
  )
  await fc.assert(
    fc.asyncProperty(
      path,
      query,
      fc.constantFrom('GET', 'POST', 'PUT'),
      body,
      headers,
      async (p, q, method, text, extra) => {
        rig.engine.ended = true
        const response = await ask(p + q, { method, headers: extra, ...(method === 'GET' ? {} : { body: text }) })
        expect(response.status).toBeLessThan(500)
        // What is wrong with a message of another protocol is told in the words of that one.
        if (p === '/mcp' && response.headers.get('content-type') === 'application/json')
          expect(await response.json()).toMatchObject({ jsonrpc: '2.0' })
        else if (response.status >= 400) expect((await problem(response)).code).toMatch(/^\w+\.\w+$/)
        else await response.text()
      },
    ),
    { numRuns: 1500 },
  )
  expect(rig.errors).toEqual([])
})

describe('requests for secrets', () => {
  const put = (path: string, body: unknown) => ask(path, { method: 'PUT', body: JSON.stringify(body) })

  test.for<[what: string, path: string, body: unknown, place: string]>([
    ['a name that no secret has', '/v1/namespaces/default/secret-values/Git%20Hub', { values: { a: 'x' } }, 'name'],
    ['a name with a slash', '/v1/namespaces/default/secret-values/..%2fother', { values: { a: 'x' } }, 'name'],
    [
      'a namespace that there cannot be',
      '/v1/namespaces/De_fault/secret-values/github',
      { values: { a: 'x' } },
      'namespace',
    ],
    ['no values', '/v1/namespaces/default/secret-values/github', { values: {} }, 'values'],
    ['an empty value', '/v1/namespaces/default/secret-values/github', { values: { token: '' } }, 'values.token'],
    [
      'a value that is no text',
      '/v1/namespaces/default/secret-values/github',
      { values: { token: 5 } },
      'values.token',
    ],
    ['a key with a slash', '/v1/namespaces/default/secret-values/github', { values: { '../x': 'y' } }, 'values'],
    ['an unknown member', '/v1/namespaces/default/secret-values/github', { values: { a: 'x' }, value: 1 }, 'value'],
    [
      'a value that is too large',
      '/v1/namespaces/default/secret-values/github',
      { values: { token: 'x'.repeat(64 * 1024 + 1) } },
      'values.token',
    ],
  ])('are refused with %s, by its place', async ([, path, body, place]) => {
    const answer = await put(path, body)
    expect(answer.status).toBe(400)
    const { code, problems, evidence } = await problem(answer)
    expect(code).toBe('request.invalid')
    expect(JSON.stringify(problems ?? evidence)).toContain(place)
    expect(rig.engine.calls).toEqual([])
  })

  test('are refused to workers', async () => {
    const answer = await ask('/v1/namespaces/default/secret-values/github', {
      headers: { authorization: `Bearer ${WORKER_TOKEN}` },
    })
    expect(answer.status).toBe(403)
  })
})
