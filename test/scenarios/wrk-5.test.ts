import { expect, test } from 'vitest'
import { Secret } from '../../src/base/index.ts'
import { createClient, httpTransport } from '../../src/client/index.ts'
import { putToken } from '../../src/store/index.ts'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, type Scene, WITHIN, workflowOf } from './rig.ts'

async function tokenFor(scene: Scene, role: 'admin' | 'worker', namespace: string): Promise<string> {
  const secret = `orr_${role}_of_${namespace}`
  await putToken(scene.db, { id: `tok_${role}_${namespace}`, name: namespace, secret, role, namespaces: [namespace] })
  return secret
}

const inNamespace = (namespace: string, runsOn = {}) => ({
  ...workflowOf([{ name: 'only', function: 't.echo', with: 1, runsOn }]),
  metadata: { name: 'scenario', namespace },
})

describeWithPostgres('WRK-5: the worker belongs to another namespace', (postgres) => {
  test('the step says that nobody serves its namespace, and nothing of the other tenant; a worker of its own takes it', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const theirs = await tokenFor(scene, 'worker', 'tenant-b')
    await scene.startWorker({ name: 'secret-machine', token: theirs, labels: ['colour=mauve'] })
    const admin = await tokenFor(scene, 'admin', 'tenant-a')
    const client = createClient({ transport: httpTransport({ address: scene.address }), token: new Secret(admin) })
    const { id } = await client.createRun({ workflow: inNamespace('tenant-a') })
    const why = () => client.getRun(id).then((run) => run.stepList[0]?.reason)

    const reason = await eventually(async () => {
      const told = await why()
      return told?.code === 'dispatch.scope_mismatch' ? told : null
    }, WITHIN)
    expect(reason).toMatchObject({ evidence: { namespace: 'tenant-a' } })
    expect(reason?.remediation).toContain('--namespace tenant-a')
    expect(JSON.stringify(await client.getRun(id))).not.toMatch(/tenant-b|secret-machine|mauve/)

    // Named outright, it is as unknown as one that does not exist.
    const pinned = await client.createRun({ workflow: inNamespace('tenant-a', { worker: 'secret-machine' }) })
    const told = await eventually(async () => {
      const run = await client.getRun(pinned.id)
      return run.stepList[0]?.reason?.code === 'dispatch.worker_unknown' ? run : null
    }, WITHIN)
    expect(JSON.stringify(told)).not.toMatch(/tenant-b|mauve/)

    // Who may see both is told which worker it is.
    const seen = await scene.getStep(pinned.id, 'only')
    expect(seen.reason).toMatchObject({
      code: 'dispatch.scope_mismatch',
      evidence: { workers: [{ worker: 'secret-machine', namespaces: ['tenant-b'] }] },
    })

    await scene.startWorker({ name: 'ours', token: await tokenFor(scene, 'worker', 'tenant-a') })
    expect(await scene.ended(id)).toMatchObject({ state: 'succeeded', stepList: [{ worker: 'ours' }] })
  })
})
