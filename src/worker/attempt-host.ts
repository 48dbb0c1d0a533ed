import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type AgentHost,
  type Appended,
  createDataGuard,
  type HostCall,
  type LiveContext,
  mcpDriver,
  type ModelAt,
  type ModelSource,
  offerMcpServers,
  type ShownEvent,
  type TableEntry,
  withinHosts,
} from '../agents/index.ts'
import { assert, type Clock, formatTraceparent } from '../base/index.ts'
import type { ExchangeLane } from '../contract/exchange.ts'
import type { AgentContext } from '../domain/agents/context.ts'
import type { Bound } from '../domain/agents/bound.ts'
import type { DataRules } from '../domain/agents/data-rules.ts'
import type { WorkerEntry } from '../domain/agents/journal.ts'
import { memoryTools } from '../domain/agents/memory-tools.ts'
import type { ToolCallEnvelope, ToolResult } from '../domain/agents/tool-envelope.ts'
import { Failure } from '../domain/failure.ts'
import type { MemoryGrant } from '../domain/kinds/agent.ts'
import type { ModelEvent, ModelRequest } from '../domain/model-call.ts'
import type { AgentRuntime } from './agent-runtime.ts'
import type { Attempt } from './attempt.ts'
import type { AttemptAsker } from './attempt-asker.ts'
import { AttemptJournal, Stale } from './attempt-journal.ts'
import { AttemptScope } from './attempt-scope.ts'

export interface HostDeps {
  runtime: AgentRuntime
  lane: ExchangeLane
  asker: AttemptAsker
  clock: Clock
  bound: Bound | null
  isLeaving(): boolean
  show(event: ShownEvent): void
  /** Told every secret value that the attempt is given. */
  remember(value: string): void
}

/** Wait for what of a server has no time-out of its own. */
const MEMORY_MS = 60_000

/** What the turns of one attempt ask of the outside: the server over the exchange, models, tools and MCP servers. */
export class AttemptHost implements AgentHost {
  readonly #attempt: Attempt
  readonly #deps: HostDeps
  readonly #journal: AttemptJournal
  #context: AgentContext | null = null
  #workdir: Promise<string> | null = null
  readonly #guards = new Map<string, { rules: DataRules; guard: ReturnType<typeof createDataGuard> }>()

  constructor(attempt: Attempt, deps: HostDeps) {
    this.#attempt = attempt
    this.#deps = deps
    this.#journal = new AttemptJournal(deps, attempt)
  }

