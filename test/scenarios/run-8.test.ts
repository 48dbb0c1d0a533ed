import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Secret } from '../../src/base/index.ts'
import { createClient, httpTransport } from '../../src/client/index.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, workflowOf, writeBelow } from './rig.ts'

/** A workflow that needs no worker, as `orrery apply` takes it. */
const stored = (name: string, spec: object = {}, namespace = 'default'): string =>
  JSON.stringify({
    apiVersion: 'orrery.dev/v1',
    kind: 'Workflow',
    metadata: { name, namespace },
    spec: { ...spec, steps: [{ name: 'nap', wait: '0s' }] },
  })

describeWithPostgres('RUN-8: a run below another', (postgres) => {
  test('that fails carries its failure to the step with a link; mended, a retry makes both succeed', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
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

  test('that somebody cancels fails the step with a link to it; a retry starts another', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const child = workflowOf([{ name: 'slow', function: 't.gate', with: { dir: scene.dir, name: 'slow' } }])
    await scene.client.putDefinition({ workflow: { ...child, metadata: { name: 'below' } } })
    const run = await scene.start([{ name: 'sub', workflow: 'below' }])
    const { childRun } = await scene.stepWith(run, 'sub', (s) => s.childRun !== null)
    await scene.stepWith(childRun ?? '', 'slow', (s) => s.state === 'running')
    await scene.client.cancelRun(childRun ?? '')
    expect(await scene.ended(run)).toMatchObject({
      state: 'failed',
      failure: { code: 'child.canceled', evidence: { run: childRun } },
    })
    await scene.client.retryRun(run)
    scene.open('slow')
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
  })

  test('whose workflow is not stored is named with what is missing and the nearest name; stored, a retry finds it', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.client.resources.apply(stored('deploy'))
    const run = await scene.start([{ name: 'sub', workflow: 'deploys' }])
    const { failure } = await scene.ended(run)
    expect(failure).toMatchObject({
      code: 'child.definition_not_found',
      evidence: { namespace: 'default', name: 'deploys', nearest: 'deploy' },
    })
    expect(failure?.remediation).toContain('Did you mean deploy?')
    await scene.client.resources.apply(stored('deploys'))
    await scene.client.retryRun(run)
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
  })

  test('whose workflow is archived or a draft is told with its versions; activated, a retry makes it succeed', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.client.resources.apply(stored('below'))
    await scene.client.resources.apply(stored('below', { lifecycle: 'archived' }))
    const run = await scene.start([{ name: 'sub', workflow: 'below' }])
    const { failure } = await scene.ended(run)
    expect(failure).toMatchObject({
      code: 'child.definition_inactive',
      evidence: {
        name: 'below',
        lifecycle: 'archived',
        version: 2,
        versions: [
          { version: 2, lifecycle: 'archived' },
          { version: 1, lifecycle: 'active' },
        ],
      },
    })
    expect(failure?.remediation).toContain(`orrery runs retry ${run}`)
    const shown = await scene.orrery('runs', 'show', run)
    expect(shown.stdout).toContain('child.definition_inactive')
    expect(shown.stdout).toContain('orrery edit workflow below')

    await scene.client.resources.apply(stored('below', { lifecycle: 'active' }))
    await scene.client.retryRun(run)
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
  })

  test('of a namespace that who started it may not see is forbidden, whether there is such a workflow or not', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.client.resources.apply(stored('deploy', {}, 'ops'))
    const { token } = await scene.client.createToken({ name: 'ann', role: 'operator', namespaces: ['default'] })
    const ann = createClient({ transport: httpTransport({ address: scene.address }), token: new Secret(token) })
    for (const name of ['ops/deploy', 'ops/nowhere']) {
      const { id } = await ann.createRun({ workflow: workflowOf([{ name: 'sub', workflow: name }]) })
      const { failure } = await scene.ended(id)
      expect(failure).toMatchObject({
        code: 'child.definition_forbidden',
        evidence: { namespace: 'ops', startedBy: 'ann' },
      })
    }
    const seen = await scene.start([{ name: 'sub', workflow: 'ops/deploy@1' }])
    const { stepList } = await scene.ended(seen)
    expect(await scene.client.getRun(stepList[0]?.childRun ?? '')).toMatchObject({ namespace: 'ops' })
  })

  test('ends with its parent when that is canceled', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
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
