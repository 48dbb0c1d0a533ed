import { expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, WITHIN } from './rig.ts'

describeWithPostgres('RUN-1: a run makes no progress', (postgres) => {
  test('it says which worker is missing, and goes on when there is one', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), times: { stallMs: 800 } })
    const run = await scene.start([
      { name: 'only', function: 't.echo' },
      { name: 'next', function: 't.echo', needs: ['only'] },
    ])
    const stalled = await eventually(async () => (await scene.client.getRun(run)).stalled, WITHIN)
    expect(stalled).toMatchObject({
      code: 'run.stalled',
      evidence: { step: 'only', reason: 'dispatch.no_worker', stillMs: expect.any(Number) },
      cause: { code: 'dispatch.no_worker' },
      remediation: expect.stringContaining('orrery worker'),
    })
    const shown = await scene.orrery('runs', 'show', run)
    expect(shown.stdout).toContain('run.stalled')
    expect(shown.stdout).toContain('caused by dispatch.no_worker')
    expect((await scene.client.getRun(run)).stepList[1]?.reason).toMatchObject({
      code: 'dependency',
      message: 'waiting for only',
    })

    await scene.startWorker()
    const ended = await scene.ended(run)
    expect(ended).toMatchObject({ state: 'succeeded' })
    expect(ended.stalled).toBeUndefined()
  })

  test('it says that it waits for a back-off, or that a step is at work', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), times: { stallMs: 800 } })
    await scene.startWorker()
    const flaky = await scene.start([
      { name: 'flaky', function: 't.fail', retry: { max: 1, initial: '1h', maxDelay: '1h' } },
    ])
    const slow = await scene.start([{ name: 'slow', function: 't.gate', with: { dir: scene.dir, name: 'slow' } }])
    const stalledOf = (run: string) => eventually(async () => (await scene.client.getRun(run)).stalled, WITHIN)
    expect(await stalledOf(flaky)).toMatchObject({
      code: 'run.stalled',
      message: expect.stringContaining('waiting to be tried again'),
      evidence: { step: 'flaky', reason: 'backoff' },
    })
    expect(await stalledOf(slow)).toMatchObject({
      evidence: { running: ['slow'] },
      remediation: expect.stringContaining('timeout'),
    })
    scene.open('slow')
    expect(await scene.ended(slow)).toMatchObject({ state: 'succeeded' })
    await scene.orrery('runs', 'cancel', flaky)
    expect(await scene.ended(flaky)).toMatchObject({ state: 'canceled' })
  })

  test('a step that could run and that nobody would look at is armed again by itself, and that is noted', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), times: { stallMs: 1_000 } })
    await scene.startWorker()
    const run = await scene.start([
      { name: 'first', function: 't.gate', with: { dir: scene.dir, name: 'first' } },
      { name: 'second', function: 't.echo', needs: ['first'], if: 'true' },
    ])
    await scene.stepWith(run, 'first', (s) => s.state === 'running')
    // The hole: as if the step had become ready and the word of it had been lost together with its due time.
    await scene.db.query(`update step set ok = 1, due_at = null where run_id = $1 and node = 1`, [run])
    await scene.db.query(
      `update step set state = 'succeeded', session = null, output = '{}', ended_at = now(), due_at = null where run_id = $1 and node = 0`,
      [run],
    )
    await scene.db.query(`update run set open = 1, active = 0, moved_at = now() where id = $1`, [run])

    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
    expect(scene.serverLog()).toContain('stalled run armed again')
    const metrics = await (await fetch(`${scene.address}/metrics`)).text()
    expect(metrics).toMatch(/orrery_runs_rearmed_total 1/)
    scene.open('first')
  })
})
