import type { StepState } from '../../domain/machines.ts'
import type { Queryable } from '../db.ts'

export interface StepRef {
  runId: string
  node: number
  path: string
}

/** A page of a walk goes on behind this step. `dueAt` is the database's own text: a Date would lose its microseconds. */
export interface DuePlace extends StepRef {
  dueAt: string
}

/** Before all steps. */
export const FIRST_STEP: StepRef = { runId: '', node: 0, path: '' }
export const FIRST_DUE: DuePlace = { ...FIRST_STEP, dueAt: '-infinity' }

/** Steps behind a place that the engine owes a look, most overdue first. */
export async function findDue(
  db: Queryable,
  { after, limit }: { after: DuePlace; limit: number },
): Promise<(DuePlace & { state: StepState; queue_id: number; queued_ms: number | null })[]> {
  return db.query(
    `select run_id as "runId", node, path, state, queue_id, (extract(epoch from clock_now() - queued_at) * 1000)::float8 as queued_ms,
            due_at::text as "dueAt"
       from step where due_at <= (select clock_now()) and (due_at, run_id, node, path) > ($2::text::timestamptz, $3::text, $4::int, $5::text)
      order by due_at, run_id, node, path limit $1`,
    [limit, after.dueAt, after.runId, after.node, after.path],
    { name: 'find_due' },
  )
}

/** Steps of one run that the engine owes a look. */
export async function findDueOf(
  db: Queryable,
  { runId, limit }: { runId: string; limit: number },
): Promise<{ node: number; path: string }[]> {
  return db.query(
    `select node, path from step where run_id = $1 and due_at <= (select clock_now()) order by node, path limit $2`,
    [runId, limit],
    { name: 'find_due_of' },
  )
}

export interface HeldStep extends StepRef {
  fence: number
  tries: number
  definition: string
  trace: string | null
  inputs: unknown
  item: unknown
  session: string
  /** Its run is being stopped. */
  stopping: boolean
}

/** What sessions hold, as the store knows it. */
export async function findHeld(db: Queryable, sessions: readonly string[]): Promise<HeldStep[]> {
  return db.query(
    `select s.run_id as "runId", s.node, s.path, s.fence, s.tries, s.session, s.item, run.definition, run.trace, run.inputs, run.stop is not null or s.stopping as stopping
       from step s join run on run.id = s.run_id
      where s.state = 'running' and s.session = any($1::text[]) order by s.run_id, s.node, s.path`,
    [sessions],
    { name: 'find_held' },
  )
}

/** Everything that sessions hold, and whether it is a command: one that may outlive the process of its worker. */
export async function findHeldKinds(
  db: Queryable,
  sessions: readonly string[],
): Promise<(StepRef & { fence: number; session: string; worker: string; isCommand: boolean })[]> {
  return db.query(
    `select s.run_id as "runId", s.node, s.path, s.fence, s.session, w.worker, q.requirements->>'backend' = 'process' as "isCommand"
       from step s join session w on w.id = s.session join queue q on q.id = s.queue_id
      where s.state = 'running' and s.session = any($1::text[]) order by s.run_id, s.node, s.path`,
    [sessions],
    { name: 'find_held_kinds' },
  )
}

/** Attempts that sessions hold, by key alone; those that were leased a while ago. `begun`: the worker said that it has it. */
export async function findLeaseKeys(
  db: Queryable,
  params: { sessions: readonly string[]; olderThanMs: number },
): Promise<(StepRef & { fence: number; session: string; begun: boolean })[]> {
  return db.query(
    `select run_id as "runId", node, path, fence, session, started_at is not null as begun from step
      where state = 'running' and session = any($1::text[]) and leased_at < (select clock_now()) - $2::int * interval '1 ms'
      order by run_id, node, path`,
    [params.sessions, params.olderThanMs],
    { name: 'find_lease_keys' },
  )
}

/** Steps of sessions whose runs are being stopped. */
export async function findStopping(
  db: Queryable,
  sessions: readonly string[],
): Promise<(StepRef & { fence: number; session: string })[]> {
  return db.query(
    `with stopped as materialized (select id from run where stop is not null and ended_at is null)
     select s.run_id as "runId", s.node, s.path, s.fence, s.session
       from stopped join step s on s.run_id = stopped.id where (s.state = 'running') is true and s.session = any($1::text[])
     union
     select s.run_id, s.node, s.path, s.fence, s.session from step s where s.stopping and s.state = 'running' and s.session = any($1::text[])`,
    [sessions],
    { name: 'find_stopping' },
  )
}

/** Steps behind another that are still marked as running under sessions that have ended: to be requeued. */
export async function findOrphans(
  db: Queryable,
  { after, limit }: { after: StepRef; limit: number },
): Promise<(StepRef & { fence: number; session: string; worker: string; code: string })[]> {
  return db.query(
    `select s.run_id as "runId", s.node, s.path, s.fence, s.session, w.worker, coalesce(w.ended_code, 'worker.lost') as code
       from session w
       join step s on s.session = w.id and s.state = 'running' and (s.run_id, s.node, s.path) > ($2::text, $3::int, $4::text)
      where w.state = 'ended' and not w.emptied
      order by s.run_id, s.node, s.path limit $1`,
    [limit, after.runId, after.node, after.path],
    { name: 'find_orphans' },
  )
}

/** What became of attempts: for reports whose write found nothing. */
export async function findAttemptFates(
  db: Queryable,
  attempts: readonly (StepRef & { fence: number; session: string })[],
): Promise<(StepRef & { fence: number; state: string; mine: boolean; archived: boolean; stopping: boolean })[]> {
  return db.query(
    `select k.run_id as "runId", k.node, k.path, k.fence, s.state, s.fence = k.fence and s.session = k.session as mine,
            exists (select 1 from attempt a where a.run_id = k.run_id and a.node = k.node and a.path = k.path and a.fence = k.fence and a.session = k.session
                      and a.state <> 'lost') as archived,
            run.stop is not null as stopping
       from unnest($1::text[], $2::int[], $3::text[], $4::int[], $5::text[]) as k(run_id, node, path, fence, session)
       join run on run.id = k.run_id
       join step s on s.run_id = k.run_id and s.node = k.node and s.path = k.path`,
    [
      attempts.map((a) => a.runId),
      attempts.map((a) => a.node),
      attempts.map((a) => a.path),
      attempts.map((a) => a.fence),
      attempts.map((a) => a.session),
    ],
    { name: 'find_attempt_fates' },
  )
}

/** Gives commands that are still alive on a restarted worker to its new session. Only what the old session still holds. */
export async function adoptSteps(
  db: Queryable,
  params: { from: string; to: string; steps: readonly (StepRef & { fence: number })[] },
): Promise<(StepRef & { fence: number })[]> {
  return db.query(
    `update step s set session = $2
       from unnest($3::text[], $4::int[], $5::text[], $6::int[]) as k(run_id, node, path, fence)
      where s.run_id = k.run_id and s.node = k.node and s.path = k.path and (s.state = 'running') is true and s.session = $1 and s.fence = k.fence
        and exists (select 1 from session w where w.id = $1 and w.state = 'live')
        and exists (select 1 from session w where w.id = $2 and w.state = 'live')
      returning s.run_id as "runId", s.node, s.path, s.fence`,
    [
      params.from,
      params.to,
      params.steps.map((s) => s.runId),
      params.steps.map((s) => s.node),
      params.steps.map((s) => s.path),
      params.steps.map((s) => s.fence),
    ],
    { name: 'adopt_steps' },
  )
}
