import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene } from './rig.ts'

describeWithPostgres('RUN-16: an operator nudges a live run that looks stuck', (postgres) => {
  test('the answer says why nothing could be moved, and what the run waits for goes on as before', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const run = await scene.start([{ name: 'paid', wait: { event: 'paid' } }])
    await scene.stepWith(run, 'paid', (s) => s.waitsOn?.kind === 'event')
    const nudged = await scene.orrery('runs', 'nudge', run)
    expect(nudged.code).toBe(0)
    expect(nudged.stdout).toContain('could be moved; it is waiting')
    expect(nudged.stdout).toContain('paid is waiting: waiting for event paid')
    const sent = await scene.orrery('runs', 'send', run, 'paid', '--payload', '{"amount": 12}')
    expect(sent.stdout).toContain('took paid')
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', stepList: [{ output: { amount: 12 } }] })
  })
})
