import { assert } from '../../base/assert.ts'
import { backoffMs } from '../../base/backoff.ts'
import type { Clock } from '../../base/clock.ts'
import { createDeadlines, type Deadlines } from '../../base/deadlines.ts'
import type { Json } from '../../base/json.ts'
import { Redactor } from '../../base/redact.ts'
import { Failure } from '../../domain/failure.ts'
import { FAILURES } from '../../domain/failures.ts'
import { validateJson } from '../../domain/json-schema.ts'
import {
  isLocalEndpoint,
  mayCallPrivate,
  type ModelEndpointSpec,
  type Provider,
} from '../../domain/kinds/model-endpoint.ts'
import { type Cost, costOf } from '../../domain/prices.ts'
import { callOptionsOf } from './call-options.ts'
import { embed, type Embedded, type EmbedRequest } from './embed.ts'
import { EndpointPlaces, hasLimits } from './endpoint-places.ts'
import { secretsOf } from './endpoint-secrets.ts'
import { LIMITS } from '../../domain/limits.ts'
import { estimateRequest } from './estimate-tokens.ts'
import { type Judged, judgeError } from './judge-error.ts'
import type { ModelEvent, ModelRequest, ModelResult, ModelUsage, TriedEndpoint } from '../../domain/model-call.ts'
import type { CallContext, GatewayDeps, ModelSource } from './model-source.ts'
import { readProviderError } from './provider-error.ts'
import { openModel } from './providers.ts'
import { type Answer, streamTry, type Try } from './stream-try.ts'
import { ToolNames } from './tool-names.ts'

export interface ModelGateway {
  /**
   * Asks a model. Nothing happens before the first event is asked for; the last one is `finished`. Throws a Failure with a `model.*` or `secret.*`
   * code, or `resource.not_found` when there is no such endpoint. Leaving off ends the call. One that does not get its `goAhead` has no event at all.
   */
  call(request: ModelRequest, context: CallContext): AsyncGenerator<ModelEvent, void>
  /**
   * Turns texts into vectors, in their order. Fallbacks are not asked, because another model's vectors cannot be compared. Throws as `call` does; a
   * provider that has no embeddings is `model.request_rejected`.
   */
  embed(request: EmbedRequest, context: Omit<CallContext, 'useFallbacks'>): Promise<Embedded>
}

export function createModelGateway(deps: GatewayDeps): ModelGateway {
  const parts = { ...deps, places: new EndpointPlaces(deps.clock), deadlines: createDeadlines(deps.clock) }
  return {
    call: (request, context) => callChain(parts, request, context),
    embed: (request, context) => embed(parts, request, context),
  }
}

interface Parts extends GatewayDeps {
  places: EndpointPlaces
  deadlines: Deadlines
}

/** The endpoint and, while the failure is one that passes elsewhere, its fallbacks in their order. */
async function* callChain(parts: Parts, request: ModelRequest, context: CallContext): AsyncGenerator<ModelEvent, void> {
  const { namespace, endpoint, signal } = context
  signal.throwIfAborted()
  if (context.source) parts = { ...parts, source: context.source }
  const first = await parts.source.findEndpoint(namespace, endpoint)
  if (!first) throw new Failure('resource.not_found', `looking for ModelEndpoint ${endpoint}`)
  const rest = context.useFallbacks === false ? [] : (first.fallbacks ?? [])
  const tried: TriedEndpoint[] = []
  const failed: Failed[] = []
  for (const name of [endpoint, ...rest]) {
    const spec = name === endpoint ? first : await parts.source.findEndpoint(namespace, name)
    const skipped = refusalOfFallback(first, spec)
    if (skipped !== null || spec === null) {
      tried.push({ endpoint: name, tries: 0, code: 'resource.not_found', message: skipped ?? '' })
      continue
    }
    const former = failed.at(-1)
    if (former) yield retrying(name, former, 0)
    const outcome = yield* callEndpoint(parts, request, { ...context, endpoint: name }, { spec, tried })
    if (outcome === null) return
    const { failure, tries } = outcome
    tried.push({ endpoint: name, tries, code: failure.code, message: shortText(failure) })
    failed.push(outcome)
    if (failed.length === 1 && FAILURES[failure.code].retry !== 'later') break
  }
  // Of what a fallback lacks nobody asked: the failure is that of the endpoint that was.
  const [told] = failed
  assert(told, 'an endpoint was neither asked nor refused')
  throw withTried(told.failure, rest.length > 0 ? tried : [])
}

const retrying = (endpoint: string, { failure, isVoid }: Failed, delayMs: number): ModelEvent => ({
  type: 'retrying',
  endpoint,
  delayMs,
  isVoid,
  failure: failure.toRecord(),
})

