import { type Deferred, deferred } from '../base/index.ts'
import { LIMITS } from '../domain/limits.ts'
import type { CliDeps, Signal } from './deps.ts'

/** What a server or worker says when it is interrupted once. */
export const DRAINING = `draining: what runs has ${LIMITS.drainMs / 1_000} s to finish (interrupt again to leave at once)`

/** Exit code of a command that was left by a second signal, as shells have it. */
export const EXIT_OF_SIGNAL: Record<Signal, number> = { SIGINT: 130, SIGTERM: 143 }

/** The first signal asks a command to finish in order, the second to leave at once. */
export class Interrupts {
  readonly #first: Deferred<Signal> = deferred()
  readonly #second: Deferred<Signal> = deferred()
  readonly #stop: () => void
  #count = 0

  constructor(deps: Pick<CliDeps, 'onSignal'>) {
    this.#stop = deps.onSignal((signal) => {
      this.#count++
      if (this.#count === 1) this.#first.resolve(signal)
      else this.#second.resolve(signal)
    })
  }

  get first(): Promise<Signal> {
    return this.#first.promise
  }

  get second(): Promise<Signal> {
    return this.#second.promise
  }

  stop(): void {
    this.#stop()
  }
}
