import type { Deadlines } from '../base/index.ts'
import { Failure } from '../domain/failure.ts'
import type { Attempt } from './attempt.ts'
import { withDeadline } from './deadline.ts'
import type { Link } from './link.ts'

const ANSWER_MS = 30_000

export interface AskerDeps {
  deadlines: Deadlines
  link: Link
  /** Null between two sessions. */
  session(): string | null
  /** Aborts when the worker stops. */
  signal: AbortSignal
}

/** Asks the server on behalf of an attempt, for as long as it is ours. */
export class AttemptAsker {
  readonly #deps: AskerDeps

  constructor(deps: AskerDeps) {
    this.#deps = deps
  }

  /** Asks until there is an answer; null when the attempt is not ours any more, or the worker stops. */
  async ask<T>(
    attempt: Attempt,
    call: (at: { session: string; step: string; fence: number }, signal: AbortSignal) => Promise<T>,
  ): Promise<T | null> {
    const { session, deadlines, link, signal } = this.#deps
    const { step, fence } = attempt.assignment
    for (let tries = 1; !attempt.gone && attempt.stopReason === null && !signal.aborted; tries++) {
      const current = session()
      if (current !== null) {
        try {
          const answer = await withDeadline(deadlines, { ms: ANSWER_MS, signal }, (cut) =>
            call({ session: current, step, fence }, cut),
          )
          link.up()
          return answer
        } catch (error) {
          if (signal.aborted) return null
          // What the server refuses it will refuse again; everything else passes.
          if (error instanceof Failure && (error.code.startsWith('request.') || error.code === 'internal.bug'))
            throw error
          link.down(error)
        }
      }
      await link.rest(tries, signal)
    }
    return null
  }
}
