import type { EmbeddingModelV4 } from '@ai-sdk/provider'
import { backoffMs } from '../../base/backoff.ts'
import { Redactor } from '../../base/redact.ts'
import { Failure } from '../../domain/failure.ts'
import {
  isLocalEndpoint,
  mayCallPrivate,
  type ModelEndpointSpec,
  type Provider,
} from '../../domain/kinds/model-endpoint.ts'
import { LIMITS } from '../../domain/limits.ts'
import { type Cost, costOf } from '../../domain/prices.ts'
import type { CallContext, GatewayDeps } from './model-source.ts'
import type { EndpointPlaces } from './endpoint-places.ts'
import { secretsOf } from './endpoint-secrets.ts'
import { estimateTokens, isCountOfTokens } from './estimate-tokens.ts'
import { type Judged, judgeError } from './judge-error.ts'
import { openEmbedding } from './open-embedding.ts'
import { readProviderError } from './provider-error.ts'

export interface EmbedRequest {
  texts: readonly string[]
  /** Instead of the model of the endpoint; for `azure-openai` the deployment. */
  model?: string | undefined
}

export interface Embedded {
  endpoint: string
  provider: Provider
  model: string
  /** One for each text, all of one length. */
  vectors: Float32Array[]
  inputTokens: number
  /** The provider told none: counted by the length of the texts. */
  isEstimated: boolean
  /** Null: no price is known. */
  cost: Cost | null
}

type Context = Omit<CallContext, 'useFallbacks'>

interface Parts extends GatewayDeps {
  places: EndpointPlaces
}

/** Asks in as few requests as the provider takes, one after another; each has the tries that the endpoint allows. */
export async function embed(parts: Parts, { texts, model }: EmbedRequest, context: Context): Promise<Embedded> {
  const { namespace, endpoint, signal } = context
  signal.throwIfAborted()
  const found = await parts.source.findEndpoint(namespace, endpoint)
  if (!found) throw new Failure('resource.not_found', `looking for ModelEndpoint ${endpoint}`)
  const spec = model === undefined ? found : withModel(found, model)
  const vectors: Float32Array[] = []
  let told = 0
  let isEstimated = false
  for (let at = 0; at < texts.length;) {
    const answer = await askUntilDone(parts, texts.slice(at, at + LIMITS.embeddedAtOnceMax), context, spec)
    at += answer.vectors.length
    vectors.push(...answer.vectors)
    told += answer.tokens
    isEstimated ||= answer.isEstimated
  }
  checkLengths(vectors, endpoint, spec)
  const usage = { inputTokens: told, outputTokens: 0, cachedInputTokens: 0, cacheWriteTokens: 0 }
  const prices = spec.prices === undefined ? null : await parts.source.findPrices(namespace, spec.prices)
  const cost = prices && costOf(prices, spec, usage)
  return { endpoint, provider: spec.provider, model: spec.model, vectors, inputTokens: told, isEstimated, cost }
}

const withModel = (spec: ModelEndpointSpec, model: string): ModelEndpointSpec => ({
  ...spec,
  model,
  ...(spec.azure ? { azure: { ...spec.azure, deployment: model } } : {}),
})

interface Answer {
  /** Of the first so many texts: a provider may take fewer at once. */
  vectors: Float32Array[]
  tokens: number
  isEstimated: boolean
}

async function askUntilDone(
  parts: Parts,
  texts: readonly string[],
  context: Context,
  spec: ModelEndpointSpec,
): Promise<Answer> {
  const { retry } = spec
  for (let tries = 0; ; tries++) {
    const answer = await askOnce(parts, texts, context, { spec, tries })
    if ('vectors' in answer) return answer
    const backoff = { ...retry, initialMs: retry.initial, maxMs: retry.maxDelay }
    const delayMs = answer.retryAfterMs ?? backoffMs(backoff, tries + 1, parts.random)
    if (!answer.isPassing || tries >= retry.max || delayMs > retry.maxDelay) throw answer.failure
    await parts.clock.sleep(delayMs, context.signal)
  }
}

