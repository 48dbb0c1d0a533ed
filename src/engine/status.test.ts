import { describe, expect, test } from 'vitest'
import type { RunningEngine } from './create-engine.ts'
import { ADMIN, type EngineRig, one, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

describe('the status of a server', () => {
  test('counts live runs, and queues with how long they wait and who serves them', async () => {
    const gpu = await rig.put(engine, [{ name: 'a', runsOn: { gpu: 'yes' } }])
    await rig.start(engine, gpu)
    await rig.start(engine, gpu)
    await rig.start(engine, await rig.put(engine, one))
    await rig.advance(5_000)
    await rig.worker(engine, { worker: 'plain', capacity: 4 })
    const status = await engine.getStatus(ADMIN)
    expect(status.server).toMatchObject({ store: 'embedded' })
    expect(status.runs).toEqual({ pending: 3, running: 0, waiting: 0 })
    expect(status.workers).toMatchObject({ live: 1, draining: 0, lost: 0, capacity: 4 })
    expect(
      status.queues.map(({ labels, queued, oldestMs, workers }) => ({ labels, queued, oldestMs, workers })),
    ).toEqual(expect.arrayContaining([{ labels: { gpu: 'yes' }, queued: 2, oldestMs: 5_000, workers: 0 }]))
  })

  test('of a namespace that the caller may not see nothing is told', async () => {
    await rig.start(engine, await rig.put(engine, one))
    const status = await engine.getStatus({ ...ADMIN, namespaces: ['other'] })
    expect(status.runs).toEqual({ pending: 0, running: 0, waiting: 0 })
    expect(status.queues).toEqual([])
  })
})
