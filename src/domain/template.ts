import { Optional } from '@marcbachmann/cel-js'
import type { Json } from '../base/json.ts'
import { compileExpression, evaluateExpression, type Expression, quote, type Scope } from './expression.ts'
import { Failure } from './failure.ts'
import { LIMITS } from './limits.ts'

export type TemplatePart = { kind: 'text'; text: string } | { kind: 'expression'; source: string; offset: number }

/** A text cut into plain parts and expressions. `unclosedAt` is where a `${{` without its `}}` stands, else null. */
export interface Template {
  parts: TemplatePart[]
  unclosedAt: number | null
}

/** Cuts `text` at `${{ … }}`. Braces and quotes inside an expression are its own. */
export function parseTemplate(text: string): Template {
  const parts: TemplatePart[] = []
  let at = 0
  for (;;) {
    const open = text.indexOf('${{', at)
    if (open < 0) break
    const close = endOfExpression(text, open + 3)
    if (close === null) return { parts, unclosedAt: open }
    if (open > at) parts.push({ kind: 'text', text: text.slice(at, open) })
    parts.push({ kind: 'expression', source: text.slice(open + 3, close).trim(), offset: open })
    at = close + 2
  }
  if (at < text.length) parts.push({ kind: 'text', text: text.slice(at) })
  return { parts, unclosedAt: null }
}

/** Position of the `}}` that ends the expression which starts at `from`; null when there is none within the limit. */
function endOfExpression(text: string, from: number): number | null {
  const last = Math.min(text.length, from + LIMITS.expressionChars + 64)
  let depth = 0
  for (let at = from; at < last; at++) {
    const char = text[at]
    if (char === '"' || char === "'") {
      const end = endOfString(text, at, last)
      if (end === null) return null
      at = end
    } else if (char === '{') depth++
    else if (char === '}') {
      if (depth > 0) depth--
      else if (text[at + 1] === '}') return at
    }
  }
  return null
}

/** Position of the last quote of the CEL string that starts at `from`. */
function endOfString(text: string, from: number, last: number): number | null {
  const char = text[from] ?? ''
  const mark = text.startsWith(char.repeat(3), from) ? char.repeat(3) : char
  const raw = /[rR]/.test(text[from - 1] ?? '')
  for (let at = from + mark.length; at < last; at++) {
    if (text[at] === '\\' && !raw) at++
    else if (text.startsWith(mark, at)) return at + mark.length - 1
  }
  return null
}

/** The source inside when `text` is exactly one `${{ }}`, `text` itself when it has none; null when it is mixed. */
export function bareExpression(text: string): string | null {
  const trimmed = text.trim()
  const { parts, unclosedAt } = parseTemplate(trimmed)
  const [only] = parts
  if (unclosedAt !== null || parts.length > 1) return null
  return only === undefined ? '' : only.kind === 'expression' ? only.source : trimmed
}

/**
 * Replaces every template in the strings of `template`. A string that is exactly one `${{ }}` becomes the value with its type, mixed
 * text is joined. Keys are taken as they are. Throws `expression.unresolved` rather than leaving anything empty.
 */
export function evaluateTemplate(template: Json, scope: Scope): Json {
  if (typeof template === 'string') return evaluateText(template, scope)
  if (Array.isArray(template)) return template.map((entry) => evaluateTemplate(entry, scope))
  if (typeof template !== 'object' || template === null) return template
  return Object.fromEntries(Object.entries(template).map(([key, value]) => [key, evaluateTemplate(value, scope)]))
}

function evaluateText(text: string, scope: Scope): Json {
  if (!text.includes('${{')) return text
  const { parts, unclosedAt } = parseTemplate(text)
  if (unclosedAt !== null)
    throw new Failure('expression.invalid', `reading the template ${JSON.stringify(text.slice(0, 120))}`)
  const [only] = parts
  if (parts.length === 1 && only?.kind === 'expression') return evaluateSource(only.source, scope)
  return parts
    .map((part) => {
      if (part.kind === 'text') return part.text
      const value = evaluateSource(part.source, scope)
      return typeof value === 'string' ? value : JSON.stringify(value)
    })
    .join('')
}

