// The prepared database: fresh, migrated, kept between starts. A copy of it takes a tenth of the time that making one takes.
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Log } from '../base/log.ts'
import { type Migration, readMigrations } from './migrate.ts'

/** How many builds of one user each find theirs: more are pruned, the oldest first. */
const SEEDS_KEPT = 4
/** `pglite-<version>-<hashes>`, a dump or a directory; with the id of the process that makes it, or takes it away, at its end. */
const SEED_NAME = /^pglite-[\w.-]*?-[0-9a-f]{8,}(\.tar)?(?:\.(\d+)(?:\.dropped)?)?$/

export interface SeedOptions {
  /** Made when missing, if it can be. */
  seedDir: string
  version: string
  pid: number
  /** Whether a process is alive; null when it cannot be told. */
  isAlive: (pid: number) => boolean | null
  log: Log
}

/** The seed belongs to one build and one text of all migrations: another one is another file. */
export function seedName(version: string, migrations: readonly Migration[]): string {
  const hash = createHash('sha256')
  for (const { name, checksum } of migrations) hash.update(`${name} ${checksum}\n`)
  return `pglite-${version}-${hash.digest('hex').slice(0, 16)}`
}

/** The prepared database's directory, filled by `make` now when it is missing; null when it cannot be made. */
export async function preparedDirectory(
  options: SeedOptions,
  make: (directory: string) => Promise<void>,
): Promise<string | null> {
  const seed = await seedPath(options)
  if (await isThere(seed)) return seed
  return (await prepare(seed, options, make)) ? seed : null
}

/** The prepared database as a dump, for a database in memory; null when there is none yet. */
export async function readDump(options: SeedOptions): Promise<Buffer | null> {
  return readFile(`${await seedPath(options)}.tar`).catch(() => null)
}

export async function keepDump(bytes: Buffer, options: SeedOptions): Promise<void> {
  await prepare(`${await seedPath(options)}.tar`, options, (partial) => writeFile(partial, bytes))
}

/** Takes away a seed that is of no use. Renamed first: who copies it meanwhile fails at once instead of getting half of it. */
export async function dropSeed(seed: string, pid: number): Promise<void> {
  const dropped = `${seed}.${pid}.dropped`
  await rename(seed, dropped).catch(() => {})
  await rm(dropped, { recursive: true, force: true }).catch(() => {})
}

const seedPath = async ({ seedDir, version }: SeedOptions): Promise<string> =>
  join(seedDir, seedName(version, await readMigrations()))

/** Whether the seed is there afterwards: of two that make it at once the first one's stays. */
async function prepare(seed: string, options: SeedOptions, make: (partial: string) => Promise<void>): Promise<boolean> {
  // Under a name of its own: two processes that write in one place would leave a mixture.
  const partial = `${seed}.${options.pid}`
  try {
    await mkdir(options.seedDir, { recursive: true })
    await rm(partial, { recursive: true, force: true })
    await make(partial)
    await rename(partial, seed)
    await prune(options)
    return true
  } catch (error) {
    // Only first starts are slower. Or another process made it at the same time.
    options.log.debug('prepared database not kept', { seed, error: String(error) })
    await rm(partial, { recursive: true, force: true }).catch(() => {})
    return isThere(seed)
  }
}

/** Takes away what the newest builds do not use, and what a process that died was making. */
async function prune({ seedDir, pid, isAlive }: SeedOptions): Promise<void> {
  const found = await Promise.all(
    (await readdir(seedDir)).map(async (name) => {
      const [, dump, maker] = SEED_NAME.exec(name) ?? []
      const { mtimeMs = 0 } = (await stat(join(seedDir, name)).catch(() => null)) ?? {}
      return { name, isDump: dump !== undefined, maker: maker === undefined ? null : Number(maker), mtimeMs }
    }),
  )
  const seeds = found.filter(({ name }) => SEED_NAME.test(name)).sort((a, b) => b.mtimeMs - a.mtimeMs)
  const whole = seeds.filter(({ maker }) => maker === null)
  const old = [true, false].flatMap((isDump) => whole.filter((s) => s.isDump === isDump).slice(SEEDS_KEPT))
  const abandoned = seeds.filter(({ maker }) => maker !== null && maker !== pid && isAlive(maker) === false)
  for (const { name } of [...old, ...abandoned]) await dropSeed(join(seedDir, name), pid)
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )
