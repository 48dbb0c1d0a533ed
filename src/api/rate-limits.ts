import type { Clock } from '../base/clock.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'

/** Who is remembered at once; beyond, those with nothing spent are forgotten, then everybody. */
const KEYS_MAX = 20_000

/** So many at once, and so many a second after. One number for each key: when its allowance would be whole again. */
export class Allowance {
  readonly #clock: Clock
  readonly #everyMs: number
  readonly #burstMs: number
  readonly #wholeAt = new Map<string, number>()

  constructor(clock: Clock, { perSecond, burst }: { perSecond: number; burst: number }) {
    this.#clock = clock
    this.#everyMs = 1000 / perSecond
    this.#burstMs = burst * this.#everyMs
  }

  /** Takes one: 0, or the ms after which there is one again. */
  take(key: string): number {
    const now = this.#clock.monotonic()
    const wholeAt = Math.max(now, this.#wholeAt.get(key) ?? now)
    const waitMs = wholeAt + this.#everyMs - now - this.#burstMs
    if (waitMs > 0) return waitMs
    if (this.#wholeAt.size >= KEYS_MAX && !this.#wholeAt.has(key)) this.#tidy(now)
    this.#wholeAt.set(key, wholeAt + this.#everyMs)
    return 0
  }

  /** Ms after which there is one again, without taking it. */
  peek(key: string): number {
    const now = this.#clock.monotonic()
    return Math.max(0, (this.#wholeAt.get(key) ?? now) + this.#everyMs - now - this.#burstMs)
  }

  #tidy(now: number): void {
    for (const [key, at] of this.#wholeAt) if (at <= now) this.#wholeAt.delete(key)
    if (this.#wholeAt.size >= KEYS_MAX) this.#wholeAt.clear()
  }
}

/** What one caller may ask of one server. The exchange is exempt: workers ask as often as the work needs. */
export interface RateLimits {
  /** Requests of a good token. */
  tokens: Allowance
  /** Requests without a good token, by where they come from. */
  refused: Allowance
  /** Requests to open addresses, by where they come from. */
  open: Allowance
}

export const createRateLimits = (clock: Clock): RateLimits => ({
  tokens: new Allowance(clock, LIMITS.requestsOfToken),
  refused: new Allowance(clock, LIMITS.refusalsOfAddress),
  open: new Allowance(clock, LIMITS.openRequestsOfAddress),
})

export function rateLimited(what: string, who: string, waitMs: number): Failure {
  const retryAfterSeconds = Math.max(1, Math.ceil(waitMs / 1000))
  return new Failure('request.rate_limited', what, {
    evidence: { who, retryAfterSeconds },
    remediation: `Ask less often; try again after ${retryAfterSeconds} s, as Retry-After says.`,
  })
}

/** Addresses are counted as their networks are given out: an IPv6 caller has a whole /64. */
export function networkOf(address: string): string {
  if (!address.includes(':')) return address
  const [head = '', tail] = address.split('::')
  const first = head === '' ? [] : head.split(':')
  const last = tail === undefined || tail === '' ? [] : tail.split(':')
  const whole =
    tail === undefined ? first : [...first, ...Array<string>(8 - first.length - last.length).fill('0'), ...last]
  return `${whole.slice(0, 4).join(':')}::/64`
}
