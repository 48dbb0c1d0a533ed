import type { RunCore } from '../../domain/advance/happenings.ts'
import type { AdvanceResult } from '../../domain/advance/result.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import type { Step } from '../../domain/step.ts'
import type { Queryable } from '../db.ts'

export interface LockedRun extends RunCore {
  definition: string
  namespace: string
  workflow: string
  inputs: unknown
  state: 'pending' | 'running' | 'succeeded' | 'failed' | 'canceled'
  epoch: number
  /** Runs above this one. */
  depth: number
  ended: boolean
  /** The database's clock, ms. */
  now: number
}

interface RunRow {
  id: string
  definition: string
  namespace: string
  workflow: string
  inputs: unknown
  state: LockedRun['state']
  stop: RunCore['stop']
  epoch: number
  depth: number
  open: number
  active: number
  bad: number
  total: number
  failure: FailureRecord | null
  ended_at: Date | null
  now: Date
}

/** Locks a run and reads it; null when there is none. Whoever holds several locks takes them in id order. */
export async function lockRun(tx: Queryable, runId: string): Promise<LockedRun | null> {
  const rows = await tx.query<RunRow>(
    `select id, definition, namespace, workflow, inputs, state, stop, epoch, depth, open, active, bad, total, failure, ended_at, clock_now() as now
       from run where id = $1 for no key update`,
    [runId],
    { name: 'lock_run' },
  )
  const row = rows[0]
  if (!row) return null
  const { ended_at: endedAt, now, ...rest } = row
  return { ...rest, ended: endedAt !== null, now: now.getTime() }
}

/** How the run's row changes beside what the steps say. */
export interface RunMove {
  state: LockedRun['state']
  ended: boolean
  epoch: number
  cancelRequested: boolean
}

/** One line of an event, named. */
export interface NamedChange {
  of: string
  to: string
  [field: string]: string | number
}

const failureOf = (step: Step): string | null =>
  (step.state === 'failed' || step.state === 'blocked' || step.state === 'canceled') && step.failure
    ? JSON.stringify(step.failure)
    : null

const MS = `* interval '1 ms' + timestamptz 'epoch'`

/**
 * Writes what `advance` decided: rows, attempts, outputs, one event, the run's counters. The run's row and the changed rows
 * are locked by the caller, so nothing here needs a guard.
 */
export async function saveAdvance(
  tx: Queryable,
  runId: string,
  result: Pick<AdvanceResult, 'run' | 'changed' | 'created' | 'attempts' | 'outputs'>,
  move: RunMove,
  changes: readonly NamedChange[],
  inlineOutputBytes: number,
): Promise<void> {
  if (result.attempts.length > 0) await insertAttempts(tx, runId, result.attempts)
  if (result.created.length > 0) await insertSteps(tx, runId, result.created)
  // What was made and began to wait, or ended, at once has more to say than a fresh row holds.
  const begun = result.created.filter(hasBegun)
  const changed = [...result.changed, ...begun]
  if (changed.length > 0) await updateSteps(tx, runId, changed)
  if (result.outputs.length > 0) await writeOutputs(tx, runId, result.outputs, inlineOutputBytes)
  const { run } = result
  await tx.query(
    `with moved as (
       update run set state = $2::run_state, stop = $3::run_stop, open = $4, active = $5, bad = $6, total = $7, failure = $8::text::jsonb, epoch = $9,
              event_seq = event_seq + case when $12::text is null then 0 else 1 end,
              cancel_requested_at = case when $10::boolean then coalesce(cancel_requested_at, clock_now()) else null end,
              started_at = case when $2::run_state = 'running' then coalesce(started_at, clock_now()) else started_at end,
              ended_at = case when $11::boolean then clock_now() end, moved_at = clock_now()
        where id = $1
       returning event_seq)
     insert into event (run_id, seq, at, changes) select $1, event_seq, clock_now(), $12::text::json from moved where $12::text is not null`,
    [
      runId,
      move.state,
      run.stop,
      run.open,
      run.active,
      run.bad,
      run.total,
      run.failure ? JSON.stringify(run.failure) : null,
      move.epoch,
      move.cancelRequested,
      move.ended,
      changes.length > 0 ? JSON.stringify(changes) : null,
    ],
    { name: 'save_run' },
  )
}

async function insertAttempts(tx: Queryable, runId: string, attempts: AdvanceResult['attempts']): Promise<void> {
  await tx.query(
    `insert into attempt (run_id, node, path, fence, state, session, leased_at, started_at, ended_at, failure)
     select a.run_id, a.node, a.path, a.fence, a.state::attempt_state, a.session, s.leased_at, s.started_at, clock_now(), a.failure::jsonb
       from unnest($2::int[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[], $1::text[]) as a(node, path, fence, state, session, failure, run_id)
       join step s on s.run_id = a.run_id and s.node = a.node and s.path = a.path
     on conflict (run_id, node, path, fence) do nothing`,
    [
      attempts.map(() => runId),
      attempts.map((a) => a.node),
      attempts.map((a) => a.path),
      attempts.map((a) => a.fence),
      attempts.map((a) => a.state),
      attempts.map((a) => a.session),
      attempts.map((a) => (a.failure ? JSON.stringify(a.failure) : null)),
    ],
    { name: 'insert_attempts' },
  )
}