  get namespace(): string {
    return this.#attempt.assignment.namespace
  }
  get runId(): string {
    return this.#attempt.assignment.runId
  }
  get traceparent(): string {
    return formatTraceparent(new AttemptScope(this.#attempt).trace)
  }
  get isLeaving(): boolean {
    return this.#deps.isLeaving()
  }

  readJournal() {
    return this.#journal.read()
  }

  async append(entries: readonly WorkerEntry[]): Promise<Appended> {
    return this.#journal.append([...entries])
  }

  async context(): Promise<LiveContext> {
    const { lane, asker, remember } = this.#deps
    const answer = await asker.ask(this.#attempt, (at, signal) => lane.agentContext(at, signal))
    if (answer === null || answer.context === null) throw new Stale(`attempt ${this.#attempt.key} is not ours any more`)
    const { context } = answer
    for (const { value } of context.secrets) remember(value)
    this.#context = context
    const { version, endpoints, prices } = context
    return { version, endpoints, prices, guardOf: (agent) => this.#guardOf(agent) }
  }

  /** The same one while its rules stay the same: it knows what stands for what. */
  #guardOf(agent: string) {
    const rules = this.#live.rules[agent]
    if (!rules) return null
    const known = this.#guards.get(agent)
    if (known && JSON.stringify(known.rules) === JSON.stringify(rules)) return known.guard
    const guard = createDataGuard(rules, this.#attempt.assignment.step)
    this.#guards.set(agent, { rules, guard })
    return guard
  }

  async discover(agent: string, signal: AbortSignal): Promise<TableEntry[]> {
    const { runtime, bound, show } = this.#deps
    const spec = bound?.agents[agent]?.spec
    const servers = (spec?.mcpServers ?? []).flatMap(({ name, tools, optional }) => {
      const server = bound?.mcpServers[name]
      return server ? [{ namespace: this.namespace, name, spec: server, tools: tools ?? null, optional }] : []
    })
    const offered = await offerMcpServers(runtime.mcp, servers, { signal, ...this.#waysOf(agent) })
    for (const { message, code } of offered.warnings)
      show({ type: 'note', text: `goes on without a server: ${message} (${code})` })
    const ofServers = offered.tools.map((tool): TableEntry => {
      const at = servers.find(({ name }) => tool.name.startsWith(`${name}.`))
      assert(at, `tool ${tool.name} is of no server`)
      const own = tool.name.slice(at.name.length + 1)
      return { offered: tool, source: { by: 'mcp', server: at.name, tool: own }, timeoutMs: at.spec.timeouts.call }
    })
    const ofMemories = (spec?.memories ?? []).flatMap(({ name, allow }) =>
      memoryTools(name, allow, { description: bound?.memories[name]?.description }).map((tool, i): TableEntry => {
        const grant = [...new Set(allow)][i]
        assert(grant, `memory ${name} has a tool for each grant`)
        return { offered: tool, source: { by: 'memory', memory: name, grant }, timeoutMs: MEMORY_MS }
      }),
    )
    return [...ofServers, ...ofMemories]
  }

  model(
    request: ModelRequest,
    { endpoint, idempotencyKey, goAhead, signal }: ModelAt,
  ): AsyncGenerator<ModelEvent, void> {
    const { gateway } = this.#deps.runtime
    const { namespace } = this
    const source = sourceOf(this.#live)
    return gateway.call(request, { namespace, endpoint, useFallbacks: false, idempotencyKey, source, goAhead, signal })
  }

  async callTool({ entry, envelope, agent }: HostCall, signal: AbortSignal): Promise<ToolResult> {
    const { runtime, clock, show } = this.#deps
    const { source } = entry
    switch (source.by) {
      case 'tool': {
        const log = (line: string): void => show({ type: 'tool_log', tool: envelope.tool, line })
        const env = { signal, clock, workdir: () => this.#directory(), log, ...this.#waysOf(agent) }
        const own = { mcp: mcpDriver(runtime.mcp, this.#deps.bound?.mcpServers ?? {}) }
        return (await runtime.tools.call(envelope.tool, source.spec, envelope, env, own)).result
      }
      case 'mcp':
        return this.#callServer(source, envelope, { agent, signal })
      case 'memory':
        return this.#useMemory(source, envelope, agent)
      case 'child':
      case 'handoff':
        throw new Failure('internal.bug', `calling ${envelope.tool}, which is no call`)
    }
  }

  /** The server does it, for as long as the attempt is ours. */
  async #useMemory(
    { memory, grant }: { memory: string; grant: MemoryGrant },
    { input, idempotencyKey }: ToolCallEnvelope,
    agent: string | null,
  ): Promise<ToolResult> {
    const { lane, asker } = this.#deps
    const call = idempotencyKey.slice(this.#attempt.assignment.step.length + 1)
    const answer = await asker.ask(this.#attempt, (at, signal) =>
      lane.memory({ ...at, agent: agent ?? '', memory, operation: grant, input, call }, signal),
    )
    if (answer === null || answer.result === null) throw new Stale(`attempt ${this.#attempt.key} is not ours any more`)
    return answer.result
  }

  #callServer(
    { server: name, tool }: { server: string; tool: string },
    envelope: ToolCallEnvelope,
    { agent, signal }: { agent: string | null; signal: AbortSignal },
  ): Promise<ToolResult> {
    const spec = this.#deps.bound?.mcpServers[name]
    assert(spec, `the definition binds no MCP server ${name}`)
    const server = { namespace: this.namespace, name, spec }
    return this.#deps.runtime.mcp.call(server, tool, envelope, { signal, ...this.#waysOf(agent) })
  }

  show(event: ShownEvent): void {
    this.#deps.show(event)
  }

  /** Nothing of the attempt runs any more. A directory that stays behind takes nothing from what came of it. */
  async close(): Promise<void> {
    const dir = await this.#workdir?.catch(() => null)
    if (!dir) return
    await rm(dir, { recursive: true, force: true }).catch((error: unknown) =>
      this.show({ type: 'note', text: `${dir} could not be removed: ${String(error)}` }),
    )
  }

  /** Made when a tool first asks for it: most agents need none. */
  #directory(): Promise<string> {
    this.#workdir ??= mkdtemp(join(this.#deps.runtime.workdir ?? tmpdir(), 'orrery-agent-'))
    return this.#workdir
  }

  get #live(): AgentContext {
    assert(this.#context, 'what is live is looked up before anything is called')
    return this.#context
  }

  /** Whom the calls of an agent may reach, and the secrets that they name. Where nothing is known of its rules, nobody. */
  #waysOf(agent: string | null) {
    const hosts = this.#live.rules[agent ?? '']?.egress ?? [{ rule: 'default', hosts: [] }]
    return {
      egress: withinHosts(this.#deps.runtime.egress, hosts),
      secret: async (ref: { secret: string; key: string }): Promise<string> => secretIn(this.#live, ref),
    }
  }
}

function secretIn({ secrets, missing }: AgentContext, { secret, key }: { secret: string; key: string }): string {
  const is = (one: { secret: string; key: string }): boolean => one.secret === secret && one.key === key
  const found = secrets.find(is)
  if (found) return found.value
  const failure = missing.find(is)?.failure
  if (!failure) throw new Failure('secret.not_found', `looking for secret ${secret}, key ${key}`)
  const { code, message, evidence, remediation } = failure
  throw new Failure(code, message, { remediation, ...(evidence ? { evidence } : {}) })
}

/** What a call of a model finds of what manifests name. */
function sourceOf(context: AgentContext): ModelSource {
  const { endpoints, prices } = context
  return {
    findEndpoint: async (_, name) => endpoints[name] ?? null,
    findPrices: async (_, name) => prices[name] ?? null,
    listModels: async () =>
      Object.entries(endpoints).map(([endpoint, { provider, model }]) => ({ endpoint, provider, model })),
    resolveSecrets: async (wanted) => wanted.map((ref) => secretIn(context, ref)),
  }
}
