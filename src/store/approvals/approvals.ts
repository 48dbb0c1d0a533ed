import type { Json, JsonObject } from '../../base/json.ts'
import type { Queryable } from '../db.ts'

export const APPROVAL_STATES = ['pending', 'approved', 'denied', 'expired', 'canceled'] as const
export type ApprovalState = (typeof APPROVAL_STATES)[number]

export interface ApprovalRow {
  id: string
  run_id: string
  node: number
  path: string
  fence: number
  step: string
  namespace: string
  workflow: string
  message: string
  approvers: string[] | null
  fields: JsonObject | null
  on_expiry: 'approve' | 'deny'
  state: ApprovalState
  created_at: Date
  expires_at: Date | null
  decided_at: Date | null
  decided_by: string | null
  comment: string | null
  given: JsonObject | null
  /** Of a call of a tool; null of a step that asks. */
  about: 'call' | 'outcome' | null
  call: string | null
  agent: string | null
  tool: string | null
  operation: string | null
  input: JsonObject | null
  edited: JsonObject | null
  output: Json
  rule: string | null
  reason: string | null
}

/** An approval, or null when there is none in these namespaces (null: all). */
export async function findApproval(
  db: Queryable,
  id: string,
  namespaces: readonly string[] | null,
): Promise<ApprovalRow | null> {
  const rows = await db.query<ApprovalRow>(
    `select * from approval where id = $1 and in_reach(namespace, $2::text[])`,
    [id, namespaces],
    { name: 'find_approval' },
  )
  return rows[0] ?? null
}

export interface ApprovalFilter {
  namespaces: readonly string[] | null
  /** Empty means all. */
  states: readonly ApprovalState[]
  runId: string | null
  step: string | null
  /** Approvals before this id; null from the newest. */
  before: string | null
  limit: number
}

/** Newest first. */
export async function listApprovals(db: Queryable, f: ApprovalFilter): Promise<ApprovalRow[]> {
  return db.query<ApprovalRow>(
    `select * from approval
      where in_reach(namespace, $1::text[]) and (cardinality($2::text[]) = 0 or state::text = any($2::text[]))
        and ($3::text is null or run_id = $3) and ($4::text is null or step = $4) and ($5::text is null or id < $5)
      order by id desc limit $6`,
    [f.namespaces, f.states, f.runId, f.step, f.before, f.limit],
    { name: 'list_approvals' },
  )
}

/** Steps that wait for an approval whose row is not there: to be asked for again. */
export async function findMissingApprovals(
  db: Queryable,
  limit: number,
): Promise<{ runId: string; node: number; path: string }[]> {
  return db.query(
    `select s.run_id as "runId", s.node, s.path from step s
      where s.waits in ('event', 'approval') and s.waits = 'approval' and s.state = 'waiting'
        and not exists (select 1 from approval a where a.id = any(string_to_array(s.waits_on, ' ')))
      order by s.run_id, s.node, s.path limit $1`,
    [limit],
    { name: 'find_missing_approvals' },
  )
}

/** The name of a token: what approvers may be listed by. */
export async function findTokenName(db: Queryable, id: string): Promise<string | null> {
  const rows = await db.query<{ name: string }>(`select name from token where id = $1`, [id], {
    name: 'find_token_name',
  })
  return rows[0]?.name ?? null
}

/** What approvals ask that are not decided, by id; those that are not there are left out. */
export async function findQuestions(
  db: Queryable,
  ids: readonly string[],
): Promise<Map<string, { approval: string; message: string; isCall: boolean }>> {
  if (ids.length === 0) return new Map()
  const rows = await db.query<{ approval: string; message: string; isCall: boolean }>(
    `select id as approval, message, about is not null as "isCall" from approval where id = any($1::text[]) and state = 'pending'`,
    [ids],
    { name: 'find_questions' },
  )
  return new Map(rows.map((r) => [r.approval, r]))
}
