import type { JsonObject } from '../../base/json.ts'
import { nearest } from '../../base/nearest.ts'
import { Failure } from '../../domain/failure.ts'
import { type FailureCode, FAILURES } from '../../domain/failures.ts'
import { addressOf, type ModelEndpointSpec, type Provider } from '../../domain/kinds/model-endpoint.ts'
import type { ProviderError } from './provider-error.ts'

/** An endpoint as others are told of it. */
export interface KnownModel {
  endpoint: string
  provider: Provider
  model: string
}

export interface Judged {
  failure: Failure
  /** Whether the same request may succeed at the same endpoint in a moment. */
  isPassing: boolean
  /** When the provider wants to be asked again; null: it does not say. */
  retryAfterMs: number | null
  /** False: it was given up before anything was sent. */
  wasSent?: false
}

export interface About {
  endpoint: string
  spec: ModelEndpointSpec
  /** Tokens of the request, estimated. */
  estimatedTokens: number
  /** Endpoints of the namespace. */
  known: readonly KnownModel[]
  now: number
}

/** Pure: what an error of a provider means, with what it said. */
export function judgeError(error: ProviderError, about: About): Judged {
  const { spec, endpoint } = about
  const code = codeOf(error, spec)
  const retryAfterMs = retryAfterOf(error.headers, about.now)
  const evidence: JsonObject = {
    endpoint,
    provider: spec.provider,
    model: spec.model,
    ...(addressOf(spec) === null ? {} : { address: addressOf(spec) }),
    ...(error.status === null ? {} : { status: error.status }),
    ...(error.word === null ? {} : { code: error.word }),
    answer: error.message,
    ...(retryAfterMs === null ? {} : { retryAfterMs }),
  }
  const more = detailsOf(code, error, about)
  const failure = new Failure(code, `asking model ${spec.model} of endpoint ${endpoint}`, {
    evidence: { ...evidence, ...more.evidence },
    ...(more.remediation === undefined ? {} : { remediation: more.remediation }),
  })
  // A quota that is used up does not come back in a moment.
  const isUsedUp = error.word === 'insufficient_quota' || error.word === 'billing_hard_limit_reached'
  return { failure, isPassing: FAILURES[code].retry === 'later' && !isUsedUp, retryAfterMs }
}

const CONTEXT =
  /context[ _](length|window|size)|maximum context|too many tokens|(prompt|input|request) is too long|exceeds? the (available )?(context|maximum number of tokens)|input token count/i
const NO_MODEL =
  /model_not_found|DeploymentNotFound|model identifier is invalid|(model|deployment)\b.{0,200}\b(does not exist|not found|is not supported|not exist)|no such model|unknown model|invalid model/i
const NO_KEY =
  /api[ _-]?key (not valid|expired|invalid)|invalid (api|x-api)[ _-]?key|API_KEY_INVALID|security token.{0,60}(invalid|expired)|UnrecognizedClient/i

function codeOf({ status, message, word }: ProviderError, spec: ModelEndpointSpec): FailureCode {
  const text = `${word ?? ''} ${message}`
  const isOpen = spec.credentials === undefined && spec.bedrock?.accessKeyId === undefined
  if (status === 401 || status === 403 || NO_KEY.test(text)) return isOpen ? 'model.auth_missing' : 'model.auth_failed'
  if (status === 429) return 'model.rate_limited'
  if (status === 408) return 'model.timeout'
  if (status === null) return codeOfWord(text)
  if (status === 404) return 'model.not_found'
  if (status === 413 || (status < 500 && CONTEXT.test(text))) return 'model.context_exceeded'
  if (status >= 400 && status < 500 && status !== 409 && status !== 425)
    return NO_MODEL.test(text) ? 'model.not_found' : 'model.request_rejected'
  // What is no error by its number and none of a model's answers either, is something else that answers there.
  return 'model.unavailable'
}

/** An error in the middle of a stream has no number, only a word. */
function codeOfWord(text: string): FailureCode {
  if (/rate_limit|throttling|too many requests|resource_exhausted/i.test(text)) return 'model.rate_limited'
  if (CONTEXT.test(text)) return 'model.context_exceeded'
  return NO_MODEL.test(text) ? 'model.not_found' : 'model.unavailable'
}

function detailsOf(
  code: FailureCode,
  error: ProviderError,
  about: About,
): { evidence?: JsonObject; remediation?: string } {
  const { spec, endpoint } = about
  switch (code) {
    case 'model.context_exceeded':
      return { evidence: sizesIn(error.message, about) }
    case 'model.not_found':
      return meantModel(spec, endpoint, about.known)
    case 'model.auth_failed': {
      const ref = spec.credentials ?? spec.bedrock?.accessKeyId
      return ref ? { evidence: { secret: ref.secret, key: ref.key } } : {}
    }
    case 'model.auth_missing':
      return {
        remediation: `The provider wants a key, and endpoint ${endpoint} names none: give it credentials: { secret: NAME, key: KEY }.`,
      }
    default:
      return {}
  }
}

/** Sizes that the provider tells, else what is known here. */
function sizesIn(message: string, about: About): JsonObject {
  const numbers = [...message.replaceAll(/(?<=\d)[,_](?=\d{3})/g, '').matchAll(/\d{3,}/g)].map(([n]) => Number(n))
  const limit = numbers.length > 1 ? Math.min(...numbers) : (numbers[0] ?? null)
  const size = numbers.length > 1 ? Math.max(...numbers) : null
  return {
    ...(limit === null ? {} : { limitTokens: limit }),
    ...(size === null ? { estimatedTokens: about.estimatedTokens } : { requestTokens: size }),
  }
}

/** Whether the model is at another provider, or what it was probably meant to be. */
function meantModel(
  spec: ModelEndpointSpec,
  endpoint: string,
  known: readonly KnownModel[],
): { evidence?: JsonObject; remediation?: string } {
  const others = known.filter((other) => other.endpoint !== endpoint)
  const same = others.find((other) => other.model === spec.model && other.provider !== spec.provider)
  if (same)
    return {
      evidence: { nearest: same.endpoint },
      remediation: `Endpoint ${same.endpoint} has a model of this name at the provider ${same.provider}: correct spec.provider of ${endpoint}.`,
    }
  const near = nearest(
    spec.model,
    others.map((other) => other.model),
  )
  const meant = others.find((other) => other.model === near)
  if (near === null || !meant) return {}
  return {
    evidence: { nearest: near },
    remediation: `Did you mean ${near}, which endpoint ${meant.endpoint} has? Correct spec.model of ${endpoint}.`,
  }
}

/** Longest wait that is believed; what is beyond it is as good as never. */
const RETRY_AFTER_MAX_MS = 24 * 3_600_000

/** `retry-after-ms`, else `Retry-After` in seconds or as a date. */
function retryAfterOf(headers: Readonly<Record<string, string>>, now: number): number | null {
  const ms = Number(headers['retry-after-ms'] ?? NaN)
  if (Number.isFinite(ms) && ms >= 0) return Math.min(ms, RETRY_AFTER_MAX_MS)
  const text = headers['retry-after']
  if (text === undefined || text.trim() === '') return null
  const seconds = Number(text)
  if (Number.isFinite(seconds)) return seconds < 0 ? null : Math.min(seconds * 1000, RETRY_AFTER_MAX_MS)
  const at = Date.parse(text)
  return Number.isNaN(at) ? null : Math.min(Math.max(0, at - now), RETRY_AFTER_MAX_MS)
}
