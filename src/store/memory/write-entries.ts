import type { Queryable } from '../db.ts'
import { bytesOfEntry, type MemoryPlace, type NewEntry } from './memory-rows.ts'

/** How much there is in one place, expired entries that were not pruned included. */
export interface Filled {
  entries: number
  bytes: number
}

const RUN = 'run/'

/** Holds the place against other writers until the transaction ends, and makes it when it is new. */
export async function lockPlace(tx: Queryable, { namespace, memory, scope }: MemoryPlace): Promise<Filled> {
  const [row] = await tx.query<Filled>(
    `insert into memory_scope as s (namespace, memory, scope, run_id, entries, bytes) values ($1, $2, $3, $4, 0, 0)
     on conflict (namespace, memory, scope) do update set entries = s.entries returning entries, bytes`,
    [namespace, memory, scope, scope.startsWith(RUN) ? scope.slice(RUN.length) : null],
    { name: 'lock_memory_scope' },
  )
  return row ?? { entries: 0, bytes: 0 }
}

export interface PutEntries {
  entries: readonly NewEntry[]
  /** What made their vectors; null: they have none. */
  embeddedBy: string | null
  /** Null: until they are deleted. */
  ttlMs: number | null
  writtenBy: string
}

/** Writes entries, keys of which are all different, into a locked place. Gives what there is then, and which keys were there before. */
export async function putEntries(
  tx: Queryable,
  { namespace, memory, scope }: MemoryPlace,
  put: PutEntries,
): Promise<Filled & { replaced: string[] }> {
  const { entries, embeddedBy, ttlMs, writtenBy } = put
  const [row] = await tx.query<Filled & { replaced: string[] }>(
    `with g as materialized (
       select * from unnest($4::text[], $5::text[], $6::text[], $7::int[], $8::text[]) as g(key, body, metadata, bytes, embedding)
     ),
     former as materialized (
       select e.key, e.bytes, (e.expires_at is null or e.expires_at > (select clock_now())) as is_there
         from g join memory_entry e on e.namespace = $1 and e.memory = $2 and e.scope = $3 and e.key = g.key
     ),
     put as (
       insert into memory_entry as e
         (namespace, memory, scope, key, body, metadata, bytes, embedding, embedded_by, written_by, created_at, updated_at, expires_at)
       select $1, $2, $3, g.key, g.body, g.metadata::jsonb, g.bytes, g.embedding::real[], case when g.embedding is not null then $9::text end, $10::text, (select clock_now()), (select clock_now()),
              (select clock_now()) + $11::float8 * interval '1 ms'
         from g order by g.key
       on conflict (namespace, memory, scope, key) do update
         set body = excluded.body, metadata = excluded.metadata, bytes = excluded.bytes, embedding = excluded.embedding, embedded_by = excluded.embedded_by,
             written_by = excluded.written_by, updated_at = excluded.updated_at, expires_at = excluded.expires_at,
             created_at = case when e.expires_at <= excluded.updated_at then excluded.created_at else e.created_at end
       returning 1
     )
     update memory_scope s
        set entries = s.entries + (select count(*) from put)::int - (select count(*) from former)::int,
            bytes = s.bytes + (select coalesce(sum(bytes), 0) from g) - (select coalesce(sum(bytes), 0) from former)
      where s.namespace = $1 and s.memory = $2 and s.scope = $3
     returning s.entries, s.bytes, (select coalesce(array_agg(key), '{}') from former where is_there) as replaced`,
    [
      namespace,
      memory,
      scope,
      entries.map((e) => e.key),
      entries.map((e) => e.text),
      entries.map((e) => JSON.stringify(e.metadata)),
      entries.map(bytesOfEntry),
      entries.map((e) => e.embedding && `{${e.embedding.join(',')}}`),
      embeddedBy,
      writtenBy,
      ttlMs,
    ],
    { name: 'put_memory_entries' },
  )
  if (!row) throw new Error(`the place ${namespace}/${memory}/${scope} was not locked`)
  return row
}

/** Which entries of a place are deleted. */
export type Deletion =
  | { keys: readonly string[] }
  /** Those whose key begins so, with all of these but `keep`. */
  | { prefix: string; keep?: readonly string[] }
  | { expired: true }

/** Deletes entries of a locked place. Gives how many. */
export async function deleteEntries(
  tx: Queryable,
  { namespace, memory, scope }: MemoryPlace,
  which: Deletion,
): Promise<number> {
  const [row] = await tx.query<{ gone: number }>(
    `with gone as (
       delete from memory_entry e where e.namespace = $1 and e.memory = $2 and e.scope = $3
          and ($4::text[] is null or e.key = any($4))
          and ($5::text is null or (e.key >= $5 and starts_with(e.key, $5)))
          and not (e.key = any($6::text[]))
          and (not $7::bool or e.expires_at <= (select clock_now()))
       returning e.bytes
     )
     update memory_scope s set entries = s.entries - (select count(*) from gone)::int, bytes = s.bytes - (select coalesce(sum(bytes), 0) from gone)
      where s.namespace = $1 and s.memory = $2 and s.scope = $3
     returning (select count(*) from gone)::int as gone`,
    [
      namespace,
      memory,
      scope,
      'keys' in which ? which.keys : null,
      'prefix' in which ? which.prefix : null,
      'prefix' in which ? (which.keep ?? []) : [],
      'expired' in which,
    ],
    { name: 'delete_memory_entries' },
  )
  return row?.gone ?? 0
}

/** Deletes a memory with all that is in it. */
export async function deleteMemory(tx: Queryable, { namespace, memory }: Omit<MemoryPlace, 'scope'>): Promise<void> {
  await tx.query(
    `with places as (delete from memory_scope where namespace = $1 and memory = $2)
     delete from memory_entry where namespace = $1 and memory = $2`,
    [namespace, memory],
  )
}
