import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, WITHIN } from './rig.ts'

describeWithPostgres('BKE-12: the workspace of a failed command is kept', (postgres) => {
  test('the step says where, on which worker and until when', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker({ name: 'keeper' })
    const run = await scene.start([
      { name: 'build', command: 'echo evidence > left.txt; exit 1', keepOnFailure: '1h' },
      { name: 'plain', command: 'echo nothing > left.txt; exit 1' },
    ])
    await scene.ended(run)
    const step = await scene.getStep(run, 'build')
    expect(step).toMatchObject({ failure: { code: 'step.exit_nonzero' }, kept: { worker: 'keeper' } })
    const { kept } = step
    expect(readFileSync(join(kept?.path ?? '', 'left.txt'), 'utf8')).toBe('evidence\n')
    const hours = (Date.parse(kept?.until ?? '') - Date.now()) / 3_600_000
    expect(hours).toBeGreaterThan(0.9)
    expect(hours).toBeLessThanOrEqual(1)
    expect(await scene.getStep(run, 'plain')).toMatchObject({ state: 'failed', kept: null })
    const shown = await scene.orrery('runs', 'show', run)
    expect(shown.stdout).toMatch(/workspace kept until .* on keeper: \//)
  })

  test('it goes when its time is over', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const first = await scene.startWorker({ name: 'keeper' })
    const run = await scene.start([{ name: 'build', command: 'echo x > left.txt; exit 1', keepOnFailure: '1s' }])
    await scene.ended(run)
    const { kept } = await scene.getStep(run, 'build')
    expect(kept).not.toBeNull()
    await eventually(() => Date.now() > Date.parse(kept?.until ?? ''), WITHIN)
    // A worker looks when it starts, and once a minute.
    await first.stop()
    await scene.startWorker({ name: 'keeper' })
    await eventually(() => !existsSync(kept?.path ?? '/'), { ...WITHIN, what: 'the end of the kept workspace' })
  })
})
