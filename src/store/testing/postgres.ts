import { silentLog } from '../../base/log.ts'
import type { Db } from '../db.ts'
import { openPostgres } from '../db-postgres.ts'
import { migrate } from '../migrate.ts'

/** A migrated database at an address. */
export async function openMigrated(dsn: string, connections = 6): Promise<Db> {
  const db = openPostgres({ dsn, connections, log: silentLog })
  await migrate(db, { version: '0' })
  return db
}
