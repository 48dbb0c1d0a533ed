// What an attempt of an agent's step does in the simulation: it reads the journal, decides by it alone, and writes down what it does before it does it.
import type { Json, JsonObject } from '../../src/base/json.ts'
import type { AppendRequest, AppendResponse, JournalRequest, JournalResponse } from '../../src/contract/exchange.ts'
import type { JournalEntry, ParkedOn, StoredEntry, WorkerEntry } from '../../src/domain/agents/journal.ts'
import type { ToolResult } from '../../src/domain/agents/tool-envelope.ts'
import type { Verdict } from '../../src/domain/agents/verdict.ts'
import { NO_DATA_RULES } from '../../src/domain/agents/data-rules.ts'
import { failureRecord } from '../../src/domain/failure.ts'
import type { Gate } from '../../src/engine/agents/gate.ts'
import type { Dice } from './dice.ts'

/** The word on a call depends on its tool alone. */
const TOOLS = ['free', 'ask', 'pay', 'forbidden', 'below', 'ask'] as const

export const simGate: Gate = {
  calls: (_, asked) => Promise.resolve(asked.map(({ tool }) => verdictOn(tool))),
  beginning: () => Promise.resolve(null),
  models: (_, asked) => Promise.resolve(asked.map(() => ({ failure: null, caps: [] }))),
  dataRules: () => Promise.resolve(NO_DATA_RULES),
  allowedAt: (_, asked) =>
    Promise.resolve(
      asked.map(({ calls, models }) => {
        const verdicts = calls.map(({ tool }) => verdictOn(tool))
        return verdicts.every(({ verdict }) => verdict === 'allow')
          ? { verdicts, caps: models.map(() => []), isCapping: false }
          : null
      }),
    ),
}

function verdictOn(tool: string): Verdict {
  if (tool === 'ask') return { verdict: 'approval', rule: 'role/sim', approvers: null, expiresMs: 4_000 }
  if (tool === 'forbidden')
    return { verdict: 'deny', code: 'policy.denied', rule: 'policy/sim', reason: 'no', remediation: 'none' }
  return { verdict: 'allow', rule: 'default' }
}

type Next = { do: 'append'; entries: WorkerEntry[] } | { do: 'park'; on: ParkedOn } | { do: 'end' }

const modelAsked = (turn: number): WorkerEntry => ({
  ...{ kind: 'model_asked', call: `m${turn}`, turn, purpose: 'turn', agent: 'writer', endpoint: 'gpt' },
  tokens: { input: 1, output: 1 },
})

function modelAnswered(turn: number): WorkerEntry {
  const counts = { inputTokens: 1, outputTokens: 1, cachedInputTokens: 0, cacheWriteTokens: 0, reasoningTokens: 0 }
  return {
    kind: 'model_answered',
    call: `m${turn}`,
    result: {
      ...{ endpoint: 'gpt', provider: 'mock', model: 'm', text: '', toolCalls: [], finish: 'stop' },
      ...{ usage: { ...counts, isEstimated: false }, cost: null, warnings: [], tried: [], totalMs: 1 },
    },
  }
}

const toolAsked = (turn: number, tool: string, call = `c${turn}`): WorkerEntry => ({
  ...{ kind: 'tool_asked', call, turn, agent: 'writer', tool },
  ...{ operation: 'write', input: { turn }, repeatable: tool !== 'pay' },
})

const toolAnswered = (call: string, result: ToolResult): WorkerEntry => ({
  ...{ kind: 'tool_answered', call, result, ms: 1, cut: 0 },
})

const OK: ToolResult = { ok: true, output: 1 }
const NO: ToolResult = { ok: false, code: 'policy.denied', reason: 'no', retryable: false }

/** Pure: the same journal gives the same next. */
export function nextOf(journal: readonly StoredEntry[], { fence, turns, salt }: AgentScript): Next {
  const find = <K extends JournalEntry['kind']>(kind: K, call: string) =>
    journal.find(({ entry }) => entry.kind === kind && 'call' in entry && entry.call === call) as
      | (StoredEntry & { entry: Extract<JournalEntry, { kind: K }> })
      | undefined // of this kind, as it was looked for
  for (let turn = 0; turn < turns; turn++) {
    const [m, c] = [`m${turn}`, `c${turn}`]
    const tool = TOOLS[(turn + salt) % TOOLS.length] ?? 'free'
    if (!find('model_asked', m)) return { do: 'append', entries: [modelAsked(turn)] }
    // What is given away in one turn may be several calls.
    const calls = tool === 'below' ? [c, `d${turn}`, `e${turn}`].slice(0, 1 + (salt % 3)) : [c]
    if (!find('model_answered', m))
      return { do: 'append', entries: [modelAnswered(turn), ...calls.map((call) => toolAsked(turn, tool, call))] }
    if (find('tool_answered', c)) continue
    const answer = (result: ToolResult): Next => ({
      do: 'append',
      entries: [
        ...calls.map((call) => toolAnswered(call, result)),
        ...(turn + 1 < turns ? [modelAsked(turn + 1)] : []),
      ],
    })
    const verdict = find('verdict', c)?.entry
    if (!verdict) throw new Error(`no word on ${c}`)
    if (verdict.verdict.verdict === 'deny') return answer(NO)
    const decided = journal.flatMap(({ entry }) => (entry.kind === 'decided' && entry.call === c ? [entry] : []))
    if (verdict.verdict.verdict === 'approval') {
      const word = decided.find((d) => d.about === 'call')
      if (!word) return { do: 'park', on: { type: 'approvals', approvals: [verdict.approval ?? ''] } }
      return answer(word.state === 'approved' ? OK : NO)
    }
    if (tool === 'below') {
      const open = calls.filter((call) => !find('child_ended', call))
      if (open.length === 0) return answer(OK)
      const inputs: JsonObject = {}
      const below = { of: 'workflow' as const, name: 'below', inputs }
      return { do: 'park', on: { type: 'child', calls: open.map((call) => ({ call, ...below })) } }
    }
    const word = decided.find((d) => d.about === 'outcome')
    if (word) return answer(word.state === 'approved' ? OK : NO)
    // Asked for by an attempt that is gone: nobody knows whether it was made.
    const isLost = (find('tool_asked', c)?.fence ?? fence) < fence
    if (tool === 'pay' && isLost) return { do: 'park', on: { type: 'outcome', call: c, tool, input: { turn } } }
    return answer(OK)
  }
  return { do: 'end' }
}

