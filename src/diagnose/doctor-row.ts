import type { JsonObject } from '../base/json.ts'
import type { DoctorRow } from '../contract/api-types.ts'
import type { FailureRecord } from '../domain/failure.ts'
import { type FailureCode, FAILURES } from '../domain/failures.ts'

export type { DoctorRow } from '../contract/api-types.ts'

export const CHECKS = [
  'config',
  'server',
  'store',
  'migrations',
  'clock',
  'disk',
  'ports',
  'bus',
  'workers',
  'approvals',
  'secrets',
  'models',
  'budgets',
  'versions',
  'telemetry',
] as const satisfies DoctorRow['check'][]
export type CheckName = DoctorRow['check']

type Found = { message: string; evidence?: JsonObject }

export const pass = (check: CheckName, subject: string, { message, evidence = {} }: Found): DoctorRow => ({
  check,
  subject,
  status: 'pass',
  code: null,
  message,
  evidence,
  remedy: null,
})

type Trouble = Found & { code: FailureCode; remedy?: string }

const trouble =
  (status: 'warn' | 'fail') =>
  (check: CheckName, subject: string, { code, message, evidence = {}, remedy }: Trouble): DoctorRow => ({
    check,
    subject,
    status,
    code,
    message,
    evidence,
    remedy: remedy ?? FAILURES[code].advice,
  })

export const warn = trouble('warn')
export const fail = trouble('fail')

/** A failure that the check met, as its row. */
export const rowOfFailure = (
  status: 'warn' | 'fail',
  check: CheckName,
  subject: string,
  failure: FailureRecord,
): DoctorRow => ({
  check,
  subject,
  status,
  code: failure.code,
  message: failure.message,
  evidence: { ...failure.evidence, ...(failure.cause ? { cause: failure.cause.message } : {}) },
  remedy: failure.remediation,
})

/** 0 when all rows pass, 1 when some warn, 2 when some fail. */
export function exitOf(rows: readonly DoctorRow[]): 0 | 1 | 2 {
  if (rows.some((row) => row.status === 'fail')) return 2
  return rows.some((row) => row.status === 'warn') ? 1 : 0
}

/** In the order of the checks. */
export const inOrder = (rows: readonly DoctorRow[]): DoctorRow[] =>
  rows.toSorted((a, b) => CHECKS.indexOf(a.check) - CHECKS.indexOf(b.check))
