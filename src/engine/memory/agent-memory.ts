import { Redactor } from '../../base/redact.ts'
import type { Json, JsonObject } from '../../base/json.ts'
import type { MemoryRequest, MemoryResponse } from '../../contract/exchange.ts'
import { MEMORY_TOOLS } from '../../domain/agents/memory-tools.ts'
import { speakersOf } from '../../domain/agents/step-needs.ts'
import type { ToolResult } from '../../domain/agents/tool-envelope.ts'
import { Failure } from '../../domain/failure.ts'
import { FAILURES } from '../../domain/failures.ts'
import { validateJson } from '../../domain/json-schema.ts'
import { readModelEndpoint, secretsOfEndpoint } from '../../domain/kinds/model-endpoint.ts'
import type { MemorySpec } from '../../domain/kinds/memory.ts'
import { isObject } from '../../domain/placed-problem.ts'
import type { SecretRef } from '../../domain/secrets.ts'
import type { Definition } from '../../domain/workflow.ts'
import { findTopRun } from '../../store/memory/memory-calls.ts'
import { findResources } from '../../store/resources/read-resources.ts'
import type { EngineContext } from '../context.ts'
import type { Dispatcher } from '../dispatcher.ts'
import type { Caller } from '../engine.ts'
import { type HeldStep, heldStep } from '../held-step.ts'
import { checkMetadata, ingestOf, type Memories } from './memories.ts'
import type { MemoryAt, MemoryEntry, MemoryWrite, OnceOnly, Written } from './memory-provider.ts'

/** Failures that the agent is told; all others are the server's, and the call is asked again. */
const TOLD = /^(memory|model|secret|tool|resource|policy|budget|request)\./

/** Memories, as agents use them over the exchange. */
export class AgentMemory {
  readonly #ctx: EngineContext
  readonly #dispatcher: Dispatcher
  readonly #memories: Memories
  /** Calls under way: one that is asked again, because its answer took long, waits for the same work. */
  readonly #underWay = new Map<string, Promise<MemoryResponse>>()

  constructor(ctx: EngineContext, dispatcher: Dispatcher, memories: Memories) {
    this.#ctx = ctx
    this.#dispatcher = dispatcher
    this.#memories = memories
  }

  async answer(caller: Caller, request: MemoryRequest): Promise<MemoryResponse> {
    const held = await heldStep(this.#ctx, this.#dispatcher, caller, request)
    if (!held) return { state: 'stale', result: null }
    const key = `${request.step}@${request.fence}/${request.call}`
    const former = this.#underWay.get(key)
    if (former) return former
    const work = this.#answer(caller, request, held).finally(() => this.#underWay.delete(key))
    this.#underWay.set(key, work)
    return work
  }

  async #answer(caller: Caller, request: MemoryRequest, held: HeldStep): Promise<MemoryResponse> {
    try {
      const output = await this.#memories.measured(request.operation, () => this.#do(caller, request, held))
      return output === STALE ? { state: 'stale', result: null } : { state: 'held', result: { ok: true, output } }
    } catch (error) {
      if (error instanceof Failure && TOLD.test(error.code)) return { state: 'held', result: resultOf(error) }
      throw error
    }
  }

