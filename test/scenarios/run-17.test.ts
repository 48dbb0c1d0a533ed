import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { failureIn, openScene } from './rig.ts'

describeWithPostgres('RUN-17: a decision that names a wrong, decided or foreign approval', (postgres) => {
  test('changes nothing and says why; the right one lets the run go on', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const run = await scene.start([
      { name: 'ship', approval: { message: 'Ship it?' } },
      { name: 'after', function: 't.echo', needs: ['ship'], with: 'by ${{ steps.ship.output.by }}' },
    ])
    await scene.stepWith(run, 'ship', (s) => s.waitsOn?.kind === 'approval')

    const wrong = await scene.orrery('runs', 'approve', run, 'after', '--json')
    expect(failureIn(wrong.stderr)).toMatchObject({ code: 'approval.not_found', evidence: { waiting: ['ship'] } })
    expect(wrong.code).toBe(66)

    const approved = await scene.orrery('runs', 'approve', run, 'ship', '--comment', 'looks good')
    expect(approved.code).toBe(0)
    expect(approved.stdout).toContain('ship is approved')
    const second = await scene.orrery('runs', 'deny', run, 'ship', '--json')
    expect(failureIn(second.stderr)).toMatchObject({
      code: 'approval.already_decided',
      evidence: { state: 'approved', comment: 'looks good' },
    })
    expect(await scene.ended(run)).toMatchObject({
      state: 'succeeded',
      stepList: [{ output: { approved: true, comment: 'looks good' } }, { state: 'succeeded' }],
    })
  })

  test('of somebody who is not among the approvers is refused', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const run = await scene.start([{ name: 'ship', approval: { message: 'Ship it?', approvers: ['nobody'] } }])
    await scene.stepWith(run, 'ship', (s) => s.waitsOn?.kind === 'approval')
    const refused = await scene.orrery('runs', 'approve', run, 'ship', '--json')
    expect(failureIn(refused.stderr)).toMatchObject({
      code: 'approval.not_eligible',
      evidence: { approvers: ['nobody'] },
    })
    expect((await scene.client.getRun(run)).stepList[0]).toMatchObject({ state: 'waiting' })
  })
})
