import { nearest } from '../../base/nearest.ts'
import type { ChildCall, ParkedOn, WorkerEntry } from '../../domain/agents/journal.ts'
import type { ToolResult } from '../../domain/agents/tool-envelope.ts'
import { failureRecord } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { Action, ReadyCall, ToolAsked } from './action.ts'
import { inputProblems, invalidInput, standingOf } from './call-standing.ts'
import { type AgentPlan, agentSpecOf } from './plan.ts'
import type { TableEntry, ToolTable } from './tool-table.ts'
import { callKey, type CallState, type TurnRecord, type TurnState } from './turn-state.ts'

/** What the calls of a turn need next; null when all of them have their results. */
export function nextOfTools(plan: AgentPlan, state: TurnState, turn: TurnRecord): Action | null {
  const open = turn.calls.filter(({ result }) => result === null)
  if (open.length === 0) return null
  if (turn.calls.every(({ asked, result }) => asked === null && result === null)) {
    const over = overCalls(plan, state) ?? looping(plan, state, turn)
    if (over) return over
  }
  const table = plan.tools(turn.agent)
  const fresh = open.filter(({ asked }) => asked === null).map((call) => plannedOf(plan, state, { turn, call, table }))
  const local = fresh.flatMap((one) => (one.kind === 'local' ? [answered(one.call, one.result)] : []))
  if (local.length > 0) return { do: 'write', entries: local }
  const asks = fresh.flatMap((one) => (one.kind === 'ask' ? [one.entry] : []))
  if (asks.length > 0) return { do: 'ask_tools', entries: asks }
  const standing = open.filter(({ asked }) => asked !== null).map((call) => ({ call, entry: entryFor(table, call) }))
  return nextOfAsked(plan, turn, standing)
}

const answered = (call: string, result: ToolResult): WorkerEntry => ({
  kind: 'tool_answered',
  call,
  result,
  ms: 0,
  cut: 0,
})

/** A call that was asked for, with the tool as it is offered now; one that is gone meanwhile is told so when it is called. */
function entryFor({ entries }: ToolTable, { call, tool }: CallState): TableEntry | { gone: string; call: string } {
  return entries.get(tool) ?? { gone: tool, call }
}

type Planned =
  | { kind: 'local'; call: string; result: ToolResult }
  | { kind: 'ask'; entry: ToolAsked }
  /** The same call stands before it in this turn and has no result yet. */
  | { kind: 'later' }

function plannedOf(
  plan: AgentPlan,
  state: TurnState,
  { turn, call, table }: { turn: TurnRecord; call: CallState; table: ToolTable },
): Planned {
  const local = (result: ToolResult): Planned => ({ kind: 'local', call: call.call, result })
  const entry = table.entries.get(call.tool)
  if (!entry) return local(unknownTool(call.tool, [...table.entries.keys()]))
  if (call.input === null) return local(notAnObject(call.text))
  const problems = inputProblems(entry, call.input)
  if (problems.length > 0) return local(invalidInput(problems))
  const { duplicateCalls } = agentSpecOf(plan).execution
  if (duplicateCalls !== 'allow' && entry.source.by !== 'handoff') {
    const former = formerCall(state, call)
    if (former?.result === null) return { kind: 'later' }
    if (former?.result?.ok === true) return local(duplicateCalls === 'replay' ? former.result : duplicate(call.tool))
  }
  const { offered } = entry
  return {
    kind: 'ask',
    entry: {
      kind: 'tool_asked',
      call: call.call,
      turn: turn.turn,
      agent: turn.agent,
      tool: call.tool,
      operation: offered.operation,
      input: call.input,
      repeatable: offered.repeatable,
    },
  }
}

/** The latest equal call before this one that succeeded, or that has no result yet. */
function formerCall(state: TurnState, call: CallState): CallState | null {
  const key = callKey(call)
  let found: CallState | null = null
  for (const other of state.calls.values()) {
    if (other === call) break
    if (other.result?.ok !== false && callKey(other) === key) found = other
  }
  return found
}

