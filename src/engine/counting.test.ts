import { describe, expect, test } from 'vitest'
import type { Metrics } from '../base/metrics.ts'
import { Failure } from '../domain/failure.ts'
import type { AnySpec, NodeSpec } from '../domain/testing/definitions.ts'
import type { RunningEngine } from './create-engine.ts'
import { ADMIN, type EngineRig, useRig } from './testing/rig.ts'

const counted = new Map<string, number>()
const metrics: Metrics = {
  count(name, by = 1, labels = {}) {
    const key = [name, ...Object.values(labels)].join(' ')
    counted.set(key, (counted.get(key) ?? 0) + by)
  },
  gauge: () => {},
  observe: () => {},
}

let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  counted.clear()
  engine = rig.engine({ metrics })
})

const failed = { kind: 'failed', failure: new Failure('step.function_threw', 'testing').toRecord() } as const
const ends = () => Object.fromEntries([...counted].filter(([name]) => /^orrery_(runs|steps)_ended_total/.test(name)))
const once = (run: string, step: string = run) => ({
  [`orrery_runs_ended_total ${run}`]: 1,
  [`orrery_steps_ended_total ${step}`]: 1,
})
const parked: Record<string, AnySpec> = {
  question: {
    name: 'ask',
    kind: 'approval',
    message: 'Well?',
    approvers: null,
    expiresMs: null,
    onExpiry: 'deny',
    fields: null,
  },
  event: { name: 'paid', kind: 'wait', for: { type: 'event', name: 'paid', match: null, timeoutMs: null } },
  nap: { name: 'nap', kind: 'wait', for: { type: 'duration', duration: '1h' } },
}
const start = async (spec: AnySpec | undefined): Promise<string> => {
  if (!spec) throw new Error('no such step')
  const runId = await rig.start(engine, await rig.put(engine, [spec]))
  await engine.tick()
  return runId
}
const held = (specs?: NodeSpec[]) => rig.startHeld(engine, specs)

describe('the end of a run, and of a step, is counted once', () => {
  test('when a worker reported it', async () => {
    const { worker, a } = await held()
    await worker.done(a)
    expect(ends()).toEqual(once('succeeded'))
  })

  test('when a worker reported a failure', async () => {
    const { worker, a } = await held()
    await worker.report(a, failed)
    expect(ends()).toEqual(once('failed'))
  })

  test('when somebody decided', async () => {
    await start(parked['question'])
    const filter = { namespace: null, states: ['pending' as const], runId: null, step: null, cursor: null, limit: 1 }
    const [asked] = (await engine.listApprovals(ADMIN, filter)).items
    await engine.decideApproval(ADMIN, asked?.id ?? '', { approved: true, comment: null, inputs: null })
    expect(ends()).toEqual(once('succeeded'))
  })

  test('when an event came', async () => {
    await engine.sendEvent(ADMIN, await start(parked['event']), { name: 'paid', payload: null, key: null })
    expect(ends()).toEqual(once('succeeded'))
  })

  test('when a nudge moved it', async () => {
    const runId = await start(parked['nap'])
    await rig.advance(3_600_000)
    await engine.nudgeRun(ADMIN, runId)
    expect(ends()).toEqual(once('succeeded'))
  })

  test('when a tick did', async () => {
    await start(parked['nap'])
    await rig.advance(3_600_000)
    await engine.tick()
    expect(ends()).toEqual(once('succeeded'))
  })

  test('when it was canceled', async () => {
    await engine.cancelRun(ADMIN, await start(parked['nap']))
    expect(ends()).toEqual(once('canceled'))
  })

  test('when its last step was skipped by hand, and whoever waits for it is told at once', async () => {
    const runId = await start(parked['nap'])
    const told = engine.waitForRun(ADMIN, runId, 60_000, new AbortController().signal)
    await engine.skipStep(ADMIN, runId, 'nap', null)
    expect(await told).toMatchObject({ state: 'succeeded' })
    expect(ends()).toEqual(once('succeeded', 'skipped'))
  })
})