  async #do(caller: Caller, request: MemoryRequest, { at: step, definition }: HeldStep): Promise<Json | typeof STALE> {
    const { operation, memory, agent, call, session, fence } = request
    const spec = grantedOf(definition, step.node, request)
    const problems = validateJson(request.input, MEMORY_TOOLS[operation].input, {
      mode: 'plain',
      code: 'tool.invalid_input',
      root: 'input',
    })
    if (problems.length > 0)
      throw new Failure('tool.invalid_input', `calling ${memory}.${operation}`, {
        evidence: { problems: problems.map((p) => ({ ...p })) },
      })
    const { namespace, name: workflow } = definition
    const scope = await this.#scopeOf(spec, agent, step.runId)
    const place: MemoryAt = {
      namespace,
      memory,
      scope,
      spec,
      user: { caller, agent: { workflow, runId: step.runId, name: agent } },
    }
    const { input } = request
    const once = (result: OnceOnly['result']): OnceOnly => ({ ...step, session, fence, call, result })
    const write = (of: Pick<MemoryWrite, 'entries' | 'replaces'>, result: OnceOnly['result']) =>
      this.#write(place, { ...of, writtenBy: `agent/${agent}`, once: once(result) }, result)
    switch (operation) {
      case 'read': {
        const entry = await this.#memories.of(spec).get(place, textIn(input, 'key'))
        return { entry: entry && shownEntry(entry) }
      }
      case 'write': {
        const { key, text, metadata } = await this.#withoutSecrets(definition, agent, {
          key: textIn(input, 'key'),
          text: textIn(input, 'text'),
          metadata: objectIn(input, 'metadata'),
        })
        checkMetadata(metadata)
        const result = ({ replaced }: Written): Json => ({ key, replaced: replaced.includes(key) })
        return write({ entries: [{ key, text, metadata }], replaces: null }, result)
      }
      case 'search': {
        const { entries, warnings } = await this.#memories.find(place, {
          query: textIn(input, 'query'),
          limit: numberIn(input, 'limit'),
        })
        return { entries: entries.map((entry) => ({ ...shownEntry(entry), score: entry.score })), warnings }
      }
      case 'list': {
        const { entries, next } = await this.#memories.of(spec).list(place, {
          prefix: textIn(input, 'prefix'),
          cursor: typeof input['cursor'] === 'string' ? input['cursor'] : null,
          limit: numberIn(input, 'limit') ?? LISTED,
        })
        return { entries: entries.map(({ key, bytes, updatedAt }) => ({ key, bytes, updatedAt })), next }
      }
      case 'ingest': {
        const given = await this.#withoutSecrets(definition, agent, {
          source: textIn(input, 'source'),
          text: textIn(input, 'text'),
          metadata: objectIn(input, 'metadata'),
        })
        const of = ingestOf(spec, given)
        const result = ({ removed }: Written): Json => ({ source: given.source, chunks: of.entries.length, removed })
        return write(of, result)
      }
    }
  }

  async #write(place: MemoryAt, of: MemoryWrite, result: OnceOnly['result']): Promise<Json | typeof STALE> {
    const outcome = await this.#memories.write(place, of)
    if (outcome.kind === 'stale') return STALE
    return outcome.kind === 'done' ? outcome.result : result(outcome)
  }

  async #scopeOf({ scope }: MemorySpec, agent: string, runId: string): Promise<string> {
    if (scope === 'shared') return 'shared'
    return scope === 'agent' ? `agent/${agent}` : `run/${await findTopRun(this.#ctx.db, runId)}`
  }

  /** What an agent knows of secrets it must not be able to keep: the values of all that its definition names, and those of its models, are taken out. */
  async #withoutSecrets<T extends JsonObject>(definition: Definition, agent: string, value: T): Promise<T> {
    const { namespace, bound } = definition
    const { model, fallbackModels = [] } = bound?.agents[agent]?.spec ?? { model: '' }
    const endpoints = [model, ...fallbackModels].map((name) => ({ kind: 'ModelEndpoint', namespace, name }))
    const rows = await findResources(this.#ctx.db, endpoints)
    const ofModels = rows.flatMap((row) => secretsOfEndpoint(readModelEndpoint(row.spec)).map(({ ref }) => ref))
    const refs = [...ofModels, ...secretsNamedIn(bound)]
    if (refs.length === 0) return value
    const attempted = 'leaving secrets out of what an agent remembers'
    const found = await this.#ctx.secretResolver.resolve(refs.map((ref) => ({ ...ref, namespace, attempted })))
    return new Redactor(found.filter((one): one is string => typeof one === 'string')).json(value)
  }
}

const STALE = Symbol('stale')
const LISTED = 50

/** The memory that an agent of this step asks for, when it is granted it. */
function grantedOf(
  { nodes, bound }: Definition,
  node: number,
  { agent, memory, operation }: Pick<MemoryRequest, 'agent' | 'memory' | 'operation'>,
): MemorySpec {
  const step = nodes[node]
  const isOurs = step?.kind === 'agent' && speakersOf(step.agent, bound).includes(agent)
  const grant = isOurs ? bound?.agents[agent]?.spec.memories?.find(({ name }) => name === memory) : undefined
  const spec = bound?.memories[memory]
  if (grant?.allow.includes(operation) && spec) return spec
  throw new Failure('tool.permission_denied', `calling ${memory}.${operation} for agent ${agent}`, {
    evidence: { rule: `agent/${agent}`, memory, operation, granted: grant?.allow ?? [] },
    remediation: `Grant it in the spec of agent ${agent}: memories: [{ name: ${memory}, allow: [${operation}] }].`,
  })
}

/** Every `{ secret, key }` in what a definition is bound to. */
function secretsNamedIn(value: unknown): SecretRef[] {
  if (Array.isArray(value)) return value.flatMap(secretsNamedIn)
  if (!isObject(value)) return []
  const { secret, key } = value
  const isRef = typeof secret === 'string' && typeof key === 'string' && Object.keys(value).length === 2
  return isRef ? [{ secret, key }] : Object.values(value).flatMap(secretsNamedIn)
}

const resultOf = (failure: Failure): ToolResult => ({
  ok: false,
  code: failure.code,
  reason: failure.message,
  retryable: FAILURES[failure.code].retry === 'later',
  evidence: { ...failure.evidence, remediation: failure.remediation },
})

const shownEntry = ({ key, text, metadata, updatedAt }: MemoryEntry): JsonObject => ({ key, text, metadata, updatedAt })

// The input was checked against the schema of the tool: what is not there was left out.
const textIn = (input: JsonObject, key: string): string => (typeof input[key] === 'string' ? input[key] : '')
const numberIn = (input: JsonObject, key: string): number | undefined =>
  typeof input[key] === 'number' ? input[key] : undefined
const objectIn = (input: JsonObject, key: string): JsonObject => (isObject(input[key]) ? input[key] : {})
