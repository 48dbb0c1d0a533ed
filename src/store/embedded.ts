import { type FileHandle, mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Log } from '../base/log.ts'
import { Failure } from '../domain/failure.ts'
import type { Db } from './db.ts'
import { wrapPglite } from './db-pglite.ts'
import { migrate, readMigrations } from './migrate.ts'

export interface EmbeddedOptions {
  /** Null keeps everything in memory. */
  dataDir: string | null
  /** A dump of a fresh, migrated database; made when missing, if it can be. Loading it takes a sixth of the time that making one takes. */
  seedDir: string | null
  version: string
  /** Who holds the lock, for the message of the one who comes second. */
  pid: number
  /** Whether a process is alive; null when it cannot be told. */
  isAlive: (pid: number) => boolean | null
  log: Log
}

/** Opens the embedded store: locks its directory, loads the prepared database, migrates. */
export async function openEmbedded(options: EmbeddedOptions): Promise<Db> {
  const lock = options.dataDir === null ? null : await lockDirectory(options.dataDir, options)
  try {
    const { PGlite } = await import('@electric-sql/pglite')
    const directory = options.dataDir === null ? null : join(options.dataDir, 'pglite')
    const isFresh = directory === null || !(await exists(join(directory, 'PG_VERSION')))
    const seedFile = options.seedDir === null ? null : join(options.seedDir, await seedName(options.version))
    const seed = isFresh && seedFile !== null ? await readSeed(seedFile) : null
    const pglite = await PGlite.create({
      ...(directory === null ? {} : { dataDir: directory }),
      ...(seed ? { loadDataDir: seed } : {}),
    })
    const db = wrapPglite(pglite)
    await db.query(`set timezone = 'UTC'`)
    await migrate(db, { version: options.version })
    if (isFresh && seed === null && seedFile !== null) {
      const dump = await pglite.dumpDataDir('none')
      await writeSeed(seedFile, Buffer.from(await dump.arrayBuffer()), options.log)
    }
    return { ...db, close: () => db.close().finally(() => lock?.release()) }
  } catch (error) {
    await lock?.release()
    throw embeddedFailure(error, options.dataDir)
  }
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )

/** The seed belongs to one text of migrations and one PGlite: another one is another file. */
async function seedName(version: string): Promise<string> {
  const migrations = await readMigrations()
  return `pglite-${version}-${migrations
    .map((m) => m.checksum.slice(0, 8))
    .join('-')
    .slice(0, 80)}.tar`
}

async function readSeed(file: string): Promise<Blob | null> {
  try {
    return new Blob([new Uint8Array(await readFile(file))])
  } catch {
    return null
  }
}

async function writeSeed(file: string, bytes: Buffer, log: Log): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true })
    const partial = `${file}.partial`
    await writeFile(partial, bytes)
    await rename(partial, file)
  } catch (error) {
    // Only the next first start is slower.
    log.debug('prepared database not kept', { file, error: String(error) })
  }
}

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

function embeddedFailure(error: unknown, dataDir: string | null): unknown {
  if (error instanceof Failure || !(error instanceof Error)) return error
  const code = 'code' in error ? String(error.code) : ''
  if (['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST'].includes(code)) {
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
