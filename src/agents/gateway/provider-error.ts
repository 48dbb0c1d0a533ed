import { isObject } from '../../domain/placed-problem.ts'
import type { Json } from '../../base/json.ts'
import type { Redactor } from '../../base/redact.ts'
import { LIMITS } from '../../domain/limits.ts'

/** A refusal in the form that the packages of the providers give it. */
export class ProviderRefusal extends Error {
  readonly statusCode: number
  readonly responseHeaders: Record<string, string>

  constructor(statusCode: number, message: string, responseHeaders: Record<string, string> = {}) {
    super(message)
    this.statusCode = statusCode
    this.responseHeaders = responseHeaders
  }
}

/** What is known of an error that the package of a provider threw or put into its stream. */
export interface ProviderError {
  /** Null: there was no answer. */
  status: number | null
  headers: Readonly<Record<string, string>>
  /** What the provider says, without its wrapping; else what the runtime says. */
  message: string
  /** The provider's word for it, such as `model_not_found`; else the code of the operating system. */
  word: string | null
}

/**
 * Reads an error of any shape: what comes from outside is parsed, not believed. Secrets are taken out before anything is shortened, which
 * could leave the first half of one.
 */
export function readProviderError(error: unknown, redactor: Redactor): ProviderError {
  const at = isRecord(error) ? error : {}
  const status = typeof at['statusCode'] === 'number' ? at['statusCode'] : null
  const headers = isRecord(at['responseHeaders']) ? (at['responseHeaders'] as Record<string, string>) : {} // of an answer
  const body = typeof at['responseBody'] === 'string' && at['responseBody'] !== '' ? at['responseBody'] : null
  const told = toldIn(body === null ? at : parseOrText(body))
  const deepest = deepestCause(error)
  const word = told?.word ?? deepest.code
  return {
    status,
    headers,
    message: shorten(redactor.text(told?.message ?? body ?? deepest.message)),
    word: word === null ? null : shorten(redactor.text(word)),
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

const shorten = (text: string): string =>
  text.length > LIMITS.modelRefusalChars ? `${text.slice(0, LIMITS.modelRefusalChars)}…` : text

/** The forms in which providers tell of an error: `{error: {message, code | type | status}}`, `{message}`, `{error: text}`, and lists of them. */
function toldIn(value: unknown): { message: string; word: string | null } | null {
  if (Array.isArray(value)) return toldIn(value[0])
  if (typeof value === 'string') return { message: value, word: null }
  if (!isRecord(value)) return null
  const { error } = value
  if (isRecord(error)) return toldIn(error)
  if (typeof error === 'string') return { message: error, word: wordOf(value) }
  const message = value['message'] ?? value['Message']
  return typeof message === 'string' && message !== '' ? { message, word: wordOf(value) } : null
}

const wordOf = (value: Record<string, unknown>): string | null =>
  [value['code'], value['type'], value['status'], value['__type']].find((word) => typeof word === 'string') ?? null

function parseOrText(text: string): Json {
  try {
    const value = JSON.parse(text) as Json // JSON.parse gives Json or throws
    return isObject(value) || Array.isArray(value) ? value : text
  } catch {
    return text // an answer that is no JSON is shown as it came
  }
}

/** What the runtime found at the bottom: `fetch failed` says nothing, its cause does. */
function deepestCause(error: unknown): { message: string; code: string | null } {
  let found = { message: error instanceof Error ? error.message : String(error), code: codeOf(error) }
  for (let at = error; at instanceof Error; at = at.cause) {
    const [first] = at instanceof AggregateError ? (at.errors as unknown[]) : []
    const inner = first instanceof Error ? first : at
    found = { message: inner.message || found.message, code: codeOf(inner) ?? found.code }
  }
  return found
}

const codeOf = (error: unknown): string | null =>
  isRecord(error) && typeof error['code'] === 'string' ? error['code'] : null
