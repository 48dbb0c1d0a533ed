import type { HeldCount } from '../budgets/counters.ts'
import { type HoldDraft, holdColumns, REPLACING_HOLD } from '../budgets/holds.ts'
import { draftColumns, type SpendingDraft } from '../budgets/spending.ts'
import type { Queryable } from '../db.ts'
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

/** What appends set aside, by counts that were made before. */
export interface SetAside {
  /** One for one with the appends. */
  holds: readonly (readonly HoldDraft[])[]
  forMs: number
  /** All that they count in. */
  counts: readonly HeldCount[]
}

interface ToldRow {
  version: number
  i: number | null
  isNew: boolean | null
  countsHold?: boolean
}

/** Of each append whose attempt holds its step; `known`: something came with its number before, and nothing was written. */
export type AppendedAt = 'recorded' | 'known'

export interface AppendedAll {
  /** Of the resources. Another one than was asked for: nothing was written. */
  version: number
  /** False: a count does not hold any more, and nothing was written. True as well when nothing was asked of it. */
  countsHold: boolean
  outcomes: (AppendedAt | null)[]
}

/** The parameters of a part of the statement, of which `first` is the first. */
const paramsFrom =
  (first: number) =>
  (n: number, type: string): string =>
    `$${first + n}::${type}`

/** Params $1 to $7: the version, the appends. */
const HOLDING = `with clock as materialized (select version from resource_clock),
     held as materialized (
       select s.run_id, s.node, s.path, s.journal_from, k.fence, k.n, k.i
         from unnest($2::text[], $3::int[], $4::text[], $5::text[], $6::int[], $7::int[])
                with ordinality as k(run_id, node, path, session, fence, n, i)
         join step s on s.run_id = k.run_id and s.node = k.node and s.path = k.path
        where (select version from clock) = $1
          and (s.state = 'running') is true and s.session = k.session and s.fence = k.fence
          and (k.session in (select w.id from session w where w.id = any($5::text[]) and w.state = 'live')) is true
        order by s.run_id, s.node, s.path for no key update of s
     )`

/** Params $8 to $12: entries. */
const writing = (guard = ''): string => `,
     a as materialized (
       select h.*, coalesce(l.seq, 0) as last, (l.fence = h.fence and l.n >= h.n) is not true as is_new
         from held h
         left join lateral (${lastOf('h')}) l on true${guard}
     ),
     kept as (
       insert into journal (run_id, node, path, seq, fence, n, at, kind, call, entry)
       select a.run_id, a.node, a.path, a.last + e.ord, a.fence, a.n, clock_now(), e.kind, e.call, e.entry::json
         from unnest($8::int[], $9::int[], $10::text[], $11::text[], $12::text[]) as e(i, ord, kind, call, entry)
         join a on a.i = e.i and a.is_new
     )`

const AFTER_ENTRIES = 13

const countParam = paramsFrom(AFTER_ENTRIES)
/** What waited longer for its locks saw the time and what was spent too long ago. */
const WAITED_MAX_S = 30
/**
 * Eight params: counts by which is set aside. Their counters are locked after all of the steps, which are counted for that, as a transaction does it: whoever
 * counts waits for those who set aside by the count before, and they do not wait for each other. Whether somebody has counted is seen as it is under the
 * lock; the time and what was spent are seen as they were when the statement began. What runs below spend in other
 * namespaces counts in the window of a run as well, and nothing was set aside in it for them.
 */
const COUNTING = `,
     counts as materialized (
       select c.budget
         from unnest(${countParam(0, 'text[]')}, ${countParam(1, 'text[]')}, ${countParam(2, 'text[]')}, ${countParam(3, 'text[]')}, ${countParam(4, 'text[]')},
                     ${countParam(5, 'timestamptz[]')}, ${countParam(6, 'jsonb[]')}, ${countParam(7, 'text[]')})
           as w(budget, key, namespace, count_id, mark, until, selector, root_run)
         join budget_counter c on c.budget = w.budget and c.key = w.key
        where (select count(*) from held) > 0 and c.count_id = w.count_id::uuid and (w.until is null or w.until > clock_now())
          and case when w.root_run is null then
                not exists (select 1 from spending s where s.is_uncovered and s.namespace = w.namespace and s.xid >= w.mark::xid8
                               and budget_covers(w.selector, s.workflows, s.agent, s.endpoint, s.labels))
              else
                not exists (select 1 from spending s where s.root_run = w.root_run and s.xid >= w.mark::xid8
                               and (s.is_uncovered or s.namespace <> w.namespace)
                               and budget_covers(w.selector, s.workflows, s.agent, s.endpoint, s.labels))
              end
        order by c.budget, c.key for share of c
     )`
