import {
  ANSWER_TOKENS_ASSUMED,
  createModelGateway,
  type Egress,
  type Embedded,
  type EmbedRequest,
  estimateRequest,
  estimateTokens,
  type ModelGateway,
  type ModelSource,
} from '../agents/index.ts'
import type { JsonObject } from '../base/json.ts'
import type { AskModelRequest } from '../contract/api-types.ts'
import { errorOfRecord } from '../contract/problem.ts'
import { Failure } from '../domain/failure.ts'
import type { TokenCap } from '../domain/agents/rules/worker-rules.ts'
import type { ModelFacts } from '../domain/installation-facts.ts'
import { readModelEndpoint, secretsOfEndpoint } from '../domain/kinds/model-endpoint.ts'
import { readPriceTable } from '../domain/kinds/price-table.ts'
import { LIMITS } from '../domain/limits.ts'
import type { ModelEvent, ModelMessage, ModelRequest, ModelUsage } from '../domain/model-call.ts'
import { plainNamespace, shownNamespace } from '../domain/tenancy.ts'
import { type AuditEntry, recordAudit } from '../store/audit/audit.ts'
import { findResources, listResources } from '../store/resources/read-resources.ts'
import type { ResourceRow } from '../store/resources/resource-rows.ts'
import { entryIn } from './access.ts'
import type { AskedModel, Gate } from './agents/gate.ts'
import { LoneCall } from './agents/lone-call.ts'
import type { EngineContext } from './context.ts'
import type { Caller } from './engine.ts'
import type { ResourceEngine } from './resources/resource-engine.ts'
import type { Secrets } from './secrets.ts'
import { reach } from './visible.ts'

const KIND = 'ModelEndpoint'

/** A model that a person asks. */
const ofNobody = (namespace: string, endpoint: string): AskedModel => ({
  namespace,
  workflow: '',
  runId: null,
  agent: null,
  endpoint,
})

/** Models as people ask and look at them. */
export class Models {
  readonly #ctx: EngineContext
  readonly #secrets: Secrets
  readonly #resources: ResourceEngine
  readonly #gateway: ModelGateway
  readonly #gate: Gate

  constructor(ctx: EngineContext, parts: { secrets: Secrets; resources: ResourceEngine; gate: Gate; egress: Egress }) {
    this.#ctx = ctx
    this.#secrets = parts.secrets
    this.#resources = parts.resources
    this.#gate = parts.gate
    const { egress } = parts
    this.#gateway = createModelGateway({ clock: ctx.clock, random: ctx.random, egress, source: sourceOf(ctx) })
  }

