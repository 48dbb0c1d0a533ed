import type { FailureRecord } from '../../domain/failure.ts'
import type { JsonObject } from '../../base/json.ts'
import type { LabelTerm } from '../../domain/kinds/selector.ts'
import type { Queryable } from '../db.ts'
import { meetsTerms, termParams } from '../label-terms.ts'

export interface RunReadRow {
  id: string
  namespace: string
  workflow: string
  definition: string
  state: 'pending' | 'running' | 'succeeded' | 'failed' | 'canceled'
  stop: 'cancel' | 'fail_fast' | 'timeout' | null
  epoch: number
  open: number
  active: number
  bad: number
  total: number
  inputs: JsonObject
  labels: Record<string, string>
  failure: FailureRecord | null
  created_at: Date
  started_at: Date | null
  ended_at: Date | null
  /** ms since anything moved. */
  still_ms: number
  parent_run: string | null
  parent_node: number | null
  parent_path: string | null
}

/** What is read of a run, its inputs left out. */
export const RUN_COLUMNS = `id, namespace, workflow, definition, state, stop, epoch, open, active, bad, total, labels, failure, created_at, started_at, ended_at, parent_run, parent_node, parent_path,
  (extract(epoch from clock_now() - moved_at) * 1000)::float8 as still_ms`

/** A run, or null when there is none within this reach. */
export async function findRun(
  db: Queryable,
  id: string,
  namespaces: readonly string[] | null,
): Promise<RunReadRow | null> {
  const rows = await db.query<RunReadRow>(
    `select ${RUN_COLUMNS}, inputs from run where id = $1 and in_reach(namespace, $2::text[])`,
    [id, namespaces],
    { name: 'find_run' },
  )
  return rows[0] ?? null
}

/** Inputs of runs, for the templates of their steps. */
export async function loadInputs(db: Queryable, ids: readonly string[]): Promise<Map<string, JsonObject>> {
  const rows = await db.query<{ id: string; inputs: JsonObject }>(
    `select id, inputs from run where id = any($1::text[])`,
    [ids],
    {
      name: 'load_inputs',
    },
  )
  return new Map(rows.map((r) => [r.id, r.inputs]))
}

/** What runs were started with: their definitions, and the trace of their request; what does not exist is left out. */
export async function findOrigins(db: Queryable, ids: readonly string[]): Promise<Map<string, RunOrigin>> {
  const rows = await db.query<RunOrigin & { id: string }>(
    `select id, definition, trace from run where id = any($1::text[])`,
    [ids],
    { name: 'find_origins' },
  )
  return new Map(rows.map((r) => [r.id, r]))
}

export interface RunOrigin {
  definition: string
  trace: string | null
}

export interface RunFilter {
  namespaces: readonly string[] | null
  workflow: string | null
  /** Stored states, and `waiting`; empty means all. */
  states: readonly string[]
  /** What their labels must meet. */
  terms: readonly LabelTerm[]
  /** RFC 3339; runs that were created from then on. */
  since: string | null
  /** Runs before this id; null from the newest. */
  before: string | null
  limit: number
}

/** Newest first. `inputs` are left out of a list. */
export async function listRuns(db: Queryable, f: RunFilter): Promise<Omit<RunReadRow, 'inputs'>[]> {
  const live = f.states.length > 0 && f.states.every((s) => s === 'pending' || s === 'running' || s === 'waiting')
  return db.query(
    `select ${RUN_COLUMNS} from run
      where in_reach(namespace, $1::text[]) and ($2::text is null or workflow = $2)
        and (cardinality($3::text[]) = 0 or (case when state = 'running' and active = 0 then 'waiting' else state::text end) = any($3::text[]))
        and ($4::text is null or id < $4) and ($6::timestamptz is null or created_at >= $6) and ${meetsTerms(7, 8)} ${live ? 'and ended_at is null' : ''}
      order by id desc limit $5`,
    [f.namespaces, f.workflow, f.states, f.before, f.limit, f.since, ...termParams(f.terms)],
  )
}

/** What those who wait for runs on another server have to know. */
export async function findProgress(
  db: Queryable,
  ids: readonly string[],
): Promise<{ id: string; seq: number; ended: boolean }[]> {
  return db.query(
    `select id, event_seq as seq, ended_at is not null as ended from run where id = any($1::text[])`,
    [ids],
    { name: 'find_progress' },
  )
}

/** Live runs that nothing has moved for a while and of which nothing runs, waits in a queue or is due: page by id. */
export async function findStill(
  db: Queryable,
  params: { stillMs: number; after: string; limit: number },
): Promise<{ id: string; definition: string }[]> {
  return db.query(
    `select id, definition from run
      where ended_at is null and id > $2 and moved_at < (select clock_now()) - $1::int * interval '1 ms'
      order by id limit $3`,
    [params.stillMs, params.after, params.limit],
    { name: 'find_still' },
  )
}

/**
 * Steps of a run that could run and that nobody will look at: the repair for what a lost message or a bug left behind. Arms them.
 * `rings`: the nodes of each part that goes round. It begins and ends as one: as long as one of its steps waits for something, the
 * others do as well.
 */
export async function rearmSteps(
  db: Queryable,
  runId: string,
  rings: readonly (readonly number[])[],
): Promise<{ node: number; path: string }[]> {
  return db.query(
    `with member as (select * from unnest($2::int[], $3::int[]) as m(node, ring)),
     held as (
       select distinct m.ring from member m join step o on o.run_id = $1 and o.node = m.node and o.path = ''
        where (o.state = 'pending' and o.ok < o.need) or (o.state = 'waiting' and o.waits = 'children' and o.ok + o.bad < o.total)
     )
     update step s set due_at = (select clock_now())
      where s.run_id = $1 and s.due_at is null
        and ((s.state = 'pending' and s.path = '' and (s.ok >= s.need or s.total - s.bad < s.need))
          or (s.state = 'waiting' and (s.waits in ('backoff', 'timer') or (s.waits = 'children' and s.ok + s.bad >= s.total))))
        and (s.path <> '' or (s.state = 'pending' and s.ok < s.need) or not exists (select 1 from member join held using (ring) where member.node = s.node))
      returning s.node, s.path`,
    [runId, rings.flat(), rings.flatMap((ring, i) => ring.map(() => i))],
    { name: 'rearm_steps' },
  )
}
