import { constants, type StatsFs } from 'node:fs'
import { access, readFile, stat, statfs } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { findPortHolder } from '../api/index.ts'
import { type Secret, silentLog, systemClock } from '../base/index.ts'
import { createClient, httpTransport } from '../client/index.ts'
import type { HostQuestion, StoreOptions } from '../cli/index.ts'
import { Failure, failureRecord } from '../domain/index.ts'
import type {
  DirectoryFacts,
  HostFacts,
  KeyFileFacts,
  MigrationFacts,
  PortFacts,
  StoreFacts,
  TelemetryFacts,
} from '../domain/installation-facts.ts'
import { checkDsn, examineStore, openPostgres } from '../store/index.ts'
import { isProcessAlive } from './host.ts'
import type { Env } from './places.ts'

/** Longest wait for whatever answers at a port. */
const ANSWER_MS = 2_000

/** What this host tells of itself. Writes nothing but what proves that a port is free; what cannot be found out is told as such. */
export async function examineHost(
  question: Omit<HostQuestion, 'dataDir'> & { dataDir: string },
  env: Env,
): Promise<HostFacts> {
  const { dataDir, workspace, port, store, keys } = question
  const directories = await Promise.all([
    examineDirectory('data', dataDir),
    ...(workspace === null ? [] : [examineDirectory('workspace', workspace)]),
    ...(env['ORRERY_LOG_DIR'] ? [examineDirectory('log', env['ORRERY_LOG_DIR'])] : []),
  ])
  const looked = store === null ? null : await examineStoreFrom(store, dataDir)
  return {
    directories,
    port: port === null ? null : await examinePort(port),
    store: looked?.store ?? null,
    migrations: looked?.migrations ?? null,
    keyFiles: await examineKeyFiles(dataDir, keys, env),
    telemetry: await examineTelemetry(env),
  }
}

const codeOf = (error: unknown): string =>
  typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : String(error)

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )

async function examineDirectory(use: DirectoryFacts['use'], path: string): Promise<DirectoryFacts> {
  const isThere = await exists(path)
  let measured = path
  while (!(await exists(measured)) && dirname(measured) !== measured) measured = dirname(measured)
  const errorCode = await writeProblem(measured)
  const { bsize, bavail, blocks, ffree, files } = await statfs(measured).catch((): StatsFs => EMPTY)
  return {
    use,
    path,
    measured,
    exists: isThere,
    isWritable: errorCode === null,
    errorCode,
    freeBytes: bavail * bsize,
    totalBytes: blocks * bsize,
    freeInodes: ffree,
    totalInodes: files,
  }
}

const EMPTY: StatsFs = { type: 0, bsize: 0, frsize: 0, blocks: 0, bfree: 0, bavail: 0, files: 0, ffree: 0 }

/** Why nothing can be written there; null when it can. */
async function writeProblem(path: string): Promise<string | null> {
  try {
    if (!(await stat(path)).isDirectory()) return 'ENOTDIR'
    await access(path, constants.W_OK | constants.X_OK)
    return null
  } catch (error) {
    return codeOf(error)
  }
}

async function examinePort({ host, port }: { host: string; port: number }): Promise<PortFacts> {
  const tried = await tryToListen(host, port)
  if (tried === null) return { host, port, state: 'free', error: null, holder: null, orrery: null }
  if (tried !== 'EADDRINUSE') return { host, port, state: 'refused', error: tried, holder: null, orrery: null }
  const name = host === '0.0.0.0' || host === '::' ? 'localhost' : host.includes(':') ? `[${host}]` : host
  return {
    host,
    port,
    state: 'held',
    error: null,
    holder: findPortHolder(port),
    orrery: await orreryAt(`http://${name}:${port}`),
  }
}

function tryToListen(host: string, port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (error) => resolve(codeOf(error)))
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(null)))
  })
}

