import type { Anything } from '../domain/advance/happenings.ts'
import { Failure } from '../domain/failure.ts'
import type { EngineContext } from './context.ts'
import type { Dispatcher } from './dispatcher.ts'
import { settleRun } from './settle.ts'

/** What fails again is told of again after this. */
const TELL_AGAIN_MS = 600_000
const TOLD_MAX = 10_000
const RUNS_SHOWN = 5

/** Settles runs for the ticks, one by one: one that fails does not stop the others, and a later tick comes to it again. */
export class Settler {
  readonly #ctx: EngineContext
  readonly #dispatcher: Dispatcher
  readonly #onSettled: () => void
  /** What the log says already of a run. */
  readonly #told = new Map<string, string>()
  #toldSince: number

  /** `onSettled` is called after each run, also when it failed. */
  constructor(ctx: EngineContext, dispatcher: Dispatcher, onSettled: () => void) {
    this.#ctx = ctx
    this.#dispatcher = dispatcher
    this.#onSettled = onSettled
    this.#toldSince = ctx.clock.monotonic()
  }

  /** False when none could be settled. */
  async settle(byRun: ReadonlyMap<string, Anything[]>): Promise<boolean> {
    const failed = new Map<string, unknown>()
    for (const [runId, happenings] of byRun) {
      try {
        const settled = await settleRun(this.#ctx, runId, happenings)
        this.#told.delete(runId)
        this.#dispatcher.hintSettled(runId, settled)
      } catch (error) {
        failed.set(runId, error)
      }
      this.#onSettled()
    }
    if (failed.size > 0) this.#tell(failed)
    return failed.size < byRun.size
  }

  /** One line for all that failed alike, and none for what was told of before: they come again every second or so. */
  #tell(failed: ReadonlyMap<string, unknown>): void {
    this.#ctx.metrics.count('orrery_settle_errors_total', failed.size)
    const now = this.#ctx.clock.monotonic()
    if (now - this.#toldSince >= TELL_AGAIN_MS || this.#told.size >= TOLD_MAX) {
      this.#told.clear()
      this.#toldSince = now
    }
    const news = [...failed].filter(([runId, error]) => this.#told.get(runId) !== kindOf(error))
    for (const [kind, alike] of Map.groupBy(news, ([, error]) => kindOf(error))) {
      const runs = alike.map(([runId]) => runId)
      for (const runId of runs) this.#told.set(runId, kind)
      this.#ctx.log.error('runs could not be settled', {
        count: runs.length,
        runs: runs.slice(0, RUNS_SHOWN),
        err: alike[0]?.[1],
      })
    }
  }
}

const kindOf = (error: unknown): string => (error instanceof Failure ? error.code : String(error))
