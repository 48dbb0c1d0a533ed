import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene } from './rig.ts'

describeWithPostgres('WRK-6: all slots are busy', (postgres) => {
  test('a queued step tells its place, the oldest wait and who holds the slots', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker({ name: 'single', capacity: 1 })
    const gate = (name: string) => scene.start([{ name, function: 't.gate', with: { dir: scene.dir, name } }])
    const first = await gate('first')
    await scene.stepWith(first, 'first', (s) => s.state === 'running')
    const second = await gate('second')
    const third = await gate('third')

    const step = await scene.stepWith(third, 'third', (s) => s.reason?.code === 'dispatch.saturated')
    const holder = await scene.getStep(first, 'first')
    expect(step.reason).toMatchObject({
      evidence: {
        ahead: 1,
        oldestWaitMs: expect.any(Number),
        workers: [{ worker: 'single', held: 1, capacity: 1 }],
        holders: [{ worker: 'single', step: holder.id, forMs: expect.any(Number) }],
      },
      remediation: expect.stringContaining('--capacity'),
    })
    expect(await scene.stepWith(second, 'second', (s) => s.reason?.code === 'dispatch.saturated')).toMatchObject({
      reason: { code: 'dispatch.saturated', evidence: { ahead: 0 } },
    })
    const shown = await scene.orrery('runs', 'show', third)
    expect(shown.stdout).toContain('dispatch.saturated')
    expect(shown.stdout).toContain(holder.id)

    // Another worker is what was advised.
    for (const name of ['second', 'third']) scene.open(name)
    await scene.startWorker({ name: 'helper', capacity: 1 })
    expect(await scene.ended(third)).toMatchObject({ state: 'succeeded' })
    expect(await scene.getStep(third, 'third')).toMatchObject({ reason: null })
    scene.open('first')
    for (const run of [first, second]) expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
  })
})
