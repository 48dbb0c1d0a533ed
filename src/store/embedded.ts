import { cpSync } from 'node:fs'
import { type FileHandle, mkdir, open, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { PGliteOptions } from '@electric-sql/pglite'
import type { Log } from '../base/log.ts'
import { Failure } from '../domain/failure.ts'
import type { Db } from './db.ts'
import { wrapPglite } from './db-pglite.ts'
import { PINNED_PLANS } from './pinned-plans.ts'
import { migrate } from './migrate.ts'
import { dropSeed, keepDump, preparedDirectory, readDump, type SeedOptions } from './seed.ts'

/** A new database and a segment of its log take this much; with less than that free, a failure to open is a lack of room. */
const ROOM_BYTES = 48 * 1024 * 1024

export interface EmbeddedOptions {
  /** Null keeps everything in memory. */
  dataDir: string | null
  /** Where a fresh, migrated database is kept; made when missing, if it can be. A copy takes a tenth of the time that making one takes. */
  seedDir: string | null
  version: string
  /** Who holds the lock, for the message of the one who comes second. */
  pid: number
  /** Whether a process is alive; null when it cannot be told. */
  isAlive: (pid: number) => boolean | null
  log: Log
}

/** Opens the embedded store: locks its directory, takes a copy of the prepared database when it is new, migrates. */
export async function openEmbedded(options: EmbeddedOptions): Promise<Db> {
  const { dataDir } = options
  if (dataDir === null) return openInMemory(options)
  const lock = await lockDirectory(dataDir, options)
  try {
    const db = await openDirectory(dataDir, options)
    const close = async () => {
      try {
        await db.close()
      } finally {
        await lock.release()
      }
    }
    return { ...db, close }
  } catch (error) {
    await lock.release()
    throw (await diskFailure(error, dataDir)) ?? embeddedFailure(error, dataDir)
  }
}

async function openDirectory(dataDir: string, options: EmbeddedOptions): Promise<Db> {
  const directory = join(dataDir, 'pglite')
  // There from before the first file until the database can be used: a process that is killed meanwhile leaves it, and what lies
  // there then is half a database without a run.
  const making = join(dataDir, 'pglite.making')
  const wasCut = await exists(making)
  if (!wasCut && (await exists(join(directory, 'PG_VERSION')))) return openMigrated({ dataDir: directory }, options)
  await writeFile(making, '')
  if (wasCut) await rm(directory, { recursive: true, force: true })
  const kept = seedOptions(options)
  const seed = kept === null ? null : await preparedDirectory(kept, (partial) => makeDatabase(partial, options))
  const db = await openCopy(seed, directory, options)
  await rm(making)
  return db
}

/** A new database in `directory`: from the prepared one, or from nothing when that is of no use. */
async function openCopy(seed: string | null, directory: string, options: EmbeddedOptions): Promise<Db> {
  if (seed !== null) {
    try {
      // In one call: a thousand small files take eight times as long one after another through the event loop.
      cpSync(seed, directory, { recursive: true })
      return await openMigrated({ dataDir: directory }, options)
    } catch (error) {
      const full = await diskFailure(error, dirname(directory))
      if (full) throw full
      options.log.warn('prepared database is of no use, making a new one', { seed, error: String(error) })
      await dropSeed(seed, options.pid)
      await rm(directory, { recursive: true, force: true })
    }
  }
  return openMigrated({ dataDir: directory }, options)
}

async function makeDatabase(directory: string, options: EmbeddedOptions): Promise<void> {
  const db = await openMigrated({ dataDir: directory }, options)
  await db.close()
}

async function openMigrated(where: PGliteOptions, { version }: { version: string }): Promise<Db> {
  const { PGlite } = await import('@electric-sql/pglite')
  const db = wrapPglite(await PGlite.create(where))
  try {
    await prepareSession(db)
    await migrate(db, { version })
    return db
  } catch (error) {
    await db.close()
    throw error
  }
}

async function prepareSession(db: Db): Promise<void> {
  const settings = ['timezone=UTC', ...PINNED_PLANS].map((setting) => setting.split('='))
  await db.query(`select set_config(name, value, false) from unnest($1::text[], $2::text[]) as s(name, value)`, [
    settings.map(([name]) => name),
    settings.map(([, value]) => value),
  ])
}

/** In memory there is no directory to copy: the prepared database is a dump. */
async function openInMemory(options: EmbeddedOptions): Promise<Db> {
  const seed = seedOptions(options)
  const bytes = seed === null ? null : await readDump(seed)
  if (bytes !== null) return openMigrated({ loadDataDir: new Blob([new Uint8Array(bytes)]) }, options)
  const { PGlite } = await import('@electric-sql/pglite')
  const pglite = await PGlite.create()
  const db = wrapPglite(pglite)
  await prepareSession(db)
  await migrate(db, { version: options.version })
  if (seed !== null) await keepDump(Buffer.from(await (await pglite.dumpDataDir('none')).arrayBuffer()), seed)
  return db
}

const seedOptions = ({ seedDir, ...rest }: EmbeddedOptions): SeedOptions | null =>
  seedDir === null ? null : { ...rest, seedDir }

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw error
    },
  )

