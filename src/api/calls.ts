import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Context } from 'hono'
import type { Answer, ApiEnv, Call } from './context.ts'

/** A request of the web-standard handler. */
export function callOfHono(c: Context<{ Bindings: ApiEnv }>): Call {
  const { incoming, via, body, signal } = c.env
  const { raw } = c.req
  const start = raw.url.indexOf('?')
  return {
    method: c.req.method,
    path: c.req.path,
    search: start < 0 ? null : raw.url.slice(start + 1),
    header: (name) => (incoming ? headerOf(incoming, name) : raw.headers.get(name)),
    rawParam: (name) => c.req.param(name) ?? '',
    body: { request: raw, incoming: incoming ?? via, inMemory: body },
    get signal() {
      return signal ?? raw.signal
    },
  }
}

/** A request straight from the socket server, to an address without parameters and query. */
export class SocketCall implements Call {
  readonly method: string
  readonly path: string
  readonly search = null
  readonly body: Call['body']
  readonly #incoming: IncomingMessage
  readonly #outgoing: ServerResponse
  #gone: AbortController | null = null

  constructor(incoming: IncomingMessage, outgoing: ServerResponse, address: { method: string; path: string }) {
    this.method = address.method
    this.path = address.path
    this.body = { request: null, incoming, inMemory: undefined }
    this.#incoming = incoming
    this.#outgoing = outgoing
  }

  header(name: string): string | null {
    return headerOf(this.#incoming, name)
  }

  rawParam(): string {
    return ''
  }

  /** Made when first asked for: most requests are answered before anybody asks. */
  get signal(): AbortSignal {
    if (!this.#gone) {
      const gone = (this.#gone = new AbortController())
      const outgoing = this.#outgoing
      const isCut = () => outgoing.destroyed && !outgoing.writableFinished
      if (isCut()) gone.abort()
      else outgoing.once('close', () => isCut() && gone.abort())
    }
    return this.#gone.signal
  }
}

/** A request that was handed over in memory. */
export interface RequestHere {
  method: string
  path: string
  /** Names in lower case. */
  headers: Readonly<Record<string, string>>
  body: string | null
  signal?: AbortSignal
}

/** Nobody gives up who has not said how. */
const NEVER = new AbortController().signal

/** A request from this process, to an address without parameters and query. */
export class CallHere implements Call {
  readonly method: string
  readonly path: string
  readonly search = null
  readonly body: Call['body']
  readonly signal: AbortSignal
  readonly #headers: RequestHere['headers']

  constructor({ method, path, headers, body, signal = NEVER }: RequestHere) {
    this.method = method
    this.path = path
    this.body = { request: null, incoming: undefined, inMemory: body ?? '' }
    this.signal = signal
    this.#headers = headers
  }

  header(name: string): string | null {
    return this.#headers[name] ?? null
  }

  rawParam(): string {
    return ''
  }
}

function headerOf(incoming: IncomingMessage, name: string): string | null {
  const value = incoming.headers[name]
  return value === undefined ? null : typeof value === 'string' ? value : value.join(', ')
}

export const toResponse = ({ status, headers, body }: Answer): Response => new Response(body, { status, headers })

/** Writes an answer whose body is text. */
export function writeAnswer(outgoing: ServerResponse, { status, headers, body }: Answer): void {
  if (outgoing.destroyed) return // the caller is gone
  const text = typeof body === 'string' ? body : ''
  outgoing.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(text) })
  outgoing.end(text)
}
