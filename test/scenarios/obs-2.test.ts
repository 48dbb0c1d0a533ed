import { execFileSync } from 'node:child_process'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { checkMetrics, checkReach, METRICS } from '../../src/telemetry/index.ts'
import { type Family, parseExposition } from '../../src/telemetry/exposition.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../support/free-port.ts'
import { startOrrery } from '../support/processes.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { hasPromtool } from '../support/promtool.ts'
import { linesOf, startObserved } from './observed.ts'
import { endedRun, FUNCTIONS, openScene, startProxy, startUp, WITHIN, workflowOf } from './rig.ts'

const QUICK = { timeoutMs: 5_000 }

const scrape = async (address: string): Promise<Map<string, Family>> =>
  parseExposition(await (await fetch(address)).text())
const valueOf = (families: Map<string, Family>, name: string, labels: Record<string, string> = {}): number =>
  (families.get(name)?.samples ?? [])
    .filter((s) => Object.entries(labels).every(([k, v]) => s.labels[k] === v))
    .reduce((sum, s) => sum + s.value, 0)

async function listen(answer: { status: number; body: string }): Promise<string> {
  const server = createServer((_, response) => response.writeHead(answer.status).end(answer.body))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics` // it listens on a port
}

describe('OBS-2: metrics', () => {
  test('of a server and of its worker are moved by what really happens', async () => {
    const { up, worker } = await startObserved({ workerArgs: ['--metrics-port', '0'] })
    const workerMetrics = (await worker.waitFor(/metrics at (http:\S+)/, WITHIN))[1] ?? ''
    const serverMetrics = `${up.address}/metrics`
    expect(await checkMetrics(serverMetrics, QUICK)).toMatchObject({ kind: 'ok' })
    expect(await checkMetrics(workerMetrics, QUICK)).toMatchObject({ kind: 'ok' })
    const { id } = await up.client.createRun({
      workflow: workflowOf([
        { name: 'good', function: 't.echo', with: 1 },
        { name: 'next', command: ['true'], needs: ['good'] },
        { name: 'bad', function: 't.fail', needs: ['next'] },
        { name: 'never', function: 't.echo', needs: ['bad'] },
      ]),
    })
    expect((await endedRun(up.client, id)).state).toBe('failed')
    const { id: waiting } = await up.client.createRun({
      workflow: workflowOf([{ name: 'far', function: 't.echo', runsOn: { gpu: 'yes' } }]),
    })
    // More than there are slots, so that some have to be claimed.
    const { ids } = await up.client.createRuns({
      workflow: workflowOf([{ name: 'a', function: 't.echo', with: 1 }]),
      items: Array.from({ length: 40 }, () => ({})),
    })
    for (const one of ids) await endedRun(up.client, one)
    const server = await eventually(async () => {
      const families = await scrape(serverMetrics)
      return valueOf(families, 'orrery_steps', { state: 'queued' }) === 1 ? families : null
    }, WITHIN)
    const is = (name: string, labels?: Record<string, string>) => valueOf(server, name, labels)
    expect({
      created: is('orrery_runs_created_total'),
      ended: is('orrery_runs_ended_total', { state: 'failed' }),
      succeeded: is('orrery_steps_ended_total', { state: 'succeeded' }),
      failed: is('orrery_steps_ended_total', { state: 'failed' }),
      blocked: is('orrery_steps_ended_total', { state: 'blocked' }),
      started: is('orrery_attempts_started_total'),
      attemptsSucceeded: is('orrery_attempts_ended_total', { outcome: 'succeeded' }),
      attemptsFailed: is('orrery_attempts_ended_total', { outcome: 'failed' }),
      sessions: is('orrery_sessions'),
      requests: is('orrery_http_requests_total', { route: 'createRun', status: '2xx' }),
    }).toEqual({
      created: 42,
      ended: 1,
      succeeded: 42,
      failed: 1,
      blocked: 1,
      started: 43,
      attemptsSucceeded: 42,
      attemptsFailed: 1,
      sessions: 1,
      requests: 2,
    })
    for (const name of [
      'orrery_claims_total',
      'orrery_slots',
      'orrery_ticks_total',
      'orrery_tick_seconds',
      'orrery_flush_seconds',
      'orrery_flushed_items_total',
      'orrery_http_request_seconds',
      'orrery_log_lines_total',
      'orrery_steps_oldest_seconds',
      'process_cpu_seconds_total',
      'process_resident_memory_bytes',
      'process_start_time_seconds',
    ])
      expect(is(name), name).toBeGreaterThan(0)
    const of = await scrape(workerMetrics)
    expect(valueOf(of, 'orrery_worker_connected')).toBe(1)
    expect(valueOf(of, 'orrery_worker_slots')).toBe(16)
    const counted = (kind: string, outcome: string) =>
      (of.get('orrery_worker_attempt_seconds')?.samples ?? []).find(
        (s) => s.name.endsWith('_count') && s.labels['kind'] === kind && s.labels['outcome'] === outcome,
      )?.value
    expect([counted('function', 'succeeded'), counted('function', 'failed'), counted('command', 'succeeded')]).toEqual([
      41, 1, 1,
    ])
    await up.client.cancelRun(waiting)
    await eventually(
      async () => valueOf(await scrape(serverMetrics), 'orrery_steps_ended_total', { state: 'canceled' }) === 1,
      WITHIN,
    )
    if (hasPromtool) {
      for (const address of [serverMetrics, workerMetrics]) {
        const input = await (await fetch(address)).text()
        expect(execFileSync('promtool', ['check', 'metrics'], { input, encoding: 'utf8' })).toBe('')
      }
    }
  })

  test('of a server with its worker beside it are all in one place', async () => {
    const up = await startUp([])
    expect([...(await scrape(`${up.address}/metrics`)).keys()].sort()).toEqual(Object.keys(METRICS).sort())
  })

  test('telemetry.metrics_unreachable: the port is taken; the worker works and says so', async () => {
    const port = await freePort()
    const server = createServer(() => {})
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    onTestFinished(() => void server.close())
    const { up, worker } = await startObserved({ workerArgs: ['--metrics-port', String(port)] })
    const warned = await eventually(
      () => linesOf(worker.stderr()).find((l) => l['code'] === 'telemetry.metrics_unreachable' && 'error' in l),
      WITHIN,
    )
    expect(warned).toMatchObject({
      level: 'warn',
      port,
      error: 'EADDRINUSE',
      remediation: expect.stringContaining('--metrics-port'),
    })
    const { id } = await up.client.createRun({ workflow: workflowOf([{ name: 'a', function: 't.echo', with: 1 }]) })
    expect((await endedRun(up.client, id)).state).toBe('succeeded')
  })

  test('telemetry.metrics_unreachable: a loopback address inside a container; nobody is there', async () => {
    expect(checkReach('127.0.0.1', { isContainer: true })?.toRecord()).toMatchObject({
      code: 'telemetry.metrics_unreachable',
      remediation: expect.stringContaining('0.0.0.0'),
    })
    expect(checkReach('0.0.0.0', { isContainer: true })).toBeNull()
    expect(checkReach('127.0.0.1', { isContainer: false })).toBeNull()
    const address = `http://127.0.0.1:${await freePort()}/metrics`
    expect(await checkMetrics(address, QUICK)).toMatchObject({
      kind: 'failed',
      failure: { code: 'telemetry.metrics_unreachable', evidence: { address, error: 'ECONNREFUSED' } },
    })
  })

  test('telemetry.metrics_disabled: turned off, or those of something else', async () => {
    const up = await startUp(['--no-worker', '--no-metrics'])
    const off = await fetch(`${up.address}/metrics`)
    expect(off.status).toBe(404)
    expect(await off.json()).toMatchObject({
      code: 'telemetry.metrics_disabled',
      remediation: expect.stringContaining('--no-metrics'),
    })
    const disabled = { kind: 'failed', failure: { code: 'telemetry.metrics_disabled' } }
    expect(await checkMetrics(`${up.address}/metrics`, QUICK)).toMatchObject(disabled)
    const other = await listen({ status: 200, body: '# HELP up h\n# TYPE up gauge\nup 1\n' })
    expect(await checkMetrics(other, QUICK)).toMatchObject(disabled)
    expect(await checkMetrics(await listen({ status: 200, body: '<html>' }), QUICK)).toMatchObject(disabled)
  })
})