  /** Fails before anything is sent when there is no such endpoint, or a rule or a budget refuses it; what comes later comes with the events. */
  async ask(
    caller: Caller,
    at: { namespace: string; name: string },
    ask: AskModelRequest,
    signal: AbortSignal,
  ): Promise<AsyncIterable<ModelEvent>> {
    const { spec } = await this.#resources.get(caller, { kind: KIND, ...at })
    const by = ofNobody(at.namespace, at.name)
    const caps = await this.#pass(by)
    const useFallbacks = ask.useFallbacks ?? true
    const request = requestOf(ask)
    const call = new LoneCall(this.#ctx, by)
    await call.setAside(at.name, { tokens: tokensOf(request, spec), caps })
    try {
      // Written down before it is done: what cannot be written down is not done. The prompt is nobody else's business.
      await recordAudit(this.#ctx.db, [
        entryIn(this.#ctx, caller, at.namespace, {
          action: 'modelendpoints.ask',
          object: at.name,
          details: { useFallbacks },
        }),
        ...this.#uses(caller, at, spec),
      ])
    } catch (error) {
      await call.giveUp()
      throw error
    }
    return this.#events(caller, { at, call, useFallbacks }, request, signal)
  }

  /**
   * Policies hold for people too, as far as they are for no agent and no workflow: what may not leave does not leave. Gives what the run may use. Throws
   * `policy.denied`.
   */
  async #pass(asked: AskedModel): Promise<readonly TokenCap[]> {
    const [word] = await this.#gate.models(this.#ctx.db, [asked])
    if (word?.failure) throw errorOfRecord(word.failure)
    return word?.caps ?? []
  }

  /** Texts as vectors of an endpoint that the rules let be asked. Every use of its secrets is written down before. Throws as asking does. */
  async embed(caller: Caller, asked: AskedModel, request: EmbedRequest, signal: AbortSignal): Promise<Embedded> {
    const { namespace, endpoint } = asked
    const caps = await this.#pass(asked)
    const at = { namespace, name: endpoint }
    const call = new LoneCall(this.#ctx, asked)
    const input = request.texts.reduce((sum, text) => sum + estimateTokens(text), 0)
    await call.setAside(endpoint, { tokens: { input, output: 0 }, caps })
    try {
      const [row] = await findResources(this.#ctx.db, [{ kind: KIND, ...at }])
      if (row) await recordAudit(this.#ctx.db, this.#uses(caller, at, row.spec))
      const embedded = await this.#gateway.embed(request, { namespace, endpoint, signal })
      await call.end({ ...embedded, usage: usageOf(embedded) })
      return embedded
    } catch (error) {
      await call.giveUp()
      throw error
    }
  }

  #uses(caller: Caller, { namespace, name }: { namespace: string; name: string }, spec: JsonObject): AuditEntry[] {
    return secretsOfEndpoint(readModelEndpoint(spec)).map(({ use, ref }) =>
      entryIn(this.#ctx, caller, namespace, {
        action: 'secrets.use',
        object: ref.secret,
        details: { key: ref.key, as: use, endpoint: name },
      }),
    )
  }

  /** Which fallback is asked shows only when its turn comes: the gateway waits until the rules and the budgets let it be asked and its secrets are written down. */
  async #goOver(
    caller: Caller,
    { namespace, name }: { namespace: string; name: string },
    { call, request }: { call: LoneCall; request: ModelRequest },
  ): Promise<void> {
    const caps = await this.#pass(ofNobody(namespace, name))
    const [row] = await findResources(this.#ctx.db, [{ kind: KIND, namespace, name }])
    if (!row) return
    await call.setAside(name, { tokens: tokensOf(request, row.spec), caps })
    await recordAudit(this.#ctx.db, this.#uses(caller, { namespace, name }, row.spec))
  }

  async *#events(
    caller: Caller,
    { at, call, useFallbacks }: { at: { namespace: string; name: string }; call: LoneCall; useFallbacks: boolean },
    request: ModelRequest,
    signal: AbortSignal,
  ): AsyncIterable<ModelEvent> {
    const { namespace, name: endpoint } = at
    let hasEnded = false
    try {
      let asked = endpoint
      for await (const event of this.#gateway.call(request, { namespace, endpoint, useFallbacks, signal })) {
        if (event.type === 'retrying' && event.endpoint !== asked) {
          asked = event.endpoint
          await this.#goOver(caller, { namespace, name: asked }, { call, request })
        } else if (event.type === 'finished') {
          await call.end(event.result)
          hasEnded = true
        }
        yield event
      }
    } catch (error) {
      throw error instanceof Failure ? await this.#secrets.withElsewhere(caller, namespace, error) : error
    } finally {
      if (!hasEnded) await call.giveUp()
    }
  }

  /** What the doctor asks of the endpoints that the caller may see: whether each finds what it names. */
  async examine(caller: Caller): Promise<ModelFacts[]> {
    const { db, secretResolver } = this.#ctx
    const filter = { kind: KIND, namespaces: reach(caller), name: null, terms: [] }
    const rows = await listResources(db, filter, { after: null, limit: LIMITS.modelsExaminedMax })
    const endpoints = rows.map((row) => ({ row, spec: readModelEndpoint(row.spec) }))
    const wanted = endpoints.flatMap(({ row, spec }) =>
      secretsOfEndpoint(spec).map(({ ref }) => wantedOf(row.namespace, row.name, ref)),
    )
    const values = await secretResolver.resolve(wanted)
    const missing = values.flatMap((value, i) => (value instanceof Failure ? [{ of: wanted[i], failure: value }] : []))
    const named = endpoints.flatMap(({ row, spec }) => [
      ...(spec.fallbacks ?? []).map((name) => ({ kind: KIND, namespace: row.namespace, name })),
      ...(spec.prices === undefined ? [] : [{ kind: 'PriceTable', namespace: row.namespace, name: spec.prices }]),
    ])
    const there = new Set((await findResources(db, named)).map(keyOf))
    return endpoints.map(({ row, spec }) => ({
      endpoint: `${shownNamespace(caller.organisation, row.namespace)}/${row.name}`,
      provider: spec.provider,
      model: spec.model,
      secrets: missing
        .filter(({ of }) => of?.namespace === row.namespace && of.endpoint === row.name)
        .map(({ failure }) => failure.toRecord()),
      dangling: [
        ...(spec.fallbacks ?? []).map((name) => ({ kind: KIND, field: 'fallbacks', name })),
        ...(spec.prices === undefined ? [] : [{ kind: 'PriceTable', field: 'prices', name: spec.prices }]),
      ]
        .filter(({ kind, name }) => !there.has(keyOf({ kind, namespace: row.namespace, name })))
        .map(({ field, name }) => ({ field, name })),
    }))
  }
}

