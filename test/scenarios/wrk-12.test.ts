import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, WITHIN, writeBelow } from './rig.ts'

const SCRIPT = `echo "$$" >> began; echo before; while [ ! -e go ]; do sleep 0.05; done; echo after; echo '{"by":"'$$'"}' > "$ORRERY_OUTPUT"`

describeWithPostgres('WRK-12: a worker is restarted while its work runs', (postgres) => {
  test('a command goes on and is adopted, with its output and its exit code', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), isFar: true, times: { leaseMs: 8_000 } })
    const first = await scene.startWorker({ name: 'phoenix' })
    const run = await scene.start([{ name: 'work', command: SCRIPT, workdir: scene.dir }])
    await scene.stepWith(run, 'work', (s) => s.startedAt !== null)
    await first.kill9()
    await scene.startWorker({ name: 'phoenix' })
    writeBelow(scene.dir, 'go', '')

    const ended = await scene.ended(run)
    const pids = readFileSync(`${scene.dir}/began`, 'utf8').trim().split('\n')
    expect(pids).toHaveLength(1)
    expect(ended).toMatchObject({
      state: 'succeeded',
      stepList: [{ fence: 1, losses: 0, attempts: [], output: { by: pids[0] } }],
    })
    const logs = await scene.orrery('runs', 'logs', run)
    expect(logs.stdout.match(/before/g)).toHaveLength(1)
    expect(logs.stdout.match(/after/g)).toHaveLength(1)
  })

  test('a function cannot go on: it is tried again, and the history says why', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), isFar: true, times: { leaseMs: 8_000 } })
    const first = await scene.startWorker({ name: 'phoenix' })
    const run = await scene.start([{ name: 'work', function: 't.gate', with: { dir: scene.dir, name: 'work' } }])
    await eventually(() => scene.noted('work', 'began').length === 1, WITHIN)
    await first.kill9()
    await scene.startWorker({ name: 'phoenix' })
    await eventually(() => scene.noted('work', 'began').length === 2, WITHIN)
    scene.open('work')

    const ended = await scene.ended(run)
    expect(ended.stepList[0]?.attempts.map(({ state, failure }) => `${state}: ${failure?.code}`)).toEqual([
      'lost: worker.restarted',
    ])
    expect(ended).toMatchObject({
      state: 'succeeded',
      stepList: [
        {
          fence: 2,
          tries: 0,
          attempts: [
            { fence: 1, state: 'lost', worker: 'phoenix', failure: { code: 'worker.restarted', retryable: true } },
          ],
        },
      ],
    })
  })
})
