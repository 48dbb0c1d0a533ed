import type { Json } from '../../base/json.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import { failureRecord } from '../../domain/failure.ts'
import type { StepState } from '../../domain/machines.ts'
import type { Step, StepKey } from '../../domain/step.ts'
import type { Waits } from '../../domain/step.ts'
import type { Queryable } from '../db.ts'

interface StepRow {
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
  journal_from: number
  session: string | null
  stopping: boolean
  waits: Waits | null
  waits_on: string | null
  due_at: Date | null
  item: Json
  failure: FailureRecord | null
}

const COLUMNS = `node, path, state, need, ok, bad, total, fence, tries, losses, released, journal_from, session, stopping, waits, waits_on, due_at, item, failure`

/** A row as the pure functions want it. Parsed once, here. */
export function stepOfRow(row: StepRow): Step {
  const common = {
    node: row.node,
    path: row.path,
    need: row.need,
    ok: row.ok,
    bad: row.bad,
    total: row.total,
    fence: row.fence,
    tries: row.tries,
    losses: row.losses,
    released: row.released,
    journalFrom: row.journal_from,
    dueAt: row.due_at === null ? null : row.due_at.getTime(),
    item: row.item,
  }
  switch (row.state) {
    case 'running':
      return { ...common, state: 'running', session: row.session ?? '', stopping: row.stopping }
    case 'waiting':
      return { ...common, state: 'waiting', waits: row.waits ?? 'backoff', on: row.waits_on }
    case 'failed':
    case 'blocked':
      return {
        ...common,
        state: row.state,
        failure: row.failure ?? failureRecord('internal.bug', 'reading a failure that is missing'),
      }
    case 'canceled':
      return { ...common, state: 'canceled', failure: row.failure }
    default:
      return { ...common, state: row.state }
  }
}

/** Steps of one run by key; those that do not exist are left out. The run's row must be locked. */
export async function loadSteps(tx: Queryable, runId: string, keys: readonly StepKey[]): Promise<Step[]> {
  const rows = await tx.query<StepRow>(
    `select ${COLUMNS.replace(/\w+/g, 's.$&')} from unnest($1::text[], $2::int[], $3::text[]) as k(r, n, p)
       join step s on s.run_id = k.r and s.node = k.n and s.path = k.p
      order by s.node, s.path for update of s`,
    [keys.map(() => runId), keys.map((k) => k.node), keys.map((k) => k.path)],
    { name: 'load_steps' },
  )
  return rows.map(stepOfRow)
}

/** Every step of a run that has not ended and does not run. */
export async function loadIdleSteps(tx: Queryable, runId: string): Promise<Step[]> {
  const rows = await tx.query<StepRow>(
    `select ${COLUMNS} from step where run_id = $1 and state in ('pending', 'queued', 'waiting') order by node, path for update`,
    [runId],
    { name: 'load_idle_steps' },
  )
  return rows.map(stepOfRow)
}

/** Every step of a run. For what a person asked for by hand; never on a hot path. */
export async function loadAllSteps(tx: Queryable, runId: string): Promise<Step[]> {
  const rows = await tx.query<StepRow>(`select ${COLUMNS} from step where run_id = $1 order by node, path for update`, [
    runId,
  ])
  return rows.map(stepOfRow)
}

/** The first activation of a forEach that failed, or nothing. */
export async function loadFailedActivation(tx: Queryable, runId: string, node: number): Promise<Step[]> {
  const rows = await tx.query<StepRow>(
    `select ${COLUMNS} from step where run_id = $1 and node = $2 and path <> '' and state = 'failed' order by path limit 1`,
    [runId, node],
  )
  return rows.map(stepOfRow)
}

/** Activations of a forEach that are not in the queue yet, from a path on, in index order. */
export async function loadPendingActivations(
  tx: Queryable,
  params: { runId: string; node: number; from: string; limit: number },
): Promise<Step[]> {
  const rows = await tx.query<StepRow>(
    `select ${COLUMNS} from step
      where run_id = $1 and node = $2 and path >= $3 and path <> '' and state = 'pending' order by path limit $4 for update`,
    [params.runId, params.node, params.from, params.limit],
    { name: 'load_pending_activations' },
  )
  return rows.map(stepOfRow)
}