interface Lock {
  release(): Promise<void>
}

/** Takes the directory for this process. The lock of a process that is gone is taken over. */
async function lockDirectory(dataDir: string, options: EmbeddedOptions): Promise<Lock> {
  const file = join(dataDir, 'orrery.lock')
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw embeddedFailure(error, dataDir)
  }
  for (let tries = 0; tries < 3; tries++) {
    let handle: FileHandle
    try {
      handle = await open(file, 'wx', 0o600)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw embeddedFailure(error, dataDir)
      const holder = Number((await readFile(file, 'utf8').catch(() => '')).trim())
      if (holder === options.pid || (Number.isInteger(holder) && holder > 0 && options.isAlive(holder) !== false)) {
        throw new Failure('storage.locked', `opening the data directory ${dataDir}`, {
          evidence: { directory: dataDir, pid: holder },
          remediation: `Process ${holder} uses ${dataDir}. Stop it, choose another --data-dir, or use PostgreSQL when several servers are wanted.`,
        })
      }
      // Moved away before it is removed: of two that take over at once, one finds it gone.
      const stale = `${file}.stale.${options.pid}`
      await rename(file, stale).then(
        () => rm(stale, { force: true }),
        () => {},
      )
      continue
    }
    await handle.writeFile(`${options.pid}\n`)
    await handle.close()
    return { release: () => rm(file, { force: true }) }
  }
  throw new Failure('storage.locked', `opening the data directory ${dataDir}`, { evidence: { directory: dataDir } })
}

/** PGlite only says that it failed when it cannot write, so the file system itself is asked whether there is room; null when there is. */
async function diskFailure(cause: unknown, directory: string): Promise<Failure | null> {
  if (cause instanceof Failure) return null
  const { bavail, bsize } = await statfs(directory).catch(() => ({ bavail: Infinity, bsize: 1 }))
  const isFull = cause instanceof Error && 'code' in cause && cause.code === 'ENOSPC'
  if (!isFull && bavail * bsize >= ROOM_BYTES) return null
  return new Failure('storage.disk_full', `writing to the data directory ${directory}`, {
    cause,
    evidence: { directory, ...(Number.isFinite(bavail) ? { freeBytes: bavail * bsize } : {}), neededBytes: ROOM_BYTES },
  })
}

function embeddedFailure(error: unknown, dataDir: string | null): unknown {
  if (error instanceof Failure || !(error instanceof Error)) return error
  const code = 'code' in error ? String(error.code) : ''
  // ENOENT: what making a directory with its parents says on a file system that is read-only.
  if (['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST', 'ENOENT'].includes(code)) {
    return new Failure('storage.not_writable', `opening the data directory ${dataDir ?? ''}`, {
      cause: error,
      evidence: { directory: dataDir, errorCode: code },
    })
  }
  if (code === 'ENOSPC')
    return new Failure('storage.disk_full', `writing to the data directory ${dataDir ?? ''}`, {
      cause: error,
      evidence: { directory: dataDir },
    })
  return error
}