const IS_COUNTED = `(select count(*) from counts) = cardinality(${countParam(0, 'text[]')})
               and clock_timestamp() < statement_timestamp() + interval '${WAITED_MAX_S} s'`
const AFTER_COUNTS = AFTER_ENTRIES + 8

const holdParam = paramsFrom(AFTER_COUNTS)
/** Twelve params: what is set aside. */
const SETTING_ASIDE = `,
     set_aside as (
       insert into spending_hold (run_id, node, path, call, namespace, root_run, workflows, labels, agent, endpoint, tokens, nanos, currency, expires_at)
       select a.run_id, a.node, a.path, m.call, m.namespace, m.root_run, array(select jsonb_array_elements_text(m.workflows)), m.labels, m.agent,
              m.endpoint, m.tokens, m.nanos, m.currency, clock_now() + ${holdParam(11, 'float8')} * interval '1 ms'
         from unnest(${holdParam(0, 'int[]')}, ${holdParam(1, 'text[]')}, ${holdParam(2, 'text[]')}, ${holdParam(3, 'text[]')}, ${holdParam(4, 'jsonb[]')},
                     ${holdParam(5, 'jsonb[]')}, ${holdParam(6, 'text[]')}, ${holdParam(7, 'text[]')}, ${holdParam(8, 'bigint[]')}, ${holdParam(9, 'bigint[]')},
                     ${holdParam(10, 'text[]')}) as m(i, call, namespace, root_run, workflows, labels, agent, endpoint, tokens, nanos, currency)
         join a on a.i = m.i and a.is_new
       ${REPLACING_HOLD}
     )`
const AFTER_HOLDS = AFTER_COUNTS + 12

/** What ended calls took, and which they are. Most appends have none, and planning to write nothing costs as well. */
const settling = (first: number): string => {
  const param = paramsFrom(first)
  return `,
     spent as (
       insert into spending (run_id, node, path, generation, call, namespace, root_run, workflows, labels, agent, endpoint, model,
                             input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, nanos, currency, is_uncovered, at)
       select a.run_id, a.node, a.path, a.journal_from, m.call, m.namespace, m.root_run, array(select jsonb_array_elements_text(m.workflows)), m.labels,
              l.agent, m.endpoint, m.model, m.input, m.output, m.cached, m.written, m.nanos, m.currency, m.is_uncovered, clock_now()
         from unnest(${param(0, 'int[]')}, ${param(1, 'text[]')}, ${param(2, 'text[]')}, ${param(3, 'text[]')}, ${param(4, 'jsonb[]')}, ${param(5, 'jsonb[]')},
                     ${param(6, 'text[]')}, ${param(7, 'text[]')}, ${param(8, 'bigint[]')}, ${param(9, 'bigint[]')}, ${param(10, 'bigint[]')},
                     ${param(11, 'bigint[]')}, ${param(12, 'bigint[]')}, ${param(13, 'text[]')}, ${param(14, 'boolean[]')})
           as m(i, call, namespace, root_run, workflows, labels, endpoint, model, input, output, cached, written, nanos, currency, is_uncovered)
         join a on a.i = m.i and a.is_new
         join lateral (
           select j.entry->>'agent' as agent from journal j
            where j.run_id = a.run_id and j.node = a.node and j.path = a.path and j.kind = 'model_asked' and j.call = m.call
            order by j.seq desc limit 1) l on true
       on conflict do nothing
     ),
     dropped as (
       delete from spending_hold h
        using unnest(${param(15, 'int[]')}, ${param(16, 'text[]')}) as m(i, call), a
        where a.i = m.i and a.is_new and h.run_id = a.run_id and h.node = a.node and h.path = a.path and h.call = m.call
     )`
}

