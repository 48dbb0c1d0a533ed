import { derivedId } from '../../base/ids.ts'
import type { JsonObject } from '../../base/json.ts'
import { askedCallOf, targetOf } from '../agents/asked-call.ts'
import type { ChildCall, JournalEntry, ParkedOn, ServerEntry } from '../agents/journal.ts'
import type { ToolResult } from '../agents/tool-envelope.ts'
import { Failure, failureRecord } from '../failure.ts'
import { checkInputs } from '../inputs.ts'
import { isStepTerminal } from '../machines.ts'
import { idsOf, keyOf, keyText, type Step } from '../step.ts'
import { isJournaled } from '../workflow.ts'
import { failStep } from './attempts.ts'
import { findWorkflow } from './begin-step.ts'
import type { ChildEnd, Happening } from './happenings.ts'
import type { CallApproval, Given, Need } from './needs.ts'
import type { Round } from './round.ts'

/** A budget that refused is asked again no sooner than after this. */
const BUDGET_WAIT_MIN_MS = 1_000

/** An attempt has ended because its step has to wait. What it waits for may be there already: then the step goes back into its queue at once. */
export function* parkAttempt(
  round: Round,
  step: Step & { state: 'running' },
  on: ParkedOn,
): Generator<Need, void, Given> {
  round.endAttempt(step, 'parked', null)
  // What journals nothing has nothing to go on from.
  if (!isJournaled(round.node(step.node))) return goOn(round, step)
  switch (on.type) {
    case 'approvals':
      return yield* waitForApprovals(round, step, on.approvals)
    case 'outcome':
      return askForOutcome(round, step, on)
    case 'child':
      return yield* startBelow(round, step, on.calls)
    case 'budget':
      return yield* waitForBudgets(round, step, on)
  }
}

/** Back into its queue: the next attempt goes on where the journal ends. */
function goOn(round: Round, step: Step): void {
  round.put(step, { type: 'requeued', loss: false, expiresAt: round.expiry(step) }, { answered: true })
}

/** Waits until all of them are decided; those whose time is over are. A step whose approvals are gone can never go on: it fails. */
function* waitForApprovals(
  round: Round,
  step: Step & { state: 'running' | 'waiting' },
  ids: readonly string[],
): Generator<Need, void, Given> {
  const asked = yield* approvalsOf(round, step, ids)
  const lost = ids.find((id) => !asked.some((a) => a.id === id && a.state !== 'canceled'))
  if (lost !== undefined) {
    const doing = `waiting for ${lost} in ${round.nameOf(step)}: it is not there any more`
    return failStep(round, step, failureRecord('approval.missing', doing, { evidence: { approval: lost } }))
  }
  const { now } = round.input
  const open = asked.filter((a) => a.state === 'pending' && !isOverdue(a, now))
  for (const a of asked) if (a.state === 'pending' && isOverdue(a, now)) decideCall(round, step, a, null)
  if (open.length === 0) return goOn(round, step)
  const times = open.flatMap((a) => a.expiresAt ?? [])
  const until = times.length > 0 ? Math.min(...times) : null
  if (step.state === 'running')
    round.put(step, { type: 'parked', waits: 'approval', on: ids.join(' '), until }, { answered: true })
  else round.keep({ ...step, dueAt: until })
}

const isOverdue = (a: CallApproval, now: number): boolean => a.expiresAt !== null && a.expiresAt <= now

/** Those of this try of the step, as they stand with what was decided in this very round. */
function* approvalsOf(round: Round, step: Step, ids: readonly string[]): Generator<Need, CallApproval[], Given> {
  const given = yield { type: 'approvals', ids: [...ids] }
  const here = (given.approvals ?? []).filter(
    (a) => a.node === step.node && a.path === step.path && a.fence > step.journalFrom,
  )
  return here.map((a) => ({ ...a, state: round.beside.answered.findLast((x) => x.id === a.id)?.state ?? a.state }))
}

/** Writes a decision down beside the approval's row; null: nobody decided in time. */
function decideCall(
  round: Round,
  step: Step,
  asked: CallApproval,
  decision: Extract<Happening, { type: 'call_decided' }>['decision'] | null,
): void {
  const { id: approval, call, about } = asked
  const state = decision === null ? 'expired' : decision.approved ? 'approved' : 'denied'
  const { by = null, comment = null, input = null, output = null } = decision ?? {}
  round.beside.answered.push({
    id: approval,
    state,
    decision: decision && { approved: decision.approved, by: decision.by, comment, fields: null },
    edited: input,
    output,
  })
  const at = new Date(round.input.now).toISOString()
  write(round, step, { kind: 'decided', call, approval, about, state, by, comment, at, input, output })
}