interface AgentScript {
  fence: number
  turns: number
  salt: number
}

export interface AgentExchange {
  readJournal(request: JournalRequest): Promise<JournalResponse>
  append(request: AppendRequest): Promise<AppendResponse>
}

export type AgentEnd =
  | { kind: 'succeeded'; output: Json }
  | { kind: 'failed'; failure: ReturnType<typeof failureRecord> }
  | { kind: 'parked'; on: ParkedOn }

export interface AgentDeps {
  dice: Dice
  now: () => number
  key: string
  step: string
  fence: number
  /** Null between two sessions. */
  session: () => string | null
  send<R>(serve: (server: AgentExchange) => Promise<R>, onOk: (ok: R) => void, onError: () => void): void
}

const ANSWER_MS = 3_000

export class AgentLife {
  readonly #deps: AgentDeps
  readonly #script: AgentScript
  #journal: StoredEntry[] | null = null
  #n = 0
  /** An append that is to be heard of. */
  #open: { n: number; entries: WorkerEntry[] } | null = null
  #waitsUntil = 0
  /** Counts its questions for the journal: an answer to an earlier one tells of the past. */
  #reads = 0
  /** It does not hold its step any more. */
  isStale = false

  constructor(deps: AgentDeps) {
    this.#deps = deps
    // Every attempt of a step goes by one script.
    const salt = [...deps.step].reduce((sum, c) => sum + c.charCodeAt(0), 0)
    this.#script = { fence: deps.fence, turns: 2 + (salt % 4), salt }
  }

  /** One turn; an end when there is one. */
  act(): AgentEnd | null {
    const { dice, now, session } = this.#deps
    const at = session()
    if (at === null || now() < this.#waitsUntil) return null
    if (this.#journal === null) {
      this.#read(at)
      return null
    }
    if (this.#open === null) {
      if (dice.chance(0.03)) return { kind: 'failed', failure: failureRecord('step.function_threw', 'by chance') }
      if (dice.chance(0.05)) return { kind: 'parked', on: budgetPark() }
      const next = nextOf(this.#journal, this.#script)
      if (next.do === 'end') return { kind: 'succeeded', output: { attempt: this.#deps.key } }
      if (next.do === 'park') return { kind: 'parked', on: next.on }
      this.#open = { n: ++this.#n, entries: next.entries }
    }
    this.#append(at, this.#open)
    return null
  }

  #read(session: string): void {
    const { step, fence, send } = this.#deps
    this.#wait(ANSWER_MS)
    const read = ++this.#reads
    send(
      (server) => server.readJournal({ session, step, fence, from: 1 }),
      (reply) => {
        if (this.#journal !== null || read !== this.#reads) return
        if (reply.state === 'stale') this.isStale = true
        else this.#journal = reply.entries
        this.#wait(this.#deps.dice.int(0, 150))
      },
      () => this.#wait(this.#deps.dice.int(50, 300)),
    )
  }

  #append(session: string, append: { n: number; entries: WorkerEntry[] }): void {
    const { step, fence, send } = this.#deps
    this.#wait(ANSWER_MS)
    send(
      (server) => server.append({ session, step, fence, ...append }),
      (reply) => {
        if (this.#open !== append) return
        this.#open = null
        if (reply.state === 'stale') this.isStale = true
        // What it decides by is what the server has.
        else this.#journal = null
        this.#wait(this.#deps.dice.int(0, 150))
      },
      () => this.#wait(this.#deps.dice.int(50, 300)),
    )
  }

  #wait(ms: number): void {
    this.#waitsUntil = this.#deps.now() + ms
  }
}

const budgetPark = (): ParkedOn => ({
  type: 'budget',
  budgets: ['default/sim'],
  retryAfterMs: 1_500,
  failure: failureRecord('step.function_threw', 'used up'),
})
