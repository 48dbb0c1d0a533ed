import { assert } from '../../base/assert.ts'
import type { Json, JsonObject } from '../../base/json.ts'
import type {
  JournalEntry,
  RecordedResult,
  ServerEntry,
  StoredEntry,
  WorkerEntry,
} from '../../domain/agents/journal.ts'
import type { ToolResult } from '../../domain/agents/tool-envelope.ts'
import type { Verdict } from '../../domain/agents/verdict.ts'
import type { FailureRecord } from '../../domain/failure.ts'

type Of<K extends JournalEntry['kind']> = Extract<JournalEntry, { kind: K }>

/** One model call of a turn: the endpoint that was asked, and what became of it. */
export interface ModelAsk {
  entry: Of<'model_asked'>
  answer: RecordedResult | null
  failed: FailureRecord | null
}

/** What is known of one call of a tool. */
export interface CallState {
  call: string
  /** As the model called it. */
  tool: string
  /** Null: what the model wrote is no JSON object. */
  input: JsonObject | null
  text: string
  asked: { fence: number; entry: Of<'tool_asked'> } | null
  verdict: Verdict | null
  approval: string | null
  /** A person's word on whether it may be made. */
  decided: { fence: number; entry: Of<'decided'> } | null
  /** A person's word on whether it was made. */
  outcome: { fence: number; entry: Of<'decided'> } | null
  child: string | null
  result: ToolResult | null
  cut: number
}

export interface Judgement {
  asks: ModelAsk[]
  answer: RecordedResult | null
}

export interface TurnRecord {
  turn: number
  agent: string
  purpose: 'turn' | 'repair'
  asks: ModelAsk[]
  answer: RecordedResult | null
  calls: CallState[]
  judgements: Judgement[]
  handedTo: string | null
}

/** All that the journal of an activation says. */
export interface TurnState {
  /** Who has the conversation. */
  agent: string
  turns: TurnRecord[]
  /** Of a route step. */
  route: Judgement
  calls: Map<string, CallState>
  asks: Map<string, ModelAsk>
  spent: {
    tokens: number
    money: number
    currency: string | null
    /** Calls without a known price. */ unpriced: number
  }
  /** Time that attempts before this one worked, in ms: what passed between their first and their last entry. */
  workedMs: number
  /** First and last entry of the attempt that wrote last, in ms since the epoch. */
  span: { fence: number; from: number; to: number } | null
}

export function emptyState(agent: string): TurnState {
  return {
    agent,
    turns: [],
    route: { asks: [], answer: null },
    calls: new Map(),
    asks: new Map(),
    spent: { tokens: 0, money: 0, currency: null, unpriced: 0 },
    workedMs: 0,
    span: null,
  }
}

/** Pure: what a journal says. The same entries give the same state. */
export function foldJournal(entries: readonly StoredEntry[], agent: string): TurnState {
  const state = emptyState(agent)
  for (const stored of entries) applyEntry(state, stored)
  return state
}

/** Takes one more entry into `state`. `at` is null of what is not written yet. */
export function applyEntry(
  state: TurnState,
  { entry, fence, at }: { entry: JournalEntry; fence: number; at: string | null },
): void {
  if (at !== null && isWorkers(entry)) spanTo(state, fence, Date.parse(at))
  switch (entry.kind) {
    case 'model_asked':
      return modelAsked(state, entry)
    case 'model_answered':
      return modelAnswered(state, entry)
    case 'model_failed':
      askOf(state, entry.call).failed = entry.failure
      return
    case 'handed_over': {
      const turn = lastTurn(state)
      turn.handedTo = entry.to
      state.agent = entry.to
      return
    }
    default:
      return applyToCall(state, entry, fence)
  }
}

function applyToCall(
  state: TurnState,
  entry: Of<'tool_asked' | 'tool_answered' | 'verdict' | 'decided' | 'child_started' | 'child_ended'>,
  fence: number,
): void {
  const call = state.calls.get(entry.call) ?? (entry.kind === 'tool_asked' ? ownCall(state, entry) : null)
  assert(call, `the journal names the call ${entry.call} before it was asked for`)
  switch (entry.kind) {
    case 'tool_asked':
      call.asked = { fence, entry }
      return
    case 'tool_answered':
      call.result = entry.result
      call.cut = entry.cut
      return
    case 'verdict':
      call.verdict = entry.verdict
      call.approval = entry.approval
      return
    case 'decided':
      if (entry.about === 'call') call.decided = { fence, entry }
      else call.outcome = { fence, entry }
      return
    case 'child_started':
      call.child = entry.run
      return
    case 'child_ended':
      call.child = entry.run
      call.result = entry.result
  }
}