function write(round: Round, step: Step, entry: ServerEntry): void {
  round.beside.journaled.push({ ...keyOf(step), fence: step.fence, entry })
}

/** A person decided about a call. It counts whether the attempt that asked runs still or waits; the first decision alone. */
export function* callDecided(
  round: Round,
  step: Step,
  h: Extract<Happening, { type: 'call_decided' }>,
): Generator<Need, void, Given> {
  const [asked] = yield* approvalsOf(round, step, [h.approval])
  if (asked?.state !== 'pending' || isStepTerminal(step.state)) return void round.result.stale.push(h)
  const isLate = isOverdue(asked, round.input.now)
  if (isLate) round.result.stale.push(h)
  decideCall(round, step, asked, isLate ? null : h.decision)
  if (step.state === 'waiting' && step.waits === 'approval' && idsOf(step).includes(asked.id))
    yield* waitForApprovals(round, step, idsOf(step))
}

/** The call was asked for and its answer is lost; it must not simply be made again. A person knows, or finds out. */
function askForOutcome(
  round: Round,
  step: Step & { state: 'running' },
  { call, tool, input }: Extract<ParkedOn, { type: 'outcome' }>,
): void {
  const { now } = round.input
  const id = derivedId('approval', `${round.run.id}/${keyText(step)}/${step.fence}/${call}/outcome`, now)
  round.beside.asked.push({
    ...keyOf(step),
    id,
    fence: step.fence,
    expiresAt: null,
    message: `Whether ${tool} was called is not known (tool.outcome_unknown). Approve: call it again, or give what it gave. Deny: it counts as failed.`,
    approvers: null,
    onExpiry: 'deny',
    fields: null,
    about: { about: 'outcome', call, agent: null, tool, operation: null, input },
  })
  round.put(step, { type: 'parked', waits: 'approval', on: id, until: null }, { answered: true })
}

/** Starts the runs that the agent asked for, side by side, and waits for all of them. One that cannot be started is what its call gave. */
function* startBelow(
  round: Round,
  step: Step & { state: 'running' },
  calls: readonly ChildCall[],
): Generator<Need, void, Given> {
  const runs: string[] = []
  for (const one of new Map(calls.map((call) => [call.call, call])).values()) {
    const run = yield* beginBelow(round, step, one)
    if (run !== null) runs.push(run)
  }
  if (runs.length === 0) return goOn(round, step)
  round.put(step, { type: 'parked', waits: 'child', on: runs.join(' '), until: null }, { answered: true })
}

/** The run that one call begins, or that it began; null when there is nothing to wait for: the call has its answer. */
function* beginBelow(
  round: Round,
  step: Step & { state: 'running' },
  asked: ChildCall,
): Generator<Need, string | null, Given> {
  const { call, of, name } = asked
  const doing = `starting ${of} ${name} for ${round.nameOf(step)}`
  try {
    const hash = boundHash(round, asked)
    if (hash === null) throw new Failure('child.definition_not_found', doing, { evidence: { [of]: name } })
    const { entries = [] } = yield { type: 'call_entries', ...keyOf(step), call, after: step.journalFrom }
    if (entries.some((entry) => entry.kind === 'child_ended')) return null
    const begun = entries.findLast((entry) => entry.kind === 'child_started')
    if (begun) return begun.run
    const intent = mayBegin(round, asked, entries)
    if (!intent) throw new Failure('tool.permission_denied', doing, { evidence: { [of]: name, call } })
    // How many runs there are is known here alone: the run is held, so that of all that begin at once no more do than may.
    const { refusal = null } = yield {
      type: 'delegation',
      call: askedCallOf(round.input.definition, round.run.id, { ...intent, agent: agentIn(round, step, intent.agent) }),
      begun: round.beside.children.length,
    }
    if (refusal) {
      const { code, rule, reason, remediation } = refusal
      const result = failed(code, `${reason} (${rule})`, { retryable: false, evidence: { rule, remediation } })
      write(round, step, { kind: 'child_ended', call, run: '', result })
      return null
    }
    const workflow = yield* findWorkflow(round, { hash })
    if (workflow instanceof Failure) throw workflow
    const inputs = checkInputs(workflow, asked.inputs)
    const runId = derivedId('run', `${round.run.id}/${keyText(step)}/${step.fence}/${call}`, round.input.now)
    write(round, step, { kind: 'child_started', call, run: runId })
    round.beside.children.push({ ...keyOf(step), runId, fence: step.fence, workflow, inputs })
    return runId
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const { code, message, evidence, retryable } = error.toRecord()
    write(round, step, { kind: 'child_ended', call, run: '', result: failed(code, message, { retryable, evidence }) })
    return null
  }
}

