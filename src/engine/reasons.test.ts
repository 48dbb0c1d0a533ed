import { describe, expect, test } from 'vitest'
import { Failure } from '../domain/failure.ts'
import { NO_RETRY, type NodeSpec } from '../domain/testing/definitions.ts'
import { DEFAULT_TIMES, type RunningEngine } from './create-engine.ts'
import { ADMIN, type EngineRig, one, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

const start = async (specs: NodeSpec[], inputs = {}) => rig.start(engine, await rig.put(engine, specs), inputs)

/** Why a step of a run does not go on. */
async function reason(runId: string, name: string) {
  const view = await engine.getRun(ADMIN, runId)
  return view.stepList.find((s) => s.name === name)?.reason ?? null
}

describe('why a queued step waits', () => {
  test('for a moment only, it is merely queued', async () => {
    const runId = await start(one)
    await rig.advance(DEFAULT_TIMES.dispatchGraceMs - 1)
    expect(await reason(runId, 'a')).toMatchObject({ code: 'queued' })
  })

  test('no worker was ever there', async () => {
    const runId = await start(one)
    await rig.advance(3_000)
    expect(await reason(runId, 'a')).toMatchObject({ code: 'dispatch.no_worker' })
  })

  test('the workers that were there are lost, or drain', async () => {
    const lost = await rig.worker(engine, { worker: 'lost' })
    await lost.heartbeat()
    const draining = await rig.worker(engine, { worker: 'draining' })
    await draining.poll({ draining: true })
    await rig.advance(1_000)
    await engine.tick()
    for (let i = 0; i < 11; i++) {
      await rig.advance(1_000)
      await draining.poll({ draining: true })
      await engine.tick()
    }
    const runId = await start(one)
    await rig.advance(3_000)
    expect(await reason(runId, 'a')).toMatchObject({ code: 'dispatch.no_ready_worker' })
    expect(JSON.stringify(await reason(runId, 'a'))).toMatch(/"draining":true/)
  })

  test('no worker offers what it requires, with what each lacks', async () => {
    await rig.worker(engine, { worker: 'plain' })
    const runId = await start([{ name: 'a', runsOn: { gpu: 'yes' } }])
    await rig.advance(3_000)
    expect(await reason(runId, 'a')).toMatchObject({
      code: 'dispatch.requirements_unmet',
      evidence: { workers: [{ worker: 'plain', lacks: ['label gpu=yes'] }] },
    })
  })

  test('all that could take it are busy, with who is ahead', async () => {
    await rig.worker(engine, { worker: 'busy', capacity: 1 })
    const hash = await rig.put(engine, one)
    await rig.start(engine, hash)
    const [, third] = [await rig.start(engine, hash), await rig.start(engine, hash)]
    await rig.advance(3_000)
    expect(await reason(third, 'a')).toMatchObject({
      code: 'dispatch.saturated',
      evidence: { ahead: 1, oldestWaitMs: 3_000, workers: [{ worker: 'busy', capacity: 1 }] },
    })
  })
})

describe('why another step waits', () => {
  test('for what it needs', async () => {
    const specs: NodeSpec[] = [{ name: 'a' }, { name: 'b' }, { name: 'c', needs: ['a', 'b'] }]
    const runId = await start(specs)
    expect(await reason(runId, 'c')).toMatchObject({
      code: 'dependency',
      message: 'waiting for a, b',
      evidence: { needs: [{ step: 'a', state: 'queued' }, { step: 'b' }] },
    })
  })

  test('for its next try, with the time of it', async () => {
    const worker = await rig.worker(engine)
    const runId = await start([{ name: 'a', retry: { ...NO_RETRY, max: 1, initialMs: 5_000 } }])
    const a = await worker.pollFirst()
    await worker.report(a, { kind: 'failed', failure: new Failure('step.function_threw', 'testing').toRecord() })
    const until = new Date(rig.clock.now() + 5_000).toISOString()
    expect(await reason(runId, 'a')).toMatchObject({ code: 'backoff', until })
  })

  test('for its activations', async () => {
    const runId = await start([{ name: 'a', forEach: '${{ inputs.items }}' }], { items: [1, 2, 3] })
    await engine.tick()
    expect(await reason(runId, 'a')).toMatchObject({ code: 'activations', message: '0 of 3 activations have ended' })
  })

  test('for what it needs, on a page of its own as well', async () => {
    const runId = await start([{ name: 'a' }, { name: 'b' }, { name: 'c', needs: ['a'] }])
    const page = await engine.listSteps(ADMIN, runId, { cursor: '1', limit: 10 })
    expect(page.items).toMatchObject([{ name: 'c', reason: { code: 'dependency', message: 'waiting for a' } }])
  })

  test('for a place under maxParallel, with those who hold the places', async () => {
    const items = { items: [1, 2, 3] }
    const runId = await start([{ name: 'a', forEach: '${{ inputs.items }}', maxParallel: 2 }], items)
    await engine.tick()
    const { items: steps } = await engine.listSteps(ADMIN, runId, { cursor: null, limit: 10 })
    expect(steps.find((s) => s.name === 'a[2]')?.reason).toMatchObject({
      code: 'max_parallel',
      evidence: { value: 2, holders: ['a[0]', 'a[1]'] },
    })
  })

  test('for the lease of a worker that fell silent, and for its confirmation of a cancel', async () => {
    const worker = await rig.worker(engine, { worker: 'w1' })
    const runId = await start(one)
    await worker.pollFirst()
    expect(await reason(runId, 'a')).toMatchObject({ code: 'starting', evidence: { worker: 'w1' } })
    await rig.advance(5_000)
    expect(await reason(runId, 'a')).toMatchObject({ code: 'session_lost', until: expect.any(String) })
    await worker.heartbeat()
    await engine.tick()
    await engine.cancelRun(ADMIN, runId)
    expect(await reason(runId, 'a')).toMatchObject({ code: 'stopping', evidence: { worker: 'w1' } })
    expect((await engine.getRun(ADMIN, runId)).reason).toMatchObject({ code: 'stopping' })
  })

  test('the run answers with the reason of the step that decides it, and with none once it has ended', async () => {
    const runId = await start([{ name: 'a' }, { name: 'b', needs: ['a'] }])
    await rig.advance(3_000)
    expect((await engine.getRun(ADMIN, runId)).reason).toMatchObject({ code: 'dispatch.no_worker', step: 'a' })
    await engine.cancelRun(ADMIN, runId)
    expect((await engine.getRun(ADMIN, runId)).reason).toBeNull()
  })
})

describe('a worker that is named by runsOn.worker', () => {
  test('is the only one that gets the step; unknown, its nearest name is given', async () => {
    await rig.worker(engine, { worker: 'builder-1' })
    const runId = await start([{ name: 'a', runsOn: { worker: 'builder-2' } }])
    await rig.advance(3_000)
    expect(await reason(runId, 'a')).toMatchObject({
      code: 'dispatch.worker_unknown',
      evidence: { worker: 'builder-2', nearest: 'builder-1' },
    })
    const named = await rig.worker(engine, { worker: 'builder-2' })
    expect(await named.pollFirst()).toMatchObject({ name: 'a' })
  })

  test('cannot be imitated by a label', async () => {
    await expect(rig.worker(engine, { worker: 'w1', labels: { worker: 'w2' } })).rejects.toMatchObject({
      code: 'request.invalid',
      remediation: expect.stringContaining('--name'),
    })
  })
})
