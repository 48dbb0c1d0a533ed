import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createApi } from '../../src/api/index.ts'
import { silentLog, systemClock } from '../../src/base/index.ts'
import type { RunningEngine } from '../../src/engine/index.ts'
import { EngineRig, type RigWorker } from '../../src/engine/testing/rig.ts'
import { putToken } from '../../src/store/index.ts'

const RUNS = 1_000
const ANSWER_MS = 20_000
const TOKENS = { admin: 'admin-token', worker: 'worker-token', other: 'other-token', scoped: 'scoped-token' }

let rig: EngineRig
let engine: RunningEngine
let api: ReturnType<typeof createApi>
let victim: RigWorker
/** Ids that exist, so that what is made up beside them gets past the first look. */
const known = { run: '', ended: '', recent: '', hash: '', session: '', foreign: '', step: '' }
const idKinds = ['run', 'ended', 'recent', 'hash', 'session', 'foreign', 'step'] as const
/** Steps that were assigned to the worker that asks. */
const owned: string[] = []
const bugs: string[] = []

beforeAll(async () => {
  rig = await EngineRig.open()
  await rig.reset()
  engine = rig.engine()
  const log = {
    ...silentLog,
    error: (message: string, fields?: unknown) => void bugs.push(`${message} ${JSON.stringify(fields).slice(0, 500)}`),
  }
  const metrics = { contentType: 'text/plain', metrics: () => '' }
  api = createApi({ engine, clock: systemClock, ids: rig.ids, log, version: '0', metrics })
  const tokens = [
    { id: 'tok_admin', secret: TOKENS.admin, role: 'admin' },
    { id: 'tok_worker', secret: TOKENS.worker, role: 'worker' },
    { id: 'tok_other', secret: TOKENS.other, role: 'worker' },
  ] as const
  for (const t of tokens) await putToken(rig.db, { ...t, name: t.id, namespaces: null })
  await putToken(rig.db, {
    id: 'tok_scoped',
    secret: TOKENS.scoped,
    role: 'admin',
    name: 's',
    namespaces: ['elsewhere'],
  })
  const specs = [{ name: 'a' }, { name: 'b', needs: ['a'] }]
  known.hash = await rig.put(engine, specs)
  const guarded = await rig.put(
    engine,
    specs.map((spec) => ({ ...spec, runsOn: { of: 'victim' } })),
  )
  victim = await rig.worker(engine, { worker: 'victim', labels: { of: 'victim' } })
  known.session = victim.session
  known.foreign = (
    await rig.worker(engine, {
      caller: { actor: 'tok_other', role: 'worker', organisation: '*', namespaces: null, requestId: 'r' },
    })
  ).session
  known.run = await rig.start(engine, guarded)
  const a = await victim.pollFirst()
  known.step = a.step
  known.ended = await rig.start(engine, guarded)
  known.recent = known.ended
  await engine.cancelRun(
    { actor: 'tok_admin', role: 'admin', organisation: '*', namespaces: null, requestId: 'r' },
    known.ended,
  )
})
afterAll(() => rig.close())

interface Ask {
  method: string
  path: string
  token: string
  headers: Record<string, string>
  body: string
}

/** One request as the server sees it; an answer that does not come is a failure that names the request. */
async function ask({ method, path, token, headers, body }: Ask): Promise<{ status: number; text: string }> {
  const stop = new AbortController()
  const init = { method, headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers } }
  const answer = (async () => {
    const response = await api.fetch(new Request(`http://embedded${path}`, init), { body, signal: stop.signal })
    const isStream =
      response.status < 400 &&
      (/event-stream|ndjson/.test(response.headers.get('content-type') ?? '') || path.includes('follow=true'))
    if (isStream) await response.body?.cancel()
    return { status: response.status, text: isStream ? '' : await response.text() }
  })()
  const late = systemClock.sleep(ANSWER_MS, stop.signal).then(
    () => Promise.reject(new Error(`no answer to ${method} ${path} within ${ANSWER_MS} ms`)),
    () => answer,
  )
  try {
    return await Promise.race([answer, late])
  } finally {
    stop.abort()
  }
}

/** Values that have broken something somewhere. */
const nasty: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    '',
    0,
    -1,
    0.5,
    1e308,
    2 ** 31,
    2 ** 31 - 1,
    2 ** 53,
    -(2 ** 63),
    '\0',
    'a\0b',
    '\ud800',
    '${{ inputs.x }}',
    '../../etc/passwd',
    "'; drop table run; --",
    'x'.repeat(100_000),
    [],
    {},
    [[[[[[]]]]]],
    { __proto__: 1, constructor: 2 },
    '2026-13-45T99:99:99Z',
  ),
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.integer(),
  fc.double(),
  fc.jsonValue({ maxDepth: 4 }),
)

