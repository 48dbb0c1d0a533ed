import type { Db, Queryable } from '../db.ts'
import { ENTRY_COLUMNS, type FoundRow, IS_THERE, type MemoryPlace } from './memory-rows.ts'
import { findEntries } from './read-entries.ts'

/**
 * Entries that have words of the query in key or text, the best first. The score is the share of its words that an entry has; among equals the one counts
 * more that has them more often and closer together.
 */
export async function searchWords(
  db: Queryable,
  { namespace, memory, scope }: MemoryPlace,
  search: { query: string; minScore: number; limit: number },
): Promise<FoundRow[]> {
  return db.query<FoundRow>(
    `with q as materialized (
       select w.words, replace(plainto_tsquery('simple', $4)::text, ''' & ''', ''' | ''')::tsquery as some
         from (select tsvector_to_array(to_tsvector('simple', $4)) as words) w
     ),
     found as materialized (
       select e.key as found_key, ts_rank_cd(e.words, q.some, 32) as rank,
              (select count(*) from (select unnest(q.words) intersect select unnest(tsvector_to_array(e.words))) shared)::float8
                / greatest(cardinality(q.words), 1) as score
         from q join memory_entry e on e.namespace = $1 and e.memory = $2 and e.scope = $3 and e.words @@ q.some
        where ${IS_THERE}
     )
     select ${ENTRY_COLUMNS}, f.score
       from (select * from found where score >= $5::float8 order by score desc, rank desc, found_key limit $6) f
       join memory_entry e on e.namespace = $1 and e.memory = $2 and e.scope = $3 and e.key = f.found_key
      order by f.score desc, f.rank desc, e.key`,
    [namespace, memory, scope, search.query, search.minScore, search.limit],
    { name: 'search_memory_words' },
  )
}

export interface VectorSearch {
  /** Of length one. */
  vector: Float32Array
  /** What made it: only vectors of the same maker are compared. */
  embeddedBy: string
  minScore: number
  limit: number
}

/** What a search by vectors gives, and how many entries it left out. */
export interface VectorsFound {
  found: FoundRow[]
  /** Entries that have no vector of this maker. */
  others: number
  /** Entries beyond the bound of an exact search; the oldest ones. */
  skipped: number
}

/** Whether the database compares vectors itself (the extension `vector` is there, in a schema that is looked in). */
export async function hasVectors(db: Queryable): Promise<boolean> {
  const [row] = await db.query<{ there: boolean }>(`select to_regtype('vector') is not null as there`)
  return row?.there ?? false
}

const othersIn = async (
  db: Queryable,
  { namespace, memory, scope }: MemoryPlace,
  embeddedBy: string,
): Promise<{ others: number; mine: number }> => {
  const [row] = await db.query<{ others: number; mine: number }>(
    `select count(*) filter (where e.embedded_by is distinct from $4)::int as others, count(*) filter (where e.embedded_by = $4)::int as mine
       from memory_entry e where e.namespace = $1 and e.memory = $2 and e.scope = $3 and ${IS_THERE}`,
    [namespace, memory, scope, embeddedBy],
    { name: 'count_memory_vectors' },
  )
  return row ?? { others: 0, mine: 0 }
}

/** The nearest entries, compared by the database. Every entry of the place is looked at: an index over all places would miss some of one. */
export async function searchWithVectors(
  db: Queryable,
  place: MemoryPlace,
  { vector, embeddedBy, minScore, limit }: VectorSearch,
): Promise<VectorsFound> {
  const { namespace, memory, scope } = place
  const found = await db.query<FoundRow>(
    `select ${ENTRY_COLUMNS}, n.score
       from (select e.key, least(1, -(e.embedding::vector <#> $5::text::vector)) as score from memory_entry e
              where e.namespace = $1 and e.memory = $2 and e.scope = $3 and e.embedded_by = $4 and ${IS_THERE}
              order by 2 desc, 1 limit $7) n
       join memory_entry e on e.namespace = $1 and e.memory = $2 and e.scope = $3 and e.key = n.key
      where n.score >= $6::float8 order by n.score desc, e.key`,
    [namespace, memory, scope, embeddedBy, `[${vector.join(',')}]`, Math.max(minScore, 0), limit],
  )
  return { found, others: (await othersIn(db, place, embeddedBy)).others, skipped: 0 }
}

