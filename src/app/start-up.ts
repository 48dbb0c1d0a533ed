import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { serve } from '../api/index.ts'
import { createIds, type Log, systemClock, systemRandom } from '../base/index.ts'
import type { UpHandle, UpOptions } from '../cli/index.ts'
import { handlerTransport } from '../client/index.ts'
import { Failure, type FailureRecord } from '../domain/index.ts'
import { checkReach } from '../telemetry/index.ts'
import type { Worker } from '../worker/index.ts'
import { LIMITS } from '../domain/limits.ts'
import { examineHost } from './examine-host.ts'
import { isInContainer } from './host.ts'
import { openObservability } from './observability.ts'
import { openSecrets } from './open-secrets.ts'
import { openStore } from './open-store.ts'
import { defaultDataDir, type Env, stateFile } from './places.ts'
import { type ServerParts, startServer } from './start-server.ts'
import { startWorkerBeside } from './start-worker-beside.ts'
import { ensureFirstAdmin } from './tokens.ts'

/** Requests are over in milliseconds; what lasts longer is a parked poll or a stream, and those who hold it come again elsewhere. */
const CLOSE_GRACE_MS = 1_000

/** `orrery up`: a server on a socket and, unless told otherwise, a worker beside it. */
export async function startUp(options: UpOptions, env: Env): Promise<UpHandle> {
  const dataDir = options.dataDir ?? defaultDataDir(env)
  const observability = openObservability({
    of: options.worker ? 'all' : 'server',
    format: options.logFormat,
    level: options.logLevel,
    files: options.logFiles,
    toStderr: true,
    env,
  })
  const { prometheus, tracer, known } = observability
  const log = observability.logOf('server')
  const db = await openStore({ store: options.store, dataDir, env, clock: systemClock, log })
  let server: ServerParts | null = null
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 })
    const tls = options.tls ? await readTls(options.tls) : null
    const ids = createIds(systemClock, systemRandom)
    const admin = { given: env['ORRERY_ADMIN_TOKEN'], file: join(dataDir, 'admin.token') }
    const isAdminHere = await ensureFirstAdmin(db, { ...admin, ids, random: systemRandom })
    // One that the environment gives is kept in no file.
    const tokenFile = isAdminHere && admin.given === undefined ? admin.file : null
    const scheme = tls ? 'https' : 'http'
    const parts = await startServer({
      db,
      log,
      // The store is asked by the server itself; the port is where this very answer comes from.
      examineHost: () =>
        examineHost(
          {
            ...{ dataDir, workspace: options.worker ? join(dataDir, 'worker') : null, port: null, store: null },
            keys: { file: options.secrets.keyFile, isOwn: options.store.kind === 'embedded' },
          },
          env,
        ),
      prometheus,
      tracer,
      hasMetrics: options.metrics,
      address: `${scheme}://${options.host}:${options.port}`,
      tokens: {
        admin: isAdminHere ? admin : null,
        worker: { given: env['ORRERY_WORKER_TOKEN'], file: join(dataDir, 'worker.token') },
      },
      secrets: await openSecrets({ secrets: options.secrets, store: options.store, dataDir, env, log, known }),
      edge: { trustedProxies: options.trustedProxies, corsOrigins: options.corsOrigins, isTls: tls !== null },
    })
    server = parts
    const serving = await serve(parts.api, {
      host: options.host,
      port: options.port,
      clock: systemClock,
      ids,
      closeGraceMs: CLOSE_GRACE_MS,
      ...(tls ? { tls } : {}),
    })
    const address = `${scheme}://${serving.host.includes(':') ? `[${serving.host}]` : serving.host}:${serving.port}`
    const worker = options.worker
      ? await startWorkerBeside(parts, options.worker, {
          transport: handlerTransport(parts.api.fetch, parts.api.answerHere),
          dataDir,
          env,
          observability,
          log: observability.logOf('worker'),
        })
      : null
    const logFile = observability.logFileOf('server')
    await writeFile(
      stateFile(dataDir),
      JSON.stringify({ address, tokenFile, pid: process.pid, caFile: options.tls?.certFile ?? null, logFile }),
      { mode: 0o600 },
    )
    const unreachable = options.metrics ? checkReach(options.host, { isContainer: isInContainer() }) : null
    if (unreachable) tell(log, unreachable)
    log.info('server ready', { address, store: db.kind })
    const ended = Promise.withResolvers<{ failure: FailureRecord | null }>()
    let stopping: Promise<void> | null = null
    const stop = async () => {
      if (worker) await drain(worker)
      // Together: nothing that is still asked needs the engine's clock, and what follows a stream would hold the other back.
      await Promise.all([parts.stop(), serving.close()])
      await rm(stateFile(dataDir), { force: true })
      await db.close()
      await observability.close()
      ended.resolve({ failure: null })
    }
    void worker?.ended.then((end) => {
      if (end.reason === 'failed') log.error('worker ended', { failure: end.failure })
    })
    return { address, tokenFile, logFile, stop: () => (stopping ??= stop()), ended: ended.promise }
  } catch (error) {
    await server?.stop()
    await db.close()
    await observability.close()
    throw error
  }
}

/** The certificate and the key; `file.unreadable` names the one that cannot be read. */
async function readTls(files: { certFile: string; keyFile: string }): Promise<{ cert: string; key: string }> {
  const read = async (path: string, what: string) => {
    try {
      return await readFile(path, 'utf8')
    } catch (error) {
      throw new Failure('file.unreadable', `reading ${what}`, { cause: error, evidence: { path } })
    }
  }
  return {
    cert: await read(files.certFile, 'the certificate of --tls-cert'),
    key: await read(files.keyFile, 'the key of --tls-key'),
  }
}

/** In a container that nobody scrapes this is as it should be: it is said, and warned of only by the checks of an installation. */
function tell(log: Log, failure: Failure): void {
  const { code, evidence, remediation } = failure.toRecord()
  log.info('metrics cannot be read from outside', { code, ...evidence, remediation })
}

/** Lets running work finish for a while; commands that go on outlive the worker and are adopted by the next. */
export async function drain(worker: Worker): Promise<void> {
  const over = new AbortController()
  await Promise.race([worker.drain(), systemClock.sleep(LIMITS.drainMs, over.signal).catch(() => {})])
  over.abort(new Error('drained'))
  await worker.stop()
}
