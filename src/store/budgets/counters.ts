import type { BudgetSelector } from '../../domain/kinds/budget.ts'
import type { Queryable } from '../db.ts'
import { callColumns, type CallOfHold, droppingHolds } from './holds.ts'

/** One window of a budget. */
export interface CounterKey {
  /** Uid of the budget. */
  budget: string
  /** Tells windows apart, and selectors: see `windowAt` in engine/budgets. */
  key: string
}

/** Names a counter in memory. */
export const counterKey = ({ budget, key }: CounterKey): string => `${budget} ${key}`

/** A counter as it was when it was locked to be counted. */
export interface LockedCounter extends CounterKey {
  /** Of this count: whoever locks it next gives another one. */
  countId: string
}

/** A count that something is set aside by: it holds while nobody else has counted, and nothing that it counts was spent without having been set aside. */
export interface HeldCount extends LockedCounter, Pick<CountedWindow, 'namespace' | 'selector' | 'rootRun'> {
  /** As its `fold.mark`. */
  mark: string
  /** When the window is over (ms); null: never. */
  until: number | null
}

/** What counts in a window. */
export interface CountedWindow extends CounterKey {
  namespace: string
  selector: BudgetSelector
  /** Of the money that is counted; null: none is. */
  currency: string | null
  /** What was spent before is outside; null for the window of a run. */
  from: Date | null
  /** For the window of a run: the run at the top. */
  rootRun: string | null
}

export interface Count extends CounterKey {
  /** Spent in the window. */
  tokens: number
  nanos: number
  /** Set aside at the moment, on top of it. */
  heldTokens: number
  heldNanos: number
  /** What the counter may be set to, and how many rows that would spare the next count. */
  fold: { tokens: number; nanos: number; mark: string; rows: number }
}

const keysOf = (keys: readonly CounterKey[]): unknown[] => [keys.map((k) => k.budget), keys.map((k) => k.key)]

/** Makes counters that are not there. */
export async function makeCounters(tx: Queryable, keys: readonly CounterKey[]): Promise<void> {
  await tx.query(
    `insert into budget_counter (budget, key, touched_at)
     select k.budget, k.key, (select clock_now()) from unnest($1::text[], $2::text[]) as k(budget, key) order by k.budget, k.key
     on conflict do nothing`,
    keysOf(keys),
    { name: 'make_counters' },
  )
}

/**
 * Takes the locks of counters to the end of the transaction, in one order for everybody. Whoever sets aside holds them: what is counted after it has all
 * that was set aside before, without what was for `calls`, which ask anew. Nobody sets aside any more by a count that was made before. Gives those that
 * are there.
 */
export async function lockCounters(
  tx: Queryable,
  keys: readonly CounterKey[],
  calls: readonly CallOfHold[] = [],
): Promise<LockedCounter[]> {
  return tx.query<LockedCounter>(
    `with dropped as (${droppingHolds(3)}),
     locked as materialized (
       select c.budget, c.key from budget_counter c
        where (c.budget, c.key) in (select * from unnest($1::text[], $2::text[])) order by c.budget, c.key for update of c)
     update budget_counter c set count_id = gen_random_uuid() from locked l where c.budget = l.budget and c.key = l.key
     returning c.budget, c.key, c.count_id::text as "countId"`,
    [...keysOf(keys), ...callColumns(calls)],
    { name: 'lock_counters' },
  )
}

/** The locks alone, for who counts and sets nothing aside: counts made before still hold. */
export async function holdCounters(tx: Queryable, keys: readonly CounterKey[]): Promise<LockedCounter[]> {
  return tx.query<LockedCounter>(
    `select c.budget, c.key, c.count_id::text as "countId" from budget_counter c
      where (c.budget, c.key) in (select * from unnest($1::text[], $2::text[])) order by c.budget, c.key for update of c`,
    keysOf(keys),
    { name: 'hold_counters' },
  )
}

