import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene } from './rig.ts'

describeWithPostgres('WRK-1: no worker is connected', (postgres) => {
  test('after a grace the queued step says so on every surface, and it clears when a worker comes', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const run = await scene.start([{ name: 'only', function: 't.echo', with: 'hello' }])

    const waiting = await scene.stepWith(run, 'only', (s) => s.reason?.code === 'dispatch.no_worker')
    expect(waiting).toMatchObject({
      state: 'queued',
      reason: {
        code: 'dispatch.no_worker',
        retryable: true,
        remediation: expect.stringContaining('orrery worker --server'),
      },
    })
    const shown = await scene.orrery('runs', 'show', run)
    expect(shown.stdout).toContain('dispatch.no_worker')
    expect(shown.stdout).toContain('orrery worker --server')
    const asJson = await scene.orrery('runs', 'show', run, '--json')
    expect(JSON.parse(asJson.stdout).stepList[0].reason.code).toBe('dispatch.no_worker')

    await scene.startWorker()
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', stepList: [{ reason: null, output: 'hello' }] })
  })

  test('a step that has only just been queued does not complain', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), times: { dispatchGraceMs: 60_000 } })
    const run = await scene.start([{ name: 'only', function: 't.echo' }])
    expect(await scene.getStep(run, 'only')).toMatchObject({ state: 'queued', reason: { code: 'queued' } })
  })
})
