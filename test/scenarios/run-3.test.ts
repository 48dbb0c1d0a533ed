import { join } from 'node:path'
import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, writeBelow } from './rig.ts'

describeWithPostgres('RUN-3: an upstream step failed', (postgres) => {
  test('what needs it is blocked at once and says by whom; retry runs the failed part alone', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const file = join(scene.dir, 'mended')
    const run = await scene.start([
      { name: 'good', function: 't.echo', with: 'kept' },
      { name: 'bad', function: 't.failUnless', with: { file }, needs: ['good'] },
      { name: 'next', function: 't.echo', needs: ['bad'] },
      { name: 'last', function: 't.echo', needs: ['next'] },
      { name: 'slow', function: 't.gate', with: { dir: scene.dir, name: 'slow' } },
    ])
    // Blocked while an independent branch still runs.
    const last = await scene.stepWith(run, 'last', (s) => s.state === 'blocked')
    expect(await scene.getStep(run, 'slow')).toMatchObject({ state: 'running' })
    expect(last.failure).toMatchObject({
      code: 'step.upstream_failed',
      evidence: { blockedBy: 'next', code: 'step.upstream_failed' },
      remediation: expect.stringContaining('retry the run'),
    })
    expect(await scene.getStep(run, 'next')).toMatchObject({
      state: 'blocked',
      failure: { code: 'step.upstream_failed', evidence: { blockedBy: 'bad', code: 'step.function_threw' } },
    })
    scene.open('slow')
    expect(await scene.ended(run)).toMatchObject({
      state: 'failed',
      failure: { code: 'step.function_threw' },
      steps: { total: 5, open: 0, bad: 3 },
    })
    const shown = await scene.orrery('runs', 'show', run)
    expect(shown.stdout).toContain('blocked')
    expect(shown.stdout).toContain(`orrery runs retry ${run}`)

    writeBelow(scene.dir, 'mended', '')
    const retried = await scene.orrery('runs', 'retry', run, '--json')
    expect(JSON.parse(retried.stdout)).toMatchObject({ runsAgain: ['bad', 'next', 'last'], kept: ['good', 'slow'] })
    const ended = await scene.ended(run)
    expect(ended).toMatchObject({ state: 'succeeded', failure: null, epoch: 2, steps: { total: 5, open: 0, bad: 0 } })
    expect(ended.stepList.map((s) => s.fence)).toEqual([1, 2, 1, 1, 1])
    expect(scene.noted('slow', 'began')).toHaveLength(1)
  })
})