/** Those of the windows that begin at a time, and those of runs, find what is new to them by different indexes. */
const SOURCES = {
  time: {
    // By its time when a window is counted for the first time; then what later transactions wrote, by their order. What is added, which is nothing, keeps
    // each from the index of the other: that of the order would give the first all that was ever spent, that of the time the second the whole window again.
    fresh: `select * from spending t where b.mark = '0' and t.namespace || '' = b.namespace and t.at >= b.start
            union all
            select * from spending t where b.mark > '0' and t.namespace = b.namespace and t.xid >= b.mark and t.at + interval '0' >= b.start`,
    held: 'true',
  },
  run: {
    fresh: `select * from spending t where t.root_run = b.root_run and t.xid >= b.mark`,
    held: 'h.root_run = b.root_run',
  },
} as const

/** More than any budget allows: a sum that nobody can have spent is kept as this, and refuses all that asks. */
const COUNTED_MAX = 9_000_000_000_000_000_000n

const bounded = (sum: string): string => `least(${sum}, ${COUNTED_MAX})::bigint`

/**
 * Everything of transactions below the mark is in the counter; what others wrote since is read, and only what no transaction under way can still add to
 * goes into the next mark. A mark that is ahead of the database is of another one, whose copy this is: then it is counted anew.
 */
const countSql = ({ fresh, held }: { fresh: string; held: string }): string =>
  `with b as materialized (
     select w.budget, w.key, w.namespace, w.selector, w.currency, w.start, w.root_run, h.xmin,
            case when k.isGood then c.mark else '0'::xid8 end as mark, case when k.isGood then c.tail else w.start end as tail,
            case when k.isGood then c.tokens else 0 end as tokens, case when k.isGood then c.nanos else 0 end as nanos
       from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::text[], $6::timestamptz[], $7::text[])
              as w(budget, key, namespace, selector, currency, start, root_run)
       cross join (select pg_snapshot_xmin(pg_current_snapshot()) as xmin) h
       left join budget_counter c on c.budget = w.budget and c.key = w.key
       cross join lateral (select c.mark is not null and c.mark <= h.xmin as isGood) k
   )
   select b.budget, b.key, ${bounded('b.tokens - gone.tokens + fresh.old_tokens + fresh.new_tokens')} as tokens,
          ${bounded('b.nanos - gone.nanos + fresh.old_nanos + fresh.new_nanos')} as nanos,
          ${bounded('held.tokens')} as "heldTokens", ${bounded('held.nanos')} as "heldNanos",
          ${bounded('b.tokens - gone.tokens + fresh.old_tokens')} as "foldTokens", ${bounded('b.nanos - gone.nanos + fresh.old_nanos')} as "foldNanos",
          b.xmin::text as mark, (fresh.old_rows + gone.rows)::int as rows
     from b
     cross join lateral (
       select coalesce(sum(s.input_tokens + s.output_tokens) filter (where s.xid < b.xmin), 0) as old_tokens,
              coalesce(sum(s.input_tokens + s.output_tokens) filter (where s.xid >= b.xmin), 0) as new_tokens,
              coalesce(sum(s.nanos) filter (where s.xid < b.xmin and s.currency = b.currency), 0) as old_nanos,
              coalesce(sum(s.nanos) filter (where s.xid >= b.xmin and s.currency = b.currency), 0) as new_nanos,
              count(*) filter (where s.xid < b.xmin) as old_rows
         from (${fresh}) s where budget_covers(b.selector, s.workflows, s.agent, s.endpoint, s.labels)) fresh
     cross join lateral (
       select coalesce(sum(s.input_tokens + s.output_tokens), 0) as tokens, coalesce(sum(s.nanos) filter (where s.currency = b.currency), 0) as nanos,
              count(*) as rows
         from spending s where s.namespace = b.namespace and s.at >= b.tail and s.at < b.start and s.xid < b.mark
          and budget_covers(b.selector, s.workflows, s.agent, s.endpoint, s.labels)) gone
     cross join lateral (
       select coalesce(sum(h.tokens), 0) as tokens, coalesce(sum(h.nanos) filter (where h.currency = b.currency), 0) as nanos
         from spending_hold h where h.namespace = b.namespace and h.expires_at > (select clock_now()) and ${held}
          and budget_covers(b.selector, h.workflows, h.agent, h.endpoint, h.labels)) held`

