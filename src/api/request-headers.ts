import { LIMITS } from '../domain/limits.ts'
import { invalidRequest } from '../contract/check-request.ts'

/** `x-request-id` that a caller may choose. */
const REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/
export const isRequestId = (text: string): boolean => REQUEST_ID.test(text)

const BEARER = /^Bearer +([\x21-\x7e]{1,2048})$/i
/** The token of an `Authorization` header; null when there is none or it has another form. */
export const bearerToken = (header: string | null): string | null => (header && BEARER.exec(header)?.[1]) ?? null

const KEY = /^[\x20-\x7e]{1,255}$/
/** The `Idempotency-Key`, or null when the header is absent. */
export function idempotencyKey(header: string | null): string | null {
  if (header === null || KEY.test(header)) return header
  throw invalidRequest(
    'reading Idempotency-Key',
    'header Idempotency-Key',
    'must be 1 to 255 printable ASCII characters',
  )
}

/** Milliseconds of `Prefer: wait=SECONDS`, capped; null when it is absent. Preferences that are not understood are ignored (RFC 7240). */
export function preferWaitMs(header: string | null): number | null {
  if (header === null) return null
  for (const part of header.split(',')) {
    const seconds = /^\s*wait\s*=\s*"?(\d{1,9}(?:\.\d{1,3})?)"?\s*(?:;.*)?$/i.exec(part)?.[1]
    if (seconds !== undefined) return Math.min(LIMITS.waitMaxMs, Math.round(Number(seconds) * 1000))
  }
  return null
}

/** The `Last-Event-ID` of an event stream, or null when it is absent. */
export function lastEventId(header: string | null): number | null {
  if (header === null || header === '') return null
  if (/^\d{1,15}$/.test(header)) return Number(header)
  throw invalidRequest('reading Last-Event-ID', 'header Last-Event-ID', 'must be the id of an event: a whole number')
}

/** The tags of an `If-Match`, `*` among them; null when it is absent. */
export function entityTags(header: string | null): string[] | null {
  if (header === null) return null
  const tags = header.split(',').map((part) => /^\s*(?:(\*)|"([\x21\x23-\x7e]{1,64})"|(\d{1,15}))\s*$/.exec(part))
  if (tags.every((tag) => tag !== null)) return tags.map((tag) => tag[1] ?? tag[2] ?? tag[3] ?? '')
  throw invalidRequest('reading If-Match', 'header If-Match', 'must be the ETag of the resource, such as "42", or *')
}

/** Manifests are YAML or JSON; no header at all is taken as such. */
export function checkManifestHeaders(type: string | null, encoding: string | null): void {
  const isText = type === null || /^(?:(?:application|text)\/(?:x-)?yaml|text\/plain)\s*(?:;|$)/i.test(type.trim())
  checkContentHeaders(isText ? null : type, encoding, 'application/yaml or application/json')
}

/** Bodies are JSON; no header at all is taken as JSON too. */
export function checkContentHeaders(type: string | null, encoding: string | null, taken = 'application/json'): void {
  if (type !== null && !/^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i.test(type.trim()))
    throw invalidRequest('reading the request', 'header Content-Type', `must be ${taken}, not ${type.slice(0, 100)}`)
  if (encoding !== null && encoding.trim().toLowerCase() !== 'identity')
    throw invalidRequest('reading the request', 'header Content-Encoding', 'compressed bodies are not taken')
}

/** The first of `offered` that an `Accept` header names, or the first offered when it names none of them. */
export function chooseType<T extends string>(accept: string | null, offered: readonly [T, ...T[]]): T {
  for (const part of (accept ?? '').split(',')) {
    const type = part.split(';')[0]?.trim().toLowerCase()
    const found = offered.find((t) => t === type)
    if (found) return found
  }
  return offered[0]
}
