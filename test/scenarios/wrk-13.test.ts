import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, processesBelow, WITHIN, writeBelow } from './rig.ts'

describeWithPostgres('WRK-13: a stopped worker still believes that it owns a step', (postgres) => {
  test('what it reports when it wakes is refused', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const zombie = await scene.startWorker({ name: 'zombie' })
    const run = await scene.start([
      { name: 'work', function: 't.gate', with: { dir: scene.dir, name: 'work', isDeaf: true } },
    ])
    await scene.stepWith(run, 'work', (s) => s.startedAt !== null)
    zombie.signal('SIGSTOP')
    const heir = await scene.startWorker({ name: 'heir' })
    await eventually(() => scene.noted('work', 'began').length === 2, WITHIN)
    scene.open('work')
    const ended = await scene.ended(run)
    expect(ended).toMatchObject({
      state: 'succeeded',
      stepList: [
        { fence: 2, output: { pid: heir.pid }, attempts: [{ worker: 'zombie', failure: { code: 'worker.lost' } }] },
      ],
    })

    zombie.signal('SIGCONT')
    await zombie.waitFor(/attempt\.stale_lease/, WITHIN)
    // It has told its result by now, or given it up; a step that it takes next shows that it is through.
    await eventually(() => scene.noted('work', 'ended').length === 2, WITHIN)
    await heir.kill9()
    const next = await scene.start([{ name: 'next', function: 't.gate', with: { dir: scene.dir, name: 'work' } }])
    expect(await scene.ended(next)).toMatchObject({ stepList: [{ output: { pid: zombie.pid } }] })
    expect(await scene.client.getRun(run)).toEqual({ ...ended, stepList: expect.anything() })
    expect(await scene.getStep(run, 'work')).toMatchObject({
      fence: 2,
      output: { pid: heir.pid },
      attempts: [{ fence: 1 }],
    })
  })

  test('the exchange itself refuses a report under a lease that is over', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const zombie = await scene.startWorker({ name: 'zombie' })
    const run = await scene.start([{ name: 'work', function: 't.gate', with: { dir: scene.dir, name: 'work' } }])
    await eventually(() => scene.noted('work', 'began').length === 1, WITHIN)
    const [former] = await scene.client.listWorkers()
    const { id: step } = await scene.getStep(run, 'work')
    await zombie.kill9()
    await scene.startWorker({ name: 'heir' })
    await eventually(() => scene.noted('work', 'began').length === 2, WITHIN)
    const late = {
      step,
      fence: 1,
      seq: 1,
      startedAgoMs: 5,
      endedAgoMs: 0,
      kind: 'succeeded',
      output: 'too late',
    } as const
    const reply = await scene
      .lane()
      .report({ session: former?.session ?? '', free: 0, draining: false, reports: [late] })
    expect(reply).toMatchObject({ sessionState: 'ended', acks: [{ outcome: 'stale' }] })
    scene.open('work')
    expect(await scene.ended(run)).toMatchObject({ stepList: [{ fence: 2, output: { name: 'work' } }] })
  })

  test('a command of its is killed when it wakes; the one of the new owner goes on', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const zombie = await scene.startWorker({ name: 'zombie' })
    const command = `echo "$$" >> ${join(scene.dir, 'pids')}; while [ ! -e ${join(scene.dir, 'go')} ]; do sleep 0.05; done`
    const run = await scene.start([{ name: 'work', command }])
    const pids = () => readFileSync(join(scene.dir, 'pids'), 'utf8').trim().split('\n')
    await scene.stepWith(run, 'work', (s) => s.startedAt !== null)
    zombie.signal('SIGSTOP')
    await scene.startWorker({ name: 'heir' })
    await eventually(() => pids().length === 2, WITHIN)
    const isAlive = (pid: string | undefined) => processesBelow(scene.dir).some((line) => line.startsWith(`${pid} `))
    expect(isAlive(pids()[0])).toBe(true)

    zombie.signal('SIGCONT')
    await eventually(() => !isAlive(pids()[0]), { ...WITHIN, what: 'the end of the command that nobody owns' })
    expect(isAlive(pids()[1])).toBe(true)
    writeBelow(scene.dir, 'go', '')
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', stepList: [{ fence: 2 }] })
  })
})