const PAGE = 500

/** The nearest entries, compared here, a page of vectors at a time; of more than `max` only the newest are. */
export async function searchExactly(
  db: Queryable,
  place: MemoryPlace,
  search: VectorSearch & { max: number },
): Promise<VectorsFound> {
  const { vector, embeddedBy, minScore, limit, max } = search
  const { others, mine } = await othersIn(db, place, embeddedBy)
  const since = mine > max ? await newestSince(db, place, { embeddedBy, max }) : null
  let best: { key: string; score: number }[] = []
  for (let after = '', rows: VectorRow[] = []; ; after = rows.at(-1)?.key ?? '') {
    rows = await pageOfVectors(db, place, { embeddedBy, since, after })
    const near = rows.map(({ key, vector: sent }) => ({ key, score: Math.min(1, productOf(vector, sent)) }))
    best = [...best, ...near.filter(({ score }) => score >= Math.max(minScore, 0))].sort(byScore).slice(0, limit)
    if (rows.length < PAGE) break
  }
  const entries = await findEntries(
    db,
    place,
    best.map(({ key }) => key),
  )
  const byKey = new Map(entries.map((entry) => [entry.key, entry]))
  const found = best.flatMap(({ key, score }) => {
    const entry = byKey.get(key) // one may have gone meanwhile
    return entry ? [{ ...entry, score }] : []
  })
  return { found, others, skipped: since === null ? 0 : mine - max }
}

/** As the server itself orders: bytes decide between equals. */
const byScore = (a: { key: string; score: number }, b: { key: string; score: number }): number =>
  b.score - a.score || Buffer.compare(Buffer.from(a.key), Buffer.from(b.key))

interface VectorRow {
  key: string
  vector: Uint8Array
}

async function pageOfVectors(
  db: Queryable,
  { namespace, memory, scope }: MemoryPlace,
  page: { embeddedBy: string; since: Date | null; after: string },
): Promise<VectorRow[]> {
  return db.query<VectorRow>(
    `select e.key, array_send(e.embedding) as vector from memory_entry e
      where e.namespace = $1 and e.memory = $2 and e.scope = $3 and e.key > $4::text and e.embedded_by = $5
        and ($6::timestamptz is null or e.updated_at >= $6) and ${IS_THERE}
      order by e.key limit ${PAGE}`,
    [namespace, memory, scope, page.after, page.embeddedBy, page.since],
    { name: 'page_memory_vectors' },
  )
}

async function newestSince(
  db: Queryable,
  { namespace, memory, scope }: MemoryPlace,
  { embeddedBy, max }: { embeddedBy: string; max: number },
): Promise<Date | null> {
  const [row] = await db.query<{ updated_at: Date }>(
    `select e.updated_at from memory_entry e where e.namespace = $1 and e.memory = $2 and e.scope = $3 and e.embedded_by = $4 and ${IS_THERE}
      order by e.updated_at desc offset $5 limit 1`,
    [namespace, memory, scope, embeddedBy, max - 1],
    { name: 'newest_memory_vectors' },
  )
  return row?.updated_at ?? null
}

/** Dimensions, flags, type, length and first index; then each number behind its size. PostgreSQL, `array_send`. */
const HEAD = 20
const STEP = 8

function productOf(vector: Float32Array, sent: Uint8Array): number {
  const view = new DataView(sent.buffer, sent.byteOffset, sent.byteLength)
  let sum = 0
  for (let i = 0, at = HEAD + 4; i < vector.length && at + 4 <= sent.byteLength; i++, at += STEP)
    sum += (vector[i] ?? 0) * view.getFloat32(at)
  return sum
}

/** The nearest entries, compared by whoever can. */
export const searchVectors = (
  db: Db,
  place: MemoryPlace,
  search: VectorSearch & { max: number; inDatabase: boolean },
): Promise<VectorsFound> =>
  search.inDatabase ? searchWithVectors(db, place, search) : searchExactly(db, place, search)
