import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { failureRecord } from '../failure.ts'
import { isFailureCode } from '../failures.ts'
import { isStepTerminal, RUN_STATES, isRunTerminal, STEP_STATES } from '../machines.ts'
import { missingFor, type Requirements } from '../workflow.ts'
import { judgeWorkers, saturated, type WorkerFacts } from './dispatch-reason.ts'
import { lacksOf } from './lacks.ts'
import { isWaitCode } from './reason.ts'
import { runReason } from './run-reason.ts'
import { type StepFacts, stepReason } from './step-reason.ts'

const AT = '2026-01-01T00:00:00.000Z'
const LATER = '2026-01-01T00:00:08.000Z'

const facts = (over: Partial<StepFacts>): StepFacts => ({
  runId: 'run_1',
  name: 'a',
  state: 'pending',
  waits: null,
  on: null,
  asks: [],
  budgets: [],
  tries: 0,
  stop: null,
  runCreatedAt: AT,
  queuedAt: null,
  leasedAt: null,
  startedAt: null,
  dueAt: null,
  needs: [],
  group: null,
  activations: null,
  turns: null,
  session: null,
  silentBelowMs: 4_000,
  dispatch: null,
  ...over,
})

const worker = (over: Partial<WorkerFacts> = {}): WorkerFacts => ({
  worker: 'w1',
  session: 'ses_1',
  namespaces: null,
  backends: ['function', 'process'],
  modules: ['tools'],
  labels: {},
  state: 'live',
  lastHeartbeatMs: 500,
  held: 0,
  capacity: 1,
  ...over,
})

const needs = (over: Partial<Requirements> = {}): Requirements => ({
  namespace: 'default',
  backend: 'function',
  module: 'tools',
  labels: {},
  ...over,
})

const judge = (
  requirements: Requirements,
  workers: WorkerFacts[],
  viewer: string[] | null = null,
): ReturnType<typeof judgeWorkers> => judgeWorkers({ requirements, workers, waitedMs: 3_000, viewer })

describe('every step that has not ended has a reason', () => {
  const instant = fc.constantFrom(AT, LATER)
  const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: null })
  const anyFacts: fc.Arbitrary<StepFacts> = fc.record({
    runId: fc.constant('run_1'),
    name: fc.constantFrom('a', 'measure[3]'),
    state: fc.constantFrom(...STEP_STATES),
    waits: maybe(fc.constantFrom('backoff', 'children', 'timer', 'event', 'approval', 'child')),
    on: maybe(fc.constant('x')),
    asks: fc.array(
      fc.record({ approval: fc.constant('apr_1'), message: fc.constant('Go on?'), isCall: fc.boolean() }),
      {
        maxLength: 3,
      },
    ),
    budgets: fc.constant([]),
    tries: fc.nat(5),
    stop: maybe(fc.constantFrom('cancel', 'fail_fast', 'timeout')),
    runCreatedAt: fc.constant(AT),
    queuedAt: maybe(instant),
    leasedAt: maybe(instant),
    startedAt: maybe(instant),
    dueAt: maybe(instant),
    needs: fc.array(fc.record({ step: fc.constantFrom('x', 'y'), state: fc.constantFrom(...STEP_STATES) }), {
      maxLength: 8,
    }),
    group: maybe(
      fc.record({ step: fc.constant('m'), maxParallel: maybe(fc.nat(3)), holders: fc.array(fc.constant('m[1]')) }),
    ),
    activations: maybe(
      fc.record({ total: fc.nat(9), ended: fc.nat(9), released: fc.nat(9), maxParallel: maybe(fc.nat(3)) }),
    ),
    turns: maybe(fc.record({ max: fc.nat(9), joined: fc.array(fc.constantFrom('x', 'y')) })),
    session: maybe(
      fc.record({
        worker: fc.constant('w1'),
        isOver: fc.boolean(),
        silentMs: fc.nat(9_000),
        leaseLeftMs: fc.integer({ min: -9_000, max: 9_000 }),
        expiresAt: fc.constant(LATER),
      }),
    ),
    silentBelowMs: fc.constant(4_000),
    dispatch: maybe(fc.constant(failureRecord('dispatch.no_worker', 'waiting 3 s for a worker'))),
  })

  test('whatever its rows say, with a known code, a message and what to do; one that has ended has none', () => {
    fc.assert(
      fc.property(anyFacts, (f) => {
        const reason = stepReason(f)
        expect(reason === null).toBe(isStepTerminal(f.state))
        if (reason === null) return
        expect(isWaitCode(reason.code) || isFailureCode(reason.code)).toBe(true)
        expect(reason.message).not.toBe('')
        expect(reason.remediation).not.toBe('')
      }),
      { numRuns: 2_000 },
    )
  })

  test('and so has every run', () => {
    const run = fc.record({
      id: fc.constant('run_1'),
      state: fc.constantFrom(...RUN_STATES),
      stop: maybe(fc.constantFrom('cancel' as const, 'fail_fast' as const, 'timeout' as const)),
      createdAt: fc.constant(AT),
      steps: fc.array(anyFacts, { maxLength: 6 }),
    })
    fc.assert(
      fc.property(run, ({ steps, ...f }) => {
        const open = steps.flatMap((s) => {
          const reason = stepReason(s)
          return reason ? [{ name: s.name, reason }] : []
        })
        const reason = runReason({ ...f, steps: open })
        expect(reason === null).toBe(isRunTerminal(f.state))
        if (reason === null) return
        expect(reason.message).toBeTruthy()
        expect(reason.remediation).toBeTruthy()
      }),
    )
  })
})

