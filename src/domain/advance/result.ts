import type { Json } from '../../base/json.ts'
import type { FailureRecord } from '../failure.ts'
import type { Step, StepKey } from '../step.ts'
import type { BesideRows } from './beside-rows.ts'
import type { Happening, RunCore } from './happenings.ts'

/** One line of an event: what moved, and to where. */
export interface StepChange {
  node: number
  path: string
  to: string
  fence?: number
  code?: string
}

export interface AdvanceResult {
  run: RunCore
  /** Rows that changed, as they are now. */
  changed: Step[]
  /** Rows that are new. */
  created: Step[]
  /** Attempts that ended otherwise than well. */
  attempts: (StepKey & {
    fence: number
    state: 'failed' | 'lost' | 'parked' | 'canceled'
    session: string
    failure: FailureRecord | null
  })[]
  /** Outputs to keep. */
  outputs: (StepKey & { output: Json })[]
  beside: BesideRows
  changes: StepChange[]
  /** Set when the run has ended. */
  ended: 'succeeded' | 'failed' | 'canceled' | null
  /** Happenings that did not apply: another attempt holds the step, or it has ended. */
  stale: Happening[]
}
