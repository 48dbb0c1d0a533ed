import type { MigrationFacts } from '../domain/installation-facts.ts'
import type { Db } from './db.ts'
import { compareSchemas, describeSchema, readSchema } from './drift.ts'
import { examineMigrations } from './migrate.ts'

export interface StoreExamination {
  /** Of the database. */
  version: string
  /** The database's clock in ms since the epoch. */
  nowMs: number
  migrations: MigrationFacts
}

/** Asks a database what it is and how its tables stand beside this build. Writes nothing, changes nothing; throws when it does not answer. */
export async function examineStore(db: Db): Promise<StoreExamination> {
  const state = await examineMigrations(db)
  const hasTables = state.pending.length === 0
  const { missing, extra } = hasTables
    ? compareSchemas(await readSchema(), await describeSchema(db))
    : { missing: [], extra: [] }
  const version = await db.query<{ version: string }>(`select current_setting('server_version') as version`)
  return {
    version: version[0]?.version ?? '',
    nowMs: hasTables ? await readClock(db) : 0,
    migrations: { ...state, missing, extra },
  }
}

/** The clock that decides leases, in ms since the epoch. */
export async function readClock(db: Db): Promise<number> {
  const rows = await db.query<{ now: number }>(`select (extract(epoch from clock_now()) * 1000)::float8 as now`)
  return rows[0]?.now ?? 0
}
