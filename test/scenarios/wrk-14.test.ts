import { join } from 'node:path'
import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, writeBelow } from './rig.ts'

describeWithPostgres('WRK-14: a step crashes every worker that takes it', (postgres) => {
  test('after three losses it is quarantined, other work goes on, and a retry runs it again', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const file = join(scene.dir, 'mended')
    const run = await scene.start([{ name: 'killer', function: 't.crashUnless', with: { file } }])
    const other = await scene.start([{ name: 'other', function: 't.echo', with: 'fine' }])
    for (const name of ['first', 'second', 'third']) {
      const worker = await scene.startWorker({ name, capacity: 1, waits: false })
      expect(await worker.ended).toMatchObject({ signal: 'SIGKILL' })
    }

    const ended = await scene.ended(run)
    expect(ended).toMatchObject({
      state: 'failed',
      failure: { code: 'attempt.poison', retryable: false },
      stepList: [
        {
          state: 'failed',
          losses: 2,
          failure: {
            code: 'attempt.poison',
            evidence: { losses: 3, lastLoss: 'worker.lost' },
            cause: { code: 'worker.lost', evidence: { worker: 'third' } },
          },
          attempts: ['first', 'second', 'third'].map((worker, i) => ({
            fence: i + 1,
            state: 'lost',
            worker,
            failure: { code: 'worker.lost' },
          })),
        },
      ],
    })
    const shown = await scene.orrery('runs', 'show', run)
    expect(shown.stdout).toContain('attempt.poison')
    expect(shown.stdout).toContain('caused by worker.lost')

    const healthy = await scene.startWorker({ name: 'fourth' })
    expect(await scene.ended(other)).toMatchObject({ state: 'succeeded' })
    writeBelow(scene.dir, 'mended', '')
    const retried = await scene.orrery('runs', 'retry', run)
    expect(retried.code).toBe(0)
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', stepList: [{ output: 'mended', losses: 0 }] })
    expect(healthy.output()).not.toContain('SIGKILL')
  })
})
