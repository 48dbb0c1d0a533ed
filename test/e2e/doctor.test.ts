import { chmodSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { DoctorRow } from '../../src/contract/api-types.ts'
import { freePort } from '../support/free-port.ts'
import { runOrrery } from '../support/processes.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { makeDir, openScene, startUp, writeBelow } from '../scenarios/rig.ts'

async function doctor(args: string[], env: Record<string, string> = {}) {
  const end = await runOrrery(['doctor', '--json', ...args], { env })
  const told: { exit: number; rows: DoctorRow[] } = JSON.parse(end.stdout)
  expect(end.code).toBe(told.exit)
  const row = (check: string, subject = '') =>
    told.rows.find((r) => r.check === check && r.subject.includes(subject)) ?? null
  return { ...told, row }
}

const WELL = { status: 'pass', code: null }

describe('orrery doctor', () => {
  test('beside a server that is up: rows of its own, all with evidence and remedy where they are not well', async () => {
    const up = await startUp(['--store', 'embedded'])
    const { rows, row } = await doctor(['--server', up.address, '--token', up.token])
    for (const check of [
      'config',
      'server',
      'store',
      'migrations',
      'clock',
      'disk',
      'workers',
      'versions',
      'telemetry',
    ])
      expect(row(check)).not.toBeNull()
    expect(row('store')).toMatchObject({ ...WELL, subject: 'embedded' })
    expect(row('workers')).toMatchObject({ ...WELL, subject: '1 ready' })
    expect(row('secrets', 'admin.token')).toMatchObject(WELL)
    expect(row('disk', up.dataDir)).toMatchObject({ evidence: { freeBytes: expect.any(Number) } })
    for (const r of rows.filter((x) => x.status !== 'pass')) {
      expect(r.code).toMatch(/^[a-z]+\.[a-z_]+$/)
      expect(r.remedy).toBeTruthy()
    }
    const text = await runOrrery(['doctor', '--server', up.address, '--token', up.token])
    expect(text.stdout).toMatch(/✓ store\s+embedded: answers after/)

    chmodSync(join(up.dataDir, 'admin.token'), 0o644)
    const exposed = await doctor(['--server', up.address, '--token', up.token])
    expect(exposed.exit).toBe(1)
    expect(exposed.row('secrets', 'admin.token')).toMatchObject({
      status: 'warn',
      code: 'secrets.file_exposed',
      remedy: `chmod 600 ${join(up.dataDir, 'admin.token')}`,
    })
  })

  test('asked with a token that may not: the server is there, its rows are not; this host is looked at instead', async () => {
    const up = await startUp(['--store', 'embedded', '--no-worker'])
    const { row } = await doctor(['--server', up.address, '--token', 'orr_stranger', '--data-dir', up.dataDir])
    expect(row('server', up.address)).toMatchObject(WELL)
    expect(row('server', 'its own checks')).toMatchObject({ status: 'warn', code: 'client.unauthorized' })
    expect(row('store')).toMatchObject({ ...WELL, evidence: { pid: up.process.pid } })
  })

  test('with the server down: what the host tells, and a failing row for the server', async () => {
    const port = await freePort()
    const dataDir = join(makeDir(), 'data')
    const args = ['--server', `http://127.0.0.1:${port}`, '--port', String(port), '--data-dir', dataDir]
    const { exit, row } = await doctor([...args, '--store', 'embedded'])
    expect(exit).toBe(2)
    expect(row('server')).toMatchObject({
      status: 'fail',
      code: 'client.server_unreachable',
      evidence: { layer: 'tcp', addressFrom: '--server' },
    })
    expect(row('ports')).toMatchObject({ ...WELL, message: 'free' })
    expect(row('store')).toMatchObject({ ...WELL, message: expect.stringContaining('not there yet') })
    expect(row('disk', dataDir)).toMatchObject(WELL)
    expect(row('config')).toMatchObject({ ...WELL, evidence: { port: '--port', dataDir: '--data-dir' } })
  })

  test('a remote server that does not answer: nothing is said of this host', async () => {
    const { exit, rows } = await doctor(['--server', 'http://no-such-host.invalid:7780'])
    expect(exit).toBe(2)
    expect(rows.map((r) => r.check)).toEqual(['config', 'server'])
    expect(rows[1]).toMatchObject({ code: 'client.server_unreachable', evidence: { layer: 'name' } })
  })

  test('a port that something else holds, told apart from an Orrery', async () => {
    const shop = createServer((_, answer) => answer.end('<h1>shop</h1>'))
    await new Promise<void>((resolve) => shop.listen(0, '127.0.0.1', resolve))
    const address = shop.address()
    const port = address !== null && typeof address === 'object' ? address.port : 0
    const { row } = await doctor([
      '--port',
      String(port),
      '--server',
      `http://127.0.0.1:${port}`,
      '--data-dir',
      makeDir(),
    ])
    await new Promise((resolve) => shop.close(resolve))
    expect(row('server')).toMatchObject({ status: 'fail', evidence: { layer: 'not-orrery' } })
    expect(row('ports')).toMatchObject({
      status: 'fail',
      code: 'config.port_in_use',
      evidence: { heldBy: { pid: process.pid } },
      remedy: expect.stringContaining(`Stop process ${process.pid}`),
    })
  })

  test('settings: a wrong key of a file with its line, a misspelt variable, a directory that cannot be written', async () => {
    const dir = makeDir()
    const file = writeBelow(dir, 'orrery.yaml', 'host: 127.0.0.1\nprot: 7781\n')
    const port = await freePort()
    const server = ['--server', `http://127.0.0.1:${port}`]
    const wrong = await doctor(['--config', file, ...server], { ORRERY_STOER: 'postgres' })
    expect(wrong.row('config', `${file}:2:1 prot`)).toMatchObject({
      status: 'fail',
      code: 'config.key_unknown',
      evidence: { nearest: 'port' },
    })
    expect(wrong.row('config', 'ORRERY_STOER')).toMatchObject({ status: 'warn', remedy: 'Did you mean ORRERY_STORE?' })

    // Below what is no directory nobody may write, not even root.
    writeFileSync(join(dir, 'plain'), '')
    const { exit, row } = await doctor([...server, '--port', String(port), '--data-dir', join(dir, 'plain', 'data')])
    expect(exit).toBe(2)
    expect(row('disk', 'data')).toMatchObject({
      status: 'fail',
      code: 'storage.not_writable',
      evidence: { errorCode: 'ENOTDIR' },
    })
  })

  test('an endpoint of traces that nobody listens on', async () => {
    const port = await freePort()
    const endpoint = `http://127.0.0.1:${await freePort()}`
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, XDG_DATA_HOME: makeDir() }
    const { row } = await doctor(['--server', `http://127.0.0.1:${port}`, '--port', String(port)], env)
    expect(row('telemetry')).toMatchObject({
      status: 'warn',
      code: 'telemetry.exporter_unreachable',
      evidence: { from: 'OTEL_EXPORTER_OTLP_ENDPOINT', error: 'ECONNREFUSED' },
    })
  })
})

