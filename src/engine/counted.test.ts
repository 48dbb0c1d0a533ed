import { beforeEach, describe, expect, test } from 'vitest'
import { noMetrics } from '../base/metrics.ts'
import { Failure } from '../domain/failure.ts'
import type { NodeSpec } from '../domain/testing/definitions.ts'
import { DEFAULT_TIMES, type RunningEngine } from './create-engine.ts'
import { type EngineRig, one, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
/** What was counted, by name. */
const counted = new Map<string, number>()
useRig((opened) => {
  rig = opened
  const count = (name: string, by = 1) => void counted.set(name, (counted.get(name) ?? 0) + by)
  engine = rig.engine({ metrics: { ...noMetrics, count } })
})
beforeEach(() => counted.clear())

/** Time goes by in steps of a tick. */
async function pass(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += DEFAULT_TIMES.tickMs) {
    await rig.advance(DEFAULT_TIMES.tickMs)
    await engine.tick()
  }
}

describe('what the engine counts when something goes wrong', () => {
  test('orrery_assignments_resent_total: a reply that was lost', async () => {
    const worker = await rig.worker(engine)
    await rig.start(engine, await rig.put(engine, one))
    await worker.losePoll()
    expect(counted.get('orrery_assignments_resent_total')).toBeUndefined()
    await worker.poll()
    expect(counted.get('orrery_assignments_resent_total')).toBe(1)
  })

  test('orrery_leases_recovered_total: a lease of which nobody heard', async () => {
    await rig.start(engine, await rig.put(engine, one))
    const worker = await rig.worker(engine)
    rig.faults.after = (asked) => {
      if (asked !== 'claim_steps') return
      delete rig.faults.after
      throw new Failure('storage.unreachable', 'the connection was lost')
    }
    await expect(worker.poll()).rejects.toThrow('connection was lost')
    await rig.advance(3_000)
    await engine.tick()
    expect(counted.get('orrery_leases_recovered_total')).toBe(1)
  })

  test('orrery_sessions_lost_total: a worker that fell silent', async () => {
    await rig.startHeld(engine)
    await pass(DEFAULT_TIMES.leaseMs + 2_000)
    expect(counted.get('orrery_sessions_lost_total')).toBe(1)
    expect(counted.get('orrery_attempts_ended_total')).toBe(1)
  })

  test('orrery_settle_errors_total: a run whose definition cannot be read', async () => {
    const impatient: NodeSpec[] = [{ name: 'a', queueTimeoutMs: 1_000 }]
    const runs = await rig.startMany(engine, await rig.put(engine, impatient), 2)
    await rig.breakRuns(runs.slice(0, 1))
    await pass(1_000)
    expect(counted.get('orrery_settle_errors_total')).toBeGreaterThan(0)
    expect(counted.get('orrery_runs_ended_total')).toBe(1)
  })
})
