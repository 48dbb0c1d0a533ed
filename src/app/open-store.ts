import type { Clock, Log } from '../base/index.ts'
import type { StoreOptions } from '../cli/index.ts'
import { Failure, LIMITS } from '../domain/index.ts'
import { checkDsn, checkSchema, type Db, migrate, openEmbedded, openPostgres } from '../store/index.ts'
import { isProcessAlive } from './host.ts'
import { type Env, seedDir } from './places.ts'
import { VERSION } from './version.ts'

/** Connections of a server's pool: two flushes of each kind, the slow path, reads. */
const CONNECTIONS = 12
const START_WAIT_MS = 1_000

/** Opens and migrates the store. PostgreSQL is tried a few times, because it may be starting as we are. */
export async function openStore(options: {
  store: StoreOptions
  dataDir: string
  env: Env
  clock: Clock
  log: Log
}): Promise<Db> {
  const { store, dataDir, env, clock, log } = options
  if (store.kind === 'embedded') {
    const embedded = await openEmbedded({
      dataDir,
      seedDir: seedDir(env),
      version: VERSION,
      pid: process.pid,
      isAlive: (pid) => isProcessAlive(pid, null),
      log,
    })
    return checked(embedded, log)
  }
  const dsn = store.dsn.reveal()
  checkDsn(dsn)
  const db = openPostgres({ dsn, connections: CONNECTIONS, log })
  for (let tries = 1; ; tries++) {
    try {
      await migrate(db, { version: VERSION })
      break
    } catch (error) {
      const mayPass =
        error instanceof Failure && error.code === 'storage.unreachable' && tries < LIMITS.storageStartTries
      if (!mayPass) {
        await db.close()
        throw error
      }
      log.warn('database not reachable yet', { tries, of: LIMITS.storageStartTries })
      await clock.sleep(START_WAIT_MS * tries)
    }
  }
  return checked(db, log)
}

/** The store, when its tables are those of this build; else it is closed again. */
async function checked(db: Db, log: Log): Promise<Db> {
  try {
    await checkSchema(db, log)
    return db
  } catch (error) {
    await db.close()
    throw error
  }
}