function requestOf({ prompt, system, maxTokens, temperature }: AskModelRequest): ModelRequest {
  const instructions: ModelMessage[] = system === undefined ? [] : [{ role: 'system', text: system }]
  return {
    messages: [...instructions, { role: 'user', text: prompt }],
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(temperature === undefined ? {} : { temperature }),
  }
}

/** What asking an endpoint may take at most. */
const tokensOf = (request: ModelRequest, spec: JsonObject) => ({
  input: estimateRequest(request),
  output: request.maxTokens ?? readModelEndpoint(spec).defaults.maxTokens ?? ANSWER_TOKENS_ASSUMED,
})

const usageOf = ({ inputTokens, isEstimated }: Embedded): ModelUsage => ({
  ...{ inputTokens, outputTokens: 0, cachedInputTokens: 0, cacheWriteTokens: 0, reasoningTokens: 0 },
  isEstimated,
})

const keyOf = ({ kind, namespace, name }: { kind: string; namespace: string; name: string }): string =>
  `${kind} ${namespace}/${name}`

const wantedOf = (namespace: string, endpoint: string, ref: { secret: string; key: string }) => ({
  ...ref,
  namespace,
  endpoint,
  attempted: `resolving secret ${ref.secret}, key ${ref.key}, for model endpoint ${plainNamespace(namespace)}/${endpoint}`,
  evidence: { endpoint },
})

/** What manifests name, as it is now. */
function sourceOf({ db, secretResolver }: EngineContext): ModelSource {
  const find = async (kind: string, namespace: string, name: string): Promise<ResourceRow | null> => {
    const [row] = await findResources(db, [{ kind, namespace, name }])
    return row ?? null
  }
  return {
    async findEndpoint(namespace, name) {
      const row = await find(KIND, namespace, name)
      return row && readModelEndpoint(row.spec)
    },
    async findPrices(namespace, name) {
      const row = await find('PriceTable', namespace, name)
      return row && readPriceTable(row.spec)
    },
    async listModels(namespace) {
      const filter = { kind: KIND, namespaces: [namespace], name: null, terms: [] }
      const rows = await listResources(db, filter, { after: null, limit: LIMITS.pageMax })
      return rows.map((row) => {
        const { provider, model } = readModelEndpoint(row.spec)
        return { endpoint: row.name, provider, model }
      })
    },
    async resolveSecrets(wanted) {
      const found = await secretResolver.resolve(wanted.map((one) => wantedOf(one.namespace, one.endpoint, one)))
      return found.map((value) => {
        if (value instanceof Failure) throw value
        return value
      })
    },
  }
}
