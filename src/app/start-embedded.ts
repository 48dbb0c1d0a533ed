import { join } from 'node:path'
import { systemClock } from '../base/index.ts'
import type { EmbeddedHandle, EmbeddedOptions } from '../cli/index.ts'
import { createClient, handlerTransport } from '../client/index.ts'
import { LIMITS } from '../domain/index.ts'
import { openObservability } from './observability.ts'
import { openSecrets } from './open-secrets.ts'
import { openStore } from './open-store.ts'
import { defaultDataDir, type Env } from './places.ts'
import { startServer } from './start-server.ts'
import { startWorkerBeside } from './start-worker-beside.ts'

/** The engine, the api and a worker in this process, for one `orrery run FILE`: the same contract, handed over without a socket. */
export async function startEmbedded(options: EmbeddedOptions, env: Env): Promise<EmbeddedHandle> {
  const dataDir = options.dataDir ?? defaultDataDir(env)
  // In a file below the data directory, or where logs are kept: the terminal shows the run.
  const files = { dir: env['ORRERY_LOG_DIR'] || dataDir, maxBytes: LIMITS.logFileBytes, keep: 1 }
  const observability = openObservability({
    of: 'all',
    format: 'json',
    level: 'info',
    files,
    toStderr: false,
    capturesContent: true,
    env,
  })
  const { prometheus, tracer, known } = observability
  const log = observability.logOf('run')
  const db = await openStore({ store: options.store, dataDir, env, clock: systemClock, log })
  try {
    const server = await startServer({
      db,
      log,
      prometheus,
      tracer,
      address: null,
      tokens: {
        admin: { given: undefined, file: join(dataDir, 'admin.token') },
        worker: { given: undefined, file: join(dataDir, 'worker.token') },
      },
      secrets: await openSecrets({ secrets: options.secrets, store: options.store, dataDir, env, log, known }),
    })
    const transport = handlerTransport(server.api.fetch, server.api.answerHere)
    const worker = options.idle
      ? null
      : await startWorkerBeside(server, options, { transport, dataDir, env, observability, log })
    return {
      client: createClient({ transport, token: server.adminToken, traceparent: env['TRACEPARENT'] }),
      async close() {
        // A worker that holds nothing says good-bye, so that the next start need not wonder where it went.
        await (worker?.stats().held === 0 ? worker.drain() : worker?.stop())
        await server.stop()
        await db.close()
        await observability.close()
      },
    }
  } catch (error) {
    await db.close()
    await observability.close()
    throw error
  }
}
