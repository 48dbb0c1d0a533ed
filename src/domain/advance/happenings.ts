import type { Json, JsonObject } from '../../base/json.ts'
import type { ParkedOn } from '../agents/journal.ts'
import type { FailureRecord } from '../failure.ts'
import type { StepKey } from '../step.ts'

/** A run as the pure functions see it. */
export interface RunCore {
  id: string
  /** Set once somebody, failFast or the run's time-out wants it stopped. */
  stop: 'cancel' | 'fail_fast' | 'timeout' | null
  open: number
  active: number
  bad: number
  total: number
  /** The first final failure. */
  failure: FailureRecord | null
}

/** What happened to one activation. Attempt events carry the session and fence that they speak for; under others they change nothing. */
export type Happening = StepKey &
  (
    | { type: 'attempt_succeeded'; fence: number; session: string; output: Json }
    | { type: 'attempt_failed'; fence: number; session: string; failure: FailureRecord }
    | { type: 'attempt_lost'; fence: number; session: string; failure: FailureRecord }
    | { type: 'attempt_returned'; fence: number; session: string }
    | { type: 'attempt_canceled'; fence: number; session: string }
    /** The server's word: the worker drained and left before the assignment reached it. */
    | { type: 'attempt_left'; fence: number; session: string }
    /** Its due time has come, or a need has ended and the pure function must look. `waitedFor`: why a queued step was not taken. */
    | { type: 'due'; waitedFor?: FailureRecord }
    /** A person decided. The fence names the approval: each try of the step asks anew. */
    | { type: 'decided'; fence: number; decision: Decision }
    /** A worker ended the attempt because its step has to wait. */
    | { type: 'attempt_parked'; fence: number; session: string; on: ParkedOn }
    /** A person decided about a call of a tool. The step may run, or wait. */
    | { type: 'call_decided'; approval: string; decision: CallDecision }
    /** A run below has ended. */
    | { type: 'child_ended'; fence: number; run: string; end: ChildEnd }
    /** The row of the approval that it waits for is gone. */
    | { type: 'approval_missing' }
  )

export interface Decision {
  approved: boolean
  by: string
  comment: string | null
  fields: JsonObject | null
}

export interface CallDecision {
  approved: boolean
  by: string
  comment: string | null
  /** The arguments as the person changed them; null: as they were asked. */
  input: JsonObject | null
  /** What the person says that the call gave; null: nothing. */
  output: Json
}

export interface ChildEnd {
  /** Hash of what it ran. */
  definition: string
  state: 'succeeded' | 'failed' | 'canceled'
  failure: FailureRecord | null
  /** Outputs of its last steps by name. */
  output: Json
}

/** A request to stop the whole run: idle steps end at once, running ones when their worker confirms or is lost. */
export interface StopHappening {
  type: 'stop'
  why: 'cancel' | 'fail_fast' | 'timeout'
}

/** An event of this name was sent to the run, and is kept until a step takes it. */
export interface EventSent {
  type: 'event_sent'
  name: string
}

export type Anything = Happening | StopHappening | EventSent
export const isKeyed = (h: Anything): h is Happening => h.type !== 'stop' && h.type !== 'event_sent'
