import type { JournalEntry, StoredEntry, WorkerEntry } from '../../domain/agents/journal.ts'
import type { StepKey } from '../../domain/step.ts'
import type { Queryable } from '../db.ts'

interface EntryRow {
  seq: number
  fence: number
  at: Date
  entry: JournalEntry
}

const stored = ({ seq, fence, at, entry }: EntryRow): StoredEntry => ({ seq, fence, at: at.toISOString(), entry })

/**
 * Entries of one activation from a number on, in order, up to `limit` and no more than about `bytes` beyond the first. `counting`: only those that
 * still count. Null when there is no such activation.
 */
export async function listEntries(
  db: Queryable,
  at: StepKey & { runId: string; from: number; limit: number; bytes: number; counting: boolean },
): Promise<StoredEntry[]> {
  const rows = await db.query<EntryRow>(
    `select seq, fence, at, entry from (
       select j.seq, j.fence, j.at, j.entry,
              sum(octet_length(j.entry::text)) over (order by j.seq) - octet_length(j.entry::text) as before
         from (select j.* from journal j
                where j.run_id = $1 and j.node = $2 and j.path = $3 and j.seq >= $4
                  and ($5::boolean is false or j.fence > (select s.journal_from from step s where s.run_id = $1 and s.node = $2 and s.path = $3))
                order by j.seq limit $6) j
     ) e where before < $7 order by seq`,
    [at.runId, at.node, at.path, at.from, at.counting, at.limit, at.bytes],
    { name: 'list_entries' },
  )
  return rows.map(stored)
}

/** What one append of an attempt wrote. */
export async function findAppended(
  db: Queryable,
  { runId, node, path, fence, n }: StepKey & { runId: string; fence: number; n: number },
): Promise<JournalEntry[]> {
  const rows = await db.query<{ entry: JournalEntry }>(
    `select entry from journal where run_id = $1 and node = $2 and path = $3 and fence = $4 and n = $5 order by seq`,
    [runId, node, path, fence, n],
    { name: 'find_appended' },
  )
  return rows.map((r) => r.entry)
}

export interface CallPlace extends StepKey {
  runId: string
  call: string
}

/** The last intent to ask a model under the name of each of these calls, in their order; null where there is none. */
export async function findAskedModels(
  db: Queryable,
  calls: readonly CallPlace[],
): Promise<(Extract<WorkerEntry, { kind: 'model_asked' }> | null)[]> {
  const rows = await db.query<{ i: number; entry: Extract<WorkerEntry, { kind: 'model_asked' }> }>(
    `select k.i::int as i, l.entry
       from unnest($1::text[], $2::int[], $3::text[], $4::text[]) with ordinality as k(run_id, node, path, call, i)
       join lateral (
         select j.entry from journal j
          where j.run_id = k.run_id and j.node = k.node and j.path = k.path and j.kind = 'model_asked' and j.call = k.call
          order by j.seq desc limit 1) l on true`,
    [calls.map((c) => c.runId), calls.map((c) => c.node), calls.map((c) => c.path), calls.map((c) => c.call)],
    { name: 'find_asked_models' },
  )
  const found = new Map(rows.map((r) => [r.i, r.entry]))
  return calls.map((_, i) => found.get(i + 1) ?? null)
}

/** What an activation's journal has of one call, in order; of attempts above a fence alone. */
export async function listCallEntries(
  db: Queryable,
  { runId, node, path, call, after }: StepKey & { runId: string; call: string; after: number },
): Promise<JournalEntry[]> {
  const rows = await db.query<{ entry: JournalEntry }>(
    `select entry from journal where run_id = $1 and node = $2 and path = $3 and call = $4 and fence > $5 order by seq`,
    [runId, node, path, call, after],
    { name: 'list_call_entries' },
  )
  return rows.map((r) => r.entry)
}

/** The call that a run below was started for; null when the journal knows none. */
export async function findCallOfChild(
  db: Queryable,
  { runId, node, path, child }: StepKey & { runId: string; child: string },
): Promise<string | null> {
  const rows = await db.query<{ call: string }>(
    `select call from journal
      where run_id = $1 and node = $2 and path = $3 and kind = 'child_started' and entry->>'run' = $4 order by seq desc limit 1`,
    [runId, node, path, child],
    { name: 'find_call_of_child' },
  )
  return rows[0]?.call ?? null
}
