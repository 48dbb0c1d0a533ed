import type { Clock } from '../../base/clock.ts'
import { deferred } from '../../base/deferred.ts'
import type { Deadlines } from '../../base/deadlines.ts'
import { type LinkedAbort, linkedAbort } from '../../base/linked-abort.ts'
import { endOfTurn } from '../../base/turn.ts'
import type { JournalEntry, ParkedOn, WorkerEntry } from '../../domain/agents/journal.ts'
import type { ToolResult } from '../../domain/agents/tool-envelope.ts'
import { Failure, failureRecord, type FailureRecord } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { ModelEvent } from '../../domain/model-call.ts'
import type { Action, ModelCall, ReadyCall } from './action.ts'
import { type AgentHost, type Appended, type LiveContext, type TurnsEnd } from './agent-host.ts'
import type { DataGuard } from './data-guard.ts'
import { nextAction } from './next-action.ts'
import { type AgentPlan, agentSpecOf, idempotencyKeyOf, type Plan, type RoutePlan, type ToolPlan } from './plan.ts'
import { charsOf, cutResult, recordedOf, storable, type StorableEntry } from './recorded.ts'
import { type TableEntry, type ToolTable, toolTableOf } from './tool-table.ts'
import { applyEntry, foldJournal, type TurnState, workedBefore } from './turn-state.ts'

/** Calls of tools that one turn makes at once. */
const CALLS_AT_ONCE = 16
/** What one append carries at most, as JSON; more goes in several. */
const APPEND_CHARS = 2 * 1024 * 1024

/** The step without what its attempts look up. */
export type TurnsStep = (
  | Omit<AgentPlan, 'tools' | 'endpoints' | 'prices'>
  | Omit<ToolPlan, 'endpoints' | 'prices'>
  | Omit<RoutePlan, 'endpoints' | 'prices'>
) & {
  /** How long one try at the step may work, all of its attempts together; null: for ever. */
  timeoutMs: number | null
}

export interface TurnsDeps {
  clock: Clock
  deadlines: Deadlines
  /** Ends everything; its reason is thrown. */
  signal: AbortSignal
}

/**
 * One attempt at a step of agents: reads the journal, and does what follows from it until the step ends or waits. Throws the signal's reason, and what
 * the host throws when the attempt is not ours any more.
 */
export async function runTurns(step: TurnsStep, host: AgentHost, deps: TurnsDeps): Promise<TurnsEnd> {
  const loop = new TurnLoop(step, host, deps)
  return loop.run()
}

/** A request to a model that is made ready, and what data rules make of it and its answer. */
interface Asked {
  guard: DataGuard | null
  events: Promise<AsyncIterable<ModelEvent>>
}

class TurnLoop {
  readonly #step: TurnsStep
  readonly #host: AgentHost
  readonly #deps: TurnsDeps
  readonly #stop: LinkedAbort
  readonly #signal: AbortSignal
  readonly #tables = new Map<string, ToolTable>()
  #state!: TurnState // read before anything else happens
  #live!: LiveContext // likewise
  /** Known, and not recorded yet. */
  #pending: StorableEntry[] = []
  #beganAt = 0
  /** Fence of the attempt that began the journal. */
  #began = 0

  constructor(step: TurnsStep, host: AgentHost, deps: TurnsDeps) {
    this.#step = step
    this.#host = host
    this.#deps = deps
    this.#stop = linkedAbort(deps.signal)
    this.#signal = this.#stop.signal
  }

