import { describe, expect, test } from 'vitest'
import type { ResourceEvent } from '../../contract/resource-types.ts'
import { LIMITS } from '../../domain/limits.ts'
import { parseResources, type ResourceDocument } from '../../domain/kinds/documents.ts'
import { HIDDEN } from '../../domain/kinds/secret.ts'
import { parseSelector } from '../../domain/kinds/selector.ts'
import { listEvents } from '../../store/events/events.ts'
import type { Caller } from '../engine.ts'
import { KeyRing, SealingKey } from '../../store/index.ts'
import { NO_SOURCES } from '../secret-sources.ts'
import { ADMIN, type EngineRig, useRig } from '../testing/rig.ts'
import type { RunningEngine } from '../create-engine.ts'
import type { Precondition, Ref, ResourceSelection } from './resource-engine.ts'

const KEY = SealingKey.generate().reveal()
const keys = () => ({
  ring: new KeyRing({ name: 'keys', read: () => Promise.resolve(KEY), prepend: null }),
  sources: NO_SOURCES,
  remember: () => {},
})
const ANY: Precondition = { match: null, absent: false }

interface Shape {
  namespace?: string
  labels?: Record<string, string>
  annotations?: Record<string, string>
  lifecycle?: string
  command?: string
  expected?: { resourceVersion?: string; uid?: string }
}
const workflow = (name: string, shape: Shape = {}): ResourceDocument[] => {
  const { namespace = 'default', labels = {}, annotations = {}, lifecycle, command = 'true', expected = {} } = shape
  return parseResources(
    JSON.stringify({
      apiVersion: 'orrery.dev/v1',
      kind: 'Workflow',
      metadata: { name, namespace, labels, annotations, ...expected },
      spec: { ...(lifecycle ? { lifecycle } : {}), steps: [{ name: 'a', command, timeout: '5m' }] },
    }),
    { file: 'all.yaml', namespace: null },
  )
}
const secret = (data: Record<string, string>): ResourceDocument[] =>
  parseResources(
    JSON.stringify({ apiVersion: 'orrery.dev/v1', kind: 'Secret', metadata: { name: 'db' }, spec: { data } }),
    { file: 'all.yaml', namespace: null },
  )
const ref = (name: string, namespace = 'default'): Ref => ({ kind: 'Workflow', namespace, name })
const narrow: Caller = { ...ADMIN, namespaces: ['default'] }

