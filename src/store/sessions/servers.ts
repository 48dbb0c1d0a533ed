import type { Queryable } from '../db.ts'

export interface ServerRow {
  id: string
  version: string
  /** For how long it has not heard the wake-ups of the others, in ms; null while it does. */
  deafMs: number | null
}

/** Servers that were heard of in the last seconds; at most `limit`. */
export async function listServers(db: Queryable, limit: number): Promise<ServerRow[]> {
  return db.query(
    `select id, version, (extract(epoch from clock_now() - deaf_since) * 1000)::float8 as "deafMs" from server
      where seen_at > clock_now() - interval '5 seconds' order by id limit $1`,
    [limit],
  )
}