const hasBegun = (step: Step): boolean => step.state !== 'pending' && step.state !== 'queued'

async function insertSteps(tx: Queryable, runId: string, steps: readonly Step[]): Promise<void> {
  await tx.query(
    `insert into step (run_id, node, path, state, queue_id, item, due_at, queued_at)
     select $1, c.node, c.path, c.state::step_state, dn.queue_id, c.item::jsonb, c.due_at ${MS}, case when c.state = 'queued' then clock_now() end
       from unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::float8[]) as c(node, path, state, item, due_at)
       join run on run.id = $1
       join definition_node dn on dn.definition = run.definition and dn.node = c.node`,
    [
      runId,
      steps.map((s) => s.node),
      steps.map((s) => s.path),
      // What has begun is moved on from there at once: a row is born before it begins.
      steps.map((s) => (hasBegun(s) ? 'pending' : s.state)),
      steps.map((s) => JSON.stringify(s.item)),
      steps.map((s) => s.dueAt),
    ],
    { name: 'insert_steps' },
  )
}

async function updateSteps(tx: Queryable, runId: string, steps: readonly Step[]): Promise<void> {
  await tx.query(
    `update step s
        set state = c.state::step_state, need = c.need, ok = c.ok, bad = c.bad, total = c.total, fence = c.fence, tries = c.tries, losses = c.losses,
            released = c.released, journal_from = c.journal_from, session = case when c.state in ('succeeded', 'failed') and s.state = c.state::step_state then s.session else c.session end, stopping = c.stopping, waits_on = case when c.state in ('succeeded', 'failed', 'canceled') then s.waits_on else c.waits_on end, waits = c.waits::step_waits, due_at = c.due_at ${MS}, failure = c.failure::jsonb,
            queued_at = case when c.state = 'queued' and s.state <> 'queued' then clock_now() else s.queued_at end,
            started_at = case when c.state in ('queued', 'pending', 'waiting') then null else s.started_at end,
            ended_at = case when c.state in ('succeeded', 'failed', 'skipped', 'blocked', 'canceled') then coalesce(s.ended_at, clock_now()) end
       from unnest($2::int[], $3::text[], $4::text[], $5::int[], $6::int[], $7::int[], $8::int[], $9::int[], $10::int[], $11::int[],
                   $12::int[], $13::text[], $14::text[], $15::float8[], $16::text[], $17::boolean[], $18::text[], $19::int[], $1::text[])
            as c(node, path, state, need, ok, bad, total, fence, tries, losses, released, session, waits, due_at, failure, stopping, waits_on, journal_from, run_id)
      where s.run_id = c.run_id and s.node = c.node and s.path = c.path`,
    [
      steps.map(() => runId),
      steps.map((s) => s.node),
      steps.map((s) => s.path),
      steps.map((s) => s.state),
      steps.map((s) => s.need),
      steps.map((s) => s.ok),
      steps.map((s) => s.bad),
      steps.map((s) => s.total),
      steps.map((s) => s.fence),
      steps.map((s) => s.tries),
      steps.map((s) => s.losses),
      steps.map((s) => s.released),
      steps.map((s) => (s.state === 'running' ? s.session : null)),
      steps.map((s) => (s.state === 'waiting' ? s.waits : null)),
      steps.map((s) => s.dueAt),
      steps.map(failureOf),
      steps.map((s) => s.state === 'running' && s.stopping),
      steps.map((s) => (s.state === 'waiting' ? s.on : null)),
      steps.map((s) => s.journalFrom),
    ],
    { name: 'update_steps' },
  )
}

async function writeOutputs(
  tx: Queryable,
  runId: string,
  outputs: AdvanceResult['outputs'],
  inlineBytes: number,
): Promise<void> {
  const texts = outputs.map((o) => JSON.stringify(o.output))
  await tx.query(
    `with o as materialized (
       select run_id, node, path, body::jsonb as body, octet_length(body) > $5 as large from unnest($1::text[], $2::int[], $3::text[], $4::text[]) as u(run_id, node, path, body)
     ),
     large as (
       insert into step_output (run_id, node, path, body) select run_id, node, path, body from o where large
       on conflict (run_id, node, path) do update set body = excluded.body
     )
     update step s set output = case when o.large then null else o.body end, output_large = o.large
       from o where s.run_id = o.run_id and s.node = o.node and s.path = o.path`,
    [outputs.map(() => runId), outputs.map((o) => o.node), outputs.map((o) => o.path), texts, inlineBytes],
    { name: 'write_outputs' },
  )
}