/** What asked calls need: those that may be made, then runs below, all of them side by side, then people; and the conversation is handed over when nothing else is left. */
function nextOfAsked(
  plan: AgentPlan,
  turn: TurnRecord,
  standing: readonly { call: CallState; entry: TableEntry | { gone: string; call: string } }[],
): Action | null {
  const writes: WorkerEntry[] = []
  const ready: ReadyCall[] = []
  const children: ChildCall[] = []
  let outcome: ParkedOn | null = null
  const approvals: string[] = []
  const handoffs: { call: string; to: string }[] = []
  for (const { call, entry } of standing) {
    if ('gone' in entry) {
      writes.push(answered(call.call, unknownTool(entry.gone, [])))
      continue
    }
    const at = standingOf(call, entry, plan.fence)
    const { source } = entry
    if (at.kind === 'refused') writes.push(answered(call.call, at.result))
    else if (at.kind === 'approval') approvals.push(at.approval)
    else if (source.by === 'handoff') handoffs.push({ call: call.call, to: source.agent })
    else if (source.by === 'child')
      children.push({ call: call.call, of: source.of, name: source.name, inputs: at.input })
    else if (at.kind === 'outcome') outcome ??= { type: 'outcome', call: call.call, tool: call.tool, input: at.input }
    else ready.push({ call: call.call, tool: call.tool, agent: turn.agent, entry, input: at.input })
  }
  if (writes.length > 0) return { do: 'write', entries: writes }
  if (ready.length > 0) return { do: 'call_tools', calls: ready }
  if (children.length > 0) return { do: 'park', on: { type: 'child', calls: children.slice(0, LIMITS.parkedOnMax) } }
  if (outcome) return { do: 'park', on: outcome }
  if (approvals.length > 0)
    return { do: 'park', on: { type: 'approvals', approvals: approvals.slice(0, LIMITS.parkedOnMax) } }
  return handOver(turn, handoffs)
}

function handOver(turn: TurnRecord, wishes: readonly { call: string; to: string }[]): Action | null {
  const [first, ...others] = wishes
  if (!first) return null
  const refusal: ToolResult = {
    ok: false,
    code: 'tool.invalid_input',
    reason: `the conversation was handed over to ${first.to} already`,
    retryable: false,
  }
  return {
    do: 'write',
    entries: [
      answered(first.call, { ok: true, output: `The conversation goes on with the agent ${first.to}.` }),
      ...others.map(({ call }) => answered(call, refusal)),
      { kind: 'handed_over', turn: turn.turn, from: turn.agent, to: first.to },
    ],
  }
}

function overCalls(plan: AgentPlan, state: TurnState): Action | null {
  const { maxToolCalls } = agentSpecOf(plan).limits
  if (maxToolCalls === undefined || state.calls.size <= maxToolCalls) return null
  const evidence = { agent: state.agent, maxToolCalls, asked: state.calls.size }
  const failure = failureRecord('agent.tool_call_limit', `running agent ${plan.agent} in ${plan.what}`, { evidence })
  return { do: 'end', end: { ok: false, failure } }
}

/** The same call again and again, alone or as the same calls of whole turns. */
function looping(plan: AgentPlan, state: TurnState, turn: TurnRecord): Action | null {
  const { maxRepeats } = agentSpecOf(plan, turn.agent).limits
  const keys = [...state.calls.values()].map(callKey)
  const turns = state.turns.map(({ agent, calls }) => [agent, ...calls.map(callKey).sort()].join('\n'))
  const repeats = Math.max(repeatsIn(keys, turn.calls.length), repeatsIn(turns, 1))
  if (repeats <= maxRepeats) return null
  const tools = [...new Set(turn.calls.map(({ tool }) => tool))]
  const evidence = { agent: turn.agent, tools, repeats, maxRepeats, input: turn.calls[0]?.input ?? null }
  const failure = failureRecord('agent.loop_detected', `running agent ${plan.agent} in ${plan.what}`, { evidence })
  return { do: 'end', end: { ok: false, failure } }
}

/** How often, at most, one of the last `count` keys followed itself. */
function repeatsIn(keys: readonly string[], count: number): number {
  let most = 0
  let run = 0
  for (let i = 1; i < keys.length; i++) {
    run = keys[i] === keys[i - 1] ? run + 1 : 0
    if (i >= keys.length - count) most = Math.max(most, run)
  }
  return most
}

function unknownTool(tool: string, known: string[]): ToolResult {
  const near = nearest(tool, known)
  const hint = near === null ? '' : `; did you mean ${near}?`
  return {
    ok: false,
    code: 'tool.unknown',
    reason: `there is no tool ${JSON.stringify(tool.slice(0, 128))}${hint}`,
    retryable: false,
    evidence: { tool: tool.slice(0, 128), ...(near === null ? {} : { nearest: near }) },
  }
}

const notAnObject = (text: string): ToolResult => ({
  ok: false,
  code: 'tool.invalid_input',
  reason: `the arguments are no JSON object: ${text.slice(0, 200)}`,
  retryable: false,
})

const duplicate = (tool: string): ToolResult => ({
  ok: false,
  code: 'tool.duplicate_call',
  reason: `${tool} was called with the same arguments before; its output stands above`,
  retryable: false,
})
