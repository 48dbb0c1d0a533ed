import { backoffMs, type Clock, type Log, type Random } from '../base/index.ts'
import { Failure } from '../domain/failure.ts'

const POLICY = { initialMs: 100, maxMs: 5_000, factor: 2, jitter: 0.5 }

/** While the server has never been reached, the same fault is told again after this. */
const REMIND_MS = 60_000

/** What both lanes know of the way to the server: one outage is told once, and whoever gets through first wakes the other. */
export class Link {
  readonly #clock: Clock
  readonly #random: Random
  readonly #log: Log
  #downSince: number | null = null
  #wake = new AbortController()
  #wasUp = false
  /** The fault that was told last, and when. */
  #told: { fault: string; at: number } | null = null
  outages = 0

  constructor(deps: { clock: Clock; random: Random; log: Log }) {
    this.#clock = deps.clock
    this.#random = deps.random
    this.#log = deps.log
  }

  /** A request got through. */
  up(): void {
    const isFirst = !this.#wasUp
    this.#wasUp = true
    if (this.#downSince === null) return
    const message = isFirst ? 'the server is reached' : 'link to the server is back'
    this.#log.info(message, { lostMs: Math.round(this.#clock.monotonic() - this.#downSince) })
    this.#downSince = null
    this.#told = null
    this.#wake.abort()
    this.#wake = new AbortController()
  }

  /** A request failed on its way. */
  down(error: unknown): void {
    const isNew = this.#downSince === null
    this.#downSince ??= this.#clock.monotonic()
    if (isNew) this.outages++
    if (!this.#wasUp) return this.#tellUnreachable(error)
    if (!isNew) return
    const message = error instanceof Error ? error.message : String(error)
    this.#log.warn('link to the server lost', { code: 'worker.disconnected', error: message })
  }

  /** Before the first session nobody knows whether the address is right: each new fault is told, and one that stays now and then. */
  #tellUnreachable(error: unknown): void {
    // It is reached, and says itself why it cannot work yet.
    if (error instanceof Failure && !error.code.startsWith('client.')) {
      if (this.#told?.fault === error.code) return
      this.#told = { fault: error.code, at: this.#clock.monotonic() }
      return this.#log.warn('the server cannot work yet; trying again', { code: error.code, detail: error.message })
    }
    const failure = unreachableServer(error)
    const evidence = failure.evidence ?? {}
    const fault = JSON.stringify([evidence['layer'], evidence['error'], evidence['status']])
    const now = this.#clock.monotonic()
    if (this.#told?.fault === fault && now - this.#told.at < REMIND_MS) return
    this.#told = { fault, at: now }
    const { code, remediation } = failure
    this.#log.warn('the server cannot be reached; trying again', { code, ...evidence, remediation })
  }

  /** Waits before try `n` + 1; shorter when another request got through meanwhile or `signal` aborts. Never rejects. */
  async rest(n: number, signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, this.#wake.signal])
    try {
      await this.#clock.sleep(backoffMs(POLICY, n, this.#random), either)
    } catch {
      // Woken early: whoever rests looks at the state of things again anyway.
    }
  }
}

/** What keeps a worker from its server at the first start: the layer that failed, and what to do about that. */
export function unreachableServer(error: unknown): Failure {
  if (!(error instanceof Failure))
    return new Failure('worker.server_unreachable', 'opening a session', { cause: error })
  return new Failure('worker.server_unreachable', 'opening a session', {
    cause: error,
    evidence: { cause: error.code, ...error.evidence },
    remediation: error.remediation,
  })
}

/** Why the server will never take this worker as it is; null when trying again may help. */
export function finalRefusal(error: unknown): Failure | null {
  if (!(error instanceof Failure)) return null
  switch (error.code) {
    case 'client.unauthorized':
    case 'client.forbidden':
      return new Failure('worker.auth_failed', 'exchanging work with the server', { cause: error })
    case 'worker.auth_failed':
    case 'worker.incompatible':
      return error
    default:
      return null
  }
}
