import { type Api, createApi } from '../api/index.ts'
import { createIds, type Log, type Secret, systemClock, systemRandom } from '../base/index.ts'
import { createEngine, DEFAULT_TIMES, type EngineTimes, type RunningEngine } from '../engine/index.ts'
import type { HostFacts } from '../domain/installation-facts.ts'
import type { Db } from '../store/index.ts'
import { createPrometheus } from '../telemetry/index.ts'
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
    admin: { given: string | undefined; file: string | null }
    worker: { given: string | undefined; file: string | null }
  }
  /** What the host tells of itself, for the doctor. */
  examineHost?: () => Promise<HostFacts>
  /** Of a test: a server that waits less, says that it is of another version, or cannot tell whose process is gone. */
  unlike?: { times?: EngineTimes; version?: string; isAlive?: typeof isProcessAlive }
}): Promise<ServerParts> {
  const { db, log, address, tokens } = options
  const { times = DEFAULT_TIMES, version = VERSION, isAlive = isProcessAlive } = options.unlike ?? {}
  const ids = createIds(systemClock, systemRandom)
  const { metrics, source } = createPrometheus()
  const adminToken = await ensureToken(db, { ...tokens.admin, name: 'admin', role: 'admin', ids, random: systemRandom })
  const workerToken = await ensureToken(db, {
    ...tokens.worker,
    name: 'worker',
    role: 'worker',
    ids,
    random: systemRandom,
  })
  const engine = createEngine({
    db,
    clock: systemClock,
    ids,
    random: systemRandom,
    log,
    metrics,
    serverId: ids.make('server'),
    version,
    address,
    host: hostIdentity(),
    isAlive,
    times,
  })
  const api = createApi({
    engine,
    clock: systemClock,
    ids,
    log,
    version,
    metrics: source,
    examineHost: options.examineHost,
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
    },
  }
}
