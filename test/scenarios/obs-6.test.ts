import { expect, test } from 'vitest'
import { systemClock } from '../../src/base/index.ts'
import type { RegisterRequest } from '../../src/contract/index.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene } from './rig.ts'

const worker = (clock: number): RegisterRequest => ({
  worker: 'dreamer',
  version: '0.1.0',
  host: 'elsewhere',
  pid: 1,
  pidStart: null,
  clock,
  capacity: 1,
  labels: {},
  namespaces: null,
  backends: ['function'],
  modules: ['t'],
  replaces: null,
  held: [],
})

describeWithPostgres('OBS-6: the clock of a worker is off', (postgres) => {
  test('it is said with how far and in which direction, work goes on, and it clears when the clock is set', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), times: { leaseMs: 60_000 } })
    const lane = scene.lane()
    const { session } = await lane.register(worker(systemClock.now() - 90_000))
    expect((await scene.client.listWorkers())[0]).toMatchObject({
      worker: 'dreamer',
      state: 'live',
      problems: [
        {
          code: 'worker.clock_skew',
          message: expect.stringMatching(/dreamer is 1m ?(29|30).* behind that of the server/),
          evidence: { worker: 'dreamer', limitMs: 5_000 },
          remediation: expect.stringContaining('NTP'),
        },
      ],
    })
    expect(scene.serverLog()).toContain('worker.clock_skew')
    const listed = await scene.orrery('workers', 'list')
    expect(listed.stdout).toContain('worker.clock_skew')
    expect(listed.stdout).toContain('orrery explain worker.clock_skew')
    const doctor = await scene.orrery('doctor', '--json')
    expect(doctor.code).toBe(1)
    expect(JSON.parse(doctor.stdout).rows).toContainEqual(
      expect.objectContaining({ check: 'clock', subject: 'worker dreamer', status: 'warn', code: 'worker.clock_skew' }),
    )

    await lane.heartbeat({ session, clock: systemClock.now() })
    expect((await scene.client.listWorkers())[0]).toMatchObject({ problems: [] })
    const after = await scene.orrery('doctor', '--json')
    expect(JSON.parse(after.stdout).rows).not.toContainEqual(expect.objectContaining({ code: 'worker.clock_skew' }))
  })
})
