import type { Db, Queryable } from '../db.ts'
import type { MemoryPlace } from './memory-rows.ts'
import { deleteEntries, lockPlace } from './write-entries.ts'

/** Places that have entries whose time is over. */
async function findExpired(db: Queryable, limit: number): Promise<MemoryPlace[]> {
  return db.query<MemoryPlace>(
    `select distinct namespace, memory, scope from (
       select namespace, memory, scope from memory_entry where expires_at <= (select clock_now()) order by expires_at limit $1) e`,
    [limit],
    { name: 'find_expired_memories' },
  )
}

/** Removes entries whose time is over, of the places that have the oldest of them. Gives how many. */
export async function pruneExpired(db: Db, limit: number): Promise<number> {
  let gone = 0
  for (const place of await findExpired(db, limit))
    gone += await db.transaction(async (tx) => {
      // In the order in which writers lock.
      await lockPlace(tx, place)
      return deleteEntries(tx, place, { expired: true })
    })
  return gone
}

/** Removes what belongs to runs that ended `keepMs` ago or are not there any more. Gives how many places. */
export async function pruneOfRuns(
  db: Queryable,
  { keepMs, limit }: { keepMs: number; limit: number },
): Promise<number> {
  const rows = await db.query(
    `with old as materialized (
       select s.namespace, s.memory, s.scope from memory_scope s left join run r on r.id = s.run_id
        where s.run_id is not null and (r.id is null or r.ended_at < (select clock_now()) - $1::float8 * interval '1 ms')
        limit $2 for update of s skip locked
     ),
     entries as (
       delete from memory_entry e using old o where e.namespace = o.namespace and e.memory = o.memory and e.scope = o.scope
     )
     delete from memory_scope s using old o where s.namespace = o.namespace and s.memory = o.memory and s.scope = o.scope returning 1 as one`,
    [keepMs, limit],
    { name: 'prune_memories_of_runs' },
  )
  return rows.length
}

/** Forgets calls that were made `keepMs` ago. Gives how many. */
export async function pruneCalls(db: Queryable, { keepMs, limit }: { keepMs: number; limit: number }): Promise<number> {
  const rows = await db.query(
    `delete from memory_call where (run_id, node, path, call) in (
       select run_id, node, path, call from memory_call where made_at < (select clock_now()) - $1::float8 * interval '1 ms' order by made_at limit $2)
     returning 1 as one`,
    [keepMs, limit],
    { name: 'prune_memory_calls' },
  )
  return rows.length
}
