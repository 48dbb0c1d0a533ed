import { backoffMs, type BackoffPolicy } from '../base/backoff.ts'
import type { Clock } from '../base/clock.ts'
import type { Random } from '../base/random.ts'
import { Failure } from '../domain/failure.ts'
import { FAILURES } from '../domain/failures.ts'

export interface AbsenceDeps {
  clock: Clock
  random: Random
}

const AGAIN: BackoffPolicy = { initialMs: 100, maxMs: 5_000, factor: 2, jitter: 0.5 }
/** How long a server may be away before whoever waits for it gives up: long enough for an upgrade or a restored database. */
export const ABSENCE_MS = 5 * 60_000

/** Waits out the absence of a server: longer from time to time, and not for ever. */
export class Absence {
  readonly #deps: AbsenceDeps
  readonly #maxMs: number
  /** When the server was found away; null while it answers. */
  #since: number | null = null
  #fruitless = 0

  constructor(deps: AbsenceDeps, maxMs: number = ABSENCE_MS) {
    this.#deps = deps
    this.#maxMs = maxMs
  }

  /** The server answered: it may be away anew for the whole time. */
  answered(): void {
    this.#since = null
  }

  /** It brought what was asked for: the next wait is a short one. */
  brought(): void {
    this.#since = null
    this.#fruitless = 0
  }

  /** Throws what does not pass by itself, and `failure` itself once the time is over; otherwise resolves when it is time to ask again. */
  async outlast(failure: unknown, signal: AbortSignal | undefined): Promise<void> {
    const { clock } = this.#deps
    signal?.throwIfAborted()
    if (!(failure instanceof Failure) || FAILURES[failure.code].retry !== 'later') throw failure
    this.#since ??= clock.monotonic()
    if (clock.monotonic() - this.#since >= this.#maxMs) throw failure
    const asked = Number(failure.evidence?.['retryAfterSeconds'] ?? 0) * 1000
    await this.#sleep(Number.isFinite(asked) ? asked : 0, signal)
  }

  /** Does `act`, and again as long as it fails with what passes by itself. Throws as `outlast` does. */
  async outlasting<T>(signal: AbortSignal | undefined, act: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await act()
      } catch (error) {
        await this.outlast(error, signal)
      }
    }
  }

  /** After an answer that came early or was cut off: asks again, but not in a tight loop. */
  pause(signal: AbortSignal | undefined): Promise<void> {
    return this.#sleep(0, signal)
  }

  #sleep(leastMs: number, signal: AbortSignal | undefined): Promise<void> {
    const { clock, random } = this.#deps
    return clock.sleep(Math.max(leastMs, backoffMs(AGAIN, ++this.#fruitless, random)), signal)
  }
}
