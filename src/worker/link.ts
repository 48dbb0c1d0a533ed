import { backoffMs, type Clock, type Log, type Random } from '../base/index.ts'
import { Failure } from '../domain/failure.ts'

const POLICY = { initialMs: 100, maxMs: 5_000, factor: 2, jitter: 0.5 }

/** What both lanes know of the way to the server: one outage is told once, and whoever gets through first wakes the other. */
export class Link {
  readonly #clock: Clock
  readonly #random: Random
  readonly #log: Log
  #downSince: number | null = null
  #wake = new AbortController()
  outages = 0

  constructor(deps: { clock: Clock; random: Random; log: Log }) {
    this.#clock = deps.clock
    this.#random = deps.random
    this.#log = deps.log
  }

  /** A request got through. */
  up(): void {
    if (this.#downSince === null) return
    this.#log.info('link to the server is back', { lostMs: Math.round(this.#clock.monotonic() - this.#downSince) })
    this.#downSince = null
    this.#wake.abort()
    this.#wake = new AbortController()
  }

  /** A request failed on its way. */
  down(error: unknown): void {
    if (this.#downSince !== null) return
    this.#downSince = this.#clock.monotonic()
    this.outages++
    const message = error instanceof Error ? error.message : String(error)
    this.#log.warn('link to the server lost', { code: 'worker.disconnected', error: message })
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
