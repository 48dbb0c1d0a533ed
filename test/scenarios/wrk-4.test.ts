import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene } from './rig.ts'

describeWithPostgres('WRK-4: the worker that a step names does not exist', (postgres) => {
  test('the nearest worker is named; started under that name, a worker takes the step', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker({ name: 'builder-1' })
    await scene.startWorker({ name: 'gpu-box' })
    const run = await scene.start([{ name: 'only', function: 't.echo', runsOn: { worker: 'bulider-1' } }])

    const step = await scene.stepWith(run, 'only', (s) => s.reason?.code === 'dispatch.worker_unknown')
    expect(step.reason).toMatchObject({
      evidence: {
        worker: 'bulider-1',
        nearest: 'builder-1',
        workers: expect.arrayContaining(['builder-1', 'gpu-box']),
      },
      remediation: expect.stringContaining('did you mean builder-1?'),
    })
    const shown = await scene.orrery('explain', `run/${run}`)
    expect(shown.stdout).toContain('dispatch.worker_unknown')
    expect(shown.stdout).toContain('nearest')

    await scene.startWorker({ name: 'bulider-1' })
    expect(await scene.ended(run)).toMatchObject({
      state: 'succeeded',
      stepList: [{ worker: 'bulider-1', reason: null }],
    })
  })

  test('a step that names a worker goes to no other, though others are free', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker({ name: 'one' })
    await scene.startWorker({ name: 'two' })
    for (const worker of ['two', 'one', 'two']) {
      const run = await scene.start([{ name: 'only', function: 't.echo', runsOn: { worker } }])
      expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', stepList: [{ worker }] })
    }
  })
})
