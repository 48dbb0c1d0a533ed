import type { Json } from '../base/json.ts'
import { isFailureCode } from '../domain/failures.ts'
import { LIMITS } from '../domain/limits.ts'
import type { CreateRunRequest } from './api-types.ts'
import type { HeartbeatRequest, PollRequest, ReportRequest } from './exchange.ts'

/**
 * Checks of the messages that arrive thousands of times a second, written by hand: a schema library costs more than the rest
 * of the request. They accept what the schemas in schemas.ts accept and nothing else (hot-messages.test.ts holds them equal);
 * a message refused here goes through its schema once more, which says what is wrong with it.
 */
type Members = Record<string, unknown>

const INT_MAX = 2_147_483_647
/** An instant further back than ten years is a mistake and would overflow intervals. */
const AGO_MAX_MS = 10 * 366 * 24 * 3_600_000

const PRINTABLE_ID = /^[\x21-\x7e]{1,256}$/
const LABEL_KEY = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/

export const isMembers = (v: unknown): v is Members => typeof v === 'object' && v !== null && !Array.isArray(v)
const isInt = (v: unknown, min: number, max: number): v is number =>
  typeof v === 'number' && Number.isInteger(v) && v >= min && v <= max

/** An id that someone else made: printable ASCII without blanks. */
export const isId = (v: unknown): v is string => typeof v === 'string' && PRINTABLE_ID.test(v)
export const isJson = (v: unknown): v is Json => v !== undefined
export const isCount = (v: unknown): v is number => isInt(v, 1, INT_MAX)
export const isSlots = (v: unknown): v is number => isInt(v, 0, LIMITS.capacityMax)
export const isAgoMs = (v: unknown): v is number => typeof v === 'number' && v >= 0 && v <= AGO_MAX_MS
export const isClock = (v: unknown): v is number => typeof v === 'number' && Number.isFinite(v)

export function isLabels(v: unknown): v is Record<string, string> {
  if (!isMembers(v)) return false
  let n = 0
  for (const key of Object.keys(v)) {
    const value = v[key]
    if (++n > LIMITS.labelsMax || !LABEL_KEY.test(key)) return false
    if (typeof value !== 'string' || value.length > LIMITS.labelValueChars) return false
  }
  return true
}

export function isCreateRunRequest(v: unknown): v is CreateRunRequest {
  if (!isMembers(v)) return false
  let sources = 0
  for (const key of Object.keys(v)) {
    const value = v[key]
    switch (key) {
      case 'definition':
        if (!isId(value)) return false
        sources++
        break
      case 'workflow':
        if (!isMembers(value)) return false
        sources++
        break
      case 'manifest':
        if (typeof value !== 'string') return false
        sources++
        break
      case 'inputs':
        if (!isMembers(value)) return false
        break
      case 'labels':
        if (!isLabels(value)) return false
        break
      // `workflowRef` and its namespace are looked at by the schema.
      default:
        return false
    }
  }
  return sources === 1
}

function isHeld(v: unknown): boolean {
  if (!Array.isArray(v) || v.length > LIMITS.capacityMax) return false
  for (const held of v as unknown[]) {
    if (!isMembers(held) || !isId(held['step']) || !isCount(held['fence']) || Object.keys(held).length !== 2)
      return false
  }
  return true
}

export const isPollRequest = (v: unknown): v is PollRequest =>
  isMembers(v) &&
  isId(v['session']) &&
  isSlots(v['free']) &&
  typeof v['draining'] === 'boolean' &&
  isHeld(v['held']) &&
  Object.keys(v).length === 4

export const isHeartbeatRequest = (v: unknown): v is HeartbeatRequest =>
  isMembers(v) && isId(v['session']) && isClock(v['clock']) && Object.keys(v).length === 2

