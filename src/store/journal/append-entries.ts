import type { JournalEntry, ServerEntry } from '../../domain/agents/journal.ts'
import type { StepKey } from '../../domain/step.ts'
import type { Queryable } from '../db.ts'
import { columnsOf, type JournalAttempt } from './hold-steps.ts'

/** One append of an attempt: what the worker sent, each call that is asked followed by the word on it. */
export interface NewEntries extends JournalAttempt {
  n: number
  entries: readonly JournalEntry[]
}

/** The call that an entry is about; null for one that is about none. */
export const callOf = (entry: JournalEntry): string | null => ('call' in entry ? entry.call : null)

/** Of the activation that row `of` names: the number of its last entry, and fence and `n` of the last that came from a worker. */
export const lastOf = (of: string): string => `
           select t.seq, o.fence, o.n
             from (select j.seq from journal j where j.run_id = ${of}.run_id and j.node = ${of}.node and j.path = ${of}.path
                    order by j.seq desc limit 1) t
             left join lateral (
               select j.fence, j.n from journal j
                where j.run_id = ${of}.run_id and j.node = ${of}.node and j.path = ${of}.path and j.n is not null
                order by j.seq desc limit 1) o on true`

/**
 * Writes entries behind those that are there, under session and fence. What came with the same `n` before stays as it was written: of such an append only
 * what is longer is new. Gives how many entries of each were written now; none of one whose attempt does not hold its step. The steps are held by `holdSteps`.
 */
export async function appendEntries(tx: Queryable, appends: readonly NewEntries[]): Promise<number[]> {
  const rows = appends.flatMap(({ entries }, i) => entries.map((entry, at) => ({ i: i + 1, ord: at + 1, entry })))
  if (rows.length === 0) return appends.map(() => 0)
  const written = await tx.query<{ i: number; n: number }>(
    `with a as materialized (
       select k.*, coalesce(l.seq, 0) as last,
              -- Rare: only when an answer was lost.
              case when l.fence = k.fence and l.n >= k.n
                   then (select count(*)::int from journal j
                          where j.run_id = k.run_id and j.node = k.node and j.path = k.path and j.fence = k.fence and j.n = k.n)
                   else 0 end as written,
              l.fence = k.fence and l.n > k.n as is_past
         from unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::int[], $6::int[])
                with ordinality as k(run_id, node, path, session, fence, n, i)
         join step s on s.run_id = k.run_id and s.node = k.node and s.path = k.path
         left join lateral (${lastOf('k')}) l on true
        where (s.state = 'running') is true and s.session = k.session and s.fence = k.fence
     ),
     kept as (
       insert into journal (run_id, node, path, seq, fence, n, at, kind, call, entry)
       select a.run_id, a.node, a.path, a.last + e.ord - a.written, a.fence, a.n, clock_now(), e.kind, e.call, e.entry::json
         from unnest($7::int[], $8::int[], $9::text[], $10::text[], $11::text[]) as e(i, ord, kind, call, entry)
         join a on a.i = e.i
        where e.ord > a.written and a.is_past is not true
       returning run_id, node, path, n
     )
     select a.i::int as i, count(*)::int as n from a join kept k on k.run_id = a.run_id and k.node = a.node and k.path = a.path and k.n = a.n group by a.i`,
    [
      ...columnsOf(appends),
      appends.map((a) => a.n),
      rows.map((r) => r.i),
      rows.map((r) => r.ord),
      rows.map((r) => r.entry.kind),
      rows.map((r) => callOf(r.entry)),
      rows.map((r) => JSON.stringify(r.entry)),
    ],
    { name: 'append_entries' },
  )
  const counts = new Map(written.map((r) => [r.i, r.n]))
  return appends.map((_, i) => counts.get(i + 1) ?? 0)
}

/** Takes back questions that were written in the same transaction, each the last entry of its journal. */
export async function removeAsked(
  tx: Queryable,
  asked: readonly (JournalAttempt & { n: number; call: string })[],
): Promise<void> {
  if (asked.length === 0) return
  await tx.query(
    `delete from journal j
      using unnest($1::text[], $2::int[], $3::text[], $4::int[], $5::int[], $6::text[]) as k(run_id, node, path, fence, n, call)
      where j.run_id = k.run_id and j.node = k.node and j.path = k.path and j.fence = k.fence and j.n = k.n
        and j.kind = 'model_asked' and j.call = k.call
        and j.seq = (select l.seq from journal l where l.run_id = k.run_id and l.node = k.node and l.path = k.path order by l.seq desc limit 1)`,
    [
      asked.map((a) => a.runId),
      asked.map((a) => a.node),
      asked.map((a) => a.path),
      asked.map((a) => a.fence),
      asked.map((a) => a.n),
      asked.map((a) => a.call),
    ],
    { name: 'remove_asked' },
  )
}

/** Writes what the server adds, behind what is there. The steps of one run are locked by the caller. */
export async function appendServerEntries(
  tx: Queryable,
  runId: string,
  entries: readonly (StepKey & { fence: number; entry: ServerEntry })[],
): Promise<void> {
  await tx.query(
    `insert into journal (run_id, node, path, seq, fence, n, at, kind, call, entry)
     select $1, e.node, e.path,
            (select coalesce(max(j.seq), 0) from journal j where j.run_id = $1 and j.node = e.node and j.path = e.path)
              + row_number() over (partition by e.node, e.path order by e.i),
            e.fence, null, clock_now(), e.kind, e.call, e.entry::json
       from unnest($2::int[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[]) with ordinality as e(node, path, fence, kind, call, entry, i)`,
    [
      runId,
      entries.map((e) => e.node),
      entries.map((e) => e.path),
      entries.map((e) => e.fence),
      entries.map((e) => e.entry.kind),
      entries.map((e) => callOf(e.entry)),
      entries.map((e) => JSON.stringify(e.entry)),
    ],
    { name: 'append_server_entries' },
  )
}
