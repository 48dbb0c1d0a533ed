import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { VERSION } from '../../src/app/index.ts'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, WITHIN } from './rig.ts'

describeWithPostgres('WRK-9: a worker dies with claimed work, or never takes it up', (postgres) => {
  test.for([
    ['on this host, seen at once', false],
    ['on another host, when its lease is over', true],
  ] as const)('killed %s: the step is given to another, once', async ([, isFar]) => {
    const scene = await openScene({ dsn: await postgres.createStore(), isFar })
    const victim = await scene.startWorker({ name: 'victim' })
    const run = await scene.start([
      { name: 'work', function: 't.gate', with: { dir: scene.dir, name: 'work' } },
      { name: 'after', function: 't.echo', needs: ['work'], with: '${{ steps.work.output.name }}' },
    ])
    await eventually(() => scene.noted('work', 'began').length === 1, WITHIN)
    await victim.kill9()
    await scene.startWorker({ name: 'heir' })
    await eventually(() => scene.noted('work', 'began').length === 2, WITHIN)

    const step = await scene.getStep(run, 'work')
    expect(step).toMatchObject({ state: 'running', worker: 'heir', fence: 2, losses: 1, tries: 0 })
    expect(step.attempts).toMatchObject([
      {
        fence: 1,
        state: 'lost',
        worker: 'victim',
        failure: { code: 'worker.lost', evidence: { worker: 'victim' }, retryable: true },
      },
    ])
    scene.open('work')
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', steps: { total: 2, open: 0, bad: 0 } })
    expect(scene.noted('work', 'began')).toHaveLength(2)
    expect(scene.noted('work', 'ended')).toHaveLength(1)
    const workers = JSON.parse((await scene.orrery('workers', 'list', '--json')).stdout).workers
    expect(workers).toContainEqual(expect.objectContaining({ worker: 'victim', state: 'lost' }))
  })

  test('slow work whose lease is renewed is never given to another', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), isFar: true })
    await scene.startWorker({ name: 'slow' })
    await scene.startWorker({ name: 'idle' })
    const run = await scene.start([{ name: 'work', function: 't.gate', with: { dir: scene.dir, name: 'work' } }])
    const { worker } = await scene.stepWith(run, 'work', (s) => s.state === 'running')
    // Several leases long, by the database's own clock.
    await eventually(
      async () =>
        (await scene.db.query(`select 1 from step where run_id = $1 and leased_at < now() - interval '7 s'`, [run]))
          .length > 0,
      WITHIN,
    )
    expect(await scene.getStep(run, 'work')).toMatchObject({
      state: 'running',
      worker,
      fence: 1,
      losses: 0,
      attempts: [],
    })
    scene.open('work')
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
    expect(scene.noted('work', 'began')).toHaveLength(1)
  })

  test('a worker that takes an assignment and never says so: the step is assigned again', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const lane = scene.lane()
    const { session } = await lane.register({
      worker: 'swallower',
      version: VERSION,
      host: 'elsewhere',
      pid: 1,
      pidStart: null,
      clock: Date.now(),
      capacity: 1,
      labels: {},
      namespaces: null,
      backends: ['function'],
      modules: ['t'],
      replaces: null,
      held: [],
    })
    const run = await scene.start([{ name: 'work', function: 't.echo', with: 'taken' }])
    // It goes on polling, so it is alive; of what it was given it never speaks.
    const stop = new AbortController()
    let given = 0
    const swallowing = (async () => {
      while (!stop.signal.aborted) {
        const reply = await lane.poll({ session, free: 1, held: [], draining: false }, stop.signal)
        given += reply.assignments.length
        await sleep(50)
      }
    })().catch(() => {})

    const step = await scene.stepWith(run, 'work', (s) => s.attempts.length > 0)
    stop.abort()
    await swallowing
    expect(given).toBeGreaterThan(0)
    expect(step.attempts[0]).toMatchObject({
      fence: 1,
      state: 'lost',
      worker: 'swallower',
      failure: {
        code: 'attempt.never_acknowledged',
        evidence: { worker: 'swallower', waitedMs: expect.any(Number) },
        remediation: expect.stringContaining('assigned again'),
      },
    })
    await scene.startWorker({ name: 'honest' })
    const run2 = await scene.ended(run)
    expect(run2).toMatchObject({ state: 'succeeded', stepList: [{ output: 'taken' }] })
  })
})
