import { z } from 'zod'
import { invalidRequest } from '../../contract/check-request.ts'
import { roomOf, searchOf } from '../../domain/kinds/memory.ts'
import { Failure } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import { plainNamespace } from '../../domain/tenancy.ts'
import type { Db, Queryable } from '../../store/db.ts'
import { findCall, holdStep, recordCall } from '../../store/memory/memory-calls.ts'
import { bytesOfEntry, type EntryRow, type NewEntry } from '../../store/memory/memory-rows.ts'
import { findEntries, listEntries, sumEntries } from '../../store/memory/read-entries.ts'
import { hasVectors, searchVectors, searchWords } from '../../store/memory/search-entries.ts'
import { deleteEntries, type Filled, lockPlace, putEntries } from '../../store/memory/write-entries.ts'
import { comparable, type Embed, type Vectors } from './embedder.ts'
import type {
  MemoryAt,
  MemoryEntry,
  MemoryFound,
  MemoryProvider,
  MemoryQuery,
  MemoryWrite,
  Written,
  WriteOutcome,
} from './memory-provider.ts'

/** Entries of one transaction: a long text must not hold up everybody who writes. */
const AT_ONCE = 200

/** Memories in the database of the server. */
export function createStoreProvider(deps: { db: Db; embed: Embed; onFallback: () => void }): MemoryProvider {
  const { db, embed } = deps
  let vectors: Promise<boolean> | null = null
  /** Asked once a process: an extension that is made later is used after a restart. */
  const inDatabase = (): Promise<boolean> => {
    vectors ??= hasVectors(db).catch((error: unknown) => {
      vectors = null
      throw error
    })
    return vectors
  }

  const byWords = async (at: MemoryAt, { query, minScore, limit }: MemoryQuery): Promise<MemoryFound> => {
    const rows = await searchWords(db, at, { query, minScore, limit })
    return { entries: rows.map((row) => ({ ...entryOf(row), score: row.score })), warnings: [] }
  }

  const byVectors = async (at: MemoryAt, { query, minScore, limit }: MemoryQuery): Promise<MemoryFound> => {
    const { vectors: own, embeddedBy } = comparable(await embed(at, [query]))
    const [vector = new Float32Array()] = own
    const search = { vector, embeddedBy, minScore, limit, max: LIMITS.memoryComparedMax }
    const { found, others, skipped } = await searchVectors(db, at, { ...search, inDatabase: await inDatabase() })
    const warnings = [
      ...(others > 0
        ? [`${others} entries have no vector of this model and were not compared: write them again, or search by words`]
        : []),
      ...(skipped > 0
        ? [
            `only the newest ${LIMITS.memoryComparedMax} entries were compared; the extension vector of PostgreSQL compares all`,
          ]
        : []),
    ]
    return { entries: found.map((row) => ({ ...entryOf(row), score: row.score })), warnings }
  }

  return {
    async put(at, write) {
      const { once } = write
      const former = once && (await findCall(db, once))
      if (former) return { kind: 'done', result: former.result }
      const texts = write.entries.map(({ text }) => text)
      const made = at.spec.embedding && texts.length > 0 ? comparable(await embed(at, texts)) : null
      const entries = write.entries.map((entry, i) => ({ ...entry, embedding: made?.vectors[i] ?? null }))
      return putInTurn(db, at, { ...write, entries, made })
    },

    async get(at, key) {
      const [row] = await findEntries(db, at, [key])
      return row ? entryOf(row) : null
    },

    async search(at, query) {
      const by = searchOf(at.spec, query.by)
      if (by === 'keyword') return byWords(at, query)
      if (!at.spec.embedding)
        throw new Failure('request.invalid', `searching memory ${plainName(at)} by meaning: it has no embedding`)
      try {
        return await byVectors(at, query)
      } catch (error) {
        if (!(error instanceof Failure) || !/^(model|secret|resource|policy|budget)\./.test(error.code)) throw error
        deps.onFallback()
        const { entries } = await byWords(at, query)
        return {
          entries,
          warnings: [`searched by words, because there is no vector (${error.code}): ${error.message}`],
        }
      }
    },

    async list(of, { prefix, cursor, limit }) {
      const rows = await listEntries(db, of, { prefix, after: placeOf(cursor), limit: limit + 1 })
      const shown = rows.slice(0, limit)
      const last = rows.length > limit ? shown.at(-1) : undefined
      return { entries: shown.map(entryOf), next: last ? cursorOf(last) : null }
    },

    delete: (at, which) =>
      db.transaction(async (tx) => {
        await lockPlace(tx, at)
        return deleteEntries(tx, at, which)
      }),
  }
}

