import { join } from 'node:path'
import { silentLog } from '../../base/log.ts'
import type { Db } from '../db.ts'
import { openEmbedded } from '../embedded.ts'

/** Prepared databases of this checkout. */
const SEED_DIR = join(import.meta.dirname, '..', '..', '..', '.cache', 'orrery')

/** A migrated store in memory, from the database that this checkout keeps prepared. */
export const openInMemory = (): Promise<Db> =>
  openEmbedded({
    dataDir: null,
    seedDir: SEED_DIR,
    version: '0',
    pid: process.pid,
    isAlive: () => null,
    log: silentLog,
  })
