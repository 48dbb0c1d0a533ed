import { describe, expect, test } from 'vitest'
import { failureRecord } from '../domain/failure.ts'
import type {
  DirectoryFacts,
  DoctorWorker,
  HostFacts,
  MigrationFacts,
  PendingApproval,
  PortFacts,
  ServerFacts,
  TokenFacts,
} from '../domain/installation-facts.ts'
import { checkApprovals } from './approvals-rule.ts'
import { checkBus } from './bus-rule.ts'
import { checkClock } from './clock-rule.ts'
import { checkConfig } from './config-rule.ts'
import { checkDirectory } from './disk-rule.ts'
import { CHECKS, type DoctorRow, exitOf } from './doctor-row.ts'
import { diagnoseHost, diagnoseServer } from './doctor.ts'
import { formatBytes } from './format-bytes.ts'
import { checkKeyFile } from './key-file-rule.ts'
import { checkPort } from './port-rule.ts'
import { checkMigrations, checkStore } from './store-rule.ts'
import { checkTelemetry } from './telemetry-rule.ts'
import { checkVersions } from './versions-rule.ts'
import { checkWorkerClocks, checkWorkers } from './workers-rule.ts'

const GIB = 1024 ** 3

const directory = (over: Partial<DirectoryFacts> = {}): DirectoryFacts => ({
  use: 'data',
  path: '/data',
  measured: '/data',
  exists: true,
  isWritable: true,
  errorCode: null,
  freeBytes: 20 * GIB,
  totalBytes: 100 * GIB,
  freeInodes: 900,
  totalInodes: 1_000,
  ...over,
})
const port = (over: Partial<PortFacts> = {}): PortFacts => ({
  host: '127.0.0.1',
  port: 7780,
  state: 'free',
  error: null,
  holder: null,
  orrery: null,
  ...over,
})
const migrations = (over: Partial<MigrationFacts> = {}): MigrationFacts => ({
  pending: [],
  newer: [],
  changed: [],
  missing: [],
  extra: [],
  ...over,
})
const worker = (over: Partial<DoctorWorker> = {}): DoctorWorker => ({
  worker: 'w1',
  state: 'live',
  version: '0.1.0',
  clockSkewMs: 0,
  lastHeartbeatMs: 500,
  held: 1,
  capacity: 4,
  ...over,
})
const unreachable = failureRecord('storage.unreachable', 'asking the database', { evidence: { errorCode: 'X' } })

const config = { file: null, given: {}, problems: [], unknownVariables: [] }
const problem = { code: 'config.key_unknown', message: 'there is no setting "prot"', path: 'prot' } as const
const refused = failureRecord('worker.incompatible', 'registering worker w2')
const deaf = { kind: 'deaf', forMs: 61_000, error: 'too many clients' } as const
const secretsKey = { what: 'secrets key', path: '/k', exists: true, mode: 0o600, isNamed: true }

