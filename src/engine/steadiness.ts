import type { Clock } from '../base/clock.ts'

/**
 * Since when this server could hear its workers and say so in the store. Before it has done so for a whole lease it calls nobody
 * lost: after its start, after an outage of the store, and after this very process stood still (SIGSTOP, a host asleep).
 */
export class Steadiness {
  readonly #clock: Clock
  readonly #leaseMs: number
  /** Monotonic ms; null while it is not steady. */
  #since: number | null = null
  #pulse: { now: number; monotonic: number }

  constructor(clock: Clock, leaseMs: number) {
    this.#clock = clock
    this.#leaseMs = leaseMs
    this.#pulse = { now: clock.now(), monotonic: clock.monotonic() }
  }

  /** This process runs. Called far more often than once in half a lease, else it stood still: nobody was heard meanwhile. */
  pulse(): void {
    const last = this.#pulse
    this.#pulse = { now: this.#clock.now(), monotonic: this.#clock.monotonic() }
    // The monotonic clock of some systems sleeps with the host, while the database's goes on.
    const gapMs = Math.max(this.#pulse.now - last.now, this.#pulse.monotonic - last.monotonic)
    if (gapMs > this.#leaseMs / 2) this.#since = null
  }

  /** The store answered. */
  reached(): void {
    this.pulse()
    this.#since ??= this.#pulse.monotonic
  }

  /** The store did not answer. */
  missed(): void {
    this.#since = null
  }

  /** Whoever lives has had one whole lease to be heard. */
  get isSteady(): boolean {
    return this.#since !== null && this.#clock.monotonic() - this.#since >= this.#leaseMs
  }
}
