import { join } from 'node:path'
import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, type Scene, writeBelow } from './rig.ts'

const refusalOf = async (scene: Scene, ...args: string[]) => {
  const end = await scene.orrery('runs', 'retry', ...args, '--json')
  return { exit: end.code, ...(JSON.parse(end.stderr) as { failure: object }) }
}

describeWithPostgres('RUN-13: a recovery that cannot be', (postgres) => {
  test('of a run that succeeded is refused, and so is each of its steps', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const run = await scene.start([{ name: 'good', function: 't.echo' }])
    await scene.ended(run)
    expect(await refusalOf(scene, run)).toMatchObject({
      exit: 1,
      failure: { code: 'run.not_recoverable', evidence: { state: 'succeeded', allowed: [] } },
    })
    expect(await refusalOf(scene, run, '--step', 'good')).toMatchObject({
      failure: { code: 'run.not_recoverable', evidence: { run: 'succeeded', state: 'succeeded', allowed: [] } },
    })
    expect(await refusalOf(scene, run, '--step', 'gud')).toMatchObject({ failure: { code: 'step.not_found' } })
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', epoch: 1 })
  })

  test('of a step that has not failed says which have; of those that did, one runs again while another runs still', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const gate = (name: string) => ({ name, function: 't.gate', with: { dir: scene.dir, name } })
    const file = join(scene.dir, 'mended')
    const run = await scene.start([
      { name: 'good', function: 't.echo' },
      { name: 'bad', function: 't.failUnless', with: { file } },
      { ...gate('next'), needs: ['bad'] },
      gate('slow'),
      { name: 'worse', function: 't.failUnless', with: { file: join(scene.dir, 'never') } },
    ])
    await scene.stepWith(run, 'next', (s) => s.state === 'blocked')
    await scene.stepWith(run, 'good', (s) => s.state === 'succeeded')
    await scene.stepWith(run, 'slow', (s) => s.state === 'running')
    await scene.stepWith(run, 'worse', (s) => s.state === 'failed')
    const allowed = ['cancel', 'retry_step']
    const failed = ['bad', 'worse']
    for (const [name, state, can] of [
      ['good', 'succeeded', allowed],
      ['slow', 'running', allowed],
      ['next', 'blocked', [...allowed, 'skip_step']],
    ] as const)
      expect(await refusalOf(scene, run, '--step', name)).toMatchObject({
        exit: 1,
        failure: { code: 'step.not_failed', evidence: { run: 'running', state, allowed: can, failed } },
      })
    expect(await refusalOf(scene, run, '--step', 'next')).toMatchObject({
      failure: { remediation: expect.stringContaining('blocked by bad') as string },
    })
    // The whole cannot be retried before it has ended.
    expect(await refusalOf(scene, run)).toMatchObject({
      failure: { code: 'run.not_recoverable', evidence: { allowed: ['cancel'] } },
    })

    writeBelow(scene.dir, 'mended', '')
    const retried = await scene.orrery('runs', 'retry', run, '--step', 'bad')
    expect(retried.code).toBe(0)
    expect(retried.stdout).toContain('bad of')
    await scene.stepWith(run, 'next', (s) => s.state === 'running')
    for (const name of ['next', 'slow'])
      expect(await refusalOf(scene, run, '--step', name)).toMatchObject({
        failure: { code: 'run.retry_in_progress', evidence: { state: 'running', failed: ['worse'] } },
      })
    expect(await refusalOf(scene, run)).toMatchObject({
      failure: { code: 'run.retry_in_progress', evidence: { epoch: 2, allowed: ['cancel'] } },
    })
    scene.open('slow')
    scene.open('next')
    const ended = await scene.ended(run)
    expect(ended).toMatchObject({ state: 'failed', epoch: 2, steps: { open: 0, bad: 1 } })
    expect(ended.stepList.map((s) => [s.name, s.state, s.fence])).toEqual([
      ['good', 'succeeded', 1],
      ['bad', 'succeeded', 2],
      ['next', 'succeeded', 1],
      ['slow', 'succeeded', 1],
      ['worse', 'failed', 1],
    ])
    expect(scene.noted('slow', 'began')).toHaveLength(1)

    // What the refusal offers works: the last failed step, in a run that has ended.
    writeBelow(scene.dir, 'never', '')
    await scene.client.retryStep(run, 'worse')
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', epoch: 3, failure: null })
  })

  test('of a run that is being stopped waits for its end', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const run = await scene.start([
      { name: 'bad', function: 't.fail' },
      { name: 'slow', function: 't.gate', with: { dir: scene.dir, name: 'slow', isDeaf: true } },
    ])
    await scene.stepWith(run, 'bad', (s) => s.state === 'failed')
    await scene.stepWith(run, 'slow', (s) => s.state === 'running')
    await scene.client.cancelRun(run)
    await expect(scene.client.retryStep(run, 'bad')).rejects.toMatchObject({
      code: 'run.not_recoverable',
      evidence: { allowed: [] },
      remediation: expect.stringContaining('being stopped') as string,
    })
    scene.open('slow')
    expect(await scene.ended(run)).toMatchObject({ state: 'canceled' })
  })
})
