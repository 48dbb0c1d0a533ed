import type { Json } from '../base/json.ts'
import type { Secret } from '../base/secret.ts'
import { failureOfProblem } from '../contract/problem.ts'
import { Failure } from '../domain/failure.ts'
import type { Transport, TransportRequest, TransportStream } from './transport.ts'
import { TOKEN_ORDER, unreachable } from './unreachable.ts'

const isRefused = (failure: Failure): boolean =>
  failure.code === 'client.unauthorized' || failure.code === 'client.forbidden'

/** What proxies say for themselves: a way they cannot go on, or one that they want to be paid for with a password. */
const PROXY_STATUS = new Set([407, 502, 503, 504, 511])

export interface AskOptions {
  body?: unknown
  /** A body of text, sent as it is, instead of `body`. */
  text?: { type: string; content: string }
  headers?: Record<string, string>
  /** Twice is safe. GET always is. */
  repeatable?: boolean
  /** As of TransportRequest. */
  encoding?: 'utf8' | 'latin1'
  silenceMs?: number
  signal?: AbortSignal | undefined
}

/** Sends requests with a token; turns problem bodies into the failures they tell of. */
export class Asker {
  readonly transport: Transport
  readonly #token: Secret | null
  readonly #traceparent: string | null
  readonly #tokenFrom: string | null

  /** `traceparent`: the span that all requests are a part of; `tokenFrom`: what gave the token. Null: there is none, or it is not known. */
  constructor(
    transport: Transport,
    token: Secret | null,
    { traceparent = null, tokenFrom = null }: { traceparent?: string | null; tokenFrom?: string | null } = {},
  ) {
    this.transport = transport
    this.#token = token
    this.#traceparent = traceparent
    this.#tokenFrom = tokenFrom
  }

  /** The answer's JSON. The server's types are trusted to be those of the contract: hence `as` at the callers. */
  async ask(method: TransportRequest['method'], path: string, options: AskOptions = {}): Promise<unknown> {
    const request = this.#requestOf(method, path, options)
    const { status, contentType, body } = await this.transport.send(request)
    const value = parseOrUndefined(body)
    if (status >= 200 && status < 300 && value !== undefined) return value
    throw this.#refusal(request, status, contentType, body, value)
  }

  /** With a body it is a POST. */
  async open(path: string, options: AskOptions = {}): Promise<TransportStream> {
    const request = this.#requestOf(options.body === undefined ? 'GET' : 'POST', path, options)
    const stream = await this.transport.open(request)
    const wanted = (options.headers?.['accept'] ?? '').split(',')[0] ?? ''
    if (stream.status === 200 && stream.contentType.startsWith(wanted)) return stream
    let body = ''
    for await (const chunk of stream.body) {
      body += chunk
      if (body.length > 1024 * 1024) break
    }
    throw this.#refusal(request, stream.status, stream.contentType, body, parseOrUndefined(body))
  }

  /** The server knows why it refuses, and this side knows with what it was asked. */
  #withPlace(failure: Failure): Failure {
    const { address, addressFrom } = this.transport
    const hint = failure.code === 'client.unauthorized' ? ` ${TOKEN_ORDER}` : ''
    return new Failure(failure.code, failure.message, {
      ...(failure.cause === undefined ? {} : { cause: failure.cause }),
      evidence: {
        ...failure.evidence,
        address,
        ...(addressFrom === null ? {} : { addressFrom }),
        tokenFrom: this.#token === null ? 'none was found' : (this.#tokenFrom ?? 'the program'),
      },
      remediation: `${failure.remediation}${hint}`,
    })
  }

  #requestOf(method: TransportRequest['method'], path: string, options: AskOptions): TransportRequest {
    const headers: Record<string, string> = { accept: 'application/json', ...options.headers }
    if (this.#token) headers['authorization'] = `Bearer ${this.#token.reveal()}`
    if (this.#traceparent !== null) headers['traceparent'] = this.#traceparent
    const { text } = options
    const body = text ? text.content : options.body === undefined ? null : JSON.stringify(options.body)
    if (body !== null) headers['content-type'] = text?.type ?? 'application/json'
    return {
      method,
      path,
      headers,
      body,
      ...(options.encoding === undefined ? {} : { encoding: options.encoding }),
      // The others do the same thing twice that they did once.
      repeatable: method !== 'POST' || options.repeatable === true,
      ...(options.silenceMs === undefined ? {} : { silenceMs: options.silenceMs }),
      ...(options.signal ? { signal: options.signal } : {}),
    }
  }

  #refusal(request: TransportRequest, status: number, type: string, body: string, value: Json | undefined): Failure {
    const failure = failureOfProblem(value)
    if (failure) return isRefused(failure) ? this.#withPlace(failure) : failure
    const what = `${request.method} ${request.path}`
    const begin = body.slice(0, 200)
    // The only sign that such servers give: they have to answer in plain HTTP what came in plain HTTP.
    if (status === 400 && /HTTP request .{0,12}to an? HTTPS (?:port|server)|sent to HTTPS port/i.test(body))
      return unreachable('tls', this.transport, what, { status, error: 'HTTP_TO_TLS', begin })
    const layer = PROXY_STATUS.has(status) ? 'proxy' : 'not-orrery'
    return unreachable(layer, this.transport, what, { status, contentType: type, begin })
  }
}

function parseOrUndefined(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json // JSON.parse gives Json or throws
  } catch {
    return undefined // told apart by the caller, who knows the status
  }
}