/** What may stand for an id: mostly one that exists, else one of another kind, or nonsense. */
const idOf = (...right: (keyof typeof known)[]) =>
  fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(...right).map((k) => () => known[k]) },
    { weight: 1, arbitrary: fc.constantFrom(...idKinds).map((k) => () => known[k]) },
    { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 40 }).map((s) => () => s) },
    {
      weight: 1,
      arbitrary: fc.constantFrom('run_', '.', `run_${'0'.repeat(26)}`, `ses_${'0'.repeat(26)}`).map((s) => () => s),
    },
  )
const someRun = idOf('run', 'ended', 'recent')
const someSession = idOf('foreign', 'foreign', 'session')
const someStep = fc.oneof(
  { weight: 6, arbitrary: fc.nat().map((at) => () => owned[at % Math.max(1, owned.length)] ?? known.step) },
  { weight: 2, arbitrary: fc.constant(() => known.step) },
  {
    weight: 2,
    arbitrary: fc
      .constantFrom('.1', '.0.00001', '.999999', '.999999.99999', '.0.0', '.-1', '.1e3')
      .map((s) => () => `${known.run}${s}`),
  },
  { weight: 1, arbitrary: fc.constantFrom('.0', '.1').map((s) => () => `${known.ended}${s}`) },
  { weight: 1, arbitrary: someRun },
)
const someFence = fc.oneof(
  { weight: 12, arbitrary: fc.constant(1) },
  { weight: 1, arbitrary: fc.constantFrom(2, 3, 2 ** 31 - 1, 2 ** 31, 2 ** 53 - 1) },
)
const someAgo = fc.oneof(
  { weight: 12, arbitrary: fc.constantFrom<number | null>(null, 0, 5) },
  { weight: 1, arbitrary: fc.constantFrom(0.5, 1e9, 2 ** 31, 2 ** 53, 1e300) },
)
const mostlyFalse = fc.nat({ max: 9 }).map((n) => n === 0)
const failure = { code: 'step.function_threw', message: 'm', remediation: 'r', retryable: false }

/** A body of the right form, with a few places that a mutation may spoil. */
type Draft = () => unknown
const report: fc.Arbitrary<Draft> = fc
  .record({
    step: someStep,
    fence: someFence,
    seq: someFence,
    started: someAgo,
    ended: someAgo,
    body: fc.oneof(
      fc.constantFrom<object>(
        { kind: 'started' },
        { kind: 'canceled' },
        { kind: 'returned' },
        { kind: 'failed', failure },
      ),
      nasty.map((output) => ({ kind: 'succeeded', output })),
      fc
        .record({
          index: someFence,
          stream: fc.constantFrom('stdout', 'system'),
          agoMs: someAgo,
          text: fc.string({ unit: 'binary' }),
        })
        .map((segment) => ({ kind: 'log', segments: [segment, { ...segment, index: 1 }] })),
      fc
        .jsonValue({ maxDepth: 3 })
        .map((evidence) => ({ kind: 'failed', failure: { ...failure, evidence: { evidence } } })),
    ),
  })
  .map(({ step, started, ended, body, ...rest }) => () => ({
    ...rest,
    ...body,
    step: step(),
    startedAgoMs: started,
    endedAgoMs: ended,
  }))

const oddity: fc.Arbitrary<object> = fc.oneof(
  fc.record({ name: fc.oneof(fc.constantFrom('s0', 's1'), fc.string({ maxLength: 20 })) }),
  fc.record({ function: fc.constantFrom('m', '.', 'm.work.deep') }),
  fc.record({ command: fc.constantFrom<unknown>(['true'], [], 'true', ['${{ inputs.x }}']) }),
  fc.record({ needs: fc.constantFrom<unknown>(['s0'], ['s0', 's0'], ['zzz'], 's0', [1]) }),
  fc.record({ if: fc.constantFrom('true', 'inputs.x > 1', '1 +', 'steps.s0.output', '('.repeat(5_000)) }),
  fc.record({ forEach: fc.constantFrom<unknown>([1, 2], [], '${{ inputs.items }}', 'text', { a: 1 }) }),
  fc.record({ timeout: fc.constantFrom<unknown>('5s', '1000000d', -1, 'soon', 1e300) }),
  fc.record({ retry: fc.constantFrom<unknown>({ max: 1 }, { max: 1e9 }, { max: -1 }, 3) }),
  fc.record({ onFailure: fc.constantFrom('continue', 'fail', 'explode') }),
  fc.record({ with: nasty }),
)
const manifest = fc
  .record({
    steps: fc.array(fc.option(oddity, { freq: 2 }), { minLength: 1, maxLength: 5 }),
    spec: fc.oneof(
      { weight: 4, arbitrary: fc.constant({}) },
      { weight: 1, arbitrary: fc.record({ inputs: nasty }) },
      { weight: 1, arbitrary: fc.record({ failFast: fc.boolean() }) },
    ),
    name: fc.constantFrom('w', 'w', 'w2', ''),
  })
  .map(({ name, steps, spec }) => ({
    apiVersion: 'orrery.dev/v1',
    kind: 'Workflow',
    metadata: { name },
    spec: {
      modules: { m: './m.ts' },
      ...spec,
      steps: steps.map((odd, at) => ({ name: `s${at}`, function: 'm.work', ...odd })),
    },
  }))