describeWithPostgres('OBS-2: metrics of what is away', (postgres) => {
  test('a worker tells what it holds, what waits on its disk, and that the link was lost', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const proxy = await startProxy(scene.address)
    const args = ['worker', '--name', 'far', '--server', proxy.address, '--module', `t=${FUNCTIONS}`]
    const worker = startOrrery([...args, '--workspace', join(scene.dir, 'far'), '--metrics-port', '0'], {
      env: { ORRERY_WORKER_TOKEN: scene.workerToken, XDG_DATA_HOME: join(scene.dir, 'data') },
    })
    onTestFinished(async () => {
      worker.signal('SIGKILL')
      await worker.ended
    })
    const metrics = (await worker.waitFor(/metrics at (http:\S+)/, WITHIN))[1] ?? ''
    /** Waits until the metrics of the worker are these. */
    const become = (wanted: Record<string, number>) =>
      eventually(
        async () => {
          const families = await scrape(metrics)
          const seen = {
            connected: valueOf(families, 'orrery_worker_connected'),
            running: valueOf(families, 'orrery_worker_attempts', { state: 'running' }),
            unacknowledged: valueOf(families, 'orrery_worker_attempts', { state: 'unacknowledged' }),
            outbox: valueOf(families, 'orrery_worker_outbox'),
            outages: valueOf(families, 'orrery_worker_outages_total'),
          }
          return Object.entries(wanted).every(([name, value]) => seen[name as keyof typeof seen] === value) || null
        },
        { ...WITHIN, what: JSON.stringify(wanted) },
      )
    const run = await scene.start([{ name: 'one', function: 't.gate', with: { dir: scene.dir, name: 'one' } }])
    await become({ connected: 1, running: 1, unacknowledged: 0, outbox: 0, outages: 0 })
    const connections = (await scrape(`${scene.address}/metrics`)).get('orrery_db_connections')
    expect((connections?.samples ?? []).reduce((sum, s) => sum + s.value, 0)).toBeGreaterThan(0)
    proxy.cut()
    scene.open('one')
    await become({ running: 0, unacknowledged: 1, outbox: 1, outages: 1 })
    proxy.mend()
    await become({ connected: 1, running: 0, unacknowledged: 0, outbox: 0, outages: 1 })
    expect((await scene.ended(run)).state).toBe('succeeded')
  })
})
