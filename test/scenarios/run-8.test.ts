import { join } from 'node:path'
import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, workflowOf, writeBelow } from './rig.ts'

describeWithPostgres('RUN-8: a run below another', (postgres) => {
  test('that fails carries its failure to the step with a link; mended, a retry makes both succeed', async () => {
    const scene = await openScene({ dsn: await postgres.createDatabase() })
    await scene.startWorker()
    const file = join(scene.dir, 'mended')
    const child = workflowOf([{ name: 'work', function: 't.failUnless', with: { file } }])
    const { name } = await scene.client.putDefinition({
      workflow: { ...child, metadata: { name: 'below' } },
    })
    const run = await scene.start([{ name: 'sub', workflow: name }])
    const failed = await scene.ended(run)
    const [step] = failed.stepList
    expect(failed).toMatchObject({
      state: 'failed',
      failure: { code: 'child.failed', cause: { code: 'step.function_threw' }, evidence: { run: step?.childRun } },
    })
    const below = await scene.client.getRun(step?.childRun ?? '')
    expect(below).toMatchObject({ state: 'failed', parent: { run, step: step?.id } })

    writeBelow(scene.dir, 'mended', '')
    await scene.client.retryRun(run)
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
  })

  test('whose workflow is not stored is named with what is missing', async () => {
    const scene = await openScene({ dsn: await postgres.createDatabase() })
    const run = await scene.start([{ name: 'sub', workflow: 'nowhere' }])
    expect(await scene.ended(run)).toMatchObject({
      state: 'failed',
      failure: { code: 'child.definition_not_found', evidence: { name: 'nowhere' } },
    })
  })

  test('ends with its parent when that is canceled', async () => {
    const scene = await openScene({ dsn: await postgres.createDatabase() })
    await scene.startWorker()
    const child = workflowOf([{ name: 'slow', function: 't.gate', with: { dir: scene.dir, name: 'slow' } }])
    await scene.client.putDefinition({ workflow: { ...child, metadata: { name: 'below' } } })
    const run = await scene.start([{ name: 'sub', workflow: 'below' }])
    const { childRun } = await scene.stepWith(run, 'sub', (s) => s.childRun !== null)
    await scene.stepWith(childRun ?? '', 'slow', (s) => s.state === 'running')
    await scene.client.cancelRun(run)
    expect(await scene.ended(childRun ?? '')).toMatchObject({ state: 'canceled' })
    expect(scene.noted('slow', 'stopped')).toHaveLength(1)
  })
})
