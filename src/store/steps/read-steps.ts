import type { Json } from '../../base/json.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import type { StepState } from '../../domain/machines.ts'
import type { Waits } from '../../domain/step.ts'
import type { Queryable } from '../db.ts'
import { RUN_COLUMNS, type RunReadRow } from '../runs/read-runs.ts'

export interface StepReadRow {
  node: number
  path: string
  state: StepState
  need: number
  ok: number
  bad: number
  total: number
  fence: number
  tries: number
  losses: number
  released: number
  queue_id: number
  session: string | null
  worker: string | null
  waits: Waits | null
  waits_on: string | null
  due_at: Date | null
  queued_at: Date | null
  leased_at: Date | null
  started_at: Date | null
  ended_at: Date | null
  output: Json
  failure: FailureRecord | null
  queued_ms: number | null
}

const COLUMNS = `s.node, s.path, s.state, s.need, s.ok, s.bad, s.total, s.fence, s.tries, s.losses, s.released, s.queue_id, s.session, w.worker, s.waits, s.waits_on,
            s.due_at, s.queued_at, s.leased_at, s.started_at, s.ended_at, s.failure,
            case when s.output_large then (select o.body from step_output o where o.run_id = s.run_id and o.node = s.node and o.path = s.path) else s.output end as output,
            (extract(epoch from clock_now() - s.queued_at) * 1000)::float8 as queued_ms`

/** Steps of a run in order of (node, path), after a key; activations of a forEach included. */
export async function listSteps(
  db: Queryable,
  params: { runId: string; after: { node: number; path: string } | null; limit: number },
): Promise<StepReadRow[]> {
  return db.query<StepReadRow>(
    `select ${COLUMNS} from step s left join session w on w.id = s.session
      where s.run_id = $1 and (s.node, s.path) > ($2, $3)
      order by s.node, s.path limit $4`,
    [params.runId, params.after?.node ?? -1, params.after?.path ?? '', params.limit],
    { name: 'list_steps' },
  )
}

/** A run with its first steps. */
export interface WholeRow {
  run: RunReadRow
  rows: StepReadRow[]
}

type Texts<T, K extends keyof T> = Omit<T, K> & Record<K, string | null>
/** A step as JSON has it: times are text. */
type StepJson = Texts<StepReadRow, 'due_at' | 'queued_at' | 'leased_at' | 'started_at' | 'ended_at'>

const dateOf = (text: string | null): Date | null => (text === null ? null : new Date(text))

/**
 * Runs with their first steps, activations of a forEach left out; in any order, those that do not exist left out. One statement for many
 * readers at once. Who may see them is theirs to check.
 */
export async function findWholeRuns(db: Queryable, ids: readonly string[], limit: number): Promise<WholeRow[]> {
  const rows = await db.query<RunReadRow & { steps: StepJson[] }>(
    `select ${RUN_COLUMNS}, inputs,
            (select coalesce(json_agg(f), '[]') from (
               select ${COLUMNS} from step s left join session w on w.id = s.session
                where s.run_id = run.id and s.path = '' order by s.node, s.path limit $2) f) as steps
       from run where id = any($1::text[])`,
    [ids, limit],
    { name: 'find_whole_runs' },
  )
  return rows.map(({ steps, ...run }) => ({
    run,
    rows: steps.map((s) => ({
      ...s,
      due_at: dateOf(s.due_at),
      queued_at: dateOf(s.queued_at),
      leased_at: dateOf(s.leased_at),
      started_at: dateOf(s.started_at),
      ended_at: dateOf(s.ended_at),
    })),
  }))
}

export interface AttemptReadRow {
  node: number
  path: string
  fence: number
  state: 'failed' | 'lost' | 'parked' | 'canceled'
  worker: string | null
  started_at: Date | null
  ended_at: Date
  failure: FailureRecord | null
}

/** Ended attempts of some steps that did not succeed, oldest first; at most `limit`. */
export async function listAttempts(
  db: Queryable,
  runId: string,
  steps: readonly { node: number; path: string }[],
  limit: number,
): Promise<AttemptReadRow[]> {
  return db.query<AttemptReadRow>(
    `select a.node, a.path, a.fence, a.state, w.worker, a.started_at, a.ended_at, a.failure
       from unnest($2::int[], $3::text[]) as k(node, path)
       join attempt a on a.run_id = $1 and a.node = k.node and a.path = k.path
       left join session w on w.id = a.session
      order by a.node, a.path, a.fence limit $4`,
    [runId, steps.map((s) => s.node), steps.map((s) => s.path), limit],
    { name: 'list_attempts' },
  )
}

/** Where a queued step stands in its queue, and since when the oldest one waits. */
export async function findQueuePlace(
  db: Queryable,
  params: { queueId: number; runId: string; node: number; path: string; cap: number },
): Promise<{ ahead: number; oldestMs: number }> {
  const rows = await db.query<{ ahead: number; oldest_ms: number | null }>(
    `select (select count(*)::int from (select 1 from step where state = 'queued' and queue_id = $1 and (run_id, node, path) < ($2, $3, $4) limit $5) a) as ahead,
            (select (extract(epoch from clock_now() - queued_at) * 1000)::float8 from step where state = 'queued' and queue_id = $1
              order by run_id, node, path limit 1) as oldest_ms`,
    [params.queueId, params.runId, params.node, params.path, params.cap],
    { name: 'queue_place' },
  )
  return { ahead: rows[0]?.ahead ?? 0, oldestMs: rows[0]?.oldest_ms ?? 0 }
}

/** Which steps of a namespace hold the slots of these sessions, the longest first; at most `limit`. */
export async function findHolders(
  db: Queryable,
  params: { sessions: readonly string[]; namespace: string; limit: number },
): Promise<{ runId: string; node: number; path: string; worker: string; heldMs: number }[]> {
  return db.query(
    `select s.run_id as "runId", s.node, s.path, w.worker, (extract(epoch from clock_now() - s.leased_at) * 1000)::float8 as "heldMs"
       from step s join session w on w.id = s.session join run on run.id = s.run_id and run.namespace = $2
      where s.state = 'running' and s.session = any($1::text[]) order by s.leased_at limit $3`,
    [params.sessions, params.namespace, params.limit],
    { name: 'find_holders' },
  )
}

/** How steps of a run stand, activations left out. */
export async function findNodeStates(
  db: Queryable,
  params: { runId: string; nodes: readonly number[] },
): Promise<{ node: number; state: StepState }[]> {
  return db.query(
    `select node, state from step where run_id = $1 and path = '' and node = any($2::int[])`,
    [params.runId, params.nodes],
    { name: 'find_node_states' },
  )
}

/** Activations of a forEach that hold its places: let into the queue and not ended; at most `limit`. */
export async function findActiveActivations(
  db: Queryable,
  params: { runId: string; node: number; limit: number },
): Promise<{ path: string }[]> {
  return db.query(
    `select path from step where run_id = $1 and node = $2 and path <> '' and state in ('queued', 'running', 'waiting') order by path limit $3`,
    [params.runId, params.node, params.limit],
    { name: 'find_active_activations' },
  )
}