export function isReportRequest(v: unknown): v is ReportRequest {
  if (!isMembers(v) || !isId(v['session']) || !isSlots(v['free']) || typeof v['draining'] !== 'boolean') return false
  const reports = v['reports']
  if (!Array.isArray(reports) || reports.length > LIMITS.reportsMax || Object.keys(v).length !== 4) return false
  for (const report of reports as unknown[]) if (!isReport(report)) return false
  return true
}

function isReport(v: unknown): boolean {
  if (!isMembers(v) || !isId(v['step']) || !isCount(v['fence']) || !isCount(v['seq'])) return false
  if (v['startedAgoMs'] !== null && !isAgoMs(v['startedAgoMs'])) return false
  if (v['endedAgoMs'] !== null && !isAgoMs(v['endedAgoMs'])) return false
  const members = Object.keys(v).length
  switch (v['kind']) {
    case 'started':
    case 'canceled':
    case 'returned':
      return members === 6
    case 'succeeded':
      return members === 7 && Object.hasOwn(v, 'output')
    case 'failed':
      return members === 7 && isFailureRecord(v['failure'])
    case 'parked':
      return members === 7 && isParkedOn(v['on'])
    case 'log':
      return members === 7 && isSegments(v['segments'])
    default:
      return false
  }
}

const STREAMS: ReadonlySet<unknown> = new Set(['stdout', 'stderr', 'system', 'agent'])

function isSegments(v: unknown): boolean {
  if (!Array.isArray(v) || v.length > LIMITS.reportsMax) return false
  for (const s of v as unknown[]) {
    if (!isMembers(s) || Object.keys(s).length !== 4 || !isCount(s['index']) || !isAgoMs(s['agoMs'])) return false
    if (!STREAMS.has(s['stream'])) return false
    if (typeof s['text'] !== 'string' || s['text'].length > LIMITS.logSegmentBytes) return false
  }
  return true
}

const isListed = (v: unknown, isOne: (v: unknown) => boolean): boolean =>
  Array.isArray(v) && v.length >= 1 && v.length <= LIMITS.parkedOnMax && (v as unknown[]).every(isOne)
const isNamed = (v: unknown): boolean => isListed(v, isId)
export const isName = (v: unknown): boolean => typeof v === 'string' && v.length >= 1 && v.length <= 256

function isChildCall(v: unknown): boolean {
  if (!isMembers(v) || Object.keys(v).length !== 4) return false
  const isOf = v['of'] === 'agent' || v['of'] === 'workflow'
  return isOf && isId(v['call']) && isName(v['name']) && isMembers(v['inputs'])
}

function isParkedOn(v: unknown): boolean {
  if (!isMembers(v)) return false
  const members = Object.keys(v).length
  switch (v['type']) {
    case 'approvals':
      return members === 2 && isNamed(v['approvals'])
    case 'outcome':
      return members === 4 && isId(v['call']) && isName(v['tool']) && isMembers(v['input'])
    case 'child':
      return members === 2 && isListed(v['calls'], isChildCall)
    case 'budget': {
      const again = v['retryAfterMs']
      const isAgain = again === null || (typeof again === 'number' && again >= 0 && again <= LIMITS.parkedMs)
      return members === 4 && isAgain && isNamed(v['budgets']) && isFailureRecord(v['failure'])
    }
    default:
      return false
  }
}

/** Recursion is bounded by the nesting limit of parsed JSON. */
export function isFailureRecord(v: unknown): boolean {
  if (!isMembers(v) || typeof v['code'] !== 'string' || !isFailureCode(v['code'])) return false
  if (typeof v['message'] !== 'string' || typeof v['remediation'] !== 'string') return false
  if (typeof v['retryable'] !== 'boolean') return false
  let members = 4
  if (Object.hasOwn(v, 'evidence')) {
    if (!isMembers(v['evidence'])) return false
    members++
  }
  if (Object.hasOwn(v, 'cause')) {
    const cause = v['cause']
    const plain = isMembers(cause) && typeof cause['message'] === 'string' && Object.keys(cause).length === 1
    if (!plain && !isFailureRecord(cause)) return false
    members++
  }
  return Object.keys(v).length === members
}