describeWithPostgres('orrery doctor over PostgreSQL', (postgres) => {
  test('a database that does not answer, one without tables, one that was changed by hand, one of a newer build', async () => {
    const port = await freePort()
    const nobody = await freePort()
    const look = (dsn: string) =>
      doctor([
        '--server',
        `http://127.0.0.1:${port}`,
        '--port',
        String(port),
        '--postgres-dsn',
        dsn,
        '--data-dir',
        '/tmp',
      ])
    const away = await look(`postgres://nobody:secret@127.0.0.1:${nobody}/none`)
    expect(away.row('store')).toMatchObject({ status: 'fail', code: 'storage.unreachable' })
    expect(JSON.stringify(away.rows)).not.toContain('secret@')

    const dsn = await postgres.createDatabase()
    const empty = await look(dsn)
    expect(empty.row('store')).toMatchObject(WELL)
    expect(empty.row('migrations')).toMatchObject({ ...WELL, message: expect.stringContaining('next start') })

    const scene = await openScene({ dsn })
    expect((await look(dsn)).row('migrations')).toMatchObject({ ...WELL, subject: 'schema' })
    expect((await scene.orrery('doctor')).stdout).toContain('dispatch.no_worker')
    await scene.db.query(`drop index run_by_namespace`)
    const changed = await look(dsn)
    expect(changed.row('migrations')).toMatchObject({
      status: 'fail',
      code: 'storage.schema_drift',
      evidence: { missing: [expect.stringContaining('run_by_namespace')] },
    })
    expect(JSON.parse((await scene.orrery('doctor', '--json')).stdout).exit).toBe(2)
    await scene.db.query(
      `insert into migration (number, name, breaking, checksum, version) values (9000, '9000-later', true, '', '9.0.0')`,
    )
    expect((await look(dsn)).row('migrations')).toMatchObject({ status: 'fail', code: 'storage.schema_newer' })
  })

  test('a worker that fell silent and one that was refused are named', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), isFar: true })
    const worker = await scene.startWorker({ name: 'silent' })
    worker.signal('SIGSTOP')
    const other = {
      worker: 'alien',
      version: '9.0.0',
      host: 'x',
      pid: 1,
      pidStart: null,
      clock: 0,
      capacity: 1,
      labels: {},
      namespaces: null,
      backends: ['function' as const],
      modules: [],
      replaces: null,
      held: [],
    }
    await expect(scene.lane().register(other)).rejects.toMatchObject({ code: 'worker.incompatible' })
    await expect
      .poll(
        async () => {
          const { rows }: { rows: DoctorRow[] } = JSON.parse((await scene.orrery('doctor', '--json')).stdout)
          return rows.filter((r) => r.check === 'workers').map((r) => [r.subject, r.code])
        },
        { timeout: 20_000 },
      )
      .toEqual([
        ['none ready', 'dispatch.no_ready_worker'],
        ['worker silent', 'worker.lost'],
        ['worker alien', 'worker.incompatible'],
      ])
  })
})
