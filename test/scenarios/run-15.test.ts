import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, WITHIN, workflowOf, writeBelow } from './rig.ts'

describeWithPostgres('RUN-15: a run is canceled while its work runs', (postgres) => {
  test('command and function stop, what waits never starts, and the command line says how', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const pidFile = join(scene.dir, 'pid')
    const run = await scene.start([
      { name: 'command', command: `echo $$ > ${pidFile}; sleep 600` },
      { name: 'function', function: 't.gate', with: { dir: scene.dir, name: 'function' } },
      { name: 'later', function: 't.echo', needs: ['function'] },
      { name: 'unlucky', function: 't.fail', retry: { max: 3, initial: '1h', maxDelay: '1h' } },
    ])
    await scene.stepWith(run, 'unlucky', (s) => s.state === 'waiting')
    await scene.stepWith(run, 'command', (s) => s.state === 'running')
    await eventually(() => scene.noted('function', 'began').length === 1 && existsSync(pidFile), WITHIN)

    const canceled = await scene.orrery('runs', 'cancel', run)
    expect(canceled.code).toBe(0)
    expect(canceled.stdout).toMatch(/is cancel(ing|ed)/)
    const ended = await scene.ended(run)
    expect(ended).toMatchObject({ state: 'canceled', canceling: false, steps: { open: 0 } })
    expect(ended.stepList.map((s) => s.state)).toEqual(['canceled', 'canceled', 'canceled', 'canceled'])
    expect(scene.noted('function', 'stopped')).toHaveLength(1)
    const pid = readFileSync(pidFile, 'utf8').trim()
    await eventually(() => !existsSync(`/proc/${pid}/cwd`), { ...WITHIN, what: 'the end of the command' })

    const again = await scene.orrery('runs', 'cancel', run, '--json')
    expect(JSON.parse(again.stderr)).toMatchObject({
      failure: { code: 'run.finished', evidence: { state: 'canceled' } },
    })
  })

  test('a success that comes too late is kept as evidence and revives nothing; a retry runs it again', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const run = await scene.start([
      { name: 'deaf', function: 't.gate', with: { dir: scene.dir, name: 'deaf', isDeaf: true } },
      { name: 'later', function: 't.echo', needs: ['deaf'] },
    ])
    await scene.stepWith(run, 'deaf', (s) => s.startedAt !== null)
    expect(await scene.client.cancelRun(run)).toMatchObject({ state: 'running', canceling: true })
    scene.open('deaf')
    const ended = await scene.ended(run)
    expect(ended).toMatchObject({
      state: 'canceled',
      stepList: [{ state: 'canceled' }, { state: 'canceled', fence: 0 }],
    })
    expect(scene.noted('deaf', 'ended')).toHaveLength(1)

    await scene.client.retryRun(run)
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', epoch: 2 })
    expect(scene.noted('deaf', 'began')).toHaveLength(2)
  })

  test('a command that waits for the run ends with the exit code of a cancel', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const file = join(scene.dir, 'flow.yaml')
    writeBelow(scene.dir, 'flow.yaml', JSON.stringify(workflowOf([{ name: 'only', function: 't.echo' }])))
    const waiting = scene.orrery('run', file, '--json')
    const { id } = await eventually(async () => (await scene.client.listRuns()).items[0], WITHIN)
    await scene.client.cancelRun(id)
    const end = await waiting
    expect(end.code).toBe(3)
    expect(end.stdout).toContain('"state":"canceled"')
  })
})
