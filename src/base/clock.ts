/** Wall and monotonic time. Injected everywhere, so that a test can turn it. */
export interface Clock {
  /** Milliseconds since the epoch, as this host believes. Never decides leases or due times: the database's clock does. */
  now(): number
  /** Milliseconds that only go forward; for measuring durations. */
  monotonic(): number
  /** Resolves after `ms` of monotonic time and never before, or rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** A timer of the runtime that is set to more than this goes off at once. */
const TIMER_MAX_MS = 2 ** 31 - 1

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error)
      const onAbort = () => {
        clearTimeout(timer)
        reject(signal?.reason as Error)
      }
      const due = performance.now() + ms
      let timer: NodeJS.Timeout
      const arm = (left: number): void => {
        timer = setTimeout(onTimer, Math.min(left, TIMER_MAX_MS))
      }
      const onTimer = (): void => {
        // Timers count whole milliseconds, and may go off before as much has passed.
        const left = due - performance.now()
        if (left > 0) return arm(left)
        signal?.removeEventListener('abort', onAbort)
        resolve()
      }
      arm(ms)
      signal?.addEventListener('abort', onAbort, { once: true })
    }),
}

/** A clock that moves only when told to. Sleepers wake in order of their due time. */
export class HandClock implements Clock {
  #now: number
  #sleepers: { at: number; order: number; wake: () => void }[] = []
  #order = 0

  constructor(startMs: number) {
    this.#now = startMs
  }

  now(): number {
    return this.#now
  }

  monotonic(): number {
    return this.#now
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error)
      const sleeper = { at: this.#now + ms, order: this.#order++, wake: resolve }
      this.#sleepers.push(sleeper)
      signal?.addEventListener(
        'abort',
        () => {
          this.#sleepers = this.#sleepers.filter((s) => s !== sleeper)
          reject(signal.reason as Error)
        },
        { once: true },
      )
    })
  }

  /** Moves time forward and wakes every sleeper that is due. */
  advance(ms: number): void {
    this.#now += ms
    const due = this.#sleepers.filter((s) => s.at <= this.#now).sort((a, b) => a.at - b.at || a.order - b.order)
    this.#sleepers = this.#sleepers.filter((s) => s.at > this.#now)
    for (const s of due) s.wake()
  }
}