/** The version of the Orrery that answers there; null when none does. */
async function orreryAt(address: string): Promise<string | null> {
  const transport = httpTransport({ address, silenceMs: ANSWER_MS })
  try {
    const { version } = await createClient({ transport, token: null }).getHealth()
    return typeof version === 'string' ? version : null
  } catch {
    return null
  } finally {
    transport.close()
  }
}

type Looked = { store: StoreFacts; migrations: MigrationFacts | null }

async function examineStoreFrom(store: StoreOptions, dataDir: string): Promise<Looked> {
  if (store.kind === 'postgres') return examinePostgres(store.dsn)
  const text = await readFile(join(dataDir, 'orrery.lock'), 'utf8').catch(() => null)
  const pid = text === null ? Number.NaN : Number(text.trim())
  const owner = Number.isInteger(pid) && pid > 0 ? { pid, isAlive: isProcessAlive(pid, null) } : null
  // It is opened by one process alone: to look inside would keep a server from starting.
  const hasDatabase = await exists(join(dataDir, 'pglite', 'PG_VERSION'))
  return { store: { kind: 'embedded', dataDir, owner, hasDatabase }, migrations: null }
}

async function examinePostgres(dsn: Secret): Promise<Looked> {
  try {
    checkDsn(dsn.reveal())
    const db = openPostgres({ dsn: dsn.reveal(), connections: 1, log: silentLog })
    try {
      await db.query('select 1')
      const before = systemClock.monotonic()
      await db.query('select 1')
      const latencyMs = systemClock.monotonic() - before
      const { version, migrations } = await examineStore(db)
      return { store: { kind: 'open', engine: 'postgres', version, latencyMs }, migrations }
    } finally {
      await db.close()
    }
  } catch (error) {
    const failure =
      error instanceof Failure
        ? error.toRecord()
        : failureRecord('storage.unreachable', 'asking the database', { cause: error })
    return { store: { kind: 'unreachable', failure }, migrations: null }
  }
}

async function examineKeyFiles(
  dataDir: string,
  { file, isOwn }: HostQuestion['keys'],
  env: Env,
): Promise<KeyFileFacts[]> {
  const keys = { what: 'secrets key', path: file ?? join(dataDir, 'secrets.key'), isNamed: file !== null }
  const files = [
    { what: 'admin token', path: join(dataDir, 'admin.token'), isNamed: false },
    { what: 'worker token', path: join(dataDir, 'worker.token'), isNamed: false },
    // A key that comes in a variable has no file, and over PostgreSQL a server makes none.
    ...(env['ORRERY_SECRETS_KEY'] || (file === null && !isOwn) ? [] : [keys]),
  ]
  return Promise.all(
    files.map(async ({ what, path, isNamed }) => {
      const found = await stat(path).catch(() => null)
      const mode = found && process.platform !== 'win32' ? found.mode & 0o777 : null
      return { what, path, isNamed, exists: found !== null, mode }
    }),
  )
}

/** Whether something listens where traces are sent to; null when they are sent nowhere. */
async function examineTelemetry(env: Env): Promise<TelemetryFacts | null> {
  const from = ['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', 'OTEL_EXPORTER_OTLP_ENDPOINT'].find((name) => env[name])
  const endpoint = from === undefined ? undefined : env[from]
  if (from === undefined || endpoint === undefined) return null
  const url = URL.parse(endpoint)
  if (url === null) return { endpoint, from, error: 'no address' }
  // An address may hold a password.
  const shown = `${url.protocol}//${url.host}${url.pathname}`
  const port = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
  return { endpoint: shown, from, error: await connectProblem(url.hostname.replace(/^\[(.*)\]$/, '$1'), port) }
}

function connectProblem(host: string, port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: ANSWER_MS })
    const end = (problem: string | null) => {
      socket.destroy()
      resolve(problem)
    }
    socket.once('connect', () => end(null))
    socket.once('timeout', () => end('ETIMEDOUT'))
    socket.once('error', (error) => end(codeOf(error)))
  })
}