describe('what a step waits for', () => {
  test('steps that it needs, with their states; those that have ended are left out', () => {
    const f = facts({
      needs: [
        { step: 'x', state: 'running' },
        { step: 'y', state: 'succeeded' },
      ],
    })
    expect(stepReason(f)).toMatchObject({
      code: 'dependency',
      message: 'waiting for x',
      evidence: { needs: [{ step: 'x', state: 'running' }], open: 1, of: 2 },
      remediation: expect.stringContaining('orrery explain step/run_1/x'),
      since: AT,
    })
  })

  test('a place under maxParallel: the limit, where it stands and who holds the places', () => {
    const group = { step: 'measure', maxParallel: 2, holders: ['measure[0]', 'measure[1]'] }
    expect(stepReason(facts({ name: 'measure[2]', group }))).toMatchObject({
      code: 'max_parallel',
      message: 'waiting for one of 2 places of measure: measure[0], measure[1] hold them',
      evidence: { limit: 'maxParallel', value: 2, source: 'maxParallel of step measure in the workflow' },
    })
  })

  test('its next try, with the time of it', () => {
    expect(stepReason(facts({ state: 'waiting', waits: 'backoff', tries: 1, dueAt: LATER }))).toMatchObject({
      code: 'backoff',
      until: LATER,
    })
  })

  test('the lease of a worker that fell silent, and until when', () => {
    const session = { worker: 'w1', isOver: false, silentMs: 5_200, leaseLeftMs: 2_800, expiresAt: LATER }
    expect(stepReason(facts({ state: 'running', startedAt: AT, session }))).toMatchObject({
      code: 'session_lost',
      message: 'worker w1 has not been heard of for 5 s; its lease ends in 3 s',
      until: LATER,
    })
    const well = { ...session, leaseLeftMs: 7_000 }
    expect(stepReason(facts({ state: 'running', startedAt: AT, session: well }))?.code).toBe('running')
    expect(stepReason(facts({ state: 'running', session: well }))?.code).toBe('starting')
    expect(stepReason(facts({ state: 'running', session: well, stop: 'cancel' }))?.code).toBe('stopping')
  })

  test('a run answers with what someone has to act on before what is merely at work', () => {
    const wait = stepReason(facts({ state: 'queued', dispatch: failureRecord('dispatch.no_worker', 'waiting') }))
    const session = { worker: 'w1', isOver: false, silentMs: 0, leaseLeftMs: 7_000, expiresAt: LATER }
    const busy = stepReason(facts({ state: 'running', startedAt: AT, session }))
    const steps = [
      ...(busy ? [{ name: 'busy', reason: busy }] : []),
      ...(wait ? [{ name: 'stuck', reason: wait }] : []),
    ]
    const run = { id: 'run_1', state: 'running' as const, stop: null, createdAt: AT }
    expect(runReason({ ...run, steps })).toMatchObject({ code: 'dispatch.no_worker', step: 'stuck' })
    expect(runReason({ ...run, steps, stop: 'cancel' })).toMatchObject({ code: 'dispatch.no_worker' })
    expect(runReason({ ...run, steps: steps.slice(0, 1), stop: 'cancel' })).toMatchObject({ code: 'stopping' })
  })
})

