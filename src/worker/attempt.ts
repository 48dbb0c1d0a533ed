import { type Json, Redactor } from '../base/index.ts'
import type { Assignment, LogSegment } from '../contract/exchange.ts'
import type { ParkedOn } from '../domain/agents/journal.ts'
import type { FailureRecord } from '../domain/failure.ts'

/** `<step id>@<fence>`: names an attempt for ever. */
export const attemptKey = (step: string, fence: number): string => `${step}@${fence}`

/** What makes an attempt stop before its work ends by itself. */
export type StopReason = 'canceled' | 'timed_out' | 'stale' | 'worker_stopped'

/** One try at a step, from its assignment until its end report is acknowledged. */
export interface Attempt {
  readonly key: string
  /** Without the values of secrets: this may be written down. */
  readonly assignment: Assignment
  /** Values by variable or alias; in memory alone, and not known of what an earlier life of this worker started. */
  readonly secrets: Readonly<Record<string, string>>
  /** Takes those values out of whatever leaves this worker; null when there are none. */
  readonly redactor: Redactor | null
  /** `queued`: waits here for a slot. `ended`: the end report is made and not yet acknowledged. */
  state: 'queued' | 'running' | 'ended'
  /** Monotonic ms; null when it never began. */
  startedAt: number | null
  /** Monotonic ms when work was asked for; what time-outs of functions count from. */
  runningSince: number
  /** Number of the last report made. */
  seq: number
  startReported: boolean
  stopReason: StopReason | null
  /** Monotonic ms after which an aborted function is no longer waited for. */
  graceEndsAt: number | null
  /** No longer ours: nothing more is sent about it. */
  gone: boolean
  /** Made when the work ended; null before. */
  endReport: PendingReport | null
  /** The request that carries reports of this attempt; 0 when none does. Reports of one attempt never overtake each other. */
  request: number
  work: Work | null
}

const NO_SECRETS = {}

export function newAttempt(assigned: Assignment): Attempt {
  const { assignment, secrets } = assigned.secrets ? apart(assigned) : { assignment: assigned, secrets: null }
  return {
    key: attemptKey(assignment.step, assignment.fence),
    assignment,
    secrets: secrets ?? NO_SECRETS,
    redactor: secrets ? new Redactor(Object.values(secrets)) : null,
    state: 'queued',
    startedAt: null,
    runningSince: 0,
    seq: 0,
    startReported: false,
    stopReason: null,
    graceEndsAt: null,
    gone: false,
    endReport: null,
    request: 0,
    work: null,
  }
}

function apart({ secrets, ...assignment }: Assignment): { assignment: Assignment; secrets: Record<string, string> } {
  return { assignment, secrets: secrets ?? NO_SECRETS }
}

/** What the supervisor may ask of running work. */
export interface Work {
  /** Asks the work to stop. Its end follows, or for a function that ignores its signal, does not. */
  abort(): void
  /** How long the end is waited for; null: the work always ends by itself. */
  readonly graceMs: number | null
  /** Called now and then while it runs: tells what there is to tell. */
  refresh(): void
  /** A log report of this attempt was acknowledged. */
  logAcked(report: PendingReport): void
  /** The end is recorded, or the attempt is no longer ours; what the backend keeps may go once the work has ended. */
  release(outcome: { failed: boolean }): void
  /** Resolves when a command and its workspace are done with; at once for functions, which end with the process. */
  readonly ended: Promise<void>
  /** This process leaves; the work itself may go on without it. */
  detach(): void
  /** True when the end is remembered elsewhere until it is released, and needs no outbox. */
  readonly remembered: boolean
}

export type Outcome =
  | { kind: 'succeeded'; output: Json; bytes: number }
  | { kind: 'failed'; failure: FailureRecord }
  | { kind: 'canceled' }
  | { kind: 'returned' }
  /** The step has to wait; the next attempt goes on where the journal ends. */
  | { kind: 'parked'; on: ParkedOn }

/** A log segment with the monotonic time of its first byte. */
export interface TimedSegment extends Omit<LogSegment, 'agoMs'> {
  at: number
}

export type ReportBody = { kind: 'started' } | { kind: 'log'; segments: TimedSegment[] } | EndBody
export type EndBody =
  | { kind: 'succeeded'; output: Json }
  | { kind: 'failed'; failure: FailureRecord }
  | { kind: 'canceled' }
  | { kind: 'returned' }
  | { kind: 'parked'; on: ParkedOn }

/** A report until it is acknowledged. Times are monotonic: how long ago is worked out each time it is sent. */
export interface PendingReport {
  readonly attempt: Attempt
  readonly seq: number
  readonly body: ReportBody
  readonly startedAt: number | null
  readonly endedAt: number | null
  readonly madeAt: number
  /** Roughly, as JSON. */
  bytes: number
  /** Once sent, a report never changes: the server may have recorded it. */
  sent: boolean
  onDisk: boolean
}

export const isEnd = (report: PendingReport): report is PendingReport & { body: EndBody } =>
  report.body.kind !== 'started' && report.body.kind !== 'log'