function refusalOfFallback(first: ModelEndpointSpec, spec: ModelEndpointSpec | null): string | null {
  if (spec === null) return 'there is no such endpoint'
  return first.local && !isLocalEndpoint(spec) ? 'left out: it is not local, and the endpoint is' : null
}

/** What a person needs of a failure in one line. */
const shortText = ({ evidence, message }: Failure): string =>
  typeof evidence?.['answer'] === 'string' ? evidence['answer'].slice(0, 200) : message

const withTried = (failure: Failure, tried: readonly TriedEndpoint[]): Failure =>
  new Failure(failure.code, failure.message, {
    ...(failure.cause === undefined ? {} : { cause: failure.cause }),
    evidence: { ...failure.evidence, ...(tried.length > 0 ? { tried: tried.map((one) => ({ ...one })) } : {}) },
    remediation: failure.remediation,
  })

interface Failed {
  failure: Failure
  tries: number
  /** Text was given out already. */
  isVoid: boolean
}

/** One endpoint with its retries. Null: it answered, or was not to be asked. */
async function* callEndpoint(
  parts: Parts,
  request: ModelRequest,
  context: CallContext,
  { spec, tried }: { spec: ModelEndpointSpec; tried: readonly TriedEndpoint[] },
): AsyncGenerator<ModelEvent, Failed | null> {
  const { clock, random } = parts
  const { retry } = spec
  const names = new ToolNames([
    ...(request.tools ?? []).map((tool) => tool.name),
    ...request.messages.flatMap((message) =>
      message.role === 'tool'
        ? [message.name]
        : message.role === 'assistant'
          ? (message.toolCalls ?? []).map((c) => c.name)
          : [],
    ),
  ])
  let from = clock.monotonic()
  void context.goAhead?.then(() => (from = clock.monotonic()))
  let isVoid = false
  for (let tries = 0; ; tries++) {
    let judged: Judged
    try {
      const stream = askOnce(parts, request, context, { spec, names, tries })
      for (;;) {
        const next = await stream.next()
        if (!next.done) {
          isVoid = true
          yield next.value
          continue
        }
        if (next.value === null) return null
        yield* finish(parts, request, context, { spec, tried, answer: next.value, totalMs: clock.monotonic() - from })
        return null
      }
    } catch (error) {
      context.signal.throwIfAborted()
      if (!(error instanceof Refused)) throw error
      judged = error.judged
    }
    const delayMs =
      judged.retryAfterMs ?? backoffMs({ ...retry, initialMs: retry.initial, maxMs: retry.maxDelay }, tries + 1, random)
    if (!judged.isPassing || tries >= retry.max || delayMs > retry.maxDelay)
      return { failure: judged.failure, tries: judged.wasSent === false ? tries : tries + 1, isVoid }
    yield retrying(context.endpoint, { failure: judged.failure, tries, isVoid }, delayMs)
    isVoid = false
    await clock.sleep(delayMs, context.signal)
  }
}

/** What an endpoint did not answer, judged. */
class Refused extends Error {
  readonly judged: Judged
  constructor(judged: Judged) {
    super(judged.failure.message)
    this.judged = judged
  }
}

/** One request at one endpoint, at its place in the limits of the endpoint. Null: it was not to be sent. */
async function* askOnce(
  parts: Parts,
  request: ModelRequest,
  context: CallContext,
  { spec, names, tries }: { spec: ModelEndpointSpec; names: ToolNames; tries: number },
): AsyncGenerator<ModelEvent, Answer | null> {
  const { clock, source, egress } = parts
  const { namespace, endpoint, signal, goAhead = null } = context
  // Nobody else waits for a place that may not be needed.
  if (hasLimits(spec) && (await goAhead) === false) return null
  // Reads the whole request: most calls need no such number.
  const estimate = (): number => estimateRequest(request)
  let redactor = new Redactor([])
  const wanted = (): number => estimate() + (request.maxTokens ?? spec.defaults.maxTokens ?? 0)
  const place = await parts.places
    .enter(`${namespace}/${endpoint}`, spec, { name: endpoint, tokens: wanted, signal })
    .catch((error: unknown) => {
      if (!(error instanceof Failure)) throw error
      throw new Refused({ failure: error, isPassing: false, retryAfterMs: null, wasSent: false })
    })
  const makeReady = async (): Promise<Try> => {
    const secrets = await secretsOf(source, spec, { namespace, endpoint })
    redactor = new Redactor(Object.values(secrets))
    const fetch = egress.fetch({ allowPrivate: mayCallPrivate(spec), onlyPrivate: isLocalEndpoint(spec) })
    return streamTry(
      (mayGo) => openModel(spec, { secrets, fetch, clock, tries, goAhead: mayGo }),
      { ...callOptionsOf(request, spec, names), ...headersOf(spec, context) },
      {
        clock,
        deadlines: parts.deadlines,
        timeouts: spec.timeouts,
        endpoint,
        names,
        redactor,
        estimate,
        signal,
      },
    )
  }
  let spent: number | undefined
  try {
    const ready = await whenWanted(goAhead, makeReady, clock)
    if (ready === null) return null
    const answer = yield* ready.send()
    spent = answer.usage.inputTokens + answer.usage.outputTokens
    return answer
  } catch (error) {
    if (signal.aborted) throw error
    if (error instanceof Failure) {
      const evidence = { endpoint, provider: spec.provider, model: spec.model, ...error.evidence }
      const failure = new Failure(error.code, error.message, {
        cause: error.cause,
        evidence,
        remediation: error.remediation,
      })
      throw new Refused({ failure, isPassing: error.code === 'model.timeout', retryAfterMs: null })
    }
    const told = readProviderError(error, redactor)
    const known = await source.listModels(namespace)
    const about = { endpoint, spec, estimatedTokens: estimate(), known, now: clock.now() }
    throw new Refused(judgeError(told, about))
  } finally {
    place.leave(spent)
  }
}

