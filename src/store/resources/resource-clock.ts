import type { Db, Queryable } from '../db.ts'

export interface ResourceClock {
  /** The version of the last write. */
  version: number
  /** Deletions up to this one are forgotten. */
  pruned: number
}

/** Takes the lock that every writer of resources holds to its end; comes first in its transaction. */
export async function lockResourceClock(tx: Queryable): Promise<ResourceClock> {
  const rows = await tx.query<ResourceClock>(`select version, pruned from resource_clock for update`)
  return rows[0] ?? { version: 0, pruned: 0 }
}

export async function readResourceClock(db: Queryable): Promise<ResourceClock> {
  const rows = await db.query<ResourceClock>(`select version, pruned from resource_clock`, [], {
    name: 'read_resource_clock',
  })
  return rows[0] ?? { version: 0, pruned: 0 }
}

/** Sets the clock under the lock of `lockResourceClock`. */
export async function advanceResourceClock(tx: Queryable, version: number): Promise<void> {
  await tx.query(`update resource_clock set version = $1 where version < $1`, [version])
}

/** Forgets deletions older than `keepMs`, at most `limit` a call, and remembers how far. Returns how many. */
export async function pruneTombstones(db: Db, keepMs: number, limit: number): Promise<number> {
  return db.transaction(async (tx) => {
    const old = await tx.query<{ resource_version: number }>(
      `select resource_version from resource
        where deleted_at is not null and deleted_at < (select clock_now()) - $1::float8 * interval '1 ms' order by deleted_at limit $2`,
      [keepMs, limit],
    )
    if (old.length === 0) return 0
    await lockResourceClock(tx)
    const rows = await tx.query<{ resource_version: number }>(
      `delete from resource where resource_version = any($1::bigint[]) and deleted_at is not null returning resource_version`,
      [old.map((r) => r.resource_version)],
    )
    await tx.query(`update resource_clock set pruned = greatest(pruned, $1)`, [
      Math.max(0, ...rows.map((r) => r.resource_version)),
    ])
    return rows.length
  })
}