function evaluateSource(source: string, scope: Scope): Json {
  const expression = compiled(source)
  return toJson(evaluateExpression(expression, scope), expression)
}

/** Whether the condition holds. Anything but true or false throws `expression.unresolved`: nothing is taken for true. */
export function evaluateCondition(source: string, scope: Scope): boolean {
  const value = evaluateExpression(compiled(bareExpression(source) ?? source), scope)
  if (typeof value === 'boolean') return value
  throw new Failure(
    'expression.unresolved',
    `evaluating the condition ${quote(source)}: it gives ${kindOf(value)}, not true or false`,
    {
      evidence: { expression: source, gives: kindOf(value) },
      remediation: 'Compare the value with something, for example x != null or size(x) > 0.',
    },
  )
}

function compiled(source: string): Expression {
  const result = compileExpression(source)
  if (result.ok) return result.expression
  throw new Failure('expression.invalid', `compiling ${quote(source)}: ${result.message}`, {
    evidence: { expression: source, ...(result.nearest ? { nearest: result.nearest } : {}) },
  })
}

const kindOf = (value: unknown): string => {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'bigint' || typeof value === 'number') return 'a number'
  return typeof value === 'object' ? 'a map' : `a ${typeof value}`
}

/** What CEL gave, as JSON. Bounded: an expression can name one large value many times. */
function toJson(result: unknown, expression: Expression): Json {
  let left: number = LIMITS.expressionResultBytes

  function refuse(why: string): Failure {
    return new Failure('expression.unresolved', `evaluating ${quote(expression.source)}: ${why}`, {
      evidence: { expression: expression.source, path: expression.source, reason: why },
      remediation: 'Change the expression so that it gives JSON.',
    })
  }

  function convert(value: unknown, depth: number): Json {
    left -= typeof value === 'string' ? value.length + 2 : 2
    if (left < 0) throw refuse('the value is larger than the limit')
    if (depth > LIMITS.nestingMax) throw refuse(`the value is nested deeper than ${LIMITS.nestingMax}`)
    if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
    if (typeof value === 'number') return toNumber(value)
    if (typeof value === 'bigint') return toInteger(value)
    if (value instanceof Optional) {
      const optional: Optional = value
      if (!optional.hasValue()) throw refuse('the optional value is absent; end the expression with .orValue(…)')
      return convert(optional.value(), depth)
    }
    if (value instanceof Date) return value.toISOString()
    if (Array.isArray(value)) return value.map((entry) => convert(entry, depth + 1))
    if (value instanceof Map || value instanceof Set || isPlain(value)) return convertMap(value, depth)
    const primitive: unknown = typeof value === 'object' ? value.valueOf() : value
    if (typeof primitive === 'bigint') return toInteger(primitive) // CEL's unsigned integers
    throw refuse(`${value instanceof Uint8Array ? 'bytes have' : `${kindOf(value)} of this kind has`} no form in JSON`)
  }

  function convertMap(value: object, depth: number): Json {
    if (value instanceof Set) return [...value].map((entry) => convert(entry, depth + 1))
    const entries = value instanceof Map ? [...value] : Object.entries(value)
    return Object.fromEntries(
      entries.map(([key, entry]) => {
        left -= String(key).length + 3
        return [String(key), convert(entry, depth + 1)]
      }),
    )
  }

  function toNumber(value: number): number {
    if (Number.isFinite(value)) return value
    throw refuse(`${value} is no JSON number`)
  }

  function toInteger(value: bigint): number {
    const number = Number(value)
    if (Number.isSafeInteger(number)) return number
    throw refuse(`${value} is too large for a JSON number; use string(…)`)
  }

  return convert(result, 0)
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
