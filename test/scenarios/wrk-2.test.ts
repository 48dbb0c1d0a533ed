import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene } from './rig.ts'

describeWithPostgres('WRK-2: workers exist, none is ready', (postgres) => {
  test('a worker that stands still is named with its last heartbeat; the step runs when it moves again', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const worker = await scene.startWorker({ name: 'statue' })
    worker.signal('SIGSTOP')
    const run = await scene.start([{ name: 'only', function: 't.echo', with: 1 }])

    const step = await scene.stepWith(run, 'only', (s) => s.reason?.code === 'dispatch.no_ready_worker')
    expect(step.reason).toMatchObject({
      evidence: { workers: [{ worker: 'statue', state: 'lost', lastHeartbeatMs: expect.any(Number) }] },
      remediation: expect.stringMatching(/Worker statue is lost, last heard of \d+ s ago/),
    })
    const shown = await scene.orrery('runs', 'show', run)
    expect(shown.stdout).toContain('dispatch.no_ready_worker')
    expect(shown.stdout).toContain('statue')
    const [listed] = JSON.parse((await scene.orrery('workers', 'list', '--json')).stdout).workers
    expect(listed).toMatchObject({ worker: 'statue', state: 'lost' })
    expect(listed.heartbeatAgoMs).toBeGreaterThan(1_000)

    worker.signal('SIGCONT')
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', stepList: [{ reason: null }] })
  })

  test('a worker that drains is named as such', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const worker = await scene.startWorker({ name: 'leaver' })
    const held = await scene.start([{ name: 'held', function: 't.gate', with: { dir: scene.dir, name: 'held' } }])
    await scene.stepWith(held, 'held', (s) => s.state === 'running')
    worker.signal('SIGTERM')
    await worker.waitFor(/draining/, { withinMs: 40_000 })
    const run = await scene.start([{ name: 'only', function: 't.echo' }])

    const step = await scene.stepWith(run, 'only', (s) => s.reason?.code === 'dispatch.no_ready_worker')
    expect(step.reason).toMatchObject({ evidence: { workers: [{ worker: 'leaver', state: 'draining', held: 1 }] } })

    scene.open('held')
    expect(await worker.ended).toMatchObject({ code: 0 })
    expect(await scene.ended(held)).toMatchObject({ state: 'succeeded' })
    // It has left, which is not the same as being lost.
    expect(await scene.client.listWorkers()).toMatchObject([{ worker: 'leaver', state: 'ended' }])
    expect(await scene.getStep(run, 'only')).toMatchObject({ reason: { code: 'dispatch.no_worker' } })
    expect(scene.serverLog()).not.toContain('lost')
    await scene.startWorker()
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
  })
})