type Prepared = Omit<MemoryWrite, 'entries'> & { entries: NewEntry[]; made: Vectors | null }

/**
 * Writes a part a transaction; the first one removes what is replaced, the last one records the call. What a crash cut off in between is written again by
 * the same call.
 */
async function putInTurn(db: Db, at: MemoryAt, write: Prepared): Promise<WriteOutcome> {
  const { entries, once } = write
  const written: Written = { replaced: [], removed: 0 }
  for (let from = 0; ; from += AT_ONCE) {
    const isLast = from + AT_ONCE >= entries.length
    const ended = await db.transaction(async (tx): Promise<WriteOutcome | null> => {
      if (once && !(await holdStep(tx, once))) return { kind: 'stale' }
      await lockPlace(tx, at)
      const former = once && (await findCall(tx, once))
      if (former) return { kind: 'done', result: former.result }
      if (from === 0) written.removed = await begin(tx, at, write)
      const part = entries.slice(from, from + AT_ONCE)
      const { embeddedBy = null } = write.made ?? {}
      const { replaced, ...filled } = await putEntries(tx, at, {
        entries: part,
        embeddedBy,
        ttlMs: at.spec.ttl ?? null,
        writtenBy: write.writtenBy,
      })
      written.replaced.push(...replaced)
      // Others may have written between two parts.
      if (from > 0) await requireRoom(tx, at, filled)
      if (once && isLast) await recordCall(tx, once, once.result(written))
      return isLast ? { kind: 'written', ...written } : null
    })
    if (ended) return ended
  }
}

/** Removes what is replaced, and makes sure that there is room for all that comes. Gives how many are gone. */
async function begin(tx: Queryable, at: MemoryAt, { entries, replaces }: Prepared): Promise<number> {
  const keys = entries.map(({ key }) => key)
  const removed = replaces === null ? 0 : await deleteEntries(tx, at, { prefix: replaces, keep: keys })
  const there = await lockPlace(tx, at)
  const former = await sumEntries(tx, at, keys)
  await requireRoom(tx, at, {
    entries: there.entries + keys.length - former.entries,
    bytes: there.bytes + entries.reduce((sum, entry) => sum + bytesOfEntry(entry), 0) - former.bytes,
  })
  return removed
}

/** `memory.full` when more would be there than may, also without what has expired. */
async function requireRoom(tx: Queryable, at: MemoryAt, wanted: Filled): Promise<void> {
  const { maxEntries, maxBytes } = roomOf(at.spec)
  const fits = ({ entries, bytes }: Filled): boolean => entries <= maxEntries && bytes <= maxBytes
  if (fits(wanted)) return
  const before = await lockPlace(tx, at)
  await deleteEntries(tx, at, { expired: true })
  const after = await lockPlace(tx, at)
  const left = {
    entries: wanted.entries - (before.entries - after.entries),
    bytes: wanted.bytes - (before.bytes - after.bytes),
  }
  if (fits(left)) return
  throw new Failure('memory.full', `writing to memory ${plainName(at)}, ${at.scope}`, {
    evidence: { ...left, maxEntries, maxBytes },
  })
}

const plainName = ({ namespace, memory }: { namespace: string; memory: string }): string =>
  `${plainNamespace(namespace)}/${memory}`

const entryOf = (row: EntryRow): MemoryEntry => ({
  scope: row.scope,
  key: row.key,
  text: row.body,
  metadata: row.metadata,
  bytes: row.bytes,
  writtenBy: row.written_by,
  updatedAt: row.updated_at.toISOString(),
  expiresAt: row.expires_at?.toISOString() ?? null,
})

const cursorOf = ({ scope, key }: EntryRow): string => Buffer.from(JSON.stringify([scope, key])).toString('base64url')

/** What is no cursor is the beginning of nothing: it is refused, not passed over. */
function placeOf(cursor: string | null): { scope: string; key: string } | null {
  if (cursor === null) return null
  const parsed = cursorSchema.safeParse(parseOrNull(Buffer.from(cursor, 'base64url').toString()))
  if (!parsed.success) throw invalidRequest('listing entries', 'cursor', 'is none that was given out')
  const [scope, key] = parsed.data
  return { scope, key }
}

const cursorSchema = z.tuple([z.string(), z.string()])

function parseOrNull(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