describe('resources', () => {
  let rig: EngineRig
  let engine: RunningEngine
  useRig((given) => {
    rig = given
    engine = rig.engine({ secrets: keys() })
  })

  const apply = (documents: ResourceDocument[], options: { dryRun?: boolean; precondition?: Precondition } = {}) =>
    engine.resources.apply(ADMIN, documents, { dryRun: false, ...options })
  const outcomes = async (documents: ResourceDocument[]) =>
    (await apply(documents)).resources.map((r) => `${r.name} ${r.outcome} ${r.generation}`)
  const select = (more: Partial<ResourceSelection> = {}): ResourceSelection => ({
    kind: 'Workflow',
    namespace: null,
    name: null,
    terms: [],
    ...more,
  })
  const list = (
    more: Partial<ResourceSelection> = {},
    page: { cursor?: string; limit?: number; caller?: Caller } = {},
  ) =>
    engine.resources.list(page.caller ?? ADMIN, select(more), {
      cursor: page.cursor ?? null,
      limit: page.limit ?? 50,
    })
  const start = (name: string, version: number | null = null, caller = ADMIN) =>
    engine.resources.startOf(caller, { namespace: 'default', name, version })

  test('apply says created, configured or unchanged; generation rises with the spec, resourceVersion with every write', async () => {
    expect(await outcomes(workflow('one'))).toEqual(['one created 1'])
    expect(await outcomes(workflow('one'))).toEqual(['one unchanged 1'])
    const first = await engine.resources.get(ADMIN, ref('one'))
    expect(await outcomes(workflow('one', { labels: { team: 'core' } }))).toEqual(['one configured 1'])
    expect(await outcomes(workflow('one', { labels: { team: 'core' }, command: 'false' }))).toEqual([
      'one configured 2',
    ])
    expect(await outcomes(workflow('one', { annotations: { note: 'any text, at all' }, command: 'false' }))).toEqual([
      'one configured 2',
    ])
    const last = await engine.resources.get(ADMIN, ref('one'))
    expect(last).toMatchObject({
      metadata: { generation: 2, labels: {}, annotations: { note: 'any text, at all' }, uid: first.metadata.uid },
      // As it was written.
      spec: { steps: [{ name: 'a', command: 'false', timeout: '5m' }] },
      status: { phase: 'active', observedGeneration: 2, conditions: [{ type: 'ready', status: 'true' }] },
    })
    expect(Number(last.metadata.resourceVersion)).toBeGreaterThan(Number(first.metadata.resourceVersion))
  })

  test('documents are stored together or not at all, and a dry run stores nothing', async () => {
    await apply(workflow('one'))
    const stale = workflow('one', { command: 'false', expected: { resourceVersion: '999' } })
    await expect(apply([...workflow('two'), ...stale])).rejects.toMatchObject({
      code: 'resource.conflict',
      evidence: {
        problems: [{ path: 'metadata.resourceVersion', message: expect.stringContaining('not at 999'), line: 1 }],
      },
    })
    await expect(engine.resources.get(ADMIN, ref('two'))).rejects.toMatchObject({ code: 'resource.not_found' })
    const dry = await apply([...workflow('two'), ...workflow('one', { command: 'false' })], { dryRun: true })
    expect(dry.resources.map((r) => [r.outcome, r.resourceVersion === null])).toEqual([
      ['created', true],
      ['configured', false],
    ])
    expect((await list()).items.map((r) => [r.metadata.name, r.metadata.generation])).toEqual([['one', 1]])
  })

  test('a manifest that names a state is refused when the state is another one', async () => {
    await apply(workflow('one'))
    const { metadata } = await engine.resources.get(ADMIN, ref('one'))
    const { uid, resourceVersion } = metadata
    await apply(workflow('one', { command: 'false', expected: { uid, resourceVersion } }))
    await expect(apply(workflow('one', { expected: { resourceVersion } }))).rejects.toMatchObject({
      code: 'resource.conflict',
    })
    await engine.resources.remove(ADMIN, ref('one'), { precondition: ANY, dryRun: false })
    await expect(apply(workflow('one', { expected: { uid } }))).rejects.toMatchObject({ code: 'resource.conflict' })
    await apply(workflow('one'))
    await expect(apply(workflow('one', { expected: { uid } }))).rejects.toMatchObject({
      code: 'resource.conflict',
      evidence: { problems: [{ message: expect.stringContaining('was deleted and made again') }] },
    })
  })

  test('preconditions of writes and deletions', async () => {
    await apply(workflow('one'), { precondition: { match: null, absent: true } })
    const { resourceVersion } = (await engine.resources.get(ADMIN, ref('one'))).metadata
    const failed = { code: 'resource.precondition_failed' }
    await expect(apply(workflow('one'), { precondition: { match: null, absent: true } })).rejects.toMatchObject(failed)
    await expect(apply(workflow('one'), { precondition: { match: ['1'], absent: false } })).rejects.toMatchObject(
      failed,
    )
    await expect(apply(workflow('two'), { precondition: { match: ['*'], absent: false } })).rejects.toMatchObject(
      failed,
    )
    const removal = (match: string[]) =>
      engine.resources.remove(ADMIN, ref('one'), { precondition: { match, absent: false }, dryRun: false })
    await expect(removal(['1'])).rejects.toMatchObject(failed)
    expect(await removal([resourceVersion])).toMatchObject({ metadata: { name: 'one', resourceVersion } })
    await expect(removal(['*'])).rejects.toMatchObject({ code: 'resource.not_found' })
  })

  test('a deletion that is tried dry deletes nothing', async () => {
    await apply(workflow('one'))
    await engine.resources.remove(ADMIN, ref('one'), { precondition: ANY, dryRun: true })
    expect(await engine.resources.get(ADMIN, ref('one'))).toMatchObject({ metadata: { name: 'one' } })
  })

  test('lists by selector, name and namespace, page by page', async () => {
    await apply([
      ...workflow('a', { labels: { tier: 'web', env: 'dev' } }),
      ...workflow('b', { labels: { tier: 'db' } }),
      ...workflow('c', { namespace: 'ops', labels: { tier: 'web' } }),
      ...workflow('d', { namespace: 'ops' }),
    ])
    const names = async (selector: string, more: Partial<ResourceSelection> = {}, caller = ADMIN) => {
      const parsed = parseSelector(selector)
      const terms = parsed.kind === 'parsed' ? parsed.terms : []
      return (await list({ terms, ...more }, { caller })).items.map((r) => r.metadata.name).join('')
    }
    expect(await names('tier=web')).toBe('ac')
    expect(await names('tier!=web')).toBe('bd')
    expect(await names('tier in (web, db)')).toBe('abc')
    expect(await names('tier notin (web, db)')).toBe('d')
    expect(await names('tier')).toBe('abc')
    expect(await names('!tier')).toBe('d')
    expect(await names('tier=web,env in (dev),tier!=db')).toBe('a')
    expect(await names('tier=web', { namespace: 'ops' })).toBe('c')
    expect(await names('', { name: 'b' })).toBe('b')
    // What a caller may not see is not there.
    expect(await names('', {}, narrow)).toBe('ab')
    expect(await names('', { namespace: 'ops' }, narrow)).toBe('')
    await expect(engine.resources.get(narrow, ref('c', 'ops'))).rejects.toMatchObject({ code: 'resource.not_found' })
    await expect(
      engine.resources.remove(narrow, ref('c', 'ops'), { precondition: ANY, dryRun: false }),
    ).rejects.toMatchObject({ code: 'resource.not_found' })
    await expect(
      engine.resources.apply(narrow, workflow('c', { namespace: 'ops' }), { dryRun: false }),
    ).rejects.toMatchObject({ code: 'client.forbidden' })

    const first = await list({}, { limit: 3 })
    const second = await list({}, { limit: 3, cursor: first.next ?? '' })
    expect([...first.items, ...second.items].map((r) => r.metadata.name).join('')).toBe('abcd')
    expect([first.next === null, second.next]).toEqual([false, null])
    await expect(list({}, { cursor: 'nonsense' })).rejects.toMatchObject({ code: 'request.invalid' })
  })

  test('what is not there is told with the nearest name', async () => {
    await apply(workflow('report'))
    await expect(engine.resources.get(ADMIN, ref('reprot'))).rejects.toMatchObject({
      code: 'resource.not_found',
      evidence: { nearest: 'report' },
    })
  })

  test('a secret gives its keys and never its values; without encryption it is refused', async () => {
    expect(await outcomes(secret({ user: 'ann' }))).toEqual(['db created 1'])
    expect(await outcomes(secret({ user: 'ann' }))).toEqual(['db unchanged 1'])
    expect(await outcomes(secret({ user: 'anna', pass: 'x' }))).toEqual(['db configured 2'])
    const got = await engine.resources.get(ADMIN, { kind: 'Secret', namespace: 'default', name: 'db' })
    expect(got.spec).toEqual({ data: { user: HIDDEN, pass: HIDDEN } })
    engine = rig.engine()
    await expect(apply(secret({ user: 'eve' }))).rejects.toMatchObject({ code: 'secret.sealing_unavailable' })
    await expect(apply(secret({ user: 'eve' }), { dryRun: true })).rejects.toMatchObject({
      code: 'secret.sealing_unavailable',
    })
    const [row] = await rig.db.query<{ spec: { data: object } }>(`select spec from resource where kind = 'Secret'`)
    expect(Object.keys(row?.spec.data ?? {}).toSorted()).toEqual(['pass', 'user'])
    expect(JSON.stringify(row)).not.toContain('anna')
  })

  test('a secret that is applied is the one that steps find; its values go with it, and a dry run keeps none', async () => {
    const keysOf = async () => (await engine.listSecrets(ADMIN, { namespace: 'default', cursor: null, limit: 9 })).items
    await apply(secret({ user: 'ann' }), { dryRun: true })
    expect(await keysOf()).toEqual([])
    await apply(secret({ user: 'ann', pass: 'x' }))
    expect(await keysOf()).toMatchObject([{ name: 'db', keys: ['pass', 'user'] }])
    await apply(secret({ pass: 'x' }))
    expect(await keysOf()).toMatchObject([{ name: 'db', keys: ['pass'] }])
    // Set by hand in between: the next apply puts it back.
    await engine.putSecret(ADMIN, { namespace: 'default', secret: 'db' }, { values: { pass: 'y' }, replace: false })
    expect(await outcomes(secret({ pass: 'x' }))).toEqual(['db configured 3'])
    expect(await outcomes(secret({ pass: 'x' }))).toEqual(['db unchanged 3'])
    await engine.resources.remove(
      ADMIN,
      { kind: 'Secret', namespace: 'default', name: 'db' },
      { precondition: ANY, dryRun: false },
    )
    expect(await keysOf()).toEqual([])
  })

  describe('workflows have versions', () => {
    test('each change of the spec is one; the newest that is no draft starts, a draft does not', async () => {
      await apply(workflow('flow', { command: 'one', labels: { team: 'a' } }))
      await apply(workflow('flow', { command: 'two', labels: { team: 'a' } }))
      await apply(workflow('flow', { command: 'two', labels: { team: 'b' } }))
      await apply(workflow('flow', { command: 'three', lifecycle: 'draft', labels: { team: 'b' } }))
      const { items } = await engine.resources.listVersions(ADMIN, ref('flow'), { cursor: null, limit: 50 })
      expect(items.map((v) => [v.version, v.lifecycle, v.createdBy])).toEqual([
        [3, 'draft', 'tok_admin'],
        [2, 'active', 'tok_admin'],
        [1, 'active', 'tok_admin'],
      ])
      const page = await engine.resources.listVersions(ADMIN, ref('flow'), { cursor: null, limit: 2 })
      const rest = await engine.resources.listVersions(ADMIN, ref('flow'), { cursor: page.next, limit: 2 })
      expect([...page.items, ...rest.items].map((v) => v.version)).toEqual([3, 2, 1])
      // Labels are of the workflow as it is when the run starts.
      expect(await start('flow')).toMatchObject({ version: 2, labels: { team: 'b' }, warning: null })
      expect(await start('flow', 1)).toMatchObject({ version: 1, definition: items[2]?.definition })
      await expect(start('flow', 3)).rejects.toMatchObject({
        code: 'workflow.inactive',
        evidence: { lifecycle: 'draft', version: 3 },
      })
      expect(await engine.resources.getVersion(ADMIN, ref('flow'), 'active')).toMatchObject({ version: 2 })
      expect(await engine.resources.getVersion(ADMIN, ref('flow'), 3)).toMatchObject({
        spec: { lifecycle: 'draft', steps: [{ command: 'three' }] },
      })
      await expect(engine.resources.getVersion(ADMIN, ref('flow'), 9)).rejects.toMatchObject({
        code: 'resource.not_found',
        evidence: { latest: 3 },
      })
    })

    test('a deprecated one starts with a warning that the run keeps; an archived one starts nothing', async () => {
      await apply(workflow('flow', { command: 'one' }))
      await apply(workflow('flow', { command: 'two', lifecycle: 'deprecated' }))
      const { definition, warning } = await start('flow')
      expect(warning).toContain('default/flow is deprecated; version 2 was started')
      expect((await start('flow', 1)).warning).toContain('version 1')
      const [run] = await engine.createRuns(ADMIN, [
        { definition, inputs: {}, labels: {}, idempotencyKey: null, fingerprint: null, note: warning },
      ])
      const [event] = await listEvents(rig.db, run?.runId ?? '', 0, 1)
      expect(event?.changes[0]).toMatchObject({ of: 'run', to: 'pending', note: warning })
      await apply(workflow('flow', { command: 'two', lifecycle: 'archived' }))
      for (const version of [null, 1, 2, 3])
        await expect(start('flow', version)).rejects.toMatchObject({
          code: 'workflow.inactive',
          evidence: { lifecycle: 'archived' },
        })
      expect((await engine.resources.get(ADMIN, ref('flow'))).status).toMatchObject({
        phase: 'archived',
        conditions: [{ type: 'ready', status: 'false', reason: 'archived' }],
      })
      await apply(workflow('new', { lifecycle: 'draft' }))
      await expect(start('new')).rejects.toMatchObject({ code: 'workflow.inactive', evidence: { lifecycle: 'draft' } })
    })

    test('one that is not there is told with the nearest name, or with the namespace where it is, as far as the caller sees', async () => {
      await apply([...workflow('report'), ...workflow('audit', { namespace: 'ops' })])
      await expect(start('reprot')).rejects.toMatchObject({
        code: 'workflow.not_found',
        evidence: { nearest: 'report' },
        remediation: expect.stringContaining('Did you mean report?'),
      })
      await expect(start('audit')).rejects.toMatchObject({ evidence: { namespaces: ['ops'] } })
      const hidden = await start('audit', null, narrow).catch((error: unknown) => error)
      expect(hidden).toMatchObject({ code: 'workflow.not_found', evidence: {} })
      await expect(start('report', 7)).rejects.toMatchObject({ code: 'workflow.not_found', evidence: { latest: 1 } })
    })

    test('deleting one touches no run, and its name begins again', async () => {
      await apply(workflow('flow', { command: 'one' }))
      const { definition } = await start('flow')
      const run = await rig.start(engine, definition)
      await engine.resources.remove(ADMIN, ref('flow'), { precondition: ANY, dryRun: false })
      await expect(start('flow')).rejects.toMatchObject({ code: 'workflow.not_found' })
      expect(await engine.getRun(ADMIN, run)).toMatchObject({ state: 'pending', definition })
      expect(await outcomes(workflow('flow', { command: 'two' }))).toEqual(['flow created 1'])
      const { items } = await engine.resources.listVersions(ADMIN, ref('flow'), { cursor: null, limit: 50 })
      expect(items.map((v) => v.version)).toEqual([1])
    })
  })

  describe('a watch', () => {
    /** Reads a watch until `count` events came; bookmarks are left out unless asked for. */
    const follow = (since: number, more: Partial<ResourceSelection> = {}, caller = ADMIN) => {
      const stop = new AbortController()
      const source = engine.resources.watch(caller, select(more), since, stop.signal)[Symbol.asyncIterator]()
      const next = async (): Promise<ResourceEvent> => {
        const { value } = (await source.next()) as { value: ResourceEvent } // it ends with the signal alone
        return value
      }
      const change = async (): Promise<string> => {
        for (;;) {
          const event = await next()
          if (event.type !== 'bookmark') return `${event.type} ${event.resource?.metadata.name ?? ''}`
        }
      }
      return { next, change, stop: () => stop.abort() }
    }

    test('begins with what there is, goes on with what changes, and resumes where it was cut', async () => {
      await apply(workflow('one'))
      const watch = follow(0)
      expect(await watch.change()).toBe('added one')
      await apply(workflow('two'))
      expect(await watch.change()).toBe('added two')
      await apply(workflow('one', { command: 'false' }))
      expect(await watch.change()).toBe('modified one')
      watch.stop()
      const at = Number((await engine.resources.get(ADMIN, ref('one'))).metadata.resourceVersion)
      await engine.resources.remove(ADMIN, ref('two'), { precondition: ANY, dryRun: false })
      await apply(workflow('three'))
      const again = follow(at)
      expect(await again.change()).toBe('deleted two')
      expect(await again.change()).toBe('added three')
      again.stop()
    })

    test('with a selector tells of what no longer fits as deleted, and of nothing else', async () => {
      await apply([...workflow('one', { labels: { tier: 'web' } }), ...workflow('other')])
      const terms = [{ op: 'in' as const, key: 'tier', values: ['web'] }]
      const watch = follow(0, { terms })
      expect(await watch.change()).toBe('added one')
      await apply([...workflow('other', { command: 'false' }), ...workflow('one', { labels: { tier: 'db' } })])
      expect(await watch.change()).toBe('deleted one')
      await apply(workflow('other', { labels: { tier: 'web' } }))
      expect(await watch.change()).toBe('added other')
      watch.stop()
    })

    test('of another kind and of a namespace that is not seen moves its bookmark alone', async () => {
      const { resourceVersion } = await list()
      await apply([...workflow('hidden', { namespace: 'ops' }), ...secret({ k: 'v' })])
      const watch = follow(Number(resourceVersion), {}, narrow)
      expect(await watch.next()).toEqual({
        type: 'bookmark',
        resourceVersion: String(Number(resourceVersion) + 2),
        resource: null,
      })
      watch.stop()
    })

    test('that begins before what is remembered is told to list again', async () => {
      await apply(workflow('one'))
      const { resourceVersion } = await list()
      await engine.resources.remove(ADMIN, ref('one'), { precondition: ANY, dryRun: false })
      await engine.resources.checkWatch(Number(resourceVersion))
      await rig.advance(LIMITS.tombstoneMs + 60_000)
      await engine.tick()
      await expect(engine.resources.checkWatch(Number(resourceVersion))).rejects.toMatchObject({
        code: 'resource.watch_too_old',
      })
      const now = Number((await list()).resourceVersion)
      await engine.resources.checkWatch(now)
      await engine.resources.checkWatch(0)
      await expect(engine.resources.checkWatch(now + 1)).rejects.toMatchObject({ code: 'resource.watch_too_old' })
    })
  })
})
