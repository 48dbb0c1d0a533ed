import type { Dispatcher } from 'undici'
import { type Deferred, deferred } from '../base/deferred.ts'

/** Bytes that are kept for a reader who is slower than the sender; more wait there. */
const AHEAD_BYTES = 64 * 1024

type Next = IteratorResult<Uint8Array, undefined>
const END: Next = { done: true, value: undefined }

/** The head of an answer, and its bytes as they came. */
export interface Head {
  status: number
  statusText: string
  headers: Record<string, string | string[] | undefined>
}

/**
 * One request and what comes back of it, as the dispatcher tells it: a quarter less work than a stream of node’s. Its bytes are read once, by one reader; who reads
 * no further ends the connection.
 */
export class Incoming implements Dispatcher.DispatchHandler, AsyncIterator<Uint8Array, undefined> {
  readonly #signal: AbortSignal | null
  readonly #head: Deferred<Head> = deferred()
  readonly #chunks: Uint8Array[] = []
  #controller: Dispatcher.DispatchController | null = null
  #held = 0
  #reader: Deferred<Next> | null = null
  #hasEnded = false
  #failure: { error: unknown } | null = null

  /** `signal` ends the request, and the answer while it is read; its reason is what is thrown then. */
  constructor(signal: AbortSignal | null) {
    this.#signal = signal
  }

  /** Resolves with the head of the answer. */
  over(dispatcher: Dispatcher, request: Dispatcher.DispatchOptions): Promise<Head> {
    this.#signal?.throwIfAborted()
    this.#signal?.addEventListener('abort', this.#onAbort)
    dispatcher.dispatch(request, this)
    return this.#head.promise
  }

  readonly #onAbort = (): void => this.#cut(this.#signal?.reason)

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#failure) controller.abort(asError(this.#failure.error))
  }

  onResponseStart(_: unknown, status: number, headers: Head['headers'], statusText = ''): void {
    // Hints come before the answer.
    if (status >= 200) this.#head.resolve({ status, statusText, headers })
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#hasEnded) return
    if (this.#reader) return this.#give({ done: false, value: chunk })
    this.#chunks.push(chunk)
    this.#held += chunk.length
    if (this.#held > AHEAD_BYTES) controller.pause()
  }

  onResponseEnd(): void {
    this.#end()
    this.#give(END)
  }

  onResponseError(_: unknown, error: Error): void {
    this.#fail(error)
  }

  async next(): Promise<Next> {
    const value = this.#chunks.shift()
    if (value !== undefined) {
      this.#held -= value.length
      if (this.#held <= AHEAD_BYTES && this.#controller?.paused === true) this.#controller.resume()
      return { done: false, value }
    }
    if (this.#failure) throw this.#failure.error
    if (this.#hasEnded) return END
    this.#reader = deferred()
    return this.#reader.promise
  }

  /** Whoever reads no further does not hold the connection. */
  return(): Promise<Next> {
    if (!this.#hasEnded) this.#cut(new Error('nobody reads any further'))
    this.#chunks.length = 0
    return Promise.resolve(END)
  }

  #cut(reason: unknown): void {
    this.#fail(reason)
    this.#controller?.abort(asError(reason))
  }

  #fail(error: unknown): void {
    if (this.#hasEnded) return
    this.#end()
    this.#failure = { error }
    this.#head.reject(error)
    this.#reader?.reject(error)
    this.#reader = null
  }

  #end(): void {
    this.#hasEnded = true
    this.#signal?.removeEventListener('abort', this.#onAbort)
  }

  #give(next: Next): void {
    this.#reader?.resolve(next)
    this.#reader = null
  }
}

const asError = (reason: unknown): Error => (reason instanceof Error ? reason : new Error(String(reason)))
