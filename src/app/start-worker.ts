import { hostname } from 'node:os'
import { join } from 'node:path'
import type { WorkerHandle, WorkerOptions } from '../cli/index.ts'
import { createExchangeLane, httpTransport } from '../client/index.ts'
import { createLog } from '../telemetry/index.ts'
import { threadHeartbeats } from '../worker/index.ts'
import { buildWorker } from './build-worker.ts'
import { findServer } from './connect.ts'
import { defaultDataDir, type Env } from './places.ts'
import { drain } from './start-up.ts'

/** `orrery worker`: a worker in a process of its own. */
export async function startWorker(options: WorkerOptions, env: Env): Promise<WorkerHandle> {
  const log = createLog({
    level: options.logLevel,
    format: options.logFormat,
    component: 'worker',
    write: (line) => void process.stderr.write(line),
  })
  const found = await findServer(
    { server: options.server ?? undefined, token: options.token?.reveal() ?? undefined, role: 'worker' },
    env,
  )
  const name = options.name ?? hostname()
  const lane = createExchangeLane({
    transport: httpTransport({ address: found.address, addressFrom: found.addressFrom }),
    token: found.token,
  })
  const worker = await buildWorker({
    lane,
    startHeartbeats: threadHeartbeats({ server: found.address, token: found.token, log }),
    name,
    modules: options.modules,
    capacity: options.capacity,
    labels: options.labels,
    namespaces: options.namespaces,
    workspace: options.workspace ?? join(defaultDataDir(env), 'workers', name),
    env,
    log,
  })
  const isRegistered = await worker.start()
  return {
    address: found.address,
    name,
    isRegistered,
    ended: worker.ended.then((end) => ({ failure: end.reason === 'failed' ? end.failure : null })),
    drain: () => drain(worker),
  }
}
