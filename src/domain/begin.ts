import { parseDuration } from '../base/duration.ts'
import type { Json, JsonObject } from '../base/json.ts'
import type { Scope } from './expression.ts'
import { Failure } from './failure.ts'
import { RFC_3339 } from './schema.ts'
import { evaluateCondition, evaluateTemplate } from './template.ts'
import type { ApprovalNode, ChildNode, WaitNode } from './workflow.ts'

/** What a step that waits begins to wait for; times in ms by the database's clock. */
export type WaitBegun = { waits: 'timer'; until: number } | { waits: 'event'; name: string; until: number | null }

/** Throws `wait.time_invalid` or `expression.unresolved`. `what` names the step. */
export function beginWait({ for: wanted }: WaitNode, scope: Scope, options: { now: number; what: string }): WaitBegun {
  const { now, what } = options
  switch (wanted.type) {
    case 'duration': {
      const value = evaluateTemplate(wanted.duration, scope)
      const ms = typeof value === 'string' ? parseDuration(value) : null
      if (ms === null || ms > WAIT_MAX_MS) throw invalid(what, 'duration', value, 'a duration such as 30s or 1h30m')
      return { waits: 'timer', until: now + ms }
    }
    case 'until': {
      const value = evaluateTemplate(wanted.at, scope)
      const at = typeof value === 'string' && RFC_3339.test(value) ? Date.parse(value) : Number.NaN
      if (Number.isNaN(at) || at > TIME_MAX) throw invalid(what, 'until', value, 'a time such as 2026-01-31T08:00:00Z')
      return { waits: 'timer', until: at }
    }
    case 'event': {
      const name = evaluateTemplate(wanted.name, scope)
      if (typeof name !== 'string' || !isEventName(name))
        throw invalid(what, 'event', name, 'a name of 1 to 256 printable characters without blanks and slashes')
      return { waits: 'event', name, until: wanted.timeoutMs === null ? null : now + wanted.timeoutMs }
    }
  }
}

const WAIT_MAX_MS = 10 * 365 * 24 * 3_600_000
/** Behind it neither JavaScript nor the store has a time. */
const TIME_MAX = Date.UTC(9999, 11, 31)

/** An event is named in an address: no blanks, slashes or colons. */
export const isEventName = (text: string): boolean => /^[\x21-\x7e]{1,256}$/.test(text) && !/[/:?#%]/.test(text)

const invalid = (what: string, key: string, value: Json, wanted: string): Failure =>
  new Failure('wait.time_invalid', `${what}: ${key} is ${JSON.stringify(value).slice(0, 120)}, not ${wanted}`, {
    evidence: { key, value },
  })

/** Whether an event is the one that a step waits for. One whose payload lacks what `match` reads is not. */
export function isMatch(node: WaitNode, event: { name: string; payload: Json }, scope: Scope): boolean {
  if (node.for.type !== 'event') return false
  if (node.for.match === null) return true
  try {
    return evaluateCondition(node.for.match, { ...scope, event })
  } catch (error) {
    if (error instanceof Failure) return false
    throw error
  }
}

/** What a person is asked. */
export interface Question {
  message: string
  approvers: string[] | null
  onExpiry: 'approve' | 'deny'
  fields: JsonObject | null
}

export function questionOf(node: ApprovalNode, scope: Scope): Question {
  const value = evaluateTemplate(node.message, scope)
  const message = typeof value === 'string' ? value : JSON.stringify(value)
  const { approvers, onExpiry, fields } = node
  return {
    message,
    approvers: approvers?.map((name) => String(evaluateTemplate(name, scope))) ?? null,
    onExpiry,
    fields,
  }
}

/** The inputs of a run below. Throws `input.invalid` when the template gives no object. */
export function childInputs(node: ChildNode, scope: Scope, what: string): JsonObject {
  const value = evaluateTemplate(node.with, scope)
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  throw new Failure('input.invalid', `${what}: with gives no object of inputs`, {
    evidence: { got: Array.isArray(value) ? 'a list' : value === null ? 'null' : typeof value },
  })
}
