import type { ToolPrograms } from '../agents/index.ts'
import { join } from 'node:path'
import { type Log, systemClock } from '../base/index.ts'
import { createExchangeLane, type Transport } from '../client/index.ts'
import { loopHeartbeats, type Worker } from '../worker/index.ts'
import { buildWorker } from './build-worker.ts'
import type { Observability } from './observability.ts'
import type { Env } from './places.ts'
import type { ServerParts } from './start-server.ts'

/** Starts a worker in the process of its server: it speaks the same exchange, handed over by a transport without a socket. */
export async function startWorkerBeside(
  server: ServerParts,
  offer: {
    modules: Record<string, string>
    programs: ToolPrograms
    capacity: number
    labels: Record<string, string>
  },
  at: { transport: Transport; dataDir: string; env: Env; observability: Observability; log: Log },
): Promise<Worker> {
  const { prometheus, tracer, known } = at.observability
  const lane = createExchangeLane({ transport: at.transport, token: server.workerToken })
  const worker = await buildWorker({
    lane,
    startHeartbeats: loopHeartbeats({ lane, clock: systemClock, log: at.log }),
    name: null,
    modules: offer.modules,
    programs: offer.programs,
    capacity: offer.capacity,
    labels: offer.labels,
    namespaces: null,
    workspace: join(at.dataDir, 'worker'),
    env: at.env,
    log: at.log,
    prometheus,
    tracer,
    known,
  })
  await worker.start()
  return worker
}
