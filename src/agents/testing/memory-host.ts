import { createDeadlines } from '../../base/deadlines.ts'
import { type Clock, systemClock } from '../../base/clock.ts'
import type { Json, JsonObject } from '../../base/json.ts'
import type { BoundAgent } from '../../domain/agents/bound.ts'
import type { JournalEntry, ParkedOn, StoredEntry, WorkerEntry } from '../../domain/agents/journal.ts'
import type { ToolResult } from '../../domain/agents/tool-envelope.ts'
import type { Verdict } from '../../domain/agents/verdict.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import { readAgent } from '../../domain/kinds/agent.ts'
import { readModelEndpoint } from '../../domain/kinds/model-endpoint.ts'
import { readPriceTable } from '../../domain/kinds/price-table.ts'
import { readTool, type ToolSpec } from '../../domain/kinds/tool.ts'
import type { ModelEvent, ModelRequest, ModelResult, ModelToolCall } from '../../domain/model-call.ts'
import type { AgentHost, Appended, HostCall, ShownEvent, TurnsEnd } from '../turns/agent-host.ts'
import { createDataGuard } from '../turns/data-guard.ts'
import { type DataRules, NO_DATA_RULES } from '../../domain/agents/data-rules.ts'
import { runTurns, type TurnsStep } from '../turns/run-turns.ts'
import type { TableEntry } from '../turns/tool-table.ts'

/** The process dies here. */
export class Killed extends Error {}

export type Says = Partial<Pick<ModelResult, 'text' | 'finish' | 'cost'>> & {
  calls?: { tool: string; input?: Json; id?: string; text?: string }[]
  tokens?: [input: number, output: number]
}

export interface WorldSpec {
  agents?: Record<string, JsonObject>
  tools?: Record<string, JsonObject>
  endpoints?: Record<string, JsonObject>
  prices?: Record<string, JsonObject>
  /** What a model says, or throws, by what it is asked. `nth` counts the calls of the world from 0. */
  model(request: ModelRequest, at: { endpoint: string; nth: number; signal: AbortSignal }): Says | Promise<Says>
  call?: (call: HostCall, signal: AbortSignal) => ToolResult | Promise<ToolResult>
  discover?: (agent: string) => TableEntry[]
  /** The rules; everything is allowed when left out. */
  rule?: (asked: Extract<WorkerEntry, { kind: 'tool_asked' }>) => Verdict
  refuse?: (
    asked: Extract<WorkerEntry, { kind: 'model_asked' }>,
  ) => { failure: FailureRecord; park: ParkedOn | null } | null
  dataRules?: DataRules
  clock?: Clock
}

const ENDPOINT: JsonObject = { provider: 'mock', model: 'm', mock: { replies: [{ text: 'x' }] } }

/** A store, a model and tools in memory: attempts come and go, the journal stays. */
export class World {
  readonly spec: WorldSpec
  readonly journal: StoredEntry[] = []
  readonly shown: ShownEvent[] = []
  readonly requests: { request: ModelRequest; endpoint: string; key: string }[] = []
  readonly toolCalls: HostCall[] = []
  /** Appends that were recorded, as the kinds of their entries. */
  readonly appends: string[][] = []
  fence = 0
  version = 1
  isLeaving = false
  /** Boundaries passed so far; at the one of this number the process dies. */
  boundaries = 0
  killAt: number | null = null
  /** Calls that were made although their result was recorded. */
  readonly repeated: string[] = []
  #answered = new Set<string>()

  constructor(spec: WorldSpec) {
    this.spec = spec
  }

  agentStep(agent: string, input: Json = 'go', timeoutMs: number | null = null): TurnsStep {
    const { bound } = this
    return { kind: 'agent', step: 'run_1.0', what: 'step write of run_1', fence: 0, agent, input, bound, timeoutMs }
  }

