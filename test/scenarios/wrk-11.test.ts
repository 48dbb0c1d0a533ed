import { expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, type Scene, startProxy, WITHIN } from './rig.ts'

/** How often the run's events say that the step succeeded. */
async function successesOf(scene: Scene, run: string, step: string): Promise<number> {
  let n = 0
  for await (const event of scene.client.followEvents(run))
    n += event.changes.filter((c) => c.of === step && c.to === 'succeeded').length
  return n
}

describeWithPostgres('WRK-11: the link between worker and server is cut', (postgres) => {
  test('work that ends during the cut is reported once the link is back, under the same attempt', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), times: { leaseMs: 8_000 } })
    const proxy = await startProxy(scene.address)
    const worker = await scene.startWorker({ name: 'remote', server: proxy.address })
    const run = await scene.start([
      { name: 'work', function: 't.gate', with: { dir: scene.dir, name: 'work' } },
      { name: 'after', function: 't.echo', needs: ['work'], with: '${{ steps.work.output.name }}' },
    ])
    await eventually(() => scene.noted('work', 'began').length === 1, WITHIN)
    proxy.cut()
    await worker.waitFor(/worker\.disconnected/, WITHIN)
    scene.open('work')
    await eventually(() => scene.noted('work', 'ended').length === 1, WITHIN)
    expect(await scene.getStep(run, 'work')).toMatchObject({ state: 'running', fence: 1 })
    proxy.mend()

    const ended = await scene.ended(run)
    expect(ended).toMatchObject({
      state: 'succeeded',
      stepList: [
        { fence: 1, losses: 0, attempts: [] },
        { output: 'work', fence: 1 },
      ],
    })
    expect(scene.noted('work', 'began')).toHaveLength(1)
    expect(await successesOf(scene, run, 'work')).toBe(1)
    await worker.waitFor(/link to the server is back/, WITHIN)
  })

  test('a report whose answer a proxy kept back is sent again and recorded once', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), times: { leaseMs: 8_000 } })
    const proxy = await startProxy(scene.address)
    await scene.startWorker({ name: 'remote', server: proxy.address })
    const run = await scene.start([{ name: 'work', function: 't.gate', with: { dir: scene.dir, name: 'work' } }])
    await scene.stepWith(run, 'work', (s) => s.startedAt !== null)
    proxy.buffer()
    scene.open('work')
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
    proxy.mend()

    // The worker hears of it in the end, and takes the next step over the same session.
    const next = await scene.start([{ name: 'next', function: 't.echo', with: 'next' }])
    expect(await scene.ended(next)).toMatchObject({ state: 'succeeded', stepList: [{ output: 'next', fence: 1 }] })
    expect(await successesOf(scene, run, 'work')).toBe(1)
    const workers = await scene.client.listWorkers()
    expect(workers).toMatchObject([{ worker: 'remote', state: 'live' }])
    await eventually(async () => (await scene.client.listWorkers())[0]?.held === 0, WITHIN)
  })

  test('an assignment that a proxy kept back is sent again, not given up', async () => {
    const scene = await openScene({
      dsn: await postgres.createStore(),
      times: { leaseMs: 8_000, acknowledgeMs: 16_000 },
    })
    const proxy = await startProxy(scene.address)
    await scene.startWorker({ server: proxy.address })
    proxy.buffer()
    const run = await scene.start([{ name: 'only', function: 't.echo', with: 7 }])
    await scene.stepWith(run, 'only', (s) => s.state === 'running')
    proxy.mend()
    expect(await scene.ended(run)).toMatchObject({
      state: 'succeeded',
      stepList: [{ output: 7, fence: 1, attempts: [] }],
    })
  })
})