/** A request that was made ready longer ago is made anew: what opens an endpoint does not do so for ever. */
const READY_MS = 1_000

/** The request, made ready while it waits for its word. Null: it is not to be sent. */
async function whenWanted(
  goAhead: Promise<boolean> | null,
  makeReady: () => Promise<Try>,
  clock: Clock,
): Promise<Try | null> {
  const ready = await makeReady()
  if (goAhead === null) return ready
  const from = clock.monotonic()
  const isWanted = await goAhead
  if (isWanted && clock.monotonic() - from <= READY_MS) return ready
  ready.drop()
  return isWanted ? makeReady() : null
}

/** Providers whose APIs, or those that speak like them, take a key of the caller's; others might refuse what they do not know. */
const TAKE_KEYS: ReadonlySet<Provider> = new Set(['openai', 'azure-openai', 'anthropic', 'openai-compatible', 'ollama'])

const headersOf = ({ provider }: ModelEndpointSpec, { idempotencyKey }: CallContext) =>
  idempotencyKey !== undefined && TAKE_KEYS.has(provider) ? { headers: { 'Idempotency-Key': idempotencyKey } } : {}

async function* finish(
  parts: Parts,
  request: ModelRequest,
  { namespace, endpoint }: CallContext,
  done: { spec: ModelEndpointSpec; tried: readonly TriedEndpoint[]; answer: Answer; totalMs: number },
): AsyncGenerator<ModelEvent, void> {
  const { spec, tried, answer, totalMs } = done
  const { provider, model } = spec
  const priced = await priceOf(parts.source, { namespace, spec }, answer.usage)
  const result: ModelResult = {
    endpoint,
    provider,
    model,
    text: answer.text,
    toolCalls: answer.toolCalls,
    output: request.output ? outputOf(answer.text, request.output.schema) : null,
    finish: answer.finish,
    usage: answer.usage,
    cost: priced.cost,
    warnings: [...answer.warnings, ...priced.warnings],
    tried: [...tried],
    firstPartMs: answer.firstPartMs,
    totalMs,
  }
  yield { type: 'usage', usage: result.usage, cost: result.cost }
  yield { type: 'finished', result }
}

/** A price that is not known is told, and is not nothing. */
async function priceOf(
  source: ModelSource,
  { namespace, spec }: { namespace: string; spec: ModelEndpointSpec },
  usage: ModelUsage,
): Promise<{ cost: Cost | null; warnings: string[] }> {
  if (spec.prices === undefined) return { cost: null, warnings: [] }
  const table = await source.findPrices(namespace, spec.prices)
  if (!table) return { cost: null, warnings: [`the price is not known: there is no PriceTable ${spec.prices}`] }
  const cost = costOf(table, spec, usage)
  if (cost && cost.amount > LIMITS.callMoneyMax)
    return { cost: null, warnings: [`the price is not known: PriceTable ${spec.prices} makes it ${cost.amount}`] }
  const none = `the price is not known: PriceTable ${spec.prices} has no row for ${spec.provider} ${spec.model}`
  return { cost, warnings: cost ? [] : [none] }
}

function outputOf(text: string, schema: NonNullable<ModelRequest['output']>['schema']): ModelResult['output'] {
  let value: Json
  try {
    value = JSON.parse(text) as Json // JSON.parse gives Json or throws
  } catch (error) {
    return { value: null, problems: [`is no JSON: ${error instanceof Error ? error.message : String(error)}`] }
  }
  const found = validateJson(value, schema, { mode: 'plain', code: 'manifest.invalid', root: 'output' })
  return { value, problems: found.map(({ path, message }) => `${path} ${message}`) }
}
