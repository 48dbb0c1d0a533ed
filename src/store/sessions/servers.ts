import type { Queryable } from '../db.ts'

/** Servers that were heard of in the last seconds; at most `limit`. */
export async function listServers(db: Queryable, limit: number): Promise<{ id: string; version: string }[]> {
  return db.query(
    `select id, version from server where seen_at > clock_now() - interval '5 seconds' order by id limit $1`,
    [limit],
  )
}
