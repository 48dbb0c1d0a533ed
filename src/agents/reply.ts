import { pipeline, Readable, type Transform } from 'node:stream'
import { constants, createBrotliDecompress, createGunzip, createInflate } from 'node:zlib'
import type { Dispatcher } from 'undici'
import { type Deferred, deferred } from '../base/deferred.ts'
import { LIMITS } from '../domain/limits.ts'

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

/** What of an answer waits to be read before its connection is told to wait. */
const AHEAD_BYTES = 64 * 1024

/**
 * One request and its answer, with neither the objects of the web nor streams on the way: they cost more than the request. Rejects with the signal's reason, or
 * with what went wrong on the connection.
 */
export function sendOnce(
  dispatcher: Dispatcher,
  url: URL,
  { method, headers, body, signal }: WireRequest,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error)
    const wire = new Wire({ resolve, reject }, signal ?? null)
    const { origin, pathname, search } = url
    dispatcher.dispatch({ origin, path: pathname + search, method, headers, body }, wire)
  })
}

type Asked = Pick<Deferred<Reply>, 'resolve' | 'reject'>

/** One request on its connection: gives the reply, and is its bytes. */
class Wire implements Dispatcher.DispatchHandler, AsyncIterator<Uint8Array> {
  readonly #asked: Asked
  readonly #signal: AbortSignal | null
  #controller: Dispatcher.DispatchController | null = null
  readonly #chunks: Uint8Array[] = []
  #bytes = 0
  #waiting: Deferred<IteratorResult<Uint8Array>> | null = null
  #end: { error: Error | null } | null = null

  constructor(asked: Asked, signal: AbortSignal | null) {
    this.#asked = asked
    this.#signal = signal
    signal?.addEventListener('abort', this.#onAbort)
  }

  readonly #onAbort = (): void => this.#leave(this.#signal?.reason as Error)

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#end?.error) controller.abort(this.#end.error)
  }

  onResponseStart(
    _: Dispatcher.DispatchController,
    status: number,
    told: Record<string, string | string[] | undefined>,
    statusText = '',
  ): void {
    // Such as early hints: the answer is still to come.
    if (status < 200) return
    const headers: Record<string, string> = {}
    for (const name of Object.keys(told)) {
      const value = told[name]
      if (value !== undefined) headers[name] = typeof value === 'string' ? value : value.join(', ')
    }
    const body = bounded(unpacked({ [Symbol.asyncIterator]: () => this }, headers), status)
    this.#asked.resolve({ status, statusText, headers, body, discard: () => void this.return() })
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    const waiting = this.#waiting
    if (waiting) {
      this.#waiting = null
      return waiting.resolve({ done: false, value: chunk })
    }
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes > AHEAD_BYTES) controller.pause()
  }

  onResponseEnd(): void {
    this.#ended(null)
  }

  onResponseError(_: unknown, error: Error): void {
    this.#ended(error)
  }

  #ended(error: Error | null): void {
    if (this.#end) return
    this.#end = { error }
    this.#signal?.removeEventListener('abort', this.#onAbort)
    const waiting = this.#waiting
    this.#waiting = null
    if (error) {
      this.#asked.reject(error)
      waiting?.reject(error)
    } else waiting?.resolve(DONE)
  }

  #leave(reason: Error): void {
    this.#chunks.length = 0
    this.#ended(reason)
    this.#controller?.abort(reason)
  }

  async next(): Promise<IteratorResult<Uint8Array>> {
    const value = this.#chunks.shift()
    if (value) {
      this.#bytes -= value.length
      if (this.#bytes <= AHEAD_BYTES) this.#controller?.resume()
      return { done: false, value }
    }
    if (this.#end?.error) throw this.#end.error
    if (this.#end) return DONE
    this.#waiting = deferred()
    return this.#waiting.promise
  }

  async return(): Promise<IteratorResult<Uint8Array>> {
    if (!this.#end) this.#leave(LEFT)
    return DONE
  }
}

const DONE: IteratorResult<Uint8Array> = { done: true, value: undefined }
const LEFT = new Error('nobody reads the rest of the answer')

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