/** One request; what the provider did not answer is judged. */
async function askOnce(
  { clock, source, egress, places }: Parts,
  texts: readonly string[],
  { namespace, endpoint, signal }: Context,
  { spec, tries }: { spec: ModelEndpointSpec; tries: number },
): Promise<Answer | Judged> {
  const estimatedTokens = texts.reduce((sum, text) => sum + estimateTokens(text), 0)
  const place = await places.enter(`${namespace}/${endpoint}`, spec, {
    name: endpoint,
    tokens: () => estimatedTokens,
    signal,
  })
  let redactor = new Redactor([])
  let spent: number | undefined
  try {
    const secrets = await secretsOf(source, spec, { namespace, endpoint })
    redactor = new Redactor(Object.values(secrets))
    const fetch = egress.fetch({ allowPrivate: mayCallPrivate(spec), onlyPrivate: isLocalEndpoint(spec) })
    const model = await openEmbedding(spec, { secrets, fetch, clock, tries, endpoint })
    const values = texts.slice(0, (await model.maxEmbeddingsPerCall) ?? texts.length)
    const { embeddings, usage } = await inTime(model, values, { clock, spec, endpoint, signal })
    if (embeddings.length !== values.length)
      throw new Error(`the answer has ${embeddings.length} vectors for ${values.length} texts`)
    const tokens = usage?.tokens
    const isKnown = isCountOfTokens(tokens)
    spent = isKnown ? tokens : values.reduce((sum, text) => sum + estimateTokens(text), 0)
    return { vectors: embeddings.map(vectorOf), tokens: spent, isEstimated: !isKnown }
  } catch (error) {
    if (signal.aborted) throw error
    if (error instanceof Failure)
      return { failure: error, isPassing: error.code === 'model.timeout', retryAfterMs: null }
    const known = await source.listModels(namespace)
    const told = readProviderError(error, redactor)
    return judgeError(told, { endpoint, spec, estimatedTokens, known, now: clock.now() })
  } finally {
    place.leave(spent)
  }
}

/** `model.timeout` when it takes longer than one try may. A package that does not heed the signal is left behind. */
async function inTime(
  model: EmbeddingModelV4,
  values: string[],
  at: Pick<GatewayDeps, 'clock'> & { spec: ModelEndpointSpec; endpoint: string; signal: AbortSignal },
) {
  const { clock, spec, endpoint, signal } = at
  const over = new AbortController()
  const cut = AbortSignal.any([signal, over.signal])
  const { total } = spec.timeouts
  const watch = clock.sleep(total, cut).then(() => {
    throw new Failure('model.timeout', `waiting for vectors of endpoint ${endpoint}`, {
      evidence: { endpoint, limit: 'timeouts.total', limitMs: total },
    })
  })
  try {
    return await Promise.race([model.doEmbed({ values, abortSignal: cut }), watch])
  } finally {
    over.abort(new Error('the call is over'))
    watch.catch(() => {})
  }
}

function vectorOf(numbers: readonly number[]): Float32Array {
  const vector = Float32Array.from(numbers)
  if (vector.length === 0 || vector.length > LIMITS.embeddingNumbersMax || !vector.every(Number.isFinite))
    throw new Error(`the answer has a vector of ${vector.length} numbers, or of what is no number`)
  return vector
}

function checkLengths(vectors: readonly Float32Array[], endpoint: string, spec: ModelEndpointSpec): void {
  const lengths = [...new Set(vectors.map((vector) => vector.length))]
  if (lengths.length > 1)
    throw new Failure('model.unavailable', `asking model ${spec.model} of endpoint ${endpoint} for vectors`, {
      evidence: { endpoint, model: spec.model, answer: `vectors of different lengths: ${lengths.join(', ')}` },
    })
}