/** Activations of a node that have not ended. */
export async function loadOpenActivations(tx: Queryable, runId: string, node: number): Promise<Step[]> {
  const rows = await tx.query<StepRow>(
    `select ${COLUMNS} from step
      where run_id = $1 and node = $2 and path <> '' and state in ('pending', 'queued', 'running', 'waiting') order by path for update`,
    [runId, node],
    { name: 'load_open_activations' },
  )
  return rows.map(stepOfRow)
}

/** Steps of a run that wait for an event of a name, in order of their place. */
export async function loadEventWaits(tx: Queryable, runId: string, name: string): Promise<Step[]> {
  const rows = await tx.query<StepRow>(
    `select ${COLUMNS} from step where run_id = $1 and waits = 'event' and waits_on = $2 and state = 'waiting' order by node, path for update`,
    [runId, name],
    { name: 'load_event_waits' },
  )
  return rows.map(stepOfRow)
}

/** Turns of some nodes that ended and were not followed, and those that were re-opened. A run has few: each is followed once. */
export async function loadTurnsToFollow(tx: Queryable, runId: string, nodes: readonly number[]): Promise<Step[]> {
  const rows = await tx.query<StepRow>(
    `select ${COLUMNS} from step
      where run_id = $1 and node = any($2::int[]) and path <> '' and released = 0
        and state in ('pending', 'succeeded', 'skipped', 'failed') order by node, path for update`,
    [runId, nodes],
    { name: 'load_turns_to_follow' },
  )
  return rows.map(stepOfRow)
}

/** What single activations gave, null where there is nothing, and how they stand. */
export async function loadActivationOutputs(
  tx: Queryable,
  runId: string,
  keys: readonly StepKey[],
): Promise<(StepKey & { output: Json; state: StepState })[]> {
  return tx.query(
    `select s.node, s.path, s.state,
            case when s.output_large then (select o.body from step_output o where o.run_id = s.run_id and o.node = s.node and o.path = s.path)
                 else s.output end as output
       from unnest($1::text[], $2::int[], $3::text[]) as k(r, n, p)
       join step s on s.run_id = k.r and s.node = k.n and s.path = k.p`,
    [keys.map(() => runId), keys.map((k) => k.node), keys.map((k) => k.path)],
    { name: 'load_activation_outputs' },
  )
}

export interface OutputRow {
  run_id: string
  node: number
  path: string
  state: StepState
  /** The output; of a forEach the array in index order. */
  output: Json
}

/** Outputs and states of steps of several runs; without a path that of the node: a forEach's is the array of its activations' outputs. */
export async function loadOutputs(
  db: Queryable,
  wanted: readonly { runId: string; node: number; path?: string }[],
): Promise<OutputRow[]> {
  return db.query<OutputRow>(
    `select k.run_id, k.node, k.path, s.state,
            case when s.output_large then (select o.body from step_output o where o.run_id = k.run_id and o.node = k.node and o.path = k.path)
                 when k.path = '' and s.output is null and exists (select 1 from step c where c.run_id = k.run_id and c.node = k.node and c.path > '') then
                   (select jsonb_agg(case when c.output_large
                                          then (select o.body from step_output o where o.run_id = c.run_id and o.node = c.node and o.path = c.path)
                                          else coalesce(c.output, 'null'::jsonb) end order by c.path)
                      from step c where c.run_id = k.run_id and c.node = k.node and c.path > '')
                 else s.output end as output
       from unnest($1::text[], $2::int[], $3::text[]) as k(run_id, node, path)
       join step s on s.run_id = k.run_id and s.node = k.node and s.path = k.path`,
    [wanted.map((w) => w.runId), wanted.map((w) => w.node), wanted.map((w) => w.path ?? '')],
    { name: 'load_outputs' },
  )
}
