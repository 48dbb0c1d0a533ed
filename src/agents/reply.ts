import { pipeline, Readable, type Transform } from 'node:stream'
import { constants, createBrotliDecompress, createGunzip, createInflate } from 'node:zlib'
import type { Dispatcher } from 'undici'
import { LIMITS } from '../domain/limits.ts'
import { Incoming } from './incoming.ts'

export interface WireRequest {
  method: string
  /** Names in lower case. */
  headers: Record<string, string>
  body: string | Uint8Array | null
  /** Ends the request, and the answer while it is read. */
  signal?: AbortSignal | null
}

/** An answer as it comes. Whoever does not read it to its end discards it, or its connection is held. */
export interface Reply {
  status: number
  statusText: string
  /** Names in lower case; several of one name are one text with commas. */
  headers: Readonly<Record<string, string>>
  /** Read once, and as fast as it is asked for. */
  body: AsyncIterable<Uint8Array>
  discard(): void
}

export interface SentRequest extends WireRequest {
  /** `manual`: who asks looks at redirects itself, and calls anew where it wants to. Else they are followed. */
  redirect?: 'manual' | undefined
}

/** Sends a request and gives its answer when its head is there. */
export type SendRequest = (url: string, request: SentRequest) => Promise<Reply>

export const isFine = (status: number): boolean => status >= 200 && status < 300

/** One request and its answer, without the objects of the web. Rejects with the signal's reason, or with what went wrong on the connection. */
export async function sendOnce(
  dispatcher: Dispatcher,
  url: URL,
  { method, headers, body, signal }: WireRequest,
): Promise<Reply> {
  const { origin, pathname, search } = url
  const path = pathname + search
  const incoming = new Incoming(signal ?? null)
  const {
    status,
    statusText,
    headers: given,
  } = await incoming.over(dispatcher, { origin, path, method, headers, body })
  const told: Record<string, string> = {}
  for (const [name, value] of Object.entries(given))
    if (value !== undefined) told[name] = typeof value === 'string' ? value : value.join(', ')
  return {
    status,
    statusText,
    headers: told,
    body: bounded(unpacked({ [Symbol.asyncIterator]: () => incoming }, told), status),
    discard: () => void incoming.return(),
  }
}

/** What has come is given out at once, and an end that was not said properly is one. */
const ZLIB = { flush: constants.Z_SYNC_FLUSH, finishFlush: constants.Z_SYNC_FLUSH }
const BROTLI = { flush: constants.BROTLI_OPERATION_FLUSH, finishFlush: constants.BROTLI_OPERATION_FLUSH }
const DECODERS = new Map<string, () => Transform>([
  ['gzip', () => createGunzip(ZLIB)],
  ['x-gzip', () => createGunzip(ZLIB)],
  ['deflate', () => createInflate(ZLIB)],
  ['br', () => createBrotliDecompress(BROTLI)],
])
/** How often an answer may have been packed. */
const PACKED_MAX = 5

/** The bytes that were meant, of what was packed for the way. What is packed in a way that nobody asked for stays as it is. */
function unpacked(body: AsyncIterable<Uint8Array>, { 'content-encoding': packed }: Reply['headers']) {
  if (packed === undefined) return body
  const ways = packed
    .toLowerCase()
    .split(',')
    .map((name) => DECODERS.get(name.trim()))
    .toReversed()
  if (ways.length > PACKED_MAX || !ways.every((way) => way !== undefined)) return body
  const decoders = ways.map((way) => way())
  // What goes wrong is told to whoever reads the last one.
  pipeline([Readable.from(body, { objectMode: false }), ...decoders], () => {})
  return decoders.at(-1) ?? body
}

/** An answer as it comes, up to a bound: whoever reads it gathers its lines, so one that does not end would fill the memory. Of one that refuses only so much is read as somebody will look at. */
async function* bounded(body: AsyncIterable<Uint8Array>, status: number): AsyncGenerator<Uint8Array, void> {
  const isRefusal = !isFine(status)
  const most = isRefusal ? LIMITS.refusalBytes : LIMITS.answerBytes
  let size = 0
  for await (const chunk of body) {
    size += chunk.length
    if (size <= most) yield chunk
    else if (!isRefusal) throw new Error(`the answer is larger than ${LIMITS.answerBytes} bytes`)
    else yield chunk.subarray(0, chunk.length - (size - most))
    if (isRefusal && size >= most) return
  }
}
