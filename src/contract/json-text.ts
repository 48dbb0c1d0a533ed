import type { Json } from '../base/json.ts'
import { LIMITS } from '../domain/limits.ts'

/**
 * JSON from outside. Refused beside what is not JSON: nesting beyond the limit (seen before anything is built, so that a
 * megabyte of brackets costs no memory), and values that no store keeps as they are: U+0000, half surrogate pairs, numbers
 * beyond the range of a double.
 */
export type ParsedJson =
  | { kind: 'parsed'; value: Json; /** Holds text or numbers that `findUnstorable` has to look at. */ suspect: boolean }
  | { kind: 'refused'; message: string; path: string }

const QUOTE = 0x22
const BACKSLASH = 0x5c

/** Escapes that may stand for U+0000 or half a surrogate pair. */
const SUSPECT_ESCAPE = /\\u(?:0000|[dD][89a-fA-F])/

export function parseJson(text: string): ParsedJson {
  let depth = 0
  let digits = 0
  let suspect = false
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === QUOTE) {
      i = endOfString(text, i)
      if (i < 0) break
    } else if (c >= 0x30 && c <= 0x39) {
      if (++digits > 300) suspect = true
    } else {
      if (c === 0x7b || c === 0x5b) {
        if (++depth > LIMITS.nestingMax)
          return { kind: 'refused', message: `nested deeper than ${LIMITS.nestingMax} levels`, path: '' }
      } else if (c === 0x7d || c === 0x5d) depth--
      else if ((c === 0x65 || c === 0x45) && digits > 0) suspect = true
      if (c !== 0x2e) digits = 0
    }
  }
  try {
    const value = JSON.parse(text) as Json // JSON.parse gives Json or throws
    return { kind: 'parsed', value, suspect: suspect || SUSPECT_ESCAPE.test(text) }
  } catch (error) {
    const detail = error instanceof Error ? error.message : 'no JSON'
    return { kind: 'refused', message: text === '' ? 'the body is empty' : `not JSON: ${detail}`, path: '' }
  }
}

/** Position of the quote that closes the string opened at `start`; -1 when it never closes. */
function endOfString(text: string, start: number): number {
  let end = start
  for (;;) {
    end = text.indexOf('"', end + 1)
    if (end < 0) return -1
    let slashes = 0
    while (text.charCodeAt(end - 1 - slashes) === BACKSLASH) slashes++
    if (slashes % 2 === 0) return end
  }
}

export interface Unstorable {
  path: string
  message: string
}

/** The first value that could not be stored as it is, or null. Does not recurse. */
export function findUnstorable(root: unknown): Unstorable | null {
  const open: { value: unknown; path: string }[] = [{ value: root, path: '' }]
  for (let item = open.pop(); item !== undefined; item = open.pop()) {
    const { value, path } = item
    if (typeof value === 'string') {
      const message = textProblem(value)
      if (message) return { path, message }
    } else if (typeof value === 'number') {
      if (!Number.isFinite(value)) return { path, message: 'the number is out of range' }
    } else if (Array.isArray(value)) {
      for (let i = value.length - 1; i >= 0; i--) open.push({ value: value[i], path: `${path}[${i}]` })
    } else if (typeof value === 'object' && value !== null) {
      for (const [key, member] of Object.entries(value)) {
        const message = textProblem(key)
        if (message) return { path, message: `a key: ${message}` }
        open.push({ value: member, path: path === '' ? key : `${path}.${key}` })
      }
    }
  }
  return null
}

/** Why text cannot be stored, or null. */
export function textProblem(text: string): string | null {
  if (text.includes('\0')) return 'the character U+0000 cannot be stored'
  return text.isWellFormed() ? null : 'half a surrogate pair cannot be stored'
}
