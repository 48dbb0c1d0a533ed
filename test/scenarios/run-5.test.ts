import { expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, WITHIN } from './rig.ts'

describeWithPostgres('RUN-5: a step waits for an approval that is not there', (postgres) => {
  test('the step says so; it is asked for again by itself under the same id, and a decision ends the run', async () => {
    const scene = await openScene({ dsn: await postgres.createDatabase(), times: { stallMs: 1_000 } })
    const run = await scene.start([{ name: 'ship', approval: { message: 'Ship it?', approvers: ['admin'] } }])
    const { waitsOn } = await scene.stepWith(run, 'ship', (s) => s.waitsOn?.kind === 'approval')
    const id = waitsOn?.on ?? ''

    // The hole: as if a crash had come between the step and the row. Again, should it be mended before it is looked at.
    const reason = await eventually(async () => {
      await scene.db.query(`delete from approval where id = $1`, [id])
      const told = (await scene.getStep(run, 'ship')).reason
      return told?.code === 'approval.missing' ? told : null
    }, WITHIN)
    expect(reason).toMatchObject({
      evidence: { approval: id },
      remediation: expect.stringContaining('by itself') as string,
    })

    const again = await eventually(() => scene.client.getApproval(id).catch(() => null), WITHIN)
    expect(again).toMatchObject({ id, run, step: 'ship', state: 'pending', message: 'Ship it?', approvers: ['admin'] })
    expect(scene.serverLog()).toContain('approvals asked for again')
    expect(scene.serverLog()).toContain('approval.missing')
    expect((await scene.orrery('explain', `step/${run}/ship`)).stdout).toContain('orrery runs approve')
    expect((await scene.orrery('runs', 'approve', run, 'ship')).code).toBe(0)
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', stepList: [{ output: { approved: true } }] })
  })
})
