import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import type { Clock } from '../base/clock.ts'
import { inBlocks, plainAddress } from '../domain/address-block.ts'
import { createRateLimits, type RateLimits } from './rate-limits.ts'

/** What a server that is reached from elsewhere was told of where it stands. */
export interface EdgeOptions {
  /** Blocks of addresses whose X-Forwarded-* headers are believed. */
  trustedProxies: readonly string[]
  /** Origins whose pages may ask. */
  corsOrigins: readonly string[]
  /** The server itself speaks TLS. */
  isTls: boolean
}

export const AT_HOME: EdgeOptions = { trustedProxies: [], corsOrigins: [], isTls: false }

export interface Edge {
  limits: RateLimits
  /** Where a request came from; null when it came from the same process. */
  addressOf(incoming: IncomingMessage | undefined): string | null
  /** Headers that depend on who asks and how. */
  headersFor(incoming: IncomingMessage | undefined, origin: string | null): Record<string, string>
  /** Whether pages of an origin may ask where a token alone is not enough. */
  mayAsk(origin: string): boolean
  /** Headers of the answer to a preflight. */
  preflight(origin: string | null, methods: string): Record<string, string>
}

const NOTHING: Record<string, string> = {}
/** A year, as browsers ask for it. */
const HSTS = { 'strict-transport-security': 'max-age=31536000' }
const ASKED_HEADERS =
  'authorization, content-type, idempotency-key, prefer, accept, last-event-id, x-request-id, if-match, if-none-match'
const SHOWN_HEADERS = 'x-request-id, location, retry-after, preference-applied, www-authenticate, etag'
/** Names of this machine that nobody else gives out. */
const HERE = new Set(['localhost', '127.0.0.1', '[::1]'])
const PREFLIGHT_SECONDS = 600

export function createEdge(clock: Clock, options: EdgeOptions): Edge {
  const isTrusted = options.trustedProxies.length === 0 ? () => false : inBlocks(options.trustedProxies)
  const origins = new Set(options.corsOrigins)
  const hasProxies = options.trustedProxies.length > 0
  const peerOf = (incoming: IncomingMessage): string => plainAddress(incoming.socket.remoteAddress ?? '')

  const forOrigin = (origin: string | null): Record<string, string> => {
    if (origins.size === 0) return NOTHING
    return origin !== null && origins.has(origin)
      ? { 'access-control-allow-origin': origin, 'access-control-expose-headers': SHOWN_HEADERS, vary: 'origin' }
      : { vary: 'origin' }
  }

  return {
    limits: createRateLimits(clock),
    addressOf(incoming) {
      if (!incoming) return null
      const peer = peerOf(incoming)
      if (!hasProxies || !isTrusted(peer)) return peer
      // From the right: each proxy adds whom it heard of, and what stands left of the first stranger may be made up by him.
      let address = peer
      for (const hop of textOf(incoming, 'x-forwarded-for').split(',').toReversed()) {
        const next = plainAddress(hop.trim())
        if (isIP(next) === 0) break
        address = next
        if (!isTrusted(next)) break
      }
      return address
    },
    headersFor(incoming, origin) {
      if (!options.isTls && !hasProxies && origins.size === 0) return NOTHING
      const isSecure =
        options.isTls ||
        (incoming !== undefined &&
          hasProxies &&
          isTrusted(peerOf(incoming)) &&
          textOf(incoming, 'x-forwarded-proto').trim().toLowerCase() === 'https')
      return isSecure ? { ...HSTS, ...forOrigin(origin) } : forOrigin(origin)
    },
    mayAsk(origin) {
      return origins.has(origin) || HERE.has(URL.parse(origin)?.hostname ?? '')
    },
    preflight(origin, methods) {
      if (origin === null || !origins.has(origin)) return NOTHING
      return {
        'access-control-allow-methods': methods,
        'access-control-allow-headers': ASKED_HEADERS,
        'access-control-max-age': String(PREFLIGHT_SECONDS),
      }
    },
  }
}

const textOf = (incoming: IncomingMessage, name: string): string => {
  const value = incoming.headers[name]
  return value === undefined ? '' : typeof value === 'string' ? value : value.join(',')
}
