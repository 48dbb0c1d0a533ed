import { expect, test } from 'vitest'
import { Secret } from '../../src/base/index.ts'
import { createClient, httpTransport } from '../../src/client/index.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { failureIn, openScene, type Scene, workflowOf } from './rig.ts'

async function personOf(scene: Scene, name: string, organisation: string, role: 'operator' | 'admin') {
  const { token } = await scene.client.createToken({ name, role, organisation })
  const client = createClient({ transport: httpTransport({ address: scene.address }), token: new Secret(token) })
  return { token, client }
}

describeWithPostgres('RUN-6: an approval of another organisation', (postgres) => {
  test('looks absent everywhere; the doctor tells an administrator of all from whom it is hidden, and why', async () => {
    const scene = await openScene({ dsn: await postgres.createDatabase() })
    const ann = await personOf(scene, 'ann', 'acme', 'operator')
    const bob = await personOf(scene, 'bob', 'globex', 'admin')
    const { id: run } = await ann.client.createRun({
      workflow: workflowOf([{ name: 'ship', approval: { message: 'Ship the secret thing?' } }]),
    })
    const { waitsOn } = await scene.stepWith(run, 'ship', (s) => s.waitsOn?.kind === 'approval')
    const id = waitsOn?.on ?? ''
    expect((await ann.client.listApprovals({})).items.map((a) => a.id)).toEqual([id])

    // To bob there is no such thing, whichever way he asks.
    expect((await bob.client.listApprovals({})).items).toEqual([])
    const absent = { code: 'approval.not_found' }
    await expect(bob.client.getApproval(id)).rejects.toMatchObject(absent)
    await expect(bob.client.approve(id, {})).rejects.toMatchObject(absent)
    await expect(bob.client.deny(id, {})).rejects.toMatchObject(absent)
    await expect(bob.client.getRun(run)).rejects.toMatchObject({ code: 'run.not_found' })
    const byHand = await scene.orrery('runs', 'approve', run, 'ship', '--json', '--token', bob.token)
    expect(failureIn(byHand.stderr)).toMatchObject(absent)
    const his = await scene.orrery('doctor', '--json', '--token', bob.token)
    expect(his.stdout).toContain('nothing waits for a decision')
    expect(his.stdout).not.toMatch(/acme|\bann\b|apr_/)

    const all = await scene.client.getDoctor()
    expect(all.rows.filter((row) => row.check === 'approvals')).toMatchObject([
      { status: 'pass', message: '1 waits for a decision' },
      {
        status: 'pass',
        subject: 'organisation acme, namespace default',
        message: '1 hidden from bob (of organisation globex)',
        evidence: { approvals: [id], hiddenFrom: [{ token: 'bob', why: 'of organisation globex' }] },
      },
    ])
    const told = await scene.orrery('doctor')
    expect(told.stdout).toContain('hidden from bob (of organisation globex)')

    await ann.client.approve(id, {})
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
  })

  test('that nobody can decide is told by the doctor, with each approver and why not', async () => {
    const scene = await openScene({ dsn: await postgres.createDatabase() })
    const ann = await personOf(scene, 'ann', 'acme', 'operator')
    await personOf(scene, 'bob', 'globex', 'operator')
    const approval = { message: 'Ship it?', approvers: ['bob', 'ana'] }
    const { id: run } = await ann.client.createRun({ workflow: workflowOf([{ name: 'ship', approval }]) })
    await scene.stepWith(run, 'ship', (s) => s.waitsOn?.kind === 'approval')
    const stuck = async () => (await scene.client.getDoctor()).rows.find((row) => row.code === 'approval.undecidable')
    expect(await stuck()).toMatchObject({
      status: 'warn',
      subject: `step ship of ${run}`,
      evidence: {
        approvers: [
          { approver: 'bob', why: 'may not see namespace default' },
          { approver: 'ana', why: 'no token and no role has this name; did you mean ann?' },
        ],
      },
    })
    expect((await scene.orrery('doctor')).code).toBe(1)

    // What the remedy says: a token of that name which may see the namespace.
    await personOf(scene, 'ana', 'acme', 'operator')
    expect(await stuck()).toBeUndefined()
  })
})
