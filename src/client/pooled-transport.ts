import type { Dispatcher, Pool } from 'undici'
import { once } from '../base/once.ts'
import { deferred } from '../base/deferred.ts'
import {
  CONNECTIONS_MAX,
  httpTransport,
  type HttpTransportOptions,
  SILENCE_MS,
  silence,
  trusting,
} from './http-transport.ts'
import type { Transport, TransportRequest, TransportResponse } from './transport.ts'
import { unreachableBy } from './unreachable.ts'

/** Loaded when the server has answered for the first time. */
const undici = once(() => import('undici'))

/** A server was silent for longer than was allowed. */
const SILENT_CODES = new Set(['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'])

/**
 * A way over HTTP for whoever asks often and for long: a request costs a third less than over `httpTransport`, which finds the server, and finds out what
 * is wrong whenever a request fails. Throws `config.value_unsupported` when the address is no http(s) address.
 */
export function pooledTransport(options: HttpTransportOptions): Transport {
  return new PooledTransport(options)
}

class PooledTransport implements Transport {
  readonly #plain: Transport
  readonly #options: HttpTransportOptions
  readonly #origin: string
  readonly #prefix: string
  /** Null: the next request has to find the server first. */
  #pool: Pool | null = null
  #opening: Promise<Pool> | null = null
  #isClosed = false

  constructor(options: HttpTransportOptions) {
    this.#plain = httpTransport(options)
    this.#options = options
    const { origin, pathname } = new URL(this.#plain.address)
    this.#origin = origin
    this.#prefix = pathname.replace(/\/$/, '')
  }

  get address(): string {
    return this.#plain.address
  }
  get addressFrom(): string | null {
    return this.#plain.addressFrom
  }
  get known() {
    return this.#plain.known ?? {}
  }

  async send(request: TransportRequest): Promise<TransportResponse> {
    const pool = this.#pool
    if (pool === null) return this.#find(request)
    const exchange = new Exchange(request)
    try {
      return await exchange.over(pool, this.#prefix, request.silenceMs ?? this.#options.silenceMs ?? SILENCE_MS)
    } catch (error) {
      if (request.signal?.aborted) throw request.signal.reason
      this.#pool = null
      const cause = error as NodeJS.ErrnoException // whatever a socket or the package ends with
      const isSilent = SILENT_CODES.has(cause.code ?? '')
      if (request.repeatable && !isSilent) return this.#find(request)
      const at = { connected: exchange.wasSent }
      throw unreachableBy(isSilent ? silence(true) : cause, this, `${request.method} ${request.path}`, at)
    }
  }

  open(request: TransportRequest) {
    return this.#plain.open(request)
  }

  close(): void {
    this.#isClosed = true
    this.#plain.close()
    void this.#opening?.then((pool) => pool.destroy()).catch(() => {})
  }

  async #find(request: TransportRequest): Promise<TransportResponse> {
    const answer = await this.#plain.send(request)
    if (!this.#isClosed) this.#pool = await this.#openPool()
    return answer
  }

  #openPool(): Promise<Pool> {
    this.#opening ??= undici().then(({ Pool: Opened }) => {
      const { ca, connectionsMax = CONNECTIONS_MAX } = this.#options
      return new Opened(this.#origin, { connections: connectionsMax, connect: trusting(ca) })
    })
    return this.#opening
  }
}

/** One request and its answer. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #request: TransportRequest
  readonly #answer = deferred<TransportResponse>()
  readonly #chunks: Buffer[] = []
  #status = 0
  #contentType = ''
  #controller: Dispatcher.DispatchController | null = null
  /** A connection was there for it. */
  wasSent = false

  constructor(request: TransportRequest) {
    this.#request = request
  }

  over(pool: Pool, prefix: string, silenceMs: number): Promise<TransportResponse> {
    const { method, path, headers, body, signal } = this.#request
    signal?.throwIfAborted()
    signal?.addEventListener('abort', this.#onAbort)
    const times = { headersTimeout: silenceMs, bodyTimeout: silenceMs }
    pool.dispatch({ method, path: prefix + path, headers, body, ...times }, this)
    return this.#answer.promise.finally(() => signal?.removeEventListener('abort', this.#onAbort))
  }

  readonly #onAbort = (): void => {
    const { signal } = this.#request
    this.#controller?.abort(signal?.reason as Error)
    this.#answer.reject(signal?.reason)
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    this.wasSent = true
    if (this.#request.signal?.aborted) this.#onAbort()
  }

  onResponseStart(_: unknown, status: number, headers: Record<string, string | string[] | undefined>): void {
    this.#status = status
    this.#contentType = String(headers['content-type'] ?? '')
  }

  onResponseData(_: unknown, chunk: Buffer): void {
    this.#chunks.push(chunk)
  }

  onResponseEnd(): void {
    const [first, ...more] = this.#chunks
    const body = (first && more.length === 0 ? first : Buffer.concat(this.#chunks)).toString('utf8')
    this.#answer.resolve({ status: this.#status, contentType: this.#contentType, body })
  }

  onResponseError(_: unknown, error: Error): void {
    this.#answer.reject(error)
  }
}
