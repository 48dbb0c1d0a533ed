import { createHash } from 'node:crypto'
import type { Clock } from './clock.ts'
import type { Random } from './random.ts'

declare const brand: unique symbol
type Branded<B extends string> = string & { readonly [brand]: B }

export type RunId = Branded<'run'>
export type SessionId = Branded<'session'>
export type ServerId = Branded<'server'>
export type TokenId = Branded<'token'>

const KINDS = {
  run: 'run',
  session: 'ses',
  server: 'srv',
  token: 'tok',
  request: 'req',
  event: 'evt',
  resource: 'res',
  approval: 'apr',
  audit: 'aud',
} as const
export type IdKind = keyof typeof KINDS

export interface Ids {
  /** A new id of a kind: prefix, then 26 characters that sort by time of creation. */
  make(kind: 'run'): RunId
  make(kind: 'session'): SessionId
  make(kind: 'server'): ServerId
  make(kind: 'token'): TokenId
  make(kind: IdKind): string
}

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz' // Crockford's base 32, lower case: sorts as bytes

/** 10 characters of milliseconds, 16 of chance. Within one millisecond the last id is counted up, so one maker's ids always ascend. */
export function createIds(clock: Clock, random: Random): Ids {
  let lastMs = -1
  const tail = new Uint8Array(16)
  let stamp = ''
  const make = (kind: IdKind): string => {
    // A host clock that steps back must not make ids that sort before those already given out.
    const ms = Math.max(clock.now(), lastMs)
    if (ms !== lastMs) {
      lastMs = ms
      const bytes = random.bytes(16)
      for (let i = 0; i < 16; i++) tail[i] = (bytes[i] ?? 0) & 31
      tail[0] = (tail[0] ?? 0) & 15 // head-room, so that counting up never overflows
      stamp = ''
      let rest = ms
      for (let i = 0; i < 10; i++) {
        stamp = (ALPHABET[rest % 32] ?? '0') + stamp
        rest = Math.floor(rest / 32)
      }
    } else {
      for (let i = 15; i >= 0; i--) {
        const digit = (tail[i] ?? 0) + 1
        tail[i] = digit & 31
        if (digit < 32) break
      }
    }
    let out = `${KINDS[kind]}_${stamp}`
    for (let i = 0; i < 16; i++) out += ALPHABET[tail[i] ?? 0]
    return out
  }
  return { make: make as Ids['make'] }
}

/** The id of what follows from something else: the same text and time give the same id, so that there are never two. */
export function derivedId(kind: IdKind, text: string, ms: number): string {
  const bytes = createHash('sha256').update(`${kind}/${text}`).digest()
  let stamp = ''
  let rest = ms
  for (let i = 0; i < 10; i++) {
    stamp = (ALPHABET[rest % 32] ?? '0') + stamp
    rest = Math.floor(rest / 32)
  }
  for (let i = 0; i < 16; i++) stamp += ALPHABET[(bytes[i] ?? 0) & 31] ?? '0'
  return `${KINDS[kind]}_${stamp}`
}

const APPROVAL_ID = /^apr_[0-9a-hjkmnp-tv-z]{26}$/
export const isApprovalId = (text: string): boolean => APPROVAL_ID.test(text)

const RUN_ID = /^run_[0-9a-hjkmnp-tv-z]{26}$/
/** True when `text` has the form of a run id. */
export const isRunId = (text: string): text is RunId => RUN_ID.test(text)

const SESSION_ID = /^ses_[0-9a-hjkmnp-tv-z]{26}$/
export const isSessionId = (text: string): text is SessionId => SESSION_ID.test(text)
