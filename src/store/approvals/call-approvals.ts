import type { CallApproval } from '../../domain/advance/needs.ts'
import type { OperationClass } from '../../domain/agents/verdict.ts'
import type { JsonObject } from '../../base/json.ts'
import type { StepKey } from '../../domain/step.ts'
import type { Queryable } from '../db.ts'

/** A call of a tool that a person has to allow. */
export interface NewCallApproval extends StepKey {
  id: string
  runId: string
  fence: number
  /** The step's name with indices. */
  step: string
  namespace: string
  workflow: string
  message: string
  rule: string
  reason: string | null
  approvers: readonly string[] | null
  expiresMs: number | null
  call: string
  agent: string | null
  tool: string
  operation: OperationClass
  input: JsonObject
}

/** Asks for approvals of calls. One that is there already stays. */
export async function askForCalls(tx: Queryable, asked: readonly NewCallApproval[]): Promise<void> {
  await tx.query(
    `insert into approval (id, run_id, node, path, fence, step, namespace, workflow, message, approvers, on_expiry, state, created_at, expires_at,
                           about, call, agent, tool, operation, input, rule, reason)
     select a.id, a.run_id, a.node, a.path, a.fence, a.step, a.namespace, a.workflow, a.message,
            (select array_agg(x) from jsonb_array_elements_text(a.approvers::jsonb) as x), 'deny', 'pending', clock_now(),
            clock_now() + a.expires * interval '1 ms', 'call', a.call, a.agent, a.tool, a.operation, a.input::jsonb, a.rule, a.reason
       from unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::int[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::float8[],
                   $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
                   $17::text[], $18::text[])
            as a(id, run_id, node, path, fence, step, namespace, workflow, message, approvers, expires, call, agent, tool, operation, input, rule, reason)
     on conflict do nothing`,
    [
      asked.map((a) => a.id),
      asked.map((a) => a.runId),
      asked.map((a) => a.node),
      asked.map((a) => a.path),
      asked.map((a) => a.fence),
      asked.map((a) => a.step),
      asked.map((a) => a.namespace),
      asked.map((a) => a.workflow),
      asked.map((a) => a.message),
      asked.map((a) => (a.approvers === null ? null : JSON.stringify(a.approvers))),
      asked.map((a) => a.expiresMs),
      asked.map((a) => a.call),
      asked.map((a) => a.agent),
      asked.map((a) => a.tool),
      asked.map((a) => a.operation),
      asked.map((a) => JSON.stringify(a.input)),
      asked.map((a) => a.rule),
      asked.map((a) => a.reason),
    ],
    { name: 'ask_for_calls' },
  )
}

/** Approvals of calls of one run, locked; those that are not there are left out. */
export async function lockCallApprovals(tx: Queryable, runId: string, ids: readonly string[]): Promise<CallApproval[]> {
  const rows = await tx.query<Omit<CallApproval, 'expiresAt'> & { expires_at: Date | null }>(
    `select id, node, path, fence, state, about, call, expires_at from approval
      where id = any($2::text[]) and run_id = $1 and about is not null order by id for update`,
    [runId, ids],
    { name: 'lock_call_approvals' },
  )
  return rows.map(({ expires_at: at, ...row }) => ({ ...row, expiresAt: at?.getTime() ?? null }))
}

/** Nobody has to decide about the calls of these activations any more. */
export async function closeCallApprovals(tx: Queryable, keys: readonly (StepKey & { runId: string })[]): Promise<void> {
  await tx.query(
    `update approval p set state = 'canceled', decided_at = clock_now()
       from unnest($1::text[], $2::int[], $3::text[]) as k(run_id, node, path)
      where p.run_id = k.run_id and p.node = k.node and p.path = k.path and p.about is not null and p.state = 'pending'`,
    [keys.map((k) => k.runId), keys.map((k) => k.node), keys.map((k) => k.path)],
    { name: 'close_call_approvals' },
  )
}

/** Approvals of calls that are open though the step has ended: its end was recorded and the server stopped before it closed them. */
export async function findForgottenCalls(db: Queryable, limit: number): Promise<(StepKey & { runId: string })[]> {
  return db.query(
    `select distinct p.run_id as "runId", p.node, p.path from approval p
       join step s on s.run_id = p.run_id and s.node = p.node and s.path = p.path
      where p.state = 'pending' and p.about is not null and s.state in ('succeeded', 'failed', 'skipped', 'blocked', 'canceled') limit $1`,
    [limit],
    { name: 'find_forgotten_calls' },
  )
}
