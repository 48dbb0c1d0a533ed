import http from 'node:http'
import https from 'node:https'
import type { Socket } from 'node:net'
import { getCACertificates } from 'node:tls'
import type { JsonObject } from '../base/json.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Transport, TransportRequest, TransportResponse, TransportStream } from './transport.ts'
import { speaksTls } from './speaks-tls.ts'
import { unreachable, unreachableBy } from './unreachable.ts'

export interface HttpTransportOptions {
  /** `http://host:port` or `https://…`, a path prefix allowed. */
  address: string
  /** Which flag, variable or file gave the address; part of the evidence when it cannot be reached. */
  addressFrom?: string
  /** What else is known of the server there; part of the evidence when it cannot be reached. */
  known?: JsonObject
  /** PEM of the authority to trust beside the system's. */
  ca?: string
  /** Longest silence of the server. */
  silenceMs?: number
  connectionsMax?: number
}

export const SILENCE_MS = 30_000
export const CONNECTIONS_MAX = 256

/** Trust in one more authority than the system's, as an option of TLS. */
export const trusting = (ca: string | undefined): { ca?: string[] } =>
  ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] }

/** Throws `config.value_unsupported` when the address is no http(s) address. */
export function httpTransport(options: HttpTransportOptions): Transport {
  const url = URL.parse(options.address)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:') || url.search !== '' || url.hash !== '')
    throw new Failure('config.value_unsupported', 'reading the address of the server', {
      evidence: { value: options.address, ...(options.addressFrom ? { from: options.addressFrom } : {}) },
      remediation: 'Write the address as http://host:port or https://host:port.',
    })
  return new HttpTransport(url, options)
}

class HttpTransport implements Transport {
  readonly address: string
  readonly addressFrom: string | null
  readonly known: JsonObject
  readonly #agent: http.Agent
  readonly #request: typeof http.request
  readonly #silenceMs: number
  readonly #base: http.RequestOptions
  readonly #prefix: string
  readonly #isSecure: boolean
  /** Somebody has answered here before. */
  #hasAnswered = false

  constructor(url: URL, options: HttpTransportOptions) {
    const secure = url.protocol === 'https:'
    this.#isSecure = secure
    // Credentials in the address are not used, and must not come up in messages.
    this.#prefix = url.pathname.replace(/\/$/, '')
    this.address = `${url.protocol}//${url.host}${this.#prefix}`
    this.addressFrom = options.addressFrom ?? null
    this.known = options.known ?? {}
    const agentOptions = { keepAlive: true, maxSockets: options.connectionsMax ?? CONNECTIONS_MAX, noDelay: true }
    this.#agent = secure
      ? new https.Agent({
          ...agentOptions,
          ...trusting(options.ca),
        })
      : new http.Agent(agentOptions)
    this.#request = secure ? https.request : http.request
    this.#silenceMs = options.silenceMs ?? SILENCE_MS
    const hostname = url.hostname.replace(/^\[(.*)\]$/, '$1')
    this.#base = { hostname, port: url.port === '' ? (secure ? 443 : 80) : Number(url.port), agent: this.#agent }
  }

  close(): void {
    this.#agent.destroy()
  }