  async run(): Promise<TurnsEnd> {
    const { clock, deadlines, signal } = this.#deps
    const step = this.#step
    this.#beganAt = clock.monotonic()
    const [entries, live] = await Promise.all([this.#host.readJournal(), this.#host.context()])
    this.#state = foldJournal(entries, step.kind === 'agent' ? step.agent : '')
    this.#live = live
    this.#began = entries[0]?.fence ?? step.fence
    const bound = timeBoundOf(step)
    // The journal tells what attempts worked that were lost or had to wait: none of them gives the step its time anew.
    const left = bound === null ? null : bound.timeoutMs - workedBefore(this.#state, step.fence)
    const cancel = left === null ? null : deadlines.add(Math.max(0, left), () => this.#stop.abort(new TimeIsOver()))
    try {
      if (bound !== null && left !== null && left <= 0) return this.#timedOut(bound)
      for (;;) {
        const end = await this.#advance()
        if (end) return end
      }
    } catch (error) {
      signal.throwIfAborted()
      if (this.#signal.aborted && bound !== null) return this.#timedOut(bound)
      if (error instanceof Failure) return { kind: 'failed', failure: error.toRecord() }
      throw error
    } finally {
      cancel?.()
      // What still runs for a turn that is over has nobody to give its result to.
      this.#stop.end()
    }
  }

  #timedOut({ code, timeoutMs }: TimeBound): TurnsEnd {
    const evidence = { timeoutMs, workedMs: Math.round(this.#workedMs), turns: this.#state.turns.length }
    return { kind: 'failed', failure: failureRecord(code, `running ${this.#step.what}`, { evidence }) }
  }

  #keyOf(call: string): string {
    const { kind, step } = this.#step
    return idempotencyKeyOf(step, kind === 'tool' ? null : this.#began, call)
  }

  get #workedMs(): number {
    return workedBefore(this.#state, this.#step.fence) + this.#elapsedMs
  }
  get #elapsedMs(): number {
    return this.#deps.clock.monotonic() - this.#beganAt
  }

  async #advance(): Promise<TurnsEnd | null> {
    this.#signal.throwIfAborted()
    await this.#lookUpTools()
    const action = nextAction(this.#plan(), this.#state, { elapsedMs: this.#elapsedMs })
    switch (action.do) {
      case 'write':
        for (const entry of action.entries) this.#note(entry)
        return null
      case 'ask_model':
        return (await this.#leaves()) ?? (await this.#askModel(action))
      case 'call_model':
        await this.#callModel(action.call, this.#makeReady(action.call, Promise.resolve(true)))
        return null
      case 'ask_tools':
        return (await this.#leaves()) ?? (await this.#record(action.entries), null)
      case 'call_tools':
        await this.#callTools(action.calls)
        return null
      case 'park':
        await this.#record([])
        this.#host.show({ type: 'waiting', on: action.on.type })
        return { kind: 'parked', on: action.on }
      case 'end': {
        await this.#record([])
        const { end } = action
        if (!end.ok) return { kind: 'failed', failure: end.failure }
        for (const text of end.notes) this.#host.show({ type: 'note', text })
        return { kind: 'succeeded', output: end.output }
      }
    }
  }

  /** Nothing is under way here: an attempt that is to leave does. */
  async #leaves(): Promise<TurnsEnd | null> {
    if (!this.#host.isLeaving) return null
    await this.#record([])
    return { kind: 'returned' }
  }

  #plan(): Plan {
    const { endpoints, prices } = this.#live
    const step = this.#step
    if (step.kind !== 'agent') return { ...step, endpoints, prices }
    return { ...step, endpoints, prices, tools: (agent) => this.#tables.get(agent) ?? NO_TOOLS }
  }

  /** The tools of whoever takes part now, as they are now. */
  async #lookUpTools(): Promise<void> {
    const step = this.#step
    if (step.kind !== 'agent') return
    for (const agent of new Set([this.#state.agent, this.#state.turns.at(-1)?.agent ?? step.agent])) {
      if (this.#tables.has(agent)) continue
      const spec = step.bound.agents[agent]?.spec
      const found: TableEntry[] =
        spec?.mcpServers || spec?.memories ? await this.#host.discover(agent, this.#signal) : []
      this.#tables.set(agent, toolTableOf(step.bound, agent, found))
    }
  }

  /** Takes an entry into the state; it goes along with the next append. */
  #note(entry: WorkerEntry): void {
    const storing = storable(entry)
    const kept = storing.entry
    this.#apply(kept)
    this.#pending.push(storing)
    if (kept.kind === 'handed_over') this.#host.show({ type: 'handed_over', from: kept.from, to: kept.to })
  }

  #apply(entry: JournalEntry): void {
    applyEntry(this.#state, { entry, fence: this.#step.fence, at: null })
  }

  /** Records what is known and `asked`, which takes effect when the server took it. */
  async #record(asked: readonly WorkerEntry[]): Promise<Appended['refused']> {
    const announced = asked.map(storable)
    const entries = [...this.#pending, ...announced]
    const isAnnounced = new Set(announced.map(({ entry }) => entry))
    this.#pending = []
    if (entries.length === 0) return null
    let refused: Appended['refused'] = null
    for (const part of inParts(entries)) {
      const answer = await this.#host.append(part)
      refused = answer.refused
      if (answer.contextVersion !== this.#live.version) this.#live = await this.#host.context()
      for (const entry of part)
        if (isAnnounced.has(entry) && (refused === null || entry.kind !== 'model_asked')) this.#apply(entry)
      for (const [call, word] of Object.entries(answer.verdicts)) this.#apply({ kind: 'verdict', call, ...word })
    }
    return refused
  }

  async #askModel({ call }: Extract<Action, { do: 'ask_model' }>): Promise<TurnsEnd | null> {
    const { version } = this.#live
    const word = deferred<boolean>()
    try {
      const asked = this.#makeReady(call, word.promise)
      const refused = await this.#record([call.entry])
      if (refused !== null) return ended(refused)
      // What is live changed just now: the request is made anew from it.
      if (version !== this.#live.version) return null
      this.#signal.throwIfAborted()
      word.resolve(true)
      await this.#callModel(call, asked)
      return null
    } finally {
      word.resolve(false)
    }
  }

  /** A request that is worked out at the end of this turn of the event loop, because what is sent in it goes first. */
  #makeReady({ entry, request }: ModelCall, goAhead: Promise<boolean>): Asked {
    const { call, endpoint, agent } = entry
    const guard = this.#live.guardOf(agent)
    const events = endOfTurn().then(() => {
      const asked = guard ? guard.request(request) : request
      const at = { agent, endpoint, idempotencyKey: this.#keyOf(call), goAhead, signal: this.#signal }
      return begun(this.#host.model(asked, at))
    })
    // Where it is not wanted, nobody is told what is wrong with it.
    events.catch(() => {})
    return { guard, events }
  }

  async #callModel({ entry, warnings }: ModelCall, { guard, events }: Asked): Promise<void> {
    const { call, endpoint, turn, agent, purpose } = entry
    this.#host.show({ type: 'turn', turn, agent, purpose, endpoint })
    try {
      const stream = await events
      let shown = guard?.stream() ?? null
      const show = (text: string): void => {
        if (text !== '' && purpose !== 'judge') this.#host.show({ type: 'text', text })
      }
      for await (const event of stream) {
        if (event.type === 'text') show(shown ? shown.push(event.text) : event.text)
        if (event.type === 'retrying') {
          if (event.isVoid) shown = guard?.stream() ?? null
          this.#host.show({ type: 'retrying', endpoint, code: event.failure.code, delayMs: event.delayMs })
        }
        if (event.type !== 'finished') continue
        show(shown?.end() ?? '')
        const chars = charsOf(event.result)
        if (chars > LIMITS.outputBytes)
          throw new Failure('output.too_large', `taking the answer of endpoint ${endpoint}`, {
            evidence: { chars, limit: LIMITS.outputBytes },
          })
        const recorded = recordedOf(event.result, { call, taken: this.#state.calls, warnings })
        const result = guard ? guard.answer(recorded) : recorded
        this.#note({ kind: 'model_answered', call, result })
        const { usage, cost } = result
        const tokens = usage.inputTokens + usage.outputTokens
        this.#host.show({
          type: 'answered',
          turn,
          tokens,
          cost: cost?.amount ?? null,
          currency: cost?.currency ?? null,
        })
      }
    } catch (error) {
      this.#signal.throwIfAborted()
      if (!(error instanceof Failure)) throw error
      this.#note({ kind: 'model_failed', call, failure: error.toRecord() })
      this.#host.show({ type: 'failed', endpoint, code: error.code })
    }
    // Servers may offer other tools by now.
    this.#forgetFound()
  }

  #forgetFound(): void {
    const step = this.#step
    if (step.kind !== 'agent') return
    for (const agent of this.#tables.keys()) {
      const spec = step.bound.agents[agent]?.spec
      if (spec?.mcpServers) this.#tables.delete(agent)
    }
  }

  /** Side by side. What has ended is recorded while others still run; the last results go with what comes next. */
  async #callTools(calls: readonly ReadyCall[]): Promise<void> {
    const waiting = [...calls]
    let open = calls.length
    let recording: Promise<unknown> | null = null
    const record = (): void => {
      if (recording !== null || open === 0 || this.#pending.length === 0) return
      recording = this.#record([]).finally(() => {
        recording = null
      })
      recording.then(record, () => {})
    }
    const lanes = Array.from({ length: Math.min(CALLS_AT_ONCE, calls.length) }, async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        const entry = await this.#callTool(next)
        open--
        this.#note(entry)
        record()
        // A lane that goes on while nothing can be recorded any more would call for nobody.
        if (recording !== null) await Promise.race([recording, null])
      }
    })
    await Promise.all(lanes)
    await recording
  }

  async #callTool({ call, tool, agent, entry, input }: ReadyCall): Promise<WorkerEntry> {
    const { clock } = this.#deps
    const plan = this.#plan()
    const { namespace, runId, traceparent } = this.#host
    this.#host.show({ type: 'tool', call, tool, input })
    const from = clock.monotonic()
    const result = await this.#host
      .callTool(
        {
          entry,
          agent,
          envelope: {
            version: 1,
            tool,
            idempotencyKey: this.#keyOf(call),
            attempt: 1,
            operation: entry.offered.operation,
            input,
            timeoutMs: entry.timeoutMs,
            context: { namespace, runId, step: plan.step, agent, traceparent },
          },
        },
        this.#signal,
      )
      .catch((error: unknown): ToolResult => {
        this.#signal.throwIfAborted()
        if (!(error instanceof Failure)) throw error
        return resultOfFailure(error.toRecord())
      })
    const ms = Math.round(clock.monotonic() - from)
    const code = result.ok ? null : result.code
    this.#host.show({
      type: 'tool_result',
      call,
      tool,
      ok: result.ok,
      code,
      reason: result.ok ? null : result.reason,
      ms,
    })
    const bytes =
      plan.kind === 'agent' && agent !== null ? agentSpecOf(plan, agent).limits.toolOutputBytes : LIMITS.outputBytes
    const cut = cutResult(result, bytes)
    if (cut.cut > 0 && plan.kind !== 'agent')
      return { kind: 'tool_answered', call, result: tooLarge(bytes), ms, cut: 0 }
    return { kind: 'tool_answered', call, ...cut, ms }
  }
}

/** The time of the agent is over. */
interface TimeBound {
  code: 'agent.timed_out' | 'step.timed_out'
  timeoutMs: number
}

/** What bounds the time of a step: its own time-out or that of its agent, whichever is shorter; null when nothing does. */
function timeBoundOf(step: TurnsStep): TimeBound | null {
  const ofAgent = step.kind === 'agent' ? step.bound.agents[step.agent]?.spec.limits.timeout : undefined
  if (step.timeoutMs !== null && step.timeoutMs < (ofAgent ?? Infinity))
    return { code: 'step.timed_out', timeoutMs: step.timeoutMs }
  return ofAgent === undefined ? null : { code: 'agent.timed_out', timeoutMs: ofAgent }
}

class TimeIsOver extends Error {
  constructor() {
    super('the time of the agent is over')
  }
}

const NO_TOOLS: ToolTable = { entries: new Map(), warnings: [] }

const resultOfFailure = ({ code, message, retryable, evidence }: FailureRecord): ToolResult => ({
  ok: false,
  code,
  reason: message,
  retryable,
  ...(evidence ? { evidence } : {}),
})

/** What a step gives is never cut: half of a value is another value. */
const tooLarge = (limit: number): ToolResult => ({
  ok: false,
  code: 'output.too_large',
  reason: `the output is larger than ${limit} bytes`,
  retryable: false,
})

/** The same events, of which the first is asked for at once. */
function begun<T>(stream: AsyncGenerator<T, void>): AsyncIterable<T> {
  let first: Promise<IteratorResult<T, void>> | null = stream.next()
  first.catch(() => {}) // thrown to whoever reads, where somebody does
  const next = (): Promise<IteratorResult<T, void>> => {
    const given = first ?? stream.next()
    first = null
    return given
  }
  return { [Symbol.asyncIterator]: () => ({ next, return: () => stream.return() }) }
}

const ended = ({ failure, park }: { failure: FailureRecord; park: ParkedOn | null }): TurnsEnd =>
  park === null ? { kind: 'failed', failure } : { kind: 'parked', on: park }

function* inParts(entries: readonly StorableEntry[]): Generator<WorkerEntry[]> {
  let part: WorkerEntry[] = []
  let size = 0
  for (const { entry, chars } of entries) {
    if (part.length === LIMITS.journalAppendMax || (part.length > 0 && size + chars > APPEND_CHARS)) {
      yield part
      part = []
      size = 0
    }
    part.push(entry)
    size += chars
  }
  if (part.length > 0) yield part
}
