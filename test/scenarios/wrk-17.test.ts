import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene } from './rig.ts'

describeWithPostgres('WRK-17: a step waited longer than it may', (postgres) => {
  test('without any worker: the failure says so, and a retry runs once there is one', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const run = await scene.start([{ name: 'only', function: 't.echo', with: 1, queueTimeout: '600ms' }])
    const ended = await scene.ended(run)
    expect(ended).toMatchObject({
      state: 'failed',
      failure: {
        code: 'dispatch.expired',
        evidence: { queueTimeoutMs: 600 },
        cause: { code: 'dispatch.no_worker', remediation: expect.stringContaining('orrery worker') },
        retryable: true,
      },
      stepList: [{ state: 'failed', fence: 0, losses: 0, attempts: [] }],
    })
    const shown = await scene.orrery('runs', 'show', run)
    expect(shown.stdout).toContain('dispatch.expired')
    expect(shown.stdout).toContain('caused by dispatch.no_worker')

    await scene.startWorker()
    await scene.client.retryRun(run)
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', epoch: 2 })
  })

  test('behind others, or for want of a label: the cause is that reason', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker({ name: 'single', capacity: 1 })
    const held = await scene.start([{ name: 'held', function: 't.gate', with: { dir: scene.dir, name: 'held' } }])
    await scene.stepWith(held, 'held', (s) => s.state === 'running')
    const behind = await scene.start([{ name: 'only', function: 't.echo', queueTimeout: '600ms' }])
    const unfit = await scene.start([
      { name: 'only', function: 't.echo', queueTimeout: '600ms', runsOn: { gpu: 'yes' } },
    ])
    expect(await scene.ended(behind)).toMatchObject({
      failure: {
        code: 'dispatch.expired',
        cause: { code: 'dispatch.saturated', evidence: { workers: [{ worker: 'single' }] } },
      },
    })
    expect(await scene.ended(unfit)).toMatchObject({
      failure: { code: 'dispatch.expired', cause: { code: 'dispatch.requirements_unmet' } },
    })
    scene.open('held')
    expect(await scene.ended(held)).toMatchObject({ state: 'succeeded' })
    await scene.client.retryRun(behind)
    expect(await scene.ended(behind)).toMatchObject({ state: 'succeeded' })
  })
})
