import { createEgress } from '../agents/index.ts'
import { type Api, createApi, type EdgeOptions } from '../api/index.ts'
import { createIds, type Log, noTracer, Secret, systemClock, systemRandom, type Tracer } from '../base/index.ts'
import { ROUTES } from '../contract/index.ts'
import { createEngine, DEFAULT_TIMES, type EngineTimes, type RunningEngine, type SecretDeps } from '../engine/index.ts'
import type { HostFacts } from '../domain/installation-facts.ts'
import type { Db } from '../store/index.ts'
import { createPrometheus, type Prometheus } from '../telemetry/index.ts'
import { collectServer } from './collect.ts'
import { hostIdentity, isProcessAlive } from './host.ts'
import { ensureToken } from './tokens.ts'
import { VERSION } from './version.ts'

export interface ServerParts {
  api: Api
  engine: RunningEngine
  adminToken: Secret
  workerToken: Secret
  /** Stops keeping time. The store stays open: who opened it closes it. */
  stop(): Promise<void>
}

/** A server over an open store, without a socket: what `up` serves over HTTP and `run` calls in process. */
export async function startServer(options: {
  db: Db
  log: Log
  address: string | null
  tokens: {
    /** Null: another server of the same database made the first administrator; this one knows no token of his. */
    admin: { given: string | undefined; file: string | null } | null
    worker: { given: string | undefined; file: string | null }
  }
  /** What the host tells of itself, for the doctor. */
  examineHost?: () => Promise<HostFacts>
  /** Those of the process; its own when absent. */
  prometheus?: Prometheus
  tracer?: Tracer
  /** Whether `/metrics` is there; it is when absent. */
  hasMetrics?: boolean
  /** Absent: a server without secrets. */
  secrets?: SecretDeps
  /** Where the server stands; at home when absent. */
  edge?: EdgeOptions
  /** Of a test: a server that waits less, says that it is of another version, or cannot tell whose process is gone. */
  unlike?: { times?: EngineTimes; version?: string; isAlive?: typeof isProcessAlive }
}): Promise<ServerParts> {
  const { db, log, address, tokens } = options
  const { times = DEFAULT_TIMES, version = VERSION, isAlive = isProcessAlive } = options.unlike ?? {}
  const ids = createIds(systemClock, systemRandom)
  const prometheus =
    options.prometheus ?? createPrometheus({ version, of: 'server', routes: ROUTES.map((route) => route.id) })
  const { metrics, source } = prometheus
  const { tracer = noTracer, hasMetrics = true } = options
  const adminToken = tokens.admin
    ? await ensureToken(db, { ...tokens.admin, name: 'admin', role: 'admin', ids, random: systemRandom })
    : new Secret('')
  const workerToken = await ensureToken(db, {
    ...tokens.worker,
    name: 'worker',
    role: 'worker',
    ids,
    random: systemRandom,
  })
  const egress = createEgress()
  const engine = createEngine({
    db,
    clock: systemClock,
    ids,
    random: systemRandom,
    log,
    metrics,
    tracer,
    serverId: ids.make('server'),
    version,
    address,
    host: hostIdentity(),
    isAlive,
    times,
    egress,
    ...(options.secrets ? { secrets: options.secrets } : {}),
  })
  collectServer(prometheus, engine, db)
  const api = createApi({
    engine,
    clock: systemClock,
    ids,
    log,
    version,
    examineHost: options.examineHost,
    metrics: hasMetrics ? source : null,
    meter: metrics,
    tracer,
    edge: options.edge,
  })
  const stopping = new AbortController()
  const running = engine.run(stopping.signal)
  return {
    api,
    engine,
    adminToken,
    workerToken,
    async stop() {
      stopping.abort(new Error('server stops'))
      await running.catch(() => {})
      await egress.close()
    },
  }
}
