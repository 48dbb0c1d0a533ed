import { appendFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Log, systemClock } from '../base/index.ts'
import type { EmbeddedHandle, EmbeddedOptions } from '../cli/index.ts'
import { createClient, createExchangeLane, handlerTransport } from '../client/index.ts'
import { createLog } from '../telemetry/index.ts'
import { loopHeartbeats } from '../worker/index.ts'
import { buildWorker } from './build-worker.ts'
import { openStore } from './open-store.ts'
import { defaultDataDir, type Env } from './places.ts'
import { startServer } from './start-server.ts'

/** A log that is kept in a file below the data directory. Lines are rare and whole, so they are written at once. */
export function fileLog(dataDir: string, component: string): { log: Log; file: string } {
  const file = join(dataDir, `${component}.log`)
  let isReady = false
  const write = (line: string) => {
    try {
      if (!isReady) mkdirSync(dataDir, { recursive: true, mode: 0o700 })
      isReady = true
      appendFileSync(file, line, { mode: 0o600 })
    } catch {
      // A log that cannot be written must not stop the work it tells of; the store says why when it cannot be written either.
    }
  }
  return { log: createLog({ level: 'info', format: 'json', write, component }), file }
}

/** The engine, the api and a worker in this process, for one `orrery run FILE`: the same contract, handed over without a socket. */
export async function startEmbedded(options: EmbeddedOptions, env: Env): Promise<EmbeddedHandle> {
  const dataDir = options.dataDir ?? defaultDataDir(env)
  const { log } = fileLog(dataDir, 'run')
  const db = await openStore({ store: options.store, dataDir, env, clock: systemClock, log })
  try {
    const server = await startServer({
      db,
      log,
      address: null,
      tokens: {
        admin: { given: undefined, file: join(dataDir, 'admin.token') },
        worker: { given: undefined, file: join(dataDir, 'worker.token') },
      },
    })
    const transport = handlerTransport((request, e) => server.api.fetch(request, e))
    const lane = createExchangeLane({ transport, token: server.workerToken })
    const worker = await buildWorker({
      lane,
      startHeartbeats: loopHeartbeats({ lane, clock: systemClock, log }),
      name: null,
      modules: options.modules,
      capacity: options.capacity,
      labels: options.labels,
      namespaces: null,
      workspace: join(dataDir, 'worker'),
      env,
      log,
    })
    await worker.start()
    return {
      client: createClient({ transport, token: server.adminToken }),
      async close() {
        // A worker that holds nothing says good-bye, so that the next start need not wonder where it went.
        await (worker.stats().held === 0 ? worker.drain() : worker.stop())
        await server.stop()
        await db.close()
      },
    }
  } catch (error) {
    await db.close()
    throw error
  }
}