describe('each rule, both ways', () => {
  test.for<[what: string, row: () => DoctorRow | undefined, status: string, code: string | null]>([
    ['settings without a problem', () => checkConfig(config)[0], 'pass', null],
    ['a key that does not exist', () => checkConfig({ ...config, problems: [problem] })[0], 'fail', problem.code],
    [
      'a variable with a typing error',
      () => checkConfig({ ...config, unknownVariables: [{ name: 'ORRERY_PROT', nearest: 'ORRERY_PORT' }] })[0],
      'warn',
      'config.key_unknown',
    ],
    ['room enough', () => checkDirectory(directory()), 'pass', null],
    ['little room', () => checkDirectory(directory({ freeBytes: GIB / 2 })), 'warn', 'host.disk_low'],
    ['few inodes', () => checkDirectory(directory({ freeInodes: 40 })), 'warn', 'host.disk_low'],
    ['no room for data', () => checkDirectory(directory({ freeBytes: 1_000 })), 'fail', 'storage.disk_full'],
    ['no inodes', () => checkDirectory(directory({ freeInodes: 1 })), 'fail', 'storage.disk_full'],
    [
      'no room for workspaces',
      () => checkDirectory(directory({ use: 'workspace', freeBytes: 0 })),
      'fail',
      'backend.disk_full',
    ],
    ['inodes that are not counted', () => checkDirectory(directory({ freeInodes: 0, totalInodes: 0 })), 'pass', null],
    [
      'a directory that cannot be written',
      () => checkDirectory(directory({ isWritable: false, errorCode: 'EROFS' })),
      'fail',
      'storage.not_writable',
    ],
    [
      'a workspace that cannot be written',
      () => checkDirectory(directory({ use: 'workspace', isWritable: false })),
      'fail',
      'backend.workspace_not_writable',
    ],
    ['a free port', () => checkPort(port()), 'pass', null],
    ['a port with an Orrery', () => checkPort(port({ state: 'held', orrery: '0.1.0' })), 'pass', null],
    [
      'a port with something else',
      () => checkPort(port({ state: 'held', holder: { pid: 7, name: 'nginx' } })),
      'fail',
      'config.port_in_use',
    ],
    [
      'a port that may not be listened on',
      () => checkPort(port({ state: 'refused', error: 'EACCES' })),
      'fail',
      'config.value_unsupported',
    ],
    [
      'a store that answers',
      () => checkStore({ kind: 'open', engine: 'postgres', version: '16', latencyMs: 2 }),
      'pass',
      null,
    ],
    [
      'a store that answers late',
      () => checkStore({ kind: 'open', engine: 'postgres', version: '16', latencyMs: 900 }),
      'warn',
      'storage.slow',
    ],
    [
      'a store that does not answer',
      () => checkStore({ kind: 'unreachable', failure: unreachable }),
      'fail',
      'storage.unreachable',
    ],
    [
      'an embedded store in use',
      () => checkStore({ kind: 'embedded', dataDir: '/d', owner: { pid: 7, isAlive: true }, hasDatabase: true }),
      'pass',
      null,
    ],
    ['tables as they should be', () => checkMigrations(migrations())[0], 'pass', null],
    [
      'migrations to come',
      () => checkMigrations(migrations({ pending: ['0002-auth'], missing: ['x'] }))[0],
      'pass',
      null,
    ],
    [
      'a table changed by hand',
      () => checkMigrations(migrations({ missing: ['column a.b'] }))[0],
      'fail',
      'storage.schema_drift',
    ],
    [
      'a table too many',
      () => checkMigrations(migrations({ extra: ['column a.b'] }))[0],
      'warn',
      'storage.schema_drift',
    ],
    [
      'an edited migration',
      () => checkMigrations(migrations({ changed: ['0001-core'] }))[0],
      'fail',
      'storage.schema_drift',
    ],
    [
      'a breaking migration of a newer build',
      () => checkMigrations(migrations({ newer: [{ name: '0009-x', breaking: true, version: '0.9.0' }] }))[0],
      'fail',
      'storage.schema_newer',
    ],
    [
      'a harmless one of a newer build',
      () =>
        checkMigrations(
          migrations({ newer: [{ name: '0009-x', breaking: false, version: '0.9.0' }], extra: ['y'] }),
        )[0],
      'pass',
      null,
    ],
    ['clocks that agree', () => checkClock({ between: 'server and database', skewMs: -20 }), 'pass', null],
    [
      'clocks that differ',
      () => checkClock({ between: 'server and database', skewMs: -6_000 }),
      'warn',
      'host.clock_skew',
    ],
    [
      'a worker whose clock is off',
      () => checkWorkerClocks([worker({ clockSkewMs: 60_000 })])[0],
      'warn',
      'worker.clock_skew',
    ],
    ['a worker whose clock is right', () => checkWorkerClocks([worker()])[0], 'none', null],
    ['workers that are ready', () => checkWorkers([worker()], [])[0], 'pass', null],
    ['no worker', () => checkWorkers([], [])[0], 'warn', 'dispatch.no_worker'],
    [
      'workers that drain',
      () => checkWorkers([worker({ state: 'draining' })], [])[0],
      'warn',
      'dispatch.no_ready_worker',
    ],
    [
      'a worker that is lost',
      () => checkWorkers([worker(), worker({ worker: 'w2', state: 'lost' })], [])[1],
      'warn',
      'worker.lost',
    ],
    [
      'a worker that was refused',
      () => checkWorkers([worker()], [{ worker: 'w2', agoMs: 9_000, failure: refused }])[1],
      'warn',
      'worker.incompatible',
    ],
    ['a key file of its owner', () => checkKeyFile(secretsKey), 'pass', null],
    [
      'a key file that others may read',
      () => checkKeyFile({ ...secretsKey, mode: 0o644 }),
      'warn',
      'secrets.file_exposed',
    ],
    [
      'a key file that was named and is gone',
      () => checkKeyFile({ ...secretsKey, exists: false }),
      'fail',
      'file.unreadable',
    ],
    [
      'a key file that nobody named',
      () => checkKeyFile({ ...secretsKey, exists: false, isNamed: false }),
      'pass',
      null,
    ],
    ['no endpoint for traces', () => checkTelemetry(null), 'pass', null],
    ['an endpoint that is there', () => checkTelemetry({ endpoint: 'http://c', from: 'V', error: null }), 'pass', null],
    [
      'an endpoint that is not there',
      () => checkTelemetry({ endpoint: 'http://c', from: 'V', error: 'ECONNREFUSED' }),
      'warn',
      'telemetry.exporter_unreachable',
    ],
    ['a bus that is heard', () => checkBus({ hearing: { kind: 'heard', latencyMs: 2 }, others: [] })[0], 'pass', null],
    ['a bus that a lone server does not hear', () => checkBus({ hearing: deaf, others: [] })[0], 'pass', null],
    [
      'a bus where nothing is to be heard',
      () => checkBus({ hearing: { kind: 'unknown' }, others: [] })[0],
      'none',
      null,
    ],
    [
      'a server that does not hear the others',
      () => checkBus({ hearing: deaf, others: [{ id: 'srv_2', deafMs: null }] })[0],
      'warn',
      'bus.unreachable',
    ],
    [
      'another server that hears nothing',
      () => checkBus({ hearing: { kind: 'heard', latencyMs: 2 }, others: [{ id: 'srv_2', deafMs: 61_000 }] })[1],
      'warn',
      'bus.unreachable',
    ],
    ['one version', () => checkVersions({ cli: '0.2.0', server: '0.2.0', servers: [], workers: [] })[0], 'pass', null],
    [
      'a minor version apart',
      () => checkVersions({ cli: '0.1.0', server: '0.2.0', servers: [], workers: [] })[0],
      'warn',
      'version.skew',
    ],
    [
      'two minor versions apart',
      () => checkVersions({ cli: '0.1.0', server: '0.3.0', servers: [], workers: [] })[0],
      'fail',
      'version.skew',
    ],
  ])('%s', ([, row, status, code]) => {
    const found = row()
    expect(found?.status ?? 'none').toBe(status)
    expect(found?.code ?? null).toBe(code)
    if (!found || found.status === 'pass') return
    expect(found.remedy).toBeTruthy()
    expect(found.message).toBeTruthy()
  })
})