  get bound() {
    const agents = Object.entries(this.spec.agents ?? {}).map(([name, given]): [string, BoundAgent] => {
      const spec = readAgent({ model: 'gpt', instructions: `You are ${name}.`, ...given })
      const instructions = spec.instructions.map((part) => ('text' in part ? part.text : part.ref)).join('\n\n')
      return [name, { spec, instructions, definition: null }]
    })
    return {
      agents: Object.fromEntries(agents),
      tools: Object.fromEntries(Object.entries(this.spec.tools ?? {}).map(([name, given]) => [name, toolSpec(given)])),
      mcpServers: {},
      memories: {},
      workflows: {},
    }
  }

  /** One attempt, under a new fence. */
  async attempt(step: TurnsStep, signal: AbortSignal = new AbortController().signal): Promise<TurnsEnd> {
    const clock = this.spec.clock ?? systemClock
    const fence = ++this.fence
    return runTurns({ ...step, fence }, this.host(fence), { clock, deadlines: createDeadlines(clock), signal })
  }

  /** Attempts until the step ends: after a death the next one goes on, and `wait` brings what is waited for. */
  async run(step: TurnsStep, wait?: (on: ParkedOn, world: World) => void): Promise<TurnsEnd> {
    for (let attempts = 0; attempts < 100; attempts++) {
      const end = await this.attempt(step).catch((error: unknown) => {
        if (error instanceof Killed) return null
        throw error
      })
      if (end === null || end.kind === 'returned') continue
      if (end.kind !== 'parked' || !wait) return end
      wait(end.on, this)
    }
    throw new Error('the step does not end')
  }

  /** What the server writes. */
  tell(entry: JournalEntry): void {
    this.#write(entry, this.fence)
  }

  decide(approval: string, state: 'approved' | 'denied' | 'expired', input: JsonObject | null = null): void {
    const found = this.journal.find(({ entry }) => entry.kind === 'verdict' && entry.approval === approval)
    if (found?.entry.kind !== 'verdict') throw new Error(`no approval ${approval}`)
    this.tell({
      kind: 'decided',
      call: found.entry.call,
      approval,
      about: 'call',
      state,
      by: 'ann',
      comment: null,
      at: new Date(0).toISOString(),
      input,
      output: null,
    })
  }

  kinds(): string[] {
    return this.journal.map(({ entry }) => entry.kind)
  }

