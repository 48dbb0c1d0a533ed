import type { BesideRows } from '../../domain/advance/beside-rows.ts'
import { closeCallApprovals } from '../approvals/call-approvals.ts'
import type { Queryable } from '../db.ts'
import { appendServerEntries } from '../journal/append-entries.ts'
import type { LockedRun } from './save-advance.ts'

const MS = `* interval '1 ms' + timestamptz 'epoch'`

/** Writes the rows that `advance` wants beside the steps, but for runs below. The run's row is locked by the caller. */
export async function saveBeside(
  tx: Queryable,
  run: Pick<LockedRun, 'id' | 'namespace' | 'workflow'>,
  beside: BesideRows,
  nameOf: (key: { node: number; path: string }) => string,
): Promise<void> {
  if (beside.asked.length > 0) await insertApprovals(tx, run, beside.asked, nameOf)
  if (beside.answered.length > 0) await answerApprovals(tx, beside.answered)
  if (beside.taken.length > 0) await takeEvents(tx, run.id, beside.taken)
  if (beside.orphans.length > 0) await askForStops(tx, beside.orphans)
  if (beside.journaled.length > 0) await appendServerEntries(tx, run.id, beside.journaled)
  if (beside.closed.length > 0)
    await closeCallApprovals(
      tx,
      beside.closed.map(({ node, path }) => ({ runId: run.id, node, path })),
    )
}

async function insertApprovals(
  tx: Queryable,
  run: Pick<LockedRun, 'id' | 'namespace' | 'workflow'>,
  asked: BesideRows['asked'],
  nameOf: (key: { node: number; path: string }) => string,
): Promise<void> {
  await tx.query(
    `insert into approval (id, run_id, node, path, fence, step, namespace, workflow, message, approvers, fields, on_expiry, state, created_at, expires_at,
                           about, call, agent, tool, operation, input)
     select a.id, $1, a.node, a.path, a.fence, a.step, $2, $3, a.message,
            (select array_agg(x) from jsonb_array_elements_text(a.approvers::jsonb) as x), a.fields::jsonb, a.on_expiry, 'pending', clock_now(), a.expires_at ${MS},
            a.about, a.call, a.agent, a.tool, a.operation, a.input::jsonb
       from unnest($4::text[], $5::int[], $6::text[], $7::int[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::float8[],
                   $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[])
            as a(id, node, path, fence, step, message, approvers, fields, on_expiry, expires_at, about, call, agent, tool, operation, input)
     on conflict do nothing`,
    [
      run.id,
      run.namespace,
      run.workflow,
      asked.map((a) => a.id),
      asked.map((a) => a.node),
      asked.map((a) => a.path),
      asked.map((a) => a.fence),
      asked.map(nameOf),
      asked.map((a) => a.message),
      asked.map((a) => (a.approvers === null ? null : JSON.stringify(a.approvers))),
      asked.map((a) => (a.fields === null ? null : JSON.stringify(a.fields))),
      asked.map((a) => a.onExpiry),
      asked.map((a) => a.expiresAt),
      asked.map((a) => a.about?.about ?? null),
      asked.map((a) => a.about?.call ?? null),
      asked.map((a) => a.about?.agent ?? null),
      asked.map((a) => a.about?.tool ?? null),
      asked.map((a) => a.about?.operation ?? null),
      asked.map((a) => (a.about ? JSON.stringify(a.about.input) : null)),
    ],
    { name: 'insert_approvals' },
  )
}

async function answerApprovals(tx: Queryable, answered: BesideRows['answered']): Promise<void> {
  await tx.query(
    `update approval p set state = a.state::approval_state, decided_at = clock_now(), decided_by = a.by, comment = a.comment, given = a.given::jsonb,
                         edited = a.edited::jsonb, output = a.output::jsonb
       from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) as a(id, state, by, comment, given, edited, output)
      where p.id = a.id and p.state = 'pending'`,
    [
      answered.map((a) => a.id),
      answered.map((a) => a.state),
      answered.map((a) => a.decision?.by ?? null),
      answered.map((a) => a.decision?.comment ?? null),
      answered.map((a) => (a.decision?.fields ? JSON.stringify(a.decision.fields) : null)),
      answered.map((a) => (a.edited ? JSON.stringify(a.edited) : null)),
      answered.map((a) => (a.output === undefined || a.output === null ? null : JSON.stringify(a.output))),
    ],
    { name: 'answer_approvals' },
  )
}

async function takeEvents(tx: Queryable, runId: string, taken: BesideRows['taken']): Promise<void> {
  await tx.query(
    `update sent_event e set node = t.node, path = t.path
       from unnest($2::text[], $3::int[], $4::text[]) as t(id, node, path)
      where e.run_id = $1 and e.id = t.id and e.node is null`,
    [runId, taken.map((t) => t.id), taken.map((t) => t.node), taken.map((t) => t.path)],
    { name: 'take_events' },
  )
}

/** Runs below that are to be stopped; a tick stops them. Twice is safe. */
async function askForStops(tx: Queryable, runIds: readonly string[]): Promise<void> {
  await tx.query(
    `insert into stop_wish (run_id, asked_at) select distinct id, clock_now() from unnest($1::text[]) as id on conflict do nothing`,
    [runIds],
    { name: 'ask_for_stops' },
  )
}