describe('which worker could take it', () => {
  test('what a worker lacks is named as the claim names it', () => {
    const r = needs({ labels: { gpu: 'yes', region: 'eu', worker: 'w9' }, module: 'reports' })
    const offer = worker({ backends: ['process'], namespaces: ['other'], labels: { region: 'eu' } })
    expect(lacksOf(r, offer).map((l) => l.requirement)).toEqual(missingFor(r, offer))
    expect(missingFor(r, offer)).toEqual([
      'namespace default',
      'backend function',
      'module reports',
      'label gpu=yes',
      'worker w9',
    ])
    expect(lacksOf(needs(), worker())).toEqual([])
  })

  test.for([
    ['letter case of a key', { gpu: 'yes' }, { GPU: 'yes' }, 'label GPU=yes', 'case'],
    ['letter case of a value', { gpu: 'A100' }, { gpu: 'a100' }, 'label gpu=a100', 'case'],
    ['spelling of a key', { accelerator: 'a100' }, { acelerator: 'a100' }, 'label acelerator=a100', 'spelling'],
    ['spelling of a value', { region: 'frankfurt' }, { region: 'frankfrut' }, 'label region=frankfrut', 'spelling'],
    ['a mark between words', { 'gpu-model': 'a100' }, { gpu_model: 'a100' }, 'label gpu_model=a100', 'spelling'],
  ] as const)('a near miss in the %s is pointed out', ([, labels, offered, has, near]) => {
    expect(lacksOf(needs({ labels: { ...labels } }), worker({ labels: { ...offered } }))).toMatchObject([{ has, near }])
    const verdict = judge(needs({ labels: { ...labels } }), [worker({ labels: { ...offered } })])
    expect(verdict).toMatchObject({
      failure: { code: 'dispatch.requirements_unmet', remediation: expect.stringContaining(has) },
    })
  })

  test('two short values are no near miss, but what the worker has is shown', () => {
    expect(lacksOf(needs({ labels: { region: 'eu' } }), worker({ labels: { region: 'us' } }))).toEqual([
      { requirement: 'label region=eu', has: 'label region=us', near: null },
    ])
  })

  test('a module in another case, and a worker that comes nearest first', () => {
    const verdict = judge(needs({ module: 'Tools', labels: { gpu: 'yes' } }), [
      worker({ worker: 'far', modules: [] }),
      worker({ worker: 'near', labels: { gpu: 'yes' } }),
    ])
    expect(verdict).toMatchObject({
      failure: {
        code: 'dispatch.requirements_unmet',
        evidence: {
          workers: [{ worker: 'near', lacks: ['module Tools'] }, { worker: 'far' }],
          nearMisses: [{ worker: 'near', wanted: 'module Tools', has: 'module tools', differs: 'case' }],
        },
      },
    })
  })

  test('a worker that has everything and is away is named before what the others lack', () => {
    const gpu = worker({ worker: 'gpu', labels: { gpu: 'yes' }, state: 'lost', lastHeartbeatMs: 12_000 })
    expect(judge(needs({ labels: { gpu: 'yes' } }), [worker(), gpu])).toMatchObject({
      failure: { code: 'dispatch.no_ready_worker', evidence: { workers: [{ worker: 'gpu', state: 'lost' }] } },
    })
  })

  test('a pinned worker that nobody knows gets its nearest name', () => {
    const workers = [worker({ worker: 'builder-1' }), worker({ worker: 'gpu' })]
    expect(judge(needs({ labels: { worker: 'bulider-1' } }), workers)).toMatchObject({
      failure: {
        code: 'dispatch.worker_unknown',
        evidence: { worker: 'bulider-1', nearest: 'builder-1', workers: ['builder-1', 'gpu'] },
      },
    })
    expect(judge(needs({ labels: { worker: 'builder-1' } }), workers)).toMatchObject({
      kind: 'fitting',
      workers: [{ worker: 'builder-1' }],
    })
  })

  test('workers of another namespace are not named to those who may not see it', () => {
    const secret = worker({ worker: 'tenant-b-gpu', namespaces: ['b'], labels: { gpu: 'secret' } })
    const told = judge(needs({ namespace: 'a' }), [secret], ['a'])
    expect(told).toMatchObject({ failure: { code: 'dispatch.scope_mismatch', evidence: { namespace: 'a' } } })
    expect(JSON.stringify(told)).not.toMatch(/tenant-b|secret|"b"/)
    const pinned = judge(needs({ namespace: 'a', labels: { worker: 'tenant-b-gpu' } }), [secret, worker()], ['a'])
    expect(pinned).toMatchObject({ failure: { code: 'dispatch.worker_unknown', evidence: { workers: ['w1'] } } })
    expect(judge(needs({ namespace: 'a', labels: { worker: 'tenant-b-gpu' } }), [secret], null)).toMatchObject({
      failure: {
        code: 'dispatch.scope_mismatch',
        evidence: { workers: [{ worker: 'tenant-b-gpu', namespaces: ['b'] }] },
      },
    })
    // One of its own that lacks something is judged alone; the other stays out of the table.
    const unmet = judge(needs({ namespace: 'a', labels: { gpu: 'yes' } }), [worker(), secret], ['a'])
    expect(unmet).toMatchObject({ failure: { code: 'dispatch.requirements_unmet' } })
    expect(JSON.stringify(unmet)).not.toContain('tenant-b')
  })

  test('no worker at all, or only such as are not ready', () => {
    expect(judge(needs(), [])).toMatchObject({ failure: { code: 'dispatch.no_worker' } })
    expect(judge(needs(), [worker({ state: 'draining' })])).toMatchObject({
      failure: { code: 'dispatch.no_ready_worker' },
    })
  })

  test('all slots held: position, oldest wait, holders; a slot that seems free is said to be', () => {
    const place = { ahead: 2, oldestMs: 9_000 }
    const holders = [{ step: 'run_2.0', worker: 'w1', forMs: 4_000 }]
    const busy = [worker({ held: 1 })]
    expect(saturated({ waitedMs: 3_000, fitting: busy, place, holders })).toMatchObject({
      code: 'dispatch.saturated',
      evidence: { position: 3, ahead: 2, oldestWaitMs: 9_000, holders },
      remediation: expect.stringContaining('--capacity'),
    })
    const none = { ahead: 0, oldestMs: 3_000 }
    expect(saturated({ waitedMs: 3_000, fitting: [worker()], place: none, holders: [] }).remediation).toContain(
      'free slot',
    )
  })
})
