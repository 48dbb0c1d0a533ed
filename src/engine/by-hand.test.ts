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
