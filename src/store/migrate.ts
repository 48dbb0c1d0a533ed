import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { Failure } from '../domain/failure.ts'
import type { Db, Queryable } from './db.ts'

export interface Migration {
  /** 1, 2, 3 … from the file's name. */
  number: number
  name: string
  /** Older binaries cannot work on what it makes. */
  breaking: boolean
  sql: string
  checksum: string
}

/** The migrations that this build knows, in order. Files are never edited once released: the checksum would say so. */
export async function readMigrations(directory: URL = new URL('./migrations/', import.meta.url)): Promise<Migration[]> {
  const files = (await readdir(directory)).filter((f) => /^\d{4}-[a-z0-9-]+\.sql$/.test(f)).sort()
  return Promise.all(
    files.map(async (file) => {
      const sql = await readFile(new URL(file, directory), 'utf8')
      return {
        number: Number(file.slice(0, 4)),
        name: file.slice(0, -4),
        breaking: /^-- breaking: yes$/m.test(sql),
        sql,
        checksum: createHash('sha256').update(sql).digest('hex'),
      }
    }),
  )
}

interface AppliedRow {
  number: number
  name: string
  breaking: boolean
  checksum: string
  version: string
}

/**
 * Brings the schema to what this build knows. Servers that start together collide on inserting a migration's row, which comes
 * first in its transaction: one goes on, the others wait for it and then see it. Refuses a schema with a breaking migration that this build
 * does not know (`storage.schema_newer`) and one whose migrations were edited (`storage.schema_drift`).
 */
export async function migrate(
  db: Db,
  options: { version: string; migrations?: Migration[] },
): Promise<{ applied: string[] }> {
  const known = options.migrations ?? (await readMigrations())
  await createLedger(db)
  const applied: string[] = []
  for (const migration of known) {
    const done = await db.transaction((tx) => applyOne(tx, migration, options.version))
    if (done) applied.push(migration.name)
  }
  await checkApplied(db, known)
  return { applied }
}

async function createLedger(db: Db): Promise<void> {
  const sql = `create table if not exists migration (
    number int primary key, name text not null, breaking boolean not null, checksum text not null, version text not null, applied_at timestamptz not null default now())`
  try {
    await db.query(sql)
  } catch (error) {
    if (error instanceof Failure) throw error
    // `if not exists` still loses a race of two first servers on the catalogue's own unique index; the table is there then.
    const there = await db.query(`select 1 from information_schema.tables where table_name = 'migration'`)
    if (there.length === 0)
      throw new Failure('storage.migration_failed', 'creating the table of migrations', { cause: error })
  }
}

async function applyOne(tx: Queryable, migration: Migration, version: string): Promise<boolean> {
  const newer = await tx.query<AppliedRow>(`select * from migration where number > $1 and breaking limit 1`, [
    migration.number,
  ])
  const inserted = await tx.query(
    `insert into migration (number, name, breaking, checksum, version) values ($1, $2, $3, $4, $5) on conflict (number) do nothing returning number`,
    [migration.number, migration.name, migration.breaking, migration.checksum, version],
  )
  if (inserted.length === 0) return false
  if (newer.length > 0) {
    throw new Failure('storage.migration_failed', `applying ${migration.name}: a later one is there already`, {
      evidence: { later: newer[0]?.name ?? '' },
    })
  }
  for (const statement of splitStatements(migration.sql)) {
    try {
      await tx.query(statement)
    } catch (error) {
      if (error instanceof Failure) throw error
      throw new Failure('storage.migration_failed', `applying ${migration.name}`, {
        cause: error,
        evidence: { statement: statement.slice(0, 300) },
      })
    }
  }
  return true
}

async function checkApplied(db: Db, known: readonly Migration[]): Promise<void> {
  const rows = await db.query<AppliedRow>(
    `select number, name, breaking, checksum, version from migration order by number`,
  )
  const last = known.at(-1)?.number ?? 0
  const unknown = rows.filter((r) => r.number > last)
  const breaking = unknown.find((r) => r.breaking)
  if (breaking) {
    throw new Failure('storage.schema_newer', 'opening the database', {
      evidence: { migration: breaking.name, appliedBy: breaking.version, known: last },
      remediation: `Start Orrery ${breaking.version} or newer; this build knows the schema only up to migration ${last} and writes nothing.`,
    })
  }
  for (const row of rows) {
    const migration = known.find((m) => m.number === row.number)
    if (migration && migration.checksum !== row.checksum) {
      throw new Failure('storage.schema_drift', `checking migration ${row.name}`, {
        evidence: { migration: row.name, appliedBy: row.version },
        remediation: `Migration ${row.name} was applied by ${row.version} with another text. Use the build that made this database, or restore the file.`,
      })
    }
  }
}

/** Migrations of a newer build that the database has and this build can live with. */
export async function findNewerMigrations(db: Queryable): Promise<string[]> {
  const last = (await readMigrations()).at(-1)?.number ?? 0
  const rows = await db.query<{ name: string }>(`select name from migration where number > $1 order by number`, [last])
  return rows.map((r) => r.name)
}

/** How the migrations of a database stand beside those of this build; throws only when it cannot be asked. Writes nothing. */
export async function examineMigrations(
  db: Queryable,
): Promise<{ pending: string[]; newer: { name: string; breaking: boolean; version: string }[]; changed: string[] }> {
  const known = await readMigrations()
  const there = await db.query<{ is: boolean }>(`select to_regclass('public.migration') is not null as is`)
  const rows = there[0]?.is
    ? await db.query<AppliedRow>(`select number, name, breaking, checksum, version from migration order by number`)
    : []
  const last = known.at(-1)?.number ?? 0
  const applied = new Map(rows.map((r) => [r.number, r]))
  return {
    pending: known.filter((m) => !applied.has(m.number)).map((m) => m.name),
    newer: rows.filter((r) => r.number > last).map(({ name, breaking, version }) => ({ name, breaking, version })),
    changed: known.filter((m) => (applied.get(m.number)?.checksum ?? m.checksum) !== m.checksum).map((m) => m.name),
  }
}

/** Statements of a migration. Dollar-quoted bodies and comments are kept whole. */
export function splitStatements(sql: string): string[] {
  const out: string[] = []
  let current = ''
  let quoted = false
  for (const line of sql.split('\n')) {
    if (!quoted && /^\s*--/.test(line)) continue
    current += `${line}\n`
    if ((line.match(/\$\$/g)?.length ?? 0) % 2 === 1) quoted = !quoted
    if (!quoted && /;\s*$/.test(line)) {
      out.push(current.trim())
      current = ''
    }
  }
  if (current.trim() !== '') out.push(current.trim())
  return out
}