const source: fc.Arbitrary<Draft> = fc.oneof(
  fc.constant(() => ({ definition: known.hash })),
  manifest.map((workflow) => () => ({ workflow })),
  manifest.map((m) => () => ({ manifest: JSON.stringify(m) })),
  fc.string({ unit: 'binary', maxLength: 200 }).map((text) => () => ({ manifest: text })),
)
const inputs = fc.oneof(fc.constant({ items: [1, 2] }), fc.dictionary(fc.string({ maxLength: 8 }), nasty))

/** What each address takes. */
const requests: { method: string; path: string; body: fc.Arbitrary<Draft> | null }[] = [
  { method: 'POST', path: '/v1/definitions', body: source },
  { method: 'GET', path: '/v1/definitions/{id}', body: null },
  {
    method: 'POST',
    path: '/v1/runs',
    body: fc.tuple(source, inputs).map(([s, i]) => () => ({ ...(s() as object), inputs: i })),
  },
  {
    method: 'POST',
    path: '/v1/runs:bulk',
    body: fc.tuple(source, fc.array(inputs, { maxLength: 3 })).map(([s, is]) => () => ({
      ...(s() as object),
      items: is.map((i) => ({ inputs: i })),
    })),
  },
  { method: 'GET', path: '/v1/runs', body: null },
  { method: 'GET', path: '/v1/runs/{id}', body: null },
  { method: 'GET', path: '/v1/runs/{id}/steps', body: null },
  { method: 'GET', path: '/v1/runs/{id}/events', body: null },
  { method: 'GET', path: '/v1/runs/{id}/logs', body: null },
  { method: 'POST', path: '/v1/runs/{id}:retry', body: fc.constant(() => ({})) },
  { method: 'POST', path: '/v1/runs/{id}/steps/{name}:skip', body: nasty.map((output) => () => ({ output })) },
  { method: 'GET', path: '/v1/workers', body: null },
  {
    method: 'POST',
    path: '/v1/exchange/register',
    body: fc
      .record({
        pid: fc.oneof(fc.nat(), someFence),
        capacity: fc.constantFrom(1, 10_000, 2 ** 31),
        clock: fc.nat(),
        replaces: fc.oneof({ weight: 15, arbitrary: fc.constant(() => null) }, { weight: 1, arbitrary: someSession }),
        held: fc.array(fc.tuple(someStep, someFence), { maxLength: 3 }),
        labels: fc.constantFrom<unknown>({}, {}, { of: 'victim2' }, { x: 1 }),
      })
      .map(({ replaces, held, ...rest }) => () => ({
        ...{
          worker: 'w',
          version: '0',
          host: 'h',
          pidStart: null,
          namespaces: null,
          backends: ['function'],
          modules: ['m'],
        },
        ...rest,
        replaces: replaces(),
        held: held.map(([step, fence]) => ({ step: step(), fence })),
      })),
  },
  {
    method: 'POST',
    path: '/v1/exchange/poll',
    body: fc
      .tuple(someSession, fc.array(fc.tuple(someStep, someFence), { maxLength: 4 }), mostlyFalse)
      .map(([session, held, draining]) => () => ({
        session: session(),
        free: 1,
        held: held.map(([step, fence]) => ({ step: step(), fence })),
        draining,
      })),
  },
  {
    method: 'POST',
    path: '/v1/exchange/report',
    body: fc.tuple(someSession, fc.array(report, { maxLength: 4 })).map(([session, reports]) => () => ({
      session: session(),
      free: 1,
      draining: false,
      reports: reports.map((r) => r()),
    })),
  },
  {
    method: 'POST',
    path: '/v1/exchange/heartbeat',
    body: fc.tuple(someSession, fc.nat()).map(([s, clock]) => () => ({ session: s(), clock })),
  },
]

