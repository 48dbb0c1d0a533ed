import { appendFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { runOrrery, startOrrery } from '../support/processes.ts'
import { linesOf, startObserved } from './observed.ts'
import { endedRun, failureIn, makeDir, WITHIN, workflowOf } from './rig.ts'

const RUN = 'run_01kaqq0000000000000000000a'

function line(fields: Record<string, unknown>): string {
  return `${JSON.stringify({ level: 'info', time: '2026-11-22T10:00:00.000Z', component: 'server', ...fields })}\n`
}

describe('OBS-9: the log of a component', () => {
  test('is kept in files beside what goes to the terminal, and shown by component and run', async () => {
    const scene = await startObserved({ logs: true })
    const { id } = await scene.up.client.createRun({
      workflow: workflowOf([
        { name: 'a', function: 't.gate', with: { dir: scene.dir, name: 'a', isDeaf: true }, timeout: '200ms' },
      ]),
    })
    await endedRun(scene.up.client, id)
    expect(readdirSync(scene.logDir).sort()).toEqual(['server.log', 'worker.log'])
    const logs = (...args: string[]) =>
      runOrrery(['logs', '--json', ...args], { env: { ORRERY_LOG_DIR: scene.logDir } })
    const ofRun = await eventually(async () => {
      const found = linesOf((await logs('--component', 'worker', '--run', id)).stdout)
      return found.length > 0 ? found : null
    }, WITHIN)
    expect(ofRun.every((l) => l['component'] === 'worker' && l['run_id'] === id)).toBe(true)
    const ofServer = linesOf((await logs('--component', 'server')).stdout)
    expect(ofServer.map((l) => l['message'])).toContain('server ready')
    expect(ofServer.every((l) => l['component'] === 'server')).toBe(true)
    expect(ofServer.map((l) => l['message'])).toEqual(
      expect.arrayContaining(
        linesOf(scene.up.process.stderr())
          .slice(0, 3)
          .map((l) => l['message']),
      ),
    )
  })

  test('is read from files that were put aside too, in the order of time, and followed', async () => {
    const dir = join(makeDir(), 'logs')
    mkdirSync(dir)
    const at = (s: number) => `2026-11-22T10:00:0${s}.000Z`
    writeFileSync(join(dir, 'server.log.2'), line({ time: at(1), message: 'oldest', run_id: RUN }))
    writeFileSync(join(dir, 'server.log.1'), line({ time: at(3), message: 'middle', level: 'warn', run_id: RUN }))
    writeFileSync(join(dir, 'server.log'), line({ time: at(5), message: 'newest' }) + '{"cut off')
    writeFileSync(join(dir, 'worker.log'), line({ time: at(4), message: 'between', component: 'worker', runs: [RUN] }))
    const messages = async (...args: string[]) =>
      linesOf((await runOrrery(['logs', '--log-dir', dir, '--json', ...args])).stdout).map((l) => l['message'])
    expect(await messages()).toEqual(['oldest', 'middle', 'between', 'newest'])
    expect(await messages('--level', 'warn')).toEqual(['middle'])
    expect(await messages('--since', at(4))).toEqual(['between', 'newest'])
    expect(await messages('--run', RUN.slice(-6))).toEqual(['oldest', 'middle', 'between'])
    expect(await messages('--component', 'worker')).toEqual(['between'])
    const following = startOrrery(['logs', '--log-dir', dir, '-f', '--component', 'server'])
    await following.waitFor(/newest/, WITHIN)
    appendFileSync(join(dir, 'server.log'), `\n${line({ time: at(6), message: 'later' })}`)
    await following.waitFor(/later/, WITHIN)
    following.signal('SIGINT')
    expect((await following.ended).code).toBe(130)
  })

  test('telemetry.log_dir_unset: no directory is known, or there is none at that place', async () => {
    const none = await runOrrery(['logs', '--json'])
    expect(none.code).toBe(78)
    expect(failureIn(none.stderr)).toMatchObject({
      code: 'telemetry.log_dir_unset',
      remediation: expect.stringContaining('--log-dir'),
    })
    const missing = await runOrrery(['logs', '--json', '--log-dir', join(makeDir(), 'nowhere')])
    expect(failureIn(missing.stderr)).toMatchObject({
      code: 'telemetry.log_dir_unset',
      evidence: { from: '--log-dir' },
    })
  })

  test.for<[flag: string, value: string]>([
    ['--component', 'clock'],
    ['--level', 'loud'],
    ['--since', 'yesterday'],
    ['--trace', 'xyz'],
  ])('%s %s is refused with what is possible', async ([flag, value]) => {
    const end = await runOrrery(['logs', '--log-dir', makeDir(), flag, value])
    expect(end.code).toBe(2)
    expect(end.stderr).toContain(`${flag} ${value}`)
  })
})