const TELLING = `
     select clock.version, a.i::int as i, a.is_new as "isNew" from clock left join a on true`
const TELLING_COUNTED = `
     select clock.version, not exists (select 1 from held) or ${IS_COUNTED} as "countsHold", a.i::int as i, a.is_new as "isNew" from clock left join a on true`

const WRITING_COUNTED = `${HOLDING}${COUNTING}${writing(`\n        where ${IS_COUNTED}`)}${SETTING_ASIDE}`
/** By what an append does besides: whether something is set aside, and whether something has ended. */
const STATEMENTS = {
  plain: { name: 'append_at', text: `${HOLDING}${writing()}${TELLING}` },
  settling: { name: 'append_and_settle_at', text: `${HOLDING}${writing()}${settling(AFTER_ENTRIES)}${TELLING}` },
  counted: { name: 'append_counted_at', text: `${WRITING_COUNTED}${TELLING_COUNTED}` },
  countedSettling: {
    name: 'append_counted_and_settle_at',
    text: `${WRITING_COUNTED}${settling(AFTER_HOLDS)}${TELLING_COUNTED}`,
  },
}

/**
 * Writes entries behind those that are there, as `holdSteps` and `appendEntries` do, in one statement that is its own transaction: but only while resources
 * are at `version`, and while the counts hold that something is set aside by. Else nothing is written, and it is told why. Each activation at most once. A
 * unique violation means that somebody else wrote into the same journal meanwhile: try again.
 */
export async function appendAt(
  db: Queryable,
  version: number,
  appends: readonly AppendAt[],
  setAside: SetAside | null = null,
): Promise<AppendedAll> {
  const entries = appends.flatMap((a, i) => a.entries.map((entry, at) => ({ i: i + 1, ord: at + 1, entry })))
  const ended = appends.flatMap((a, i) => a.ended.map((one) => ({ i: i + 1, ...one })))
  const statement = setAside
    ? STATEMENTS[ended.length === 0 ? 'counted' : 'countedSettling']
    : STATEMENTS[ended.length === 0 ? 'plain' : 'settling']
  const rows = await db.query<ToldRow>(
    statement.text,
    [
      version,
      ...columnsOf(appends),
      appends.map((a) => a.n),
      entries.map((r) => r.i),
      entries.map((r) => r.ord),
      entries.map((r) => r.entry.kind),
      entries.map((r) => callOf(r.entry)),
      entries.map((r) => JSON.stringify(r.entry)),
      ...(setAside ? setAsideColumns(setAside) : []),
      ...(ended.length === 0 ? [] : endedColumns(ended)),
    ],
    { name: statement.name },
  )
  const outcomes: (AppendedAt | null)[] = appends.map(() => null)
  for (const { i, isNew } of rows) if (i !== null) outcomes[i - 1] = isNew ? 'recorded' : 'known'
  const [first] = rows
  return { version: first?.version ?? version, countsHold: first?.countsHold ?? true, outcomes }
}

function setAsideColumns({ counts, holds, forMs }: SetAside): unknown[] {
  const all = holds.flatMap((mine, i) => mine.map((hold) => ({ i: i + 1, ...hold })))
  return [
    counts.map((c) => c.budget),
    counts.map((c) => c.key),
    counts.map((c) => c.namespace),
    counts.map((c) => c.countId),
    counts.map((c) => c.mark),
    counts.map((c) => (c.until === null ? null : new Date(c.until))),
    counts.map((c) => JSON.stringify(c.selector)),
    counts.map((c) => c.rootRun),
    all.map((h) => h.i),
    all.map((h) => h.call),
    ...holdColumns(all),
    forMs,
  ]
}

function endedColumns(ended: readonly (EndedCall & { i: number })[]): unknown[] {
  const spent = ended.flatMap(({ i, call, spending }) => (spending ? [{ i, call, ...spending }] : []))
  return [
    spent.map((r) => r.i),
    spent.map((r) => r.call),
    ...draftColumns(spent),
    ended.map((r) => r.i),
    ended.map((r) => r.call),
  ]
}
