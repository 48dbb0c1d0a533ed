import type { JsonObject } from '../../base/json.ts'
import type { FailureRecord } from '../failure.ts'

/**
 * Why a run or a step that has not ended does not go on. The code is one of the failure catalogue when someone has to act, else one
 * of WAITS: then it goes on by itself, or a person is named who decides.
 */
export interface Reason {
  code: string
  message: string
  evidence: JsonObject
  remediation: string
  /** Whether it may go on without a change. */
  retryable: boolean
  /** When it began, as far as rows tell. */
  since: string | null
  /** When it ends at the latest, where that is known. */
  until?: string
}

/** Codes of waiting that is no failure, with what they mean. */
export const WAITS = {
  dependency: 'Steps that it needs have not ended',
  decision: 'Everything it needs has ended; the engine is about to decide what follows',
  queued: 'In its queue for a moment',
  starting: 'Given to a worker that has not begun it yet',
  running: 'At work',
  session_lost: 'Its worker is silent; when the lease ends, another one takes the step',
  stopping: 'The run is being stopped',
  backoff: 'Failed, and waits for its next try',
  activations: 'Waits for the activations of its forEach',
  max_parallel: 'As many activations as maxParallel allows are at work',
  timer: 'Waits for a time',
  event: 'Waits for an event that somebody sends to the run',
  approval: 'Waits for a person to decide',
  child: 'Waits for a run below it to end',
  budget: 'Waits for a budget that is used up',
  waiting: 'Waits for something that the workflow names',
} as const

export type WaitCode = keyof typeof WAITS

export const isWaitCode = (text: string): text is WaitCode => Object.hasOwn(WAITS, text)

export function waitReason(
  code: WaitCode,
  message: string,
  details: { evidence?: JsonObject; remediation: string; since: string | null; until?: string | null },
): Reason {
  const { evidence = {}, remediation, since, until } = details
  return { code, message, evidence, remediation, retryable: true, since, ...(until ? { until } : {}) }
}

export const reasonOfFailure = (failure: FailureRecord, since: string | null): Reason => ({
  code: failure.code,
  message: failure.message,
  evidence: failure.evidence ?? {},
  remediation: failure.remediation,
  retryable: failure.retryable,
  since,
})
