import { hostname } from 'node:os'
import { join } from 'node:path'
import type { WorkerHandle, WorkerOptions } from '../cli/index.ts'
import { createExchangeLane, serversIn } from '../client/index.ts'
import { serveWorkerMetrics } from './worker-metrics.ts'
import { threadHeartbeats } from '../worker/index.ts'
import { buildWorker } from './build-worker.ts'
import { findServer, wayTo } from './connect.ts'
import { openObservability } from './observability.ts'
import { defaultDataDir, type Env } from './places.ts'
import { drain } from './start-up.ts'

/** `orrery worker`: a worker in a process of its own. */
export async function startWorker(options: WorkerOptions, env: Env): Promise<WorkerHandle> {
  const observability = openObservability({
    of: 'worker',
    format: options.logFormat,
    level: options.logLevel,
    files: options.logFiles,
    toStderr: true,
    env,
  })
  const { prometheus, tracer, known } = observability
  const log = observability.logOf('worker')
  const found = await findServer(
    {
      ...(options.server === null ? {} : { server: options.server }),
      ...(options.token === null ? {} : { token: options.token.reveal() }),
      ...(options.context === null ? {} : { context: options.context }),
      ...(options.ca === null ? {} : { ca: options.ca }),
      role: 'worker',
    },
    env,
  )
  const name = options.name ?? hostname()
  const lane = createExchangeLane({
    transport: wayTo(found, (move) => log.warn('going on with the next server', { ...move }), { asksOften: true }),
    token: found.token,
  })
  const worker = await buildWorker({
    lane,
    startHeartbeats: threadHeartbeats({ servers: serversIn(found.address), token: found.token, ca: found.ca, log }),
    name,
    modules: options.modules,
    programs: options.programs,
    capacity: options.capacity,
    labels: options.labels,
    namespaces: options.namespaces,
    workspace: options.workspace ?? join(defaultDataDir(env), 'workers', name),
    env,
    log,
    prometheus,
    tracer,
    known,
  })
  const metrics = options.metrics ? await serveWorkerMetrics(prometheus, options.metrics, log) : null
  const isRegistered = await worker.start()
  return {
    address: found.address,
    name,
    isRegistered,
    metricsAddress: metrics?.address ?? null,
    ended: worker.ended.then(async (end) => {
      await metrics?.close()
      await observability.close()
      return { failure: end.reason === 'failed' ? end.failure : null }
    }),
    drain: () => drain(worker),
  }
}
