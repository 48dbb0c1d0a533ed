import type { JsonObject } from '../base/json.ts'
import { Failure, type FailureRecord, type Problem } from '../domain/failure.ts'
import { type FailureCode, FAILURES, isFailureCode } from '../domain/failures.ts'
import type { ProblemDetails } from './api-types.ts'

export const PROBLEM_TYPE = 'application/problem+json'
const TYPE_BASE = 'https://orrery.dev/failures#'

/** The body that answers a request which failed. */
export function problemOf(failure: FailureRecord, at: { instance: string; requestId: string }): ProblemDetails {
  const row = FAILURES[failure.code]
  const { problems, ...evidence } = failure.evidence ?? {}
  return {
    type: TYPE_BASE + failure.code,
    title: row.title,
    status: row.status,
    detail: failure.message,
    instance: at.instance,
    code: failure.code,
    remediation: failure.remediation,
    retryable: failure.retryable,
    requestId: at.requestId,
    ...(failure.cause ? { cause: failure.cause } : {}),
    ...(Object.keys(evidence).length > 0 ? { evidence } : {}),
    // failureOfProblems puts Problem objects there and nothing else does.
    ...(Array.isArray(problems) ? { problems: problems as unknown as Problem[] } : {}),
  }
}

/** The failure that a problem body tells of; null when the value is no problem of ours. */
export function failureOfProblem(body: unknown): Failure | null {
  if (typeof body !== 'object' || body === null) return null
  const p = body as Partial<ProblemDetails>
  if (typeof p.code !== 'string' || typeof p.detail !== 'string' || typeof p.status !== 'number') return null
  const code = isFailureCode(p.code) ? p.code : null
  const evidence: JsonObject = {
    ...p.evidence,
    ...(p.problems ? { problems: p.problems.map((x) => ({ ...x })) } : {}),
    ...(code ? {} : { code: p.code, status: p.status }),
  }
  return new Failure(code ?? codeOfStatus(p.status), p.detail, {
    ...(typeof p.remediation === 'string' ? { remediation: p.remediation } : {}),
    ...(Object.keys(evidence).length > 0 ? { evidence } : {}),
    ...(p.cause ? { cause: errorOfRecord(p.cause) } : {}),
  })
}

/** The error that a stored or sent record tells of. */
export function errorOfRecord(record: FailureRecord | { message: string }): Error {
  if (!('code' in record)) return new Error(record.message)
  return new Failure(isFailureCode(record.code) ? record.code : 'internal.bug', record.message, {
    remediation: record.remediation,
    ...(record.evidence ? { evidence: record.evidence } : {}),
    ...(record.cause ? { cause: errorOfRecord(record.cause) } : {}),
  })
}

/** For a code that only a newer server knows. */
function codeOfStatus(status: number): FailureCode {
  if (status === 401) return 'client.unauthorized'
  if (status === 403) return 'client.forbidden'
  if (status === 404) return 'request.not_found'
  if (status === 429) return 'request.rate_limited'
  if (status === 503) return 'client.server_unreachable'
  return status < 500 ? 'request.invalid' : 'internal.bug'
}
