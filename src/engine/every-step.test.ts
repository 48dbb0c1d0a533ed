import { expect, test } from 'vitest'
import { seededRandom } from '../base/random.ts'
import { Failure } from '../domain/failure.ts'
import { isStepTerminal } from '../domain/machines.ts'
import { NO_RETRY, type NodeSpec } from '../domain/testing/definitions.ts'
import type { RunningEngine } from './create-engine.ts'
import { ADMIN, type EngineRig, type RigWorker, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

const SPECS: NodeSpec[] = [
  { name: 'first', retry: { ...NO_RETRY, max: 2, initialMs: 4_000 } },
  { name: 'flaky', retry: { ...NO_RETRY, max: 2, initialMs: 4_000 } },
  { name: 'many', forEach: '${{ inputs.items }}', maxParallel: 2 },
  { name: 'maybe', needs: ['first'], if: 'inputs.items.size() > 1' },
  { name: 'pinned', runsOn: { worker: 'nobody' } },
  { name: 'last', needs: ['flaky', 'many', 'maybe'] },
]

/** Every step that has not ended says why, every other says nothing; the same of the run. */
async function check(runId: string): Promise<string[]> {
  const run = await engine.getRun(ADMIN, runId)
  const { items } = await engine.listSteps(ADMIN, runId, { cursor: null, limit: 100 })
  for (const step of items)
    expect([step.name, step.state, step.reason === null]).toEqual([step.name, step.state, isStepTerminal(step.state)])
  expect(run.reason === null).toBe(run.endedAt !== null)
  return items.flatMap((step) => (step.reason ? [step.reason.code] : []))
}

/** One thing that may happen next. */
async function happen(dice: number, runId: string, worker: RigWorker): Promise<void> {
  const [held] = [...worker.held.values()]
  const states = Object.values(await rig.states(runId))
  if (dice < 0.3 && states.includes('queued') && worker.held.size < 4) {
    // What is queued for a worker that is not there brings nothing: the poll is cut.
    const stop = new AbortController()
    const polled = worker.poll({ signal: stop.signal })
    await engine.tick()
    stop.abort()
    await polled
  } else if (dice < 0.45 && held) await worker.done(held)
  else if (dice < 0.7 && held) {
    const failure = new Failure('step.function_threw', 'testing').toRecord()
    await worker.report(held, { kind: 'failed', failure })
  } else if (dice < 0.95) await rig.advance(1_500)
  else await engine.cancelRun(ADMIN, runId).catch(() => {}) // it may have ended
  await engine.tick()
}

test('whatever happens to a run, each of its steps that has not ended says why at any time', async () => {
  const seen = new Set<string>()
  for (let seed = 1; seed <= 2; seed++) {
    const random = seededRandom(seed)
    const runId = await rig.start(engine, await rig.put(engine, SPECS), { items: [1, 2, 3, 4] })
    const worker = await rig.worker(engine, { worker: `w${seed}` })
    for (let i = 0; i < 20; i++) {
      for (const code of await check(runId)) seen.add(code)
      // Each walk begins with a step that is taken and fails: what is tried again waits as well.
      await happen([0.1, 0.6][i] ?? random.next(), runId, worker)
    }
    for (const code of await check(runId)) seen.add(code)
  }
  // The walk is worth something only when it comes by most of them.
  for (const code of ['queued', 'dependency', 'max_parallel', 'activations', 'backoff', 'dispatch.worker_unknown'])
    expect(seen).toContain(code)
})
