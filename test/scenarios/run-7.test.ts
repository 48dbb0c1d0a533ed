import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene } from './rig.ts'

describeWithPostgres('RUN-7: an approval that nobody answers', (postgres) => {
  test('comes to its default action after its time: denied it fails the step, approved the run goes on', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const denied = await scene.start([{ name: 'ship', approval: { message: 'Ship it?', expires: '200ms' } }])
    expect(await scene.ended(denied)).toMatchObject({
      state: 'failed',
      failure: { code: 'approval.expired', remediation: expect.stringContaining('Retry') as string },
    })
    const approval = { message: 'Ship it?', expires: '200ms', default: 'approve' }
    const approved = await scene.start([{ name: 'ship', approval }])
    expect(await scene.ended(approved)).toMatchObject({
      state: 'succeeded',
      stepList: [{ output: { approved: true, expired: true, by: null } }],
    })
  })
})