/** Of a step that calls a tool by itself. */
function ownCall(state: TurnState, { call, tool, input }: Of<'tool_asked'>): CallState {
  const made = newCall({ call, tool, input, text: '' })
  state.calls.set(call, made)
  return made
}

const newCall = (of: Pick<CallState, 'call' | 'tool' | 'input' | 'text'>): CallState => ({
  ...of,
  asked: null,
  verdict: null,
  approval: null,
  decided: null,
  outcome: null,
  child: null,
  result: null,
  cut: 0,
})

function modelAsked(state: TurnState, entry: Of<'model_asked'>): void {
  const ask: ModelAsk = { entry, answer: null, failed: null }
  state.asks.set(entry.call, ask)
  const { purpose, turn, agent } = entry
  if (purpose === 'route') {
    state.route.asks.push(ask)
    return
  }
  const last = state.turns.at(-1)
  if (purpose === 'judge') {
    assert(last, 'a judge was asked before there was an answer')
    const open = last.judgements.at(-1)
    if (open && open.answer === null) open.asks.push(ask)
    else last.judgements.push({ asks: [ask], answer: null })
    return
  }
  if (last && last.turn === turn) last.asks.push(ask)
  else
    state.turns.push({
      turn,
      agent,
      purpose,
      asks: [ask],
      answer: null,
      calls: [],
      judgements: [],
      handedTo: null,
    })
}

function modelAnswered(state: TurnState, { call, result }: Of<'model_answered'>): void {
  const ask = askOf(state, call)
  ask.answer = result
  const { spent } = state
  spent.tokens += result.usage.inputTokens + result.usage.outputTokens
  if (result.cost === null || (spent.currency !== null && spent.currency !== result.cost.currency)) spent.unpriced++
  else {
    spent.money += result.cost.amount
    spent.currency = result.cost.currency
  }
  if (ask.entry.purpose === 'route') state.route.answer = result
  else if (ask.entry.purpose === 'judge') {
    const judgement = lastTurn(state).judgements.at(-1)
    assert(judgement, `the judge's call ${call} belongs to no answer`)
    judgement.answer = result
  } else {
    const turn = lastTurn(state)
    turn.answer = result
    for (const { id, name, input, text } of result.toolCalls) {
      const made = newCall({ call: id, tool: name, input, text })
      turn.calls.push(made)
      state.calls.set(id, made)
    }
  }
}

function askOf(state: TurnState, call: string): ModelAsk {
  const ask = state.asks.get(call)
  assert(ask, `the journal answers the model call ${call}, which was never asked`)
  return ask
}

export function lastTurn(state: TurnState): TurnRecord {
  const turn = state.turns.at(-1)
  assert(turn, 'there is no turn yet')
  return turn
}

const SERVERS: ReadonlySet<string> = new Set<ServerEntry['kind']>([
  'verdict',
  'decided',
  'child_started',
  'child_ended',
])
const isWorkers = (entry: JournalEntry): entry is WorkerEntry => !SERVERS.has(entry.kind)

function spanTo(state: TurnState, fence: number, at: number): void {
  if (state.span?.fence === fence) {
    const { span } = state
    span.to = Math.max(span.to, at)
    return
  }
  if (state.span) state.workedMs += state.span.to - state.span.from
  state.span = { fence, from: at, to: at }
}

/** Time that attempts other than that of `fence` worked. */
export const workedBefore = ({ workedMs, span }: TurnState, fence: number): number =>
  workedMs + (span && span.fence !== fence ? span.to - span.from : 0)

/** Each call is compared with all others in every turn. */
const KEYS = new WeakMap<CallState, string>()

/** Text under which two calls are the same call. */
export function callKey(call: CallState): string {
  const known = KEYS.get(call)
  if (known !== undefined) return known
  const key = `${call.tool} ${JSON.stringify(sorted(call.input ?? call.text))}`
  KEYS.set(call, key)
  return key
}

function sorted(value: Json): Json {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sorted(value[key] ?? null)]),
  )
}
