import type { RunView } from '../contract/api-types.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { isRunTerminal } from '../domain/machines.ts'
import { Absence } from './absence.ts'
import type { FollowDeps } from './follow.ts'
import { silenceFor } from './http-transport.ts'

export interface WaitOptions {
  /** Throws `client.wait_timed_out` after this; absent: no bound but that of absence. */
  timeoutMs?: number
  /** How long the server may be away in one go; ABSENCE_MS when absent. */
  absenceMs?: number
  signal?: AbortSignal
}

/** An answer that came sooner than this, with nothing in it, is not asked for again at once. */
const EARLY_MS = 1_000

/** Asks the server to hold the question until the run has ended, again and again. */
export async function waitForRun(deps: FollowDeps, runId: string, options: WaitOptions): Promise<RunView> {
  const { clock, asker } = deps
  const { timeoutMs = Number.POSITIVE_INFINITY, absenceMs, signal } = options
  const until = clock.monotonic() + timeoutMs
  const absence = new Absence(deps, absenceMs)
  // The question itself is held by the server, and a wait between two of them by the clock: both end with the time.
  const over = new AbortController()
  const stop = signal ? AbortSignal.any([signal, over.signal]) : over.signal
  const done = new AbortController()
  if (Number.isFinite(timeoutMs)) {
    clock.sleep(timeoutMs, done.signal).then(
      () => over.abort(timedOut(runId, timeoutMs)),
      () => undefined, // ended in time
    )
  }
  try {
    for (;;) {
      const began = clock.monotonic()
      const waitMs = Math.min(LIMITS.waitMaxMs, Math.max(0, until - began))
      try {
        const run = (await asker.ask('GET', `/v1/runs/${encodeURIComponent(runId)}`, {
          headers: { prefer: `wait=${(waitMs / 1000).toFixed(3)}` },
          silenceMs: silenceFor(waitMs),
          signal: stop,
        })) as RunView // on the word of the server
        if (isRunTerminal(run.state)) return run
        stop.throwIfAborted()
        absence.answered()
        // A server on its way down lets go of what it held.
        if (clock.monotonic() - began < EARLY_MS) await absence.pause(stop)
        else absence.brought()
      } catch (error) {
        stop.throwIfAborted()
        await absence.outlast(error, stop)
      }
    }
  } finally {
    done.abort()
  }
}

const timedOut = (runId: string, timeoutMs: number): Failure =>
  new Failure('client.wait_timed_out', `waiting for ${runId}`, { evidence: { timeoutMs } })