  async send(request: TransportRequest): Promise<TransportResponse> {
    const response = await this.#start(request)
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', (error) => reject(this.#failure(error, request, { connected: true })))
      response.on('end', () => {
        const body = (chunks.length === 1 ? (chunks[0] ?? '') : Buffer.concat(chunks)).toString('utf8')
        resolve({ status: response.statusCode ?? 0, contentType: response.headers['content-type'] ?? '', body })
      })
    })
  }

  async open(request: TransportRequest): Promise<TransportStream> {
    const response = await this.#start(request)
    const fail = (error: Error) => this.#failure(error, request, { connected: true })
    async function* read(): AsyncIterable<string> {
      response.setEncoding(request.encoding ?? 'utf8')
      try {
        for await (const chunk of response) yield chunk as string // strings since setEncoding
      } catch (error) {
        throw fail(error instanceof Error ? error : new Error(String(error)))
      } finally {
        response.destroy()
      }
    }
    return { status: response.statusCode ?? 0, contentType: response.headers['content-type'] ?? '', body: read() }
  }

  /** Resolves with the head of the answer. */
  async #start(request: TransportRequest): Promise<http.IncomingMessage> {
    try {
      const response = await this.#once(request)
      this.#hasAnswered = true
      return response
    } catch (error) {
      // The server closed a kept connection while this request was on its way: it was never looked at.
      if (error instanceof StaleConnection && request.repeatable) return this.#once(request).catch(unwrap)
      if (error instanceof Failure && (await this.#isTlsThere(error, request)))
        throw unreachable('tls', this, `${request.method} ${request.path}`, { error: 'HTTP_TO_TLS' }, error)
      return unwrap(error)
    }
  }

  /** Whether a server that hung up on plain HTTP, and never answered before, speaks TLS: it is asked in TLS. */
  async #isTlsThere(failure: Failure, request: TransportRequest): Promise<boolean> {
    const layer = failure.evidence?.['layer']
    const mayBe = !this.#isSecure && !this.#hasAnswered && (layer === 'http' || layer === 'not-orrery')
    if (!mayBe || request.signal?.aborted || failure.evidence?.['error'] === 'ETIMEDOUT') return false
    const { hostname, port } = this.#base
    return speaksTls({ host: hostname ?? '', port: Number(port) })
  }

  #once(request: TransportRequest): Promise<http.IncomingMessage> {
    request.signal?.throwIfAborted()
    return new Promise((resolve, reject) => {
      const headers: http.OutgoingHttpHeaders = { ...request.headers }
      if (request.body !== null) headers['content-length'] = Buffer.byteLength(request.body)
      let socket: Socket | null = null
      let connected = false
      const outgoing = this.#request({
        ...this.#base,
        method: request.method,
        path: this.#prefix + request.path,
        headers,
        timeout: request.silenceMs ?? this.#silenceMs,
      })
      // By hand: the option of the same name costs a tenth of a short request.
      const { signal } = request
      if (signal) {
        const onAbort = () => outgoing.destroy(signal.reason as Error)
        signal.addEventListener('abort', onAbort, { once: true })
        outgoing.once('close', () => signal.removeEventListener('abort', onAbort))
      }
      outgoing.on('socket', (s: Socket) => {
        socket = s
        connected = !s.connecting
        if (s.connecting) s.once('connect', () => (connected = true))
      })
      outgoing.on('timeout', () => outgoing.destroy(silence(connected)))
      outgoing.on('error', (error: NodeJS.ErrnoException) => {
        const failure = this.#failure(error, request, { connected: connected || socket?.remoteAddress !== undefined })
        const stale = outgoing.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE')
        reject(stale && !request.signal?.aborted ? new StaleConnection(failure) : failure)
      })
      outgoing.on('response', (response) => {
        // From here on the response's own error says that the connection was cut.
        response.on('error', () => undefined)
        resolve(response)
      })
      outgoing.end(request.body ?? undefined)
    })
  }

  #failure(error: Error, request: TransportRequest, state: { connected: boolean }): Error {
    if (request.signal?.aborted) return request.signal.reason as Error // an abort is no failure of the server
    return unreachableBy(error, this, `${request.method} ${request.path}`, state)
  }
}

/** Wraps the failure of a request that met a closed kept connection. */
class StaleConnection extends Error {
  readonly failure: Error
  constructor(failure: Error) {
    super('stale connection')
    this.failure = failure
  }
}

function unwrap(error: unknown): never {
  throw error instanceof StaleConnection ? error.failure : error
}

export function silence(connected: boolean): NodeJS.ErrnoException {
  const error: NodeJS.ErrnoException = new Error(
    connected ? 'the server was silent too long' : 'connecting took too long',
  )
  error.code = 'ETIMEDOUT'
  return error
}

/** Silence that a parked request may keep, for a server that holds it `parkedMs`. */
export const silenceFor = (parkedMs: number): number => parkedMs + SILENCE_MS
/** A stream is cut when not even a heartbeat came for this long. */
export const STREAM_SILENCE_MS = LIMITS.sseHeartbeatMs * 3
