import { join } from 'node:path'
import { assert } from '../../base/assert.ts'
import { silentLog } from '../../base/log.ts'
import type { Db } from '../db.ts'
import { openEmbedded } from '../embedded.ts'

/** Prepared databases of this checkout. */
const SEED_DIR = join(import.meta.dirname, '..', '..', '..', '.cache', 'orrery')

/** Stores of this process that nobody uses now: a file of tests takes the one that the file before it gave back, with its plans. */
const idle: Db[] = []

/** A migrated, empty store in memory, from the database that this checkout keeps prepared. Closing it gives it back. */
export async function openInMemory(): Promise<Db> {
  const db = idle.pop() ?? (await openNew())
  await empty(db)
  let isOpen = true
  const check = (): void => assert(isOpen, 'a store was used after it was given back')
  return {
    ...db,
    query: async (sql, params, options) => {
      check()
      return db.query(sql, params, options)
    },
    transaction: async (work) => {
      check()
      return db.transaction(work)
    },
    close: async () => {
      if (isOpen) idle.push(db)
      isOpen = false
    },
  }
}

const openNew = (): Promise<Db> =>
  openEmbedded({
    dataDir: null,
    seedDir: SEED_DIR,
    version: '0',
    pid: process.pid,
    isAlive: () => null,
    log: silentLog,
  })

/** As the migrations left it, on the clock of the machine. */
async function empty(db: Db): Promise<void> {
  await db.query(`select set_config('orrery.now', '', false)`)
  const tables = await db.query<{ name: string }>(
    `select quote_ident(tablename) as name from pg_tables where schemaname = 'public' and tablename not in ('migration', 'resource_clock')`,
  )
  await db.query(`truncate ${tables.map(({ name }) => name).join(', ')} restart identity`)
  await db.query(`update resource_clock set version = 0, pruned = 0`)
}