/** Puts a nasty value in the place of one that is there; which one, the number says. */
function spoil(value: unknown, at: number, by: unknown): unknown {
  let left = at
  const walk = (v: unknown): unknown => {
    if (left-- === 0) return by
    if (Array.isArray(v)) return v.map(walk)
    if (typeof v === 'object' && v !== null) return Object.fromEntries(Object.entries(v).map(([k, m]) => [k, walk(m)]))
    return v
  }
  return walk(value)
}

const QUERIES: Record<string, string[]> = {
  '/v1/runs': ['limit', 'cursor', 'state', 'namespace', 'workflow'],
  '/v1/runs/{id}/steps': ['limit', 'cursor'],
  '/v1/runs/{id}/events': ['after'],
  '/v1/runs/{id}/logs': ['step', 'cursor', 'follow'],
}
const someQuery = (path: string): fc.Arbitrary<string> => {
  const value = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 20 }),
    fc.constantFrom('0', '1', '999999999999999', '9007199254740991', 'true', 'running', '9'.repeat(30)),
    fc.constantFrom('1.00001', '999999.99999', '99999999999999.1..1.1', '9999999999999999.1.00001.999999999.999999999'),
  )
  const one = fc
    .tuple(fc.constantFrom(...(QUERIES[path] ?? []), 'x'), value)
    .map(([k, v]) => `?${k}=${encodeURIComponent(v.toWellFormed())}`)
  return fc.oneof({ weight: 1, arbitrary: fc.constant('') }, { weight: 1, arbitrary: one })
}
const asks: fc.Arbitrary<() => Ask> = fc.constantFrom(...requests).chain(({ method, path, body }) =>
  fc
    .record({
      id: path.includes('definitions') ? idOf('hash') : someRun,
      name: fc.oneof(
        fc.constantFrom('a', 'b', 'b[0]', 'b[99999]'),
        fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }),
      ),
      query: method === 'GET' ? someQuery(path) : fc.constant(''),
      // The worker whose step is at stake is left out: it may of course end its own step.
      token: fc.oneof(
        { weight: 8, arbitrary: fc.constant(path.includes('exchange') ? TOKENS.other : TOKENS.admin) },
        { weight: 1, arbitrary: fc.constantFrom(TOKENS.other, TOKENS.scoped, 'nobody') },
      ),
      draft: body ?? fc.constant(() => ''),
      spoilt: fc.oneof(
        { weight: 2, arbitrary: fc.constant(null) },
        { weight: 1, arbitrary: fc.tuple(fc.nat({ max: 25 }), nasty) },
      ),
      key: fc.option(fc.constantFrom('k1', 'k2', 'ä', 'x'.repeat(300)), { freq: 4 }),
      accept: fc.constantFrom('application/json', 'text/event-stream', '*/*'),
      raw: fc.oneof(
        { weight: 20, arbitrary: fc.constant(null) },
        { weight: 1, arbitrary: fc.string({ unit: 'binary' }) },
      ),
    })
    .map(({ id, name, query: q, token, draft, spoilt, key, accept, raw }) => () => {
      const whole = draft()
      const value = spoilt ? spoil(whole, ...spoilt) : whole
      const segment = (text: string) => encodeURIComponent(text.toWellFormed())
      const isSafeKey = key !== null && /^[\x20-\x7e]*$/.test(key)
      return {
        method,
        path: path.replace('{id}', segment(id())).replace('{name}', segment(name)) + q,
        token,
        headers: { accept, ...(isSafeKey ? { 'idempotency-key': key } : {}) },
        body: body === null ? '' : (raw ?? JSON.stringify(value) ?? ''),
      }
    }),
)

/** What an answer made known, so that later requests can speak of it. */
function remember({ method, path, token, body }: Ask, status: number, text: string): void {
  if (status >= 300 || method !== 'POST') return
  const value = JSON.parse(text) as Record<string, unknown>
  // Only the first session can end by being replaced; its successor is then the one that works on.
  const replaces = path.endsWith('/register') ? (JSON.parse(body) as { replaces: unknown }).replaces : null
  if (token === TOKENS.other && replaces === known.foreign) known.foreign = String(value['session'])
  if (token === TOKENS.other && Array.isArray(value['assignments']))
    for (const { step } of value['assignments'] as { step: string }[]) owned.unshift(step)
  if (path === '/v1/runs' && status === 201) known.recent = String(value['id'])
  owned.splice(20)
}

