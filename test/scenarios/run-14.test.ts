import { join } from 'node:path'
import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene } from './rig.ts'

describeWithPostgres('RUN-14: a step is skipped by hand', (postgres) => {
  test('what needs it runs with the replacement output, and the run succeeds', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const run = await scene.start([
      { name: 'bad', function: 't.failUnless', with: { file: join(scene.dir, 'never') } },
      { name: 'next', function: 't.echo', needs: ['bad'], with: 'got ${{ steps.bad.output.word }}' },
    ])
    expect(await scene.ended(run)).toMatchObject({ state: 'failed', steps: { bad: 2 } })

    const skipped = await scene.orrery('runs', 'skip', run, 'bad', '--output', '{"word": "a replacement"}')
    expect(skipped.code).toBe(0)
    expect(skipped.stdout).toContain('bad is skipped')
    const ended = await scene.ended(run)
    expect(ended).toMatchObject({
      state: 'succeeded',
      failure: null,
      steps: { total: 2, open: 0, bad: 0 },
      stepList: [
        {
          name: 'bad',
          state: 'skipped',
          output: { word: 'a replacement' },
          attempts: [{ failure: { code: 'step.function_threw' } }],
        },
        { name: 'next', state: 'succeeded', output: 'got a replacement' },
      ],
    })
  })

  test('the last failed step skipped ends the run well, though nothing is left to run', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const run = await scene.start([
      { name: 'good', function: 't.echo' },
      { name: 'bad', function: 't.fail' },
    ])
    expect(await scene.ended(run)).toMatchObject({ state: 'failed' })
    await scene.client.skipStep(run, 'bad', null)
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', failure: null, steps: { bad: 0 } })
  })

  test('a step that runs or has succeeded cannot be skipped, and the refusal says what it is doing', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const run = await scene.start([
      { name: 'good', function: 't.echo', with: 1 },
      { name: 'slow', function: 't.gate', with: { dir: scene.dir, name: 'slow' }, needs: ['good'] },
    ])
    await scene.stepWith(run, 'slow', (s) => s.state === 'running')
    for (const [name, state] of [
      ['good', 'succeeded'],
      ['slow', 'running'],
    ] as const) {
      const refusal = await scene.orrery('runs', 'skip', run, name, '--json')
      expect(refusal.code).toBe(1)
      expect(JSON.parse(refusal.stderr)).toMatchObject({ failure: { code: 'step.not_skippable', evidence: { state } } })
    }
    scene.open('slow')
    expect(await scene.ended(run)).toMatchObject({
      state: 'succeeded',
      stepList: [{ output: 1 }, { output: { name: 'slow' } }],
    })
  })
})
