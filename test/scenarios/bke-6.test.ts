import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, processesBelow, WITHIN, writeBelow } from './rig.ts'

describeWithPostgres('BKE-6: a command fails, is killed, or takes too long', (postgres) => {
  test('a non-zero exit: code and last output; mended and retried, it succeeds', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const command = `echo first; echo the reason >&2; [ -e ${join(scene.dir, 'mended')} ] || exit 3`
    const run = await scene.start([{ name: 'build', command }])
    expect(await scene.ended(run)).toMatchObject({
      state: 'failed',
      failure: {
        code: 'step.exit_nonzero',
        evidence: { exitCode: 3, tail: expect.stringContaining('the reason') },
        remediation: expect.stringContaining('last lines'),
      },
      stepList: [{ tries: 1, attempts: [{ state: 'failed', failure: { code: 'step.exit_nonzero' } }] }],
    })
    const shown = await scene.orrery('runs', 'show', run)
    expect(shown.stdout).toContain('the reason')
    expect(shown.stdout).toContain('exitCode')
    const logs = await scene.orrery('runs', 'logs', run)
    expect(logs.stdout).toContain('first')
    writeBelow(scene.dir, 'mended', '')
    await scene.client.retryRun(run)
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
  })

  test('killed by a signal: the signal, not an exit code', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const run = await scene.start([{ name: 'build', command: 'echo dying; kill -SEGV $$' }])
    expect(await scene.ended(run)).toMatchObject({
      failure: { code: 'step.signaled', evidence: { signal: 'SIGSEGV', tail: 'dying\n' } },
    })
    expect((await scene.orrery('runs', 'show', run)).stdout).toContain('SIGSEGV')
  })

  test('over its time: TERM first, KILL after the grace, and the whole tree is gone', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const child = `trap 'echo "$1" >> ${join(scene.dir, 'termed')}' TERM; echo $$ >> ${join(scene.dir, 'pids')}; while :; do sleep 0.1; done`
    const script = writeBelow(scene.dir, 'stubborn.sh', child)
    // One that ends on TERM, one that does not and has left the process group, and their parent.
    const command = `setsid sh ${script} deaf & sh -c 'echo $$ >> ${join(scene.dir, 'pids')}; exec sleep 600' & echo waiting; wait`
    const run = await scene.start([{ name: 'build', command, timeout: '1s' }])
    const ended = await scene.ended(run)
    expect(ended).toMatchObject({
      failure: {
        code: 'step.timed_out',
        evidence: { timeoutMs: 1_000, tail: expect.stringContaining('waiting\n') },
        remediation: expect.stringContaining('timeout'),
      },
    })
    const pids = readFileSync(join(scene.dir, 'pids'), 'utf8').trim().split('\n')
    expect(pids).toHaveLength(2)
    await eventually(() => pids.every((pid) => !existsSync(`/proc/${pid}/cwd`)), {
      ...WITHIN,
      what: 'the end of the tree',
    })
    expect(readFileSync(join(scene.dir, 'termed'), 'utf8')).toContain('deaf')
    expect(processesBelow(scene.dir).filter((line) => line.includes('stubborn'))).toEqual([])
  })
})
