import type { Clock } from '../../base/clock.ts'
import { Failure } from '../../domain/failure.ts'
import type { ModelEndpointSpec } from '../../domain/kinds/model-endpoint.ts'
import { LIMITS } from '../../domain/limits.ts'

type Limits = Pick<ModelEndpointSpec, 'maxConcurrent' | 'requestsPerMinute' | 'tokensPerMinute'>

export const hasLimits = ({ maxConcurrent, requestsPerMinute, tokensPerMinute }: Limits): boolean =>
  maxConcurrent !== undefined || requestsPerMinute !== undefined || tokensPerMinute !== undefined

/** A place at an endpoint, held while it is asked. */
export interface Place {
  /** Gives it back. `tokens` is what the call was really about; left out, it never came to that. Twice is safe. */
  leave(tokens?: number): void
}

interface Endpoint {
  active: number
  waiting: (() => void)[]
  requests: Bucket
  tokens: Bucket
}

/** What may be taken now; filled again over a minute. What is taken in advance makes it negative. */
class Bucket {
  #level = Infinity
  #at = 0

  /** Takes an amount and tells how long to wait until it is there. One that is larger than all there can be is that much. */
  take(amount: number, perMinute: number, now: number): { waitMs: number; taken: number } {
    this.#level = Math.min(perMinute, this.#level + ((now - this.#at) * perMinute) / 60_000)
    this.#at = now
    const taken = Math.min(amount, perMinute)
    this.#level -= taken
    return { waitMs: Math.max(0, Math.ceil((-this.#level * 60_000) / perMinute)), taken }
  }

  /** Takes more, or gives back when it is negative. */
  settle(amount: number): void {
    this.#level -= amount
  }
}

/** The limits that endpoints set themselves, kept by this process for its own calls, in the order in which they came. */
export class EndpointPlaces {
  readonly #clock: Clock
  readonly #endpoints = new Map<string, Endpoint>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Waits for a place and its rates. `model.rate_limited` when that would take longer than LIMITS.modelWaitMs. */
  async enter(
    key: string,
    limits: Limits,
    asked: { name: string; tokens(): number; signal: AbortSignal },
  ): Promise<Place> {
    if (!hasLimits(limits)) return { leave: () => {} }
    const { maxConcurrent, requestsPerMinute, tokensPerMinute } = limits
    const endpoint = this.#endpoints.get(key) ?? {
      active: 0,
      waiting: [],
      requests: new Bucket(),
      tokens: new Bucket(),
    }
    this.#endpoints.set(key, endpoint)
    await this.#takePlace(endpoint, maxConcurrent ?? Infinity, asked)
    const release = (): void => {
      endpoint.active--
      endpoint.waiting.shift()?.()
    }
    try {
      const taken = await this.#takeRates(endpoint, { requestsPerMinute, tokensPerMinute }, asked)
      let left = false
      return {
        leave(tokens) {
          if (left) return
          left = true
          if (tokensPerMinute !== undefined && tokens !== undefined) endpoint.tokens.settle(tokens - taken)
          release()
        },
      }
    } catch (error) {
      release()
      throw error
    }
  }

  async #takePlace(
    endpoint: Endpoint,
    max: number,
    { name, signal }: { name: string; signal: AbortSignal },
  ): Promise<void> {
    if (endpoint.active < max && endpoint.waiting.length === 0) {
      endpoint.active++
      return
    }
    if (endpoint.waiting.length >= LIMITS.modelQueueMax)
      throw tooMany(name, { limit: 'maxConcurrent', value: max, waiting: endpoint.waiting.length })
    const turn = Promise.withResolvers<boolean>()
    const wake = (): void => turn.resolve(true)
    endpoint.waiting.push(wake)
    const over = new AbortController()
    const slept = this.#clock.sleep(LIMITS.modelWaitMs, AbortSignal.any([signal, over.signal])).then(
      () => turn.resolve(false),
      (error: unknown) => (signal.aborted ? turn.reject(error) : undefined),
    )
    try {
      const isMine = await turn.promise
      if (!isMine) throw tooMany(name, { limit: 'maxConcurrent', value: max, waitedMs: LIMITS.modelWaitMs })
      endpoint.active++
    } finally {
      over.abort()
      await slept
      const at = endpoint.waiting.indexOf(wake)
      if (at >= 0) endpoint.waiting.splice(at, 1)
    }
  }

  /** Gives how many tokens were taken in advance. */
  async #takeRates(
    endpoint: Endpoint,
    { requestsPerMinute, tokensPerMinute }: Limits,
    { name, tokens, signal }: { name: string; tokens(): number; signal: AbortSignal },
  ): Promise<number> {
    const now = this.#clock.monotonic()
    const none = { waitMs: 0, taken: 0 }
    const requests = requestsPerMinute === undefined ? none : endpoint.requests.take(1, requestsPerMinute, now)
    const ofTokens = tokensPerMinute === undefined ? none : endpoint.tokens.take(tokens(), tokensPerMinute, now)
    const giveBack = (): void => {
      endpoint.requests.settle(-requests.taken)
      endpoint.tokens.settle(-ofTokens.taken)
    }
    const waitMs = Math.max(requests.waitMs, ofTokens.waitMs)
    if (waitMs > LIMITS.modelWaitMs) {
      giveBack()
      const isOfTokens = ofTokens.waitMs >= requests.waitMs
      throw tooMany(name, {
        limit: isOfTokens ? 'tokensPerMinute' : 'requestsPerMinute',
        value: (isOfTokens ? tokensPerMinute : requestsPerMinute) ?? 0,
        waitMs,
      })
    }
    if (waitMs > 0)
      await this.#clock.sleep(waitMs, signal).catch((error: unknown) => {
        giveBack()
        throw error
      })
    return ofTokens.taken
  }
}

const tooMany = (endpoint: string, evidence: { limit: string; [key: string]: string | number }): Failure =>
  new Failure('model.rate_limited', `waiting for endpoint ${endpoint}`, {
    evidence: { endpoint, ...evidence },
    remediation: `The endpoint sets this limit itself: raise ${evidence.limit} of ${endpoint}, or name fallbacks.`,
  })