describe('the server, asked anything', () => {
  test('never answers with a bug, never hangs, and stays sound', { timeout: 300_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(asks, async (make) => {
        const request = make()
        const { status, text } = await ask(request)
        remember(request, status, text)
        expect(
          status,
          `${request.method} ${request.path} ${request.body.slice(0, 2_000)}\n${text.slice(0, 500)}\n${bugs.join('\n')}`,
        ).toBeLessThan(500)
        if (status >= 400) expect(JSON.parse(text)).toMatchObject({ code: expect.any(String) as string, status })
      }),
      { numRuns: RUNS },
    )
    await engine.tick()
    expect(bugs).toEqual([])
    // Nobody but its own worker could touch the step, and the server still does its work.
    expect(await rig.states(known.run)).toMatchObject({ a: 'running' })
    const held = [...victim.held.values()].find((h) => h.step === known.step)
    if (!held) throw new Error('the step is not held')
    expect((await victim.done(held)).acks).toMatchObject([{ outcome: 'recorded' }])
    expect(await rig.states(known.run)).toMatchObject({ a: 'succeeded' })
  })

  describe('what once broke it is answered', () => {
    const manifestWith = (text: string) =>
      JSON.stringify({
        manifest: `apiVersion: orrery.dev/v1\nkind: Workflow\nmetadata: { name: w }\nspec: { steps: [{ name: a, command: ["${text}"] }] }`,
      })
    const reported = (more: object) => {
      const common = {
        step: known.step,
        fence: 9,
        seq: 1,
        startedAgoMs: 0,
        endedAgoMs: 0,
        kind: 'succeeded',
        output: 1,
      }
      return JSON.stringify({ session: known.foreign, free: 1, draining: false, reports: [{ ...common, ...more }] })
    }
    const registered = (more: object) => {
      const who = { worker: 'w', version: '0', host: 'h', pid: 1, pidStart: null, clock: 0, capacity: 1, labels: {} }
      const what = { namespaces: null, backends: [], modules: [], replaces: null, held: [] }
      return JSON.stringify({ ...who, ...what, ...more })
    }
    const cases: [string, number, () => [method: string, path: string, body: string]][] = [
      [
        'a time longer ago than a column holds',
        200,
        () => ['POST', '/v1/exchange/report', reported({ endedAgoMs: 2 ** 31 })],
      ],
      [
        'a start longer ago than a column holds',
        400,
        () => ['POST', '/v1/exchange/report', reported({ startedAgoMs: 2 ** 40 })],
      ],
      ['a pid that no system has', 400, () => ['POST', '/v1/exchange/register', registered({ pid: 2 ** 31 })]],
      ['a cursor beyond every step', 400, () => ['GET', `/v1/runs/${known.run}/steps?cursor=999999999999999`, '']],
      [
        'a cursor beyond the calendar',
        200,
        () => ['GET', `/v1/runs/${known.run}/logs?cursor=9999999999999999.1..1.1`, ''],
      ],
      [
        'events after more than there can be',
        200,
        () => ['GET', `/v1/runs/${known.run}/events?after=999999999999999`, ''],
      ],
      ['half a surrogate pair escaped in YAML', 400, () => ['POST', '/v1/definitions', manifestWith('\\ud800')]],
      ['U+0000 escaped in YAML', 400, () => ['POST', '/v1/definitions', manifestWith('\\0')]],
    ]
    test.each(cases)('%s: %i', async (_, expected, make) => {
      const [method, path, body] = make()
      const token = path.includes('exchange') ? TOKENS.other : TOKENS.admin
      const { status } = await ask({
        method,
        path,
        token,
        headers: { accept: path.includes('/logs') ? 'text/plain' : 'application/json' },
        body,
      })
      expect(status).toBe(expected)
    })
  })

  test('a worker token may not speak for the session of another', async () => {
    const reports = [
      { step: known.step, fence: 1, seq: 1, startedAgoMs: 0, endedAgoMs: 0, kind: 'succeeded', output: 1 },
    ]
    const bodies: Record<string, object> = {
      '/v1/exchange/poll': { session: known.session, free: 1, held: [], draining: false },
      '/v1/exchange/report': { session: known.session, free: 1, draining: false, reports },
      '/v1/exchange/heartbeat': { session: known.session, clock: 0 },
    }
    for (const [path, body] of Object.entries(bodies)) {
      const { status, text } = await ask({
        method: 'POST',
        path,
        token: TOKENS.other,
        headers: {},
        body: JSON.stringify(body),
      })
      expect([status, (JSON.parse(text) as { code: string }).code]).toEqual([403, 'client.forbidden'])
    }
  })
})
