import type { Failure } from '../../domain/failure.ts'
import { FAILURES } from '../../domain/failures.ts'
import type { TryResult } from './tool-driver.ts'

/** What a Failure says, as the result of a try. Whether anything reached the tool, whoever caught it knows. */
export function resultOfFailure(failure: Failure): Extract<TryResult, { ok: false }> {
  const { code, message, cause, evidence, remediation } = failure.toRecord()
  const isSpecial = remediation !== FAILURES[code].advice
  return {
    ok: false,
    code,
    reason: [message, cause?.message, isSpecial ? remediation : null].filter((part) => part).join(': '),
    retryable: FAILURES[code].retry === 'later',
    ...(evidence ? { evidence } : {}),
  }
}