const COUNTS = { time: countSql(SOURCES.time), run: countSql(SOURCES.run) }

/** Counts windows; exact as of the statement for whoever holds their locks. One whose counter is not there is counted from all that was spent. */
export async function countWindows(on: Queryable, windows: readonly CountedWindow[]): Promise<Count[]> {
  const counts: Count[] = []
  for (const kind of ['time', 'run'] as const) {
    const asked = windows.filter((w) => (w.rootRun === null) === (kind === 'time'))
    if (asked.length === 0) continue
    const rows = await on.query<Omit<Count, 'fold'> & CountRow>(
      COUNTS[kind],
      [
        ...keysOf(asked),
        asked.map((w) => w.namespace),
        asked.map((w) => JSON.stringify(w.selector)),
        asked.map((w) => w.currency),
        asked.map((w) => w.from),
        asked.map((w) => w.rootRun),
      ],
      { name: `count_windows_${kind}` },
    )
    for (const { foldTokens, foldNanos, mark, rows: spared, ...count } of rows)
      counts.push({ ...count, fold: { tokens: foldTokens, nanos: foldNanos, mark, rows: spared } })
  }
  return counts
}

interface CountRow {
  foldTokens: number
  foldNanos: number
  mark: string
  rows: number
}

/** Keeps counts for the next time. Under the locks of the counters, with what was counted under them. */
export async function foldCounters(
  tx: Queryable,
  counted: readonly (CounterKey & { from: Date | null; fold: Count['fold'] })[],
): Promise<void> {
  if (counted.length === 0) return
  await tx.query(
    `update budget_counter c set tokens = f.tokens, nanos = f.nanos, mark = f.mark::xid8, tail = f.tail, touched_at = (select clock_now())
       from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::timestamptz[]) as f(budget, key, tokens, nanos, mark, tail)
      where c.budget = f.budget and c.key = f.key`,
    [
      ...keysOf(counted),
      counted.map((c) => c.fold.tokens),
      counted.map((c) => c.fold.nanos),
      counted.map((c) => c.fold.mark),
      counted.map((c) => c.from),
    ],
    { name: 'fold_counters' },
  )
}

/** What was spent in a rolling window, the oldest first: when something of it is free again. */
export async function listWindow(
  on: Queryable,
  window: Pick<CountedWindow, 'namespace' | 'selector' | 'currency'> & { from: Date },
  limit: number,
): Promise<{ at: Date; tokens: number; nanos: number }[]> {
  return on.query(
    `select at, input_tokens + output_tokens as tokens, case when currency = $4 then coalesce(nanos, 0) else 0 end as nanos from spending
      where namespace = $1 and at >= $2 and budget_covers($3::jsonb, workflows, agent, endpoint, labels) order by at limit $5`,
    [window.namespace, window.from, JSON.stringify(window.selector), window.currency, limit],
    { name: 'list_window' },
  )
}

/**
 * Forgets counters and alerts that nobody asked about for so long, at most `limit` of each; what was spent stays, and is counted again when somebody
 * does. Gives how many of what there was more of.
 */
export async function pruneCounters(db: Queryable, idleMs: number, limit: number): Promise<number> {
  const rows = await db.query<{ gone: number }>(
    `with alerts as (
       delete from budget_alert where (budget, key, share) in (
         select budget, key, share from budget_alert where at < (select clock_now()) - $1::float8 * interval '1 ms' limit $2)
       returning 1),
     counters as (
       delete from budget_counter where (budget, key) in (
         select budget, key from budget_counter where touched_at < (select clock_now()) - $1::float8 * interval '1 ms' limit $2)
       returning 1)
     select greatest((select count(*) from alerts), (select count(*) from counters))::int as gone`,
    [idleMs, limit],
  )
  return rows[0]?.gone ?? 0
}
