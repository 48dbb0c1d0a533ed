import { describe, expect, test } from 'vitest'
import { Failure } from '../domain/failure.ts'
import type { NodeSpec } from '../domain/testing/definitions.ts'
import type { RunningEngine } from './create-engine.ts'
import { ADMIN, type EngineRig, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

const failed = { kind: 'failed', failure: new Failure('step.function_threw', 'testing').toRecord() } as const
const running = (specs: NodeSpec[]) => rig.startHeld(engine, specs)

describe('a step is skipped', () => {
  test('not while its run is being stopped: nothing revives it', async () => {
    const { worker, runId } = await running([{ name: 'a' }, { name: 'b' }])
    await worker.poll()
    const b = [...worker.held.values()].find((h) => h.step === `${runId}.1`)
    if (!b) throw new Error('b is not held')
    await worker.report(b, failed)
    await engine.cancelRun(ADMIN, runId)
    await expect(engine.skipStep(ADMIN, runId, 'b', null)).rejects.toMatchObject({ code: 'step.not_skippable' })
  })

  test('not once its failure was taken for success: what follows has used its output', async () => {
    const specs: NodeSpec[] = [
      { name: 'a', onFailure: 'continue' },
      { name: 'b', needs: ['a'] },
    ]
    const { worker, runId, a } = await running(specs)
    const refused = {
      code: 'step.not_skippable',
      evidence: { state: 'failed' },
      remediation: expect.stringContaining('start a new run') as string,
    }
    const [b] = (await worker.report(a, failed)).assignments
    if (!b) throw new Error('b was not assigned')
    await expect(engine.skipStep(ADMIN, runId, 'a', 'other')).rejects.toMatchObject(refused)
    await worker.done(b)
    await expect(engine.skipStep(ADMIN, runId, 'a', 'other')).rejects.toMatchObject(refused)
    const view = await engine.getRun(ADMIN, runId)
    expect(view).toMatchObject({ state: 'succeeded', stepList: [{ state: 'failed', output: null }, {}] })
  })

  test('nor an activation of a forEach whose failure was', async () => {
    const specs: NodeSpec[] = [{ name: 'each', forEach: '${{ inputs.items }}', onFailure: 'continue' }]
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, specs), { items: [1, 2] })
    await engine.tick()
    await worker.poll()
    const [first, second] = [...worker.held.values()]
    if (!first || !second) throw new Error('two were not held')
    await worker.done(first, 'used')
    await worker.report(second, failed)
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
    await expect(engine.skipStep(ADMIN, runId, 'each[1]', 'other')).rejects.toMatchObject({
      code: 'step.not_skippable',
    })
  })
})

describe('a run is retried', () => {
  test('after a cancel: what was left runs, under a new epoch', async () => {
    const specs: NodeSpec[] = [{ name: 'a' }, { name: 'b', needs: ['a'] }]
    const { worker, runId, a } = await running(specs)
    await engine.cancelRun(ADMIN, runId)
    await worker.report(a, { kind: 'canceled' })
    expect(await engine.retryRun(ADMIN, runId)).toMatchObject({ state: 'running' })
    await engine.tick()
    for (let i = 0; i < 2; i++) {
      await worker.poll()
      const [held] = [...worker.held.values()]
      if (!held) throw new Error('nothing held')
      await worker.done(held)
    }
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })
})

describe('a step is retried by itself', () => {
  test('not when its run would stop at once for another one that failed', async () => {
    const { worker, runId, a } = await running([{ name: 'a' }, { name: 'b' }])
    expect(worker.held.size).toBe(2)
    const fast = await rig.start(engine, await rig.put(engine, [{ name: 'x' }, { name: 'y' }], { failFast: true }))
    await worker.report(a, failed)
    await worker.poll()
    const held = [...worker.held.values()].filter((h) => h.step.startsWith(`${fast}.`))
    await worker.send(held.map((h) => worker.reportOf(h, failed)))
    expect(await rig.states(fast)).toEqual({ x: 'failed', y: 'failed' })
    await expect(engine.retryStep(ADMIN, fast, 'x')).rejects.toMatchObject({
      code: 'run.not_recoverable',
      evidence: { state: 'failed', failed: ['x', 'y'] },
      remediation: expect.stringContaining('failFast') as string,
    })
    // The other run has no failFast, and is still running.
    expect(await engine.retryStep(ADMIN, runId, 'a')).toMatchObject({ state: 'running', epoch: 2 })
    await expect(engine.retryStep(ADMIN, runId, 'a')).rejects.toMatchObject({ code: 'run.retry_in_progress' })
  })

  test('not when its failure counts as success, nor when it was stopped', async () => {
    const specs: NodeSpec[] = [{ name: 'a', onFailure: 'continue' }, { name: 'b' }]
    const { worker, runId, a } = await running(specs)
    await worker.report(a, failed)
    await expect(engine.retryStep(ADMIN, runId, 'a')).rejects.toMatchObject({
      code: 'step.not_failed',
      evidence: { state: 'failed', failed: [] },
      remediation: expect.stringContaining('counts as success') as string,
    })
    await engine.cancelRun(ADMIN, runId)
    for (const h of [...worker.held.values()]) await worker.report(h, { kind: 'canceled' })
    await expect(engine.retryStep(ADMIN, runId, 'b')).rejects.toMatchObject({
      code: 'step.not_failed',
      evidence: { state: 'canceled', allowed: ['retry'] },
    })
  })
})
