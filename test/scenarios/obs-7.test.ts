import { expect, test } from 'vitest'
import { VERSION } from '../../src/app/index.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, WITHIN } from './rig.ts'

const [major, minor] = VERSION.split('.').map(Number)
const NEXT = `${major}.${(minor ?? 0) + 1}.0`
const FAR = `${(major ?? 0) + 6}.0.0`

describeWithPostgres('OBS-7: CLI, server and worker are of different versions', (postgres) => {
  test('one minor version apart: work goes on, and every surface says who is which and what is compatible', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), version: NEXT })
    const worker = await scene.startWorker({ name: 'old' })
    await worker.waitFor(/version\.skew/, WITHIN)
    expect((await scene.client.listWorkers())[0]?.problems).toMatchObject([
      {
        code: 'version.skew',
        evidence: { worker: VERSION, server: NEXT, skew: 'minor', compatible: expect.stringContaining(' to ') },
      },
    ])
    expect((await scene.orrery('workers', 'list')).stdout).toContain('version.skew')
    const doctor = await scene.orrery('doctor', '--json')
    const { rows } = JSON.parse(doctor.stdout)
    expect(doctor.code).toBe(1)
    for (const subject of ['CLI', 'worker old'])
      expect(rows).toContainEqual(
        expect.objectContaining({ check: 'versions', subject, status: 'warn', code: 'version.skew' }),
      )
    const run = await scene.start([{ name: 'only', function: 't.echo', with: 1 }])
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
  })

  test('too far apart: doctor fails, naming both; the worker is refused', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), version: FAR })
    const worker = await scene.startWorker({ waits: false })
    expect(await worker.ended).toEqual({ code: 78, signal: null })
    expect(worker.stderr()).toContain('worker.incompatible')
    const doctor = await scene.orrery('doctor', '--json')
    expect(doctor.code).toBe(2)
    expect(JSON.parse(doctor.stdout).rows).toContainEqual(
      expect.objectContaining({
        subject: 'CLI',
        status: 'fail',
        code: 'version.skew',
        evidence: expect.objectContaining({ cli: VERSION, server: FAR }),
      }),
    )
  })

  test('all of one version: nothing is said', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    expect((await scene.client.listWorkers())[0]?.problems).toEqual([])
    const { rows } = JSON.parse((await scene.orrery('doctor', '--json')).stdout)
    expect(rows).not.toContainEqual(expect.objectContaining({ code: 'version.skew' }))
  })
})
