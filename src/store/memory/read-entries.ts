import type { Queryable } from '../db.ts'
import { ENTRY_COLUMNS, type EntryRow, IS_THERE, type MemoryPlace } from './memory-rows.ts'

/** Entries by their keys, in no order; those that are not there are left out. */
export async function findEntries(
  db: Queryable,
  { namespace, memory, scope }: MemoryPlace,
  keys: readonly string[],
): Promise<EntryRow[]> {
  return db.query<EntryRow>(
    `select ${ENTRY_COLUMNS} from memory_entry e
      where e.namespace = $1 and e.memory = $2 and e.scope = $3 and e.key = any($4::text[]) and ${IS_THERE}`,
    [namespace, memory, scope, keys],
    { name: 'find_memory_entries' },
  )
}

/** Entries whose key begins with `prefix`, behind a place, by scope and key, a page. A scope of null is all of the memory. */
export async function listEntries(
  db: Queryable,
  of: { namespace: string; memory: string; scope: string | null },
  page: { prefix: string; after: { scope: string; key: string } | null; limit: number },
): Promise<EntryRow[]> {
  const { prefix, after, limit } = page
  return db.query<EntryRow>(
    `select ${ENTRY_COLUMNS} from memory_entry e
      where e.namespace = $1 and e.memory = $2 and ($3::text is null or e.scope = $3)
        and (e.scope, e.key) > ($4::text, $5::text) and starts_with(e.key, $6::text) and ${IS_THERE}
      order by e.scope, e.key limit $7`,
    [of.namespace, of.memory, of.scope, after?.scope ?? '', after?.key ?? '', prefix, limit],
    { name: 'list_memory_entries' },
  )
}

/** How many entries of these keys there are, expired ones included, and how large they are together. */
export async function sumEntries(
  db: Queryable,
  { namespace, memory, scope }: MemoryPlace,
  keys: readonly string[],
): Promise<{ entries: number; bytes: number }> {
  const [row] = await db.query<{ entries: number; bytes: number }>(
    `select count(*)::int as entries, coalesce(sum(bytes), 0)::bigint as bytes from memory_entry
      where namespace = $1 and memory = $2 and scope = $3 and key = any($4::text[])`,
    [namespace, memory, scope, keys],
    { name: 'sum_memory_entries' },
  )
  return row ?? { entries: 0, bytes: 0 }
}
