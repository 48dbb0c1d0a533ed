import type { Clock } from '../base/clock.ts'
import { LIMITS } from '../domain/limits.ts'

const WINDOW_MS = 60_000

/** Which refusals are written down: the first of its kind each minute, and no more than so many a minute in all. */
export class Denials {
  readonly #clock: Clock
  readonly #seen = new Set<string>()
  #since = -Infinity

  constructor(clock: Clock) {
    this.#clock = clock
  }

  isNews(actor: string, action: string): boolean {
    const now = this.#clock.monotonic()
    if (now - this.#since >= WINDOW_MS) {
      this.#since = now
      this.#seen.clear()
    }
    const key = `${actor} ${action}`
    if (this.#seen.has(key) || this.#seen.size >= LIMITS.denialsPerMinute) return false
    this.#seen.add(key)
    return true
  }
}
