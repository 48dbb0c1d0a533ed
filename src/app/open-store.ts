import type { Clock, JsonObject, Log } from '../base/index.ts'
import type { StoreOptions } from '../cli/index.ts'
import { Failure, LIMITS } from '../domain/index.ts'
import { checkDsn, checkSchema, type Db, migrate, openEmbedded, openPostgres, placeOfDsn } from '../store/index.ts'
import { isProcessAlive } from './host.ts'
import { type Env, seedDir } from './places.ts'
import { VERSION } from './version.ts'

/** Connections of a server's pool: two flushes of each kind, the slow path, reads. */
const CONNECTIONS = 12
const START_WAIT_MS = 1_000

interface OpenStoreOptions {
  store: StoreOptions
  dataDir: string
  env: Env
  clock: Clock
  log: Log
}

/** Opens and migrates the store. PostgreSQL is tried a few times, because it may be starting as we are. */
export async function openStore(options: OpenStoreOptions): Promise<Db> {
  const where =
    options.store.kind === 'embedded'
      ? { directory: options.dataDir }
      : { database: placeOfDsn(options.store.dsn.reveal()) }
  try {
    return await openAndMigrate(options)
  } catch (error) {
    throw withPlace(error, where)
  }
}

/** Several databases may be within reach: what is wrong with one of them says which. */
function withPlace(error: unknown, where: JsonObject): unknown {
  if (!(error instanceof Failure) || !error.code.startsWith('storage.')) return error
  const { code, message, cause, evidence, remediation } = error
  return new Failure(code, message, { cause, evidence: { ...where, ...evidence }, remediation })
}

async function openAndMigrate({ store, dataDir, env, clock, log }: OpenStoreOptions): Promise<Db> {
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