  #write(entry: JournalEntry, fence: number): void {
    const at = new Date((this.spec.clock ?? systemClock).now()).toISOString()
    this.journal.push({ seq: this.journal.length + 1, fence, at, entry: structuredClone(entry) })
    if (entry.kind === 'model_answered' || entry.kind === 'model_failed' || entry.kind === 'tool_answered')
      this.#answered.add(entry.call)
  }

  boundary(): void {
    if (this.boundaries++ === this.killAt) throw new Killed()
  }

  #made(key: string): void {
    if (this.#answered.has(key.split('/').at(-1) ?? '')) this.repeated.push(key)
  }

  host(fence: number): AgentHost {
    // The host of an attempt lives in its world.
    // oxlint-disable-next-line typescript/no-this-alias
    const world = this
    const { spec } = this
    let isDead = false
    const boundary = (): void => {
      if (isDead) throw new Killed()
      try {
        world.boundary()
      } catch (error) {
        isDead = true
        throw error
      }
    }
    return {
      namespace: 'default',
      runId: 'run_1',
      traceparent: '00-00000000000000000000000000000001-0000000000000001-01',
      get isLeaving() {
        return world.isLeaving
      },
      async readJournal() {
        await endOfTurn()
        boundary()
        return structuredClone(world.journal)
      },
      async context() {
        await endOfTurn()
        const endpoints = { gpt: ENDPOINT, ...spec.endpoints }
        return {
          version: String(world.version),
          guardOf: () => createDataGuard(spec.dataRules ?? NO_DATA_RULES, 'run_1.0'),
          endpoints: Object.fromEntries(
            Object.entries(endpoints).map(([name, given]) => [name, readModelEndpoint({ ...ENDPOINT, ...given })]),
          ),
          prices: Object.fromEntries(
            Object.entries(spec.prices ?? {}).map(([name, given]) => [name, readPriceTable(given)]),
          ),
        }
      },
      async append(entries): Promise<Appended> {
        boundary()
        if (fence !== world.fence) throw new Error('the attempt is not ours any more')
        const verdicts: Record<string, { verdict: Verdict; approval: string | null }> = {}
        let refused: Appended['refused'] = null
        const kinds: string[] = []
        for (const entry of entries) {
          // As a database would have it.
          JSON.stringify(entry, (_, value: unknown) => {
            if (typeof value === 'string' && (!value.isWellFormed() || value.includes('\0'))) throw new Error('no text')
            return value
          })
          refused = entry.kind === 'model_asked' ? (spec.refuse?.(entry) ?? null) : null
          if (refused) break
          world.#write(entry, fence)
          kinds.push(entry.kind)
          if (entry.kind !== 'tool_asked') continue
          const verdict = spec.rule?.(entry) ?? { verdict: 'allow', rule: 'default' }
          const word = { verdict, approval: verdict.verdict === 'approval' ? `apr_${entry.call}` : null }
          verdicts[entry.call] = word
          world.#write({ kind: 'verdict', call: entry.call, ...word }, fence)
        }
        world.appends.push(kinds)
        await endOfTurn()
        boundary()
        return { verdicts, refused, contextVersion: String(world.version) }
      },
      async discover(agent) {
        await endOfTurn()
        return spec.discover?.(agent) ?? []
      },
      async *model(request, { endpoint, idempotencyKey, goAhead, signal }): AsyncGenerator<ModelEvent> {
        if (!(await goAhead)) return
        boundary()
        const call = idempotencyKey.slice(idempotencyKey.indexOf('/') + 1)
        if (!world.journal.some(({ entry }) => entry.kind === 'model_asked' && entry.call === call))
          throw new Error('a model is asked before that is recorded')
        world.#made(idempotencyKey)
        const nth = world.requests.push({ request, endpoint, key: idempotencyKey }) - 1
        const says = await spec.model(request, { endpoint, nth, signal })
        await endOfTurn()
        boundary()
        const result = resultOf(says, endpoint)
        if (result.text !== '') yield { type: 'text', text: result.text }
        yield { type: 'finished', result }
      },
      async callTool(call, signal) {
        boundary()
        world.#made(call.envelope.idempotencyKey)
        world.toolCalls.push(call)
        const result = (await spec.call?.(call, signal)) ?? { ok: true as const, output: `${call.envelope.tool} done` }
        await endOfTurn()
        boundary()
        return result
      },
      show: (event) => void world.shown.push(event),
    }
  }
}

const endOfTurn = (): Promise<void> => Promise.resolve()

export const toolSpec = (given: JsonObject): ToolSpec => readTool({ type: 'http', description: 'A tool.', ...given })

function resultOf(says: Says, endpoint: string): ModelResult {
  const { text = '', calls = [], tokens = [10, 5], cost = null } = says
  const toolCalls = calls.map(({ tool, input = {}, id, text: written }, i): ModelToolCall => {
    const isObject = typeof input === 'object' && input !== null && !Array.isArray(input)
    return {
      id: id ?? `call_${i}`,
      name: tool,
      input: isObject && written === undefined ? input : null,
      text: written ?? JSON.stringify(input),
    }
  })
  return {
    endpoint,
    provider: 'mock',
    model: 'm',
    text,
    toolCalls,
    output: null,
    finish: says.finish ?? (toolCalls.length > 0 ? 'tool-calls' : 'stop'),
    usage: {
      inputTokens: tokens[0],
      outputTokens: tokens[1],
      cachedInputTokens: 0,
      cacheWriteTokens: 0,
      reasoningTokens: 0,
      isEstimated: false,
    },
    cost,
    warnings: [],
    tried: [],
    firstPartMs: 1,
    totalMs: 2,
  }
}
