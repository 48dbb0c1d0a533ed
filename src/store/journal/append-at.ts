import type { Queryable } from '../db.ts'
import { draftColumns, type SpendingDraft } from '../budgets/spending.ts'
import { callOf, lastOf, type NewEntries } from './append-entries.ts'
import { columnsOf } from './hold-steps.ts'

/** A call of a model that has ended: what was set aside for it is given back, and what it took is written down. */
export interface EndedCall {
  call: string
  /** Null: it took nothing that is known. */
  spending: SpendingDraft | null
}

export interface AppendAt extends NewEntries {
  ended: readonly EndedCall[]
}

interface ToldRow {
  version: number
  i: number | null
  isNew: boolean | null
}

/** Of each append whose attempt holds its step; `known`: something came with its number before, and nothing was written. */
export type AppendedAt = 'recorded' | 'known'

/** Params $1 to $12: the version, the appends, their entries. */
const RECORDING = `with clock as materialized (select version from resource_clock),
     held as materialized (
       select s.run_id, s.node, s.path, s.journal_from, k.fence, k.n, k.i
         from unnest($2::text[], $3::int[], $4::text[], $5::text[], $6::int[], $7::int[])
                with ordinality as k(run_id, node, path, session, fence, n, i)
         join step s on s.run_id = k.run_id and s.node = k.node and s.path = k.path
        where (select version from clock) = $1
          and (s.state = 'running') is true and s.session = k.session and s.fence = k.fence
          and (k.session in (select w.id from session w where w.id = any($5::text[]) and w.state = 'live')) is true
        order by s.run_id, s.node, s.path for no key update of s
     ),
     a as materialized (
       select h.*, coalesce(l.seq, 0) as last, (l.fence = h.fence and l.n >= h.n) is not true as is_new
         from held h
         left join lateral (${lastOf('h')}) l on true
     ),
     kept as (
       insert into journal (run_id, node, path, seq, fence, n, at, kind, call, entry)
       select a.run_id, a.node, a.path, a.last + e.ord, a.fence, a.n, clock_now(), e.kind, e.call, e.entry::json
         from unnest($8::int[], $9::int[], $10::text[], $11::text[], $12::text[]) as e(i, ord, kind, call, entry)
         join a on a.i = e.i and a.is_new
     )`

/** Params $13 to $28: what ended calls took, and which they are. Most appends have none, and planning to write nothing costs as well. */
const SETTLING = `
     spent as (
       insert into spending (run_id, node, path, generation, call, namespace, root_run, workflows, labels, agent, endpoint, model,
                             input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, nanos, currency, at)
       select a.run_id, a.node, a.path, a.journal_from, m.call, m.namespace, m.root_run, array(select jsonb_array_elements_text(m.workflows)), m.labels,
              l.agent, m.endpoint, m.model, m.input, m.output, m.cached, m.written, m.nanos, m.currency, clock_now()
         from unnest($13::int[], $14::text[], $15::text[], $16::text[], $17::jsonb[], $18::jsonb[], $19::text[], $20::text[],
                     $21::bigint[], $22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[], $26::text[])
           as m(i, call, namespace, root_run, workflows, labels, endpoint, model, input, output, cached, written, nanos, currency)
         join a on a.i = m.i and a.is_new
         join lateral (
           select j.entry->>'agent' as agent from journal j
            where j.run_id = a.run_id and j.node = a.node and j.path = a.path and j.kind = 'model_asked' and j.call = m.call
            order by j.seq desc limit 1) l on true
       on conflict do nothing
     ),
     dropped as (
       delete from spending_hold h
        using unnest($27::int[], $28::text[]) as m(i, call), a
        where a.i = m.i and a.is_new and h.run_id = a.run_id and h.node = a.node and h.path = a.path and h.call = m.call
     )`

const TELLING = `
     select clock.version, a.i::int as i, a.is_new as "isNew" from clock left join a on true`

/**
 * Writes entries behind those that are there, as `holdSteps` and `appendEntries` do, in one statement that is its own transaction: but only while resources
 * are at `version`. At another one nothing is written, and it is told which. Each activation at most once. A unique violation means that somebody else
 * wrote into the same journal meanwhile: try again.
 */
export async function appendAt(
  db: Queryable,
  version: number,
  appends: readonly AppendAt[],
): Promise<{ version: number; outcomes: (AppendedAt | null)[] }> {
  const entries = appends.flatMap((a, i) => a.entries.map((entry, at) => ({ i: i + 1, ord: at + 1, entry })))
  const ended = appends.flatMap((a, i) => a.ended.map((one) => ({ i: i + 1, ...one })))
  const spent = ended.flatMap(({ i, call, spending }) => (spending ? [{ i, call, ...spending }] : []))
  const recording = [
    version,
    ...columnsOf(appends),
    appends.map((a) => a.n),
    entries.map((r) => r.i),
    entries.map((r) => r.ord),
    entries.map((r) => r.entry.kind),
    entries.map((r) => callOf(r.entry)),
    entries.map((r) => JSON.stringify(r.entry)),
  ]
  const rows = await (ended.length === 0
    ? db.query<ToldRow>(`${RECORDING}${TELLING}`, recording, { name: 'append_at' })
    : db.query<ToldRow>(
        `${RECORDING},${SETTLING}${TELLING}`,
        [
          ...recording,
          spent.map((r) => r.i),
          spent.map((r) => r.call),
          ...draftColumns(spent),
          ended.map((r) => r.i),
          ended.map((r) => r.call),
        ],
        { name: 'append_and_settle_at' },
      ))
  const outcomes: (AppendedAt | null)[] = appends.map(() => null)
  for (const { i, isNew } of rows) if (i !== null) outcomes[i - 1] = isNew ? 'recorded' : 'known'
  return { version: rows[0]?.version ?? version, outcomes }
}
