import type { Json, JsonObject } from '../base/json.ts'
import type { Happening } from '../domain/advance/happenings.ts'
import type { ApprovalView, CallView, Page } from '../contract/api-types.ts'
import { schemaOfCall } from '../domain/agents/call-schemas.ts'
import { Failure, failureOfProblems } from '../domain/failure.ts'
import { validateJson } from '../domain/json-schema.ts'
import { LIMITS } from '../domain/limits.ts'
import {
  type ApprovalFilter,
  type ApprovalRow,
  findApproval,
  findTokenName,
  listApprovals as listRows,
} from '../store/approvals/approvals.ts'
import { findRun } from '../store/runs/read-runs.ts'
import type { EngineContext } from './context.ts'
import type { Caller } from './engine.ts'
import { type Settled, settleRun } from './settle.ts'
import { reach } from './visible.ts'

/** The one user of an engine inside a command of their own: nobody else could decide there. */
const EMBEDDED = 'embedded'

export interface DecisionWish {
  approved: boolean
  comment: string | null
  /** What the approval asks for along with it. */
  inputs: JsonObject | null
  /** Of a call of a tool: other arguments than those that were asked. */
  input?: JsonObject | null
  /** Of a call whose outcome is not known: what it gave; null: it is made again. */
  output?: Json
}

const iso = (date: Date | null): string | null => date?.toISOString() ?? null

const viewOf = (row: ApprovalRow, remark: string | null = null): ApprovalView => ({
  id: row.id,
  run: row.run_id,
  step: row.step,
  namespace: row.namespace,
  workflow: row.workflow,
  state: row.state,
  message: row.message,
  approvers: row.approvers,
  inputs: row.fields,
  onExpiry: row.on_expiry,
  createdAt: row.created_at.toISOString(),
  expiresAt: iso(row.expires_at),
  decidedAt: iso(row.decided_at),
  decidedBy: row.decided_by,
  comment: row.comment,
  given: row.given,
  call: callOf(row),
  remark,
})

function callOf(row: ApprovalRow): CallView | null {
  const { about, call, tool, agent, operation, input, edited, output, rule, reason } = row
  if (about === null || call === null || tool === null || input === null) return null
  return { about, id: call, agent, tool, operation, input, edited, output, rule, reason }
}

export async function getApproval(ctx: EngineContext, caller: Caller, id: string): Promise<ApprovalView> {
  const row = await findApproval(ctx.db, id, reach(caller))
  if (!row) throw new Failure('approval.not_found', `looking for approval ${id}`)
  return viewOf(row)
}

/** Newest first. */
export async function listApprovals(ctx: EngineContext, filter: ApprovalFilter): Promise<Page<ApprovalView>> {
  const size = Math.min(filter.limit, LIMITS.pageMax)
  const rows = await listRows(ctx.db, { ...filter, limit: size + 1 })
  const next = rows.length > size ? (rows[size - 1]?.id ?? null) : null
  return { items: rows.slice(0, size).map((row) => viewOf(row)), next }
}

/**
 * Decides an approval. Of several decisions exactly one counts: the run's lock orders them, and who comes second learns what counts
 * (`approval.already_decided`). Whoever is not among the approvers changes nothing.
 */
export async function decideApproval(
  ctx: EngineContext,
  caller: Caller,
  id: string,
  wish: DecisionWish,
): Promise<{ view: ApprovalView; settled: Settled | null }> {
  const doing = `${wish.approved ? 'approving' : 'denying'} ${id}`
  const row = await findApproval(ctx.db, id, reach(caller))
  if (!row) throw new Failure('approval.not_found', doing)
  const name = (await findTokenName(ctx.db, caller.actor)) ?? caller.actor
  const known = [caller.actor, name, caller.role]
  if (row.approvers && caller.actor !== EMBEDDED && !row.approvers.some((approver) => known.includes(approver)))
    throw new Failure('approval.not_eligible', doing, { evidence: { approvers: row.approvers, you: name } })
  if (row.state !== 'pending') throw decided(row, doing)
  const happening = happeningOf(row, { wish, by: name, doing })
  const remark = wish.input ? await checkArguments(ctx, row, { input: wish.input, doing }) : null
  const settled = await settleRun(ctx, row.run_id, [happening])
  const after = (await findApproval(ctx.db, id, null)) ?? row
  if (!settled || settled.stale.length > 0) throw decided(after, doing)
  return { view: viewOf(after, remark), settled }
}

function happeningOf(
  row: ApprovalRow,
  { wish, by, doing }: { wish: DecisionWish; by: string; doing: string },
): Happening {
  const { id, node, path, fence, about } = row
  const { approved, comment, input = null, output = null } = wish
  const refuse = (what: string) => new Failure('input.invalid', `${doing}: ${what}`)
  if (input !== null && about !== 'call') throw refuse('only the arguments of a call that was not made can be changed')
  if (output !== null && about !== 'outcome')
    throw refuse('only of a call whose outcome is not known it can be said what it gave')
  const fields = approved ? checkFields(row, wish.inputs, doing) : null
  if (about === null) return { type: 'decided', node, path, fence, decision: { approved, by, comment, fields } }
  return { type: 'call_decided', node, path, approval: id, decision: { approved, by, comment, input, output } }
}

const decided = (row: ApprovalRow, doing: string): Failure =>
  new Failure('approval.already_decided', doing, {
    evidence: { state: row.state, by: row.decided_by, at: iso(row.decided_at), comment: row.comment },
  })

/** Other arguments of a call have to be such as its tool takes. What is not known of that here is what the answer says. */
async function checkArguments(
  ctx: EngineContext,
  { run_id: runId, tool, agent }: ApprovalRow,
  { input, doing }: { input: JsonObject; doing: string },
): Promise<string | null> {
  const run = await findRun(ctx.db, runId, null)
  if (!run || tool === null) return null
  const { bound } = (await ctx.definitions.get(run.definition)).definition
  const { schema, server } = schemaOfCall(bound, agent, tool)
  const problems = schema ? validateJson(input, schema, { mode: 'plain', code: 'input.invalid', root: 'input' }) : []
  if (problems.length > 0) throw failureOfProblems(problems, doing)
  return server === null
    ? null
    : `The arguments are checked when ${tool} is called: what it takes is known to the MCP server ${server} alone. Wrong ones fail the call with tool.invalid_input.`
}

/** What was given along with an approval, with the schema's defaults filled in. */
function checkFields(row: ApprovalRow, given: JsonObject | null, doing: string): JsonObject | null {
  if (row.fields === null) {
    if (given === null) return null
    throw new Failure('input.invalid', `${doing}: this approval takes no inputs`)
  }
  const filled = structuredClone(given ?? {})
  const problems = validateJson(filled, row.fields, { mode: 'filling', code: 'input.invalid', root: 'inputs' })
  if (problems.length > 0) throw failureOfProblems(problems, doing)
  return filled
}