/** Null when a step calls the tool by itself. */
const agentIn = (round: Round, step: Step, agent: string): string | null =>
  round.node(step.node).kind === 'agent' ? agent : null

/**
 * What the journal says that the call asks for; null unless it gives this work away and may be made: the word of the worker alone begins no run.
 */
function mayBegin(
  round: Round,
  { of, name }: ChildCall,
  entries: readonly JournalEntry[],
): Extract<JournalEntry, { kind: 'tool_asked' }> | null {
  const { bound } = round.input.definition
  const asked = entries.findLast((entry) => entry.kind === 'tool_asked')
  const word = entries.findLast((entry) => entry.kind === 'verdict')?.verdict.verdict
  if (!asked || !word || word === 'deny') return null
  const target = targetOf(bound, bound?.agents[asked.agent]?.spec, asked.tool)
  if (target?.of !== of || target.name !== name) return null
  const decided = entries.findLast((entry) => entry.kind === 'decided' && entry.about === 'call')
  return word === 'allow' || (decided?.kind === 'decided' && decided.state === 'approved') ? asked : null
}

function boundHash(round: Round, { of, name }: ChildCall): string | null {
  const { bound } = round.input.definition
  if (!bound) return null
  if (of === 'agent') return Object.hasOwn(bound.agents, name) ? (bound.agents[name]?.definition ?? null) : null
  return Object.hasOwn(bound.workflows, name) ? (bound.workflows[name]?.hash ?? null) : null
}

const failed = (
  code: (ToolResult & { ok: false })['code'],
  reason: string,
  { retryable, evidence }: { retryable: boolean; evidence: JsonObject | undefined },
): ToolResult => ({ ok: false, code, reason, retryable, ...(evidence ? { evidence } : {}) })

/** A run below has ended: that is the answer to its call, however it ended. The step goes on when none is left. */
export function* belowEnded(
  round: Round,
  step: Step & { state: 'waiting' },
  { run, end }: Extract<Happening, { type: 'child_ended' }>,
): Generator<Need, void, Given> {
  const { call = '' } = yield { type: 'child_call', ...keyOf(step), run }
  write(round, step, { kind: 'child_ended', call, run, result: resultOf(round, run, end) })
  const left = idsOf(step).filter((id) => id !== run)
  if (left.length === 0) goOn(round, step)
  else round.keep({ ...step, on: left.join(' ') })
}

function resultOf(round: Round, run: string, end: ChildEnd): ToolResult {
  const { bound } = round.input.definition
  if (end.state === 'succeeded') {
    // What an agent gives is the output of its one step.
    const isAgent = bound && Object.values(bound.agents).some((agent) => agent.definition === end.definition)
    const isNamed = typeof end.output === 'object' && end.output !== null && !Array.isArray(end.output)
    const output = isAgent && isNamed ? (Object.values(end.output as JsonObject)[0] ?? null) : end.output // as isNamed says
    return { ok: true, output }
  }
  const { failure } = end
  const why = failure ? `: ${failure.message}` : ''
  const how = end.state === 'failed' ? 'failed' : 'was canceled'
  return failed(end.state === 'failed' ? 'child.failed' : 'child.canceled', `${run} ${how}${why}`, {
    retryable: false,
    evidence: { run, state: end.state, ...(failure ? { code: failure.code } : {}) },
  })
}

function* waitForBudgets(
  round: Round,
  step: Step & { state: 'running' },
  { budgets, retryAfterMs }: Extract<ParkedOn, { type: 'budget' }>,
): Generator<Need, void, Given> {
  // One that let go of those who wait since this attempt began may have more now: it is asked anew.
  const { isWoken = false } = yield { type: 'budgets_woken', ...keyOf(step), budgets }
  if (isWoken) return goOn(round, step)
  const until = retryAfterMs === null ? null : round.input.now + Math.max(BUDGET_WAIT_MIN_MS, retryAfterMs)
  round.put(step, { type: 'parked', waits: 'budget', on: budgets.join(' '), until }, { answered: true })
}

/** The time of an agent's step that waits has come: approvals nobody decided on expire, a budget is asked again. */
export function* waitOfAgentIsOver(round: Round, step: Step & { state: 'waiting' }): Generator<Need, void, Given> {
  if (step.waits === 'approval') yield* waitForApprovals(round, step, idsOf(step))
  else goOn(round, step)
}