describe('approvals', () => {
  const asked = (over: Partial<PendingApproval> = {}): PendingApproval => ({
    approval: 'apr_1',
    run: 'run_1',
    step: 'ship',
    namespace: 'default',
    approvers: null,
    ...over,
  })
  const token = (name: string, over: Partial<TokenFacts> = {}): TokenFacts => ({
    id: `tok_${name}`,
    name,
    role: 'operator',
    organisation: 'default',
    reach: ['default/*'],
    isSeen: true,
    ...over,
  })
  const check = (pending: PendingApproval[], tokens: TokenFacts[], seesAll = false) =>
    checkApprovals({ pending, tokens, seesAll })
  const whyOf = (approvers: string[], tokens: TokenFacts[], over: Partial<PendingApproval> = {}) =>
    check([asked({ ...over, approvers })], tokens)[1]?.evidence['approvers']

  test('that somebody can decide are counted and no more', () => {
    const ann = token('ann')
    for (const approvers of [null, ['ann'], ['tok_ann'], ['operator'], ['nobody', 'ann']])
      expect(check([asked({ approvers })], [ann])).toMatchObject([
        { status: 'pass', message: '1 waits for a decision' },
      ])
  })

  test('that nobody can decide say of each approver why not', () => {
    const row = check([asked({ approvers: ['nobody'] })], [token('ann')])[1]
    expect(row).toMatchObject({
      status: 'warn',
      code: 'approval.undecidable',
      subject: 'step ship of run_1',
      evidence: { approval: 'apr_1', namespace: 'default' },
    })
    expect(row?.remedy).toContain('orrery token create')
    const why = (text: string) => [{ approver: expect.any(String) as string, why: text }]
    expect(whyOf(['nobody'], [token('ann')])).toEqual(why('no token and no role has this name'))
    expect(whyOf(['anne'], [token('ann')])).toEqual(why('no token and no role has this name; did you mean ann?'))
    expect(whyOf(['admin'], [token('ann')])).toEqual(why('no token has this role'))
    expect(whyOf(['ann'], [token('ann', { role: 'viewer' })])).toEqual(why('its role may not decide: viewer'))
    expect(whyOf(['ann'], [token('ann')], { namespace: 'acme/web' })).toEqual(why('may not see namespace web'))
    expect(whyOf(['viewer'], [token('ann', { role: 'viewer' })])).toEqual(why('its role may not decide: viewer'))
    expect(check([asked()], [])[1]).toMatchObject({
      evidence: { approvers: [{ approver: 'anybody', why: 'no token may decide in this namespace' }] },
    })
    // Of a token that the caller may not know nothing is told, not even that there is one.
    expect(whyOf(['ann'], [token('ann', { isSeen: false, reach: [] })])).toEqual(
      why('no token and no role has this name'),
    )
  })

  test('that some tokens do not see are told, with why, to whoever sees all', () => {
    const tokens = [
      token('ann', { organisation: 'acme', reach: ['acme/*'] }),
      token('bob', { organisation: 'globex', reach: ['globex/*'] }),
      token('eve', { organisation: 'acme', reach: ['acme/docs'] }),
      token('machine', { role: 'worker', reach: [] }),
    ]
    const pending = [asked({ namespace: 'acme/web' }), asked({ namespace: 'acme/web', approval: 'apr_2' })]
    expect(check(pending, tokens, true)[1]).toMatchObject({
      status: 'pass',
      subject: 'organisation acme, namespace web',
      message: '2 hidden from bob (of organisation globex), eve (of this organisation, for other namespaces)',
      evidence: { approvals: ['apr_1', 'apr_2'] },
    })
    expect(check(pending, tokens)).toHaveLength(1)
  })
})

