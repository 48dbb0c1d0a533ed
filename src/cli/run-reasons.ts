import type { Clock } from '../base/index.ts'
import type { Client } from '../client/client.ts'
import type { StepView } from '../contract/api-types.ts'
import type { CliDeps } from './deps.ts'
import { isCalm, stepReasonLines } from './reason-text.ts'
import type { RunDisplay } from './run-display.ts'

/** A run that is followed is asked why it stands still when nothing came for this long, and again as long as nothing comes. */
const STILL_MS = 3_000
/** Steps that are told of at a time; the others follow when these have moved, and `orrery runs show` has them all. */
const TOLD_MAX = 5

export interface RunReasonsOptions {
  client: Pick<Client, 'getRun'>
  clock: Pick<Clock, 'monotonic' | 'sleep'>
  runId: string
  /** Ends the looking. */
  signal: AbortSignal
  /** Called once for each reason of a step, and again when it has another one. */
  told(step: StepView): void
}

/** Tells why the steps of a run wait while it is followed and nothing moves: a step that no worker can take would else just be silent. */
export class RunReasons {
  readonly #options: RunReasonsOptions
  #movedAt: number
  /** By step: the reason that was told. */
  readonly #told = new Map<string, string>()

  constructor(options: RunReasonsOptions) {
    this.#options = options
    this.#movedAt = options.clock.monotonic()
  }

  /** An event of the run came. */
  moved(): void {
    this.#movedAt = this.#options.clock.monotonic()
  }

  /** Looks until the signal aborts. Never fails: what cannot be asked now is asked again, and following the run tells of outages. */
  async watch(): Promise<void> {
    const { clock, signal } = this.#options
    while (!signal.aborted) {
      const left = this.#movedAt + STILL_MS - clock.monotonic()
      await clock.sleep(left > 0 ? left : STILL_MS, signal).catch(() => {}) // rejects when following has ended
      if (signal.aborted || clock.monotonic() - this.#movedAt < STILL_MS) continue
      await this.#look().catch(() => {})
    }
  }

  async #look(): Promise<void> {
    const { client, runId, signal, told } = this.#options
    const { stepList } = await client.getRun(runId)
    if (signal.aborted) return
    const waiting = stepList.filter(({ reason }) => reason && !isCalm(reason) && reason.code !== 'approval')
    const names = new Set(waiting.map((step) => step.name))
    for (const name of this.#told.keys()) if (!names.has(name)) this.#told.delete(name)
    for (const step of waiting) {
      const code = step.reason?.code ?? ''
      const before = this.#told.get(step.name)
      if (before === code || (before === undefined && this.#told.size >= TOLD_MAX)) continue
      this.#told.set(step.name, code)
      told(step)
    }
  }
}

/** Shows reasons while a run is followed. */
export function watchReasons(
  deps: Pick<CliDeps, 'clock'>,
  following: {
    client: Client
    runId: string
    display: RunDisplay
    width: number
    /** The run is in this process, where no other command can ask for it. */
    isEmbedded: boolean
    signal: AbortSignal
  },
): RunReasons {
  const { client, runId, display, width, isEmbedded, signal } = following
  const told = (step: StepView) =>
    display.waits(step, stepReasonLines(runId, step, { width, nowMs: deps.clock.now(), isEmbedded }))
  const reasons = new RunReasons({ client, clock: deps.clock, runId, signal, told })
  void reasons.watch()
  return reasons
}
