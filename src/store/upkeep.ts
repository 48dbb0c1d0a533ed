import type { Db } from './db.ts'

/** Forgets idempotency keys older than `keepMs`; at most `limit` a call. Returns how many. */
export async function pruneIdempotencyKeys(db: Db, keepMs: number, limit: number): Promise<number> {
  const rows = await db.query(
    `delete from idempotency_key where ctid in (
       select ctid from idempotency_key where created_at < clock_now() - $1::float8 * interval '1 ms' limit $2) returning 1`,
    [keepMs, limit],
  )
  return rows.length
}

/** PGlite has no autovacuum: without this its tables only grow and its plans grow stale. */
export async function vacuumEmbedded(db: Db): Promise<void> {
  if (db.kind !== 'pglite') return
  await db.query('vacuum (analyze) step')
  await db.query('vacuum (analyze) run')
  await db.query('vacuum (analyze) session')
}