describe('the doctor', () => {
  const server: ServerFacts = {
    version: '0.1.0',
    store: { kind: 'open', engine: 'postgres', version: '16', latencyMs: 1 },
    migrations: migrations(),
    clocks: [{ between: 'server and database', skewMs: 3 }],
    workers: [worker()],
    refusals: [],
    models: [],
    budgets: [],
    servers: [{ id: 'srv_2', version: '0.1.0' }],
    bus: { hearing: { kind: 'heard', latencyMs: 1.25 }, others: [{ id: 'srv_2', deafMs: null }] },
    approvals: { pending: [], tokens: [], seesAll: true },
  }
  const host: HostFacts = {
    directories: [directory()],
    port: port(),
    store: null,
    migrations: null,
    keyFiles: [secretsKey],
    telemetry: null,
  }

  test('exits with 0 when all is well, 1 when something is odd, 2 when something is broken', () => {
    const well = [...diagnoseServer(server), ...diagnoseHost(host)]
    expect(well.map((r) => r.status)).toEqual(well.map(() => 'pass'))
    expect(exitOf(well)).toBe(0)
    const odd = diagnoseServer({ ...server, workers: [] })
    expect(exitOf(odd)).toBe(1)
    expect(exitOf([...odd, ...diagnoseHost({ ...host, directories: [directory({ isWritable: false })] })])).toBe(2)
  })

  test('gives its rows in the order of the checks', () => {
    const order = diagnoseServer(server).map((r) => CHECKS.indexOf(r.check))
    expect(order).toEqual(order.toSorted((a, b) => a - b))
  })

  test('writes sizes for people', () => {
    expect([0, 900, 1_536, 3 * GIB].map(formatBytes)).toEqual(['0 B', '900 B', '1.5 KiB', '3.0 GiB'])
  })
})
