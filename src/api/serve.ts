import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { Socket } from 'node:net'
import { getRequestListener, type HttpBindings } from '@hono/node-server'
import type { Clock } from '../base/clock.ts'
import type { Ids } from '../base/ids.ts'
import { deferred } from '../base/deferred.ts'
import { PROBLEM_TYPE, problemOf } from '../contract/problem.ts'
import { invalidRequest } from '../contract/check-request.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { writeAnswer } from './calls.ts'
import type { Api } from './create-api.ts'
import { findPortHolder } from './port-holder.ts'
import { SECURITY_HEADERS } from './request-context.ts'
import { LOOKS, StalledBodies } from './stalled-bodies.ts'

export interface ServeOptions {
  host: string
  /** 0: any free port. */
  port: number
  clock: Clock
  ids: Ids
  /** Certificate and key as PEM: HTTPS is spoken. Throws `config.value_unsupported` when they do not fit each other. */
  tls?: { cert: string; key: string }
  /** A request must have arrived whole after this, however steadily it comes. */
  requestMs?: number
  /** A body of which nothing came for this long is given up. */
  requestStallMs?: number
  /** How long requests under way may go on once `close` was called. */
  closeGraceMs?: number
}

export interface Serving {
  host: string
  port: number
  /** Stops listening, lets requests under way end for the grace time, then cuts what is left. Twice is safe. */
  close(): Promise<void>
}

const CLOSE_GRACE_MS = 5_000
const CLOSE_STEP_MS = 50

/** Listens. Throws `config.port_in_use` that names the holder, or `config.value_unsupported` when the address cannot be used. */
export async function serve(api: Api, options: ServeOptions): Promise<Serving> {
  const requestMs = options.requestMs ?? LIMITS.requestMs
  const listener = getRequestListener(
    (request, env) => api.fetch(request, { incoming: (env as HttpBindings).incoming }),
    {
      // HttpBindings: the server below speaks HTTP/1 only.
      // What the adapter cannot turn into a request: a bad Host or target.
      errorHandler: () => {
        const { body, status } = badRequest(options.ids, 'the request line or the Host header is not valid')
        return new Response(body, {
          status,
          headers: { ...SECURITY_HEADERS, 'content-type': PROBLEM_TYPE, connection: 'close' },
        })
      },
    },
  )
  const settings = {
    requestTimeout: requestMs,
    headersTimeout: Math.min(requestMs, LIMITS.requestHeadersMs),
    keepAliveTimeout: LIMITS.keepAliveMs,
    noDelay: true,
  }
  const stalled = new StalledBodies((outgoing, socket) => {
    // Part of an answer may be on its way already: another one behind it would be no HTTP.
    if (outgoing.headersSent) socket.destroy()
    else refuseClient('late', socket, options.ids)
  })
  const onRequest = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    stalled.watch(incoming, outgoing)
    const answer = api.answer(incoming, outgoing)
    if (answer) void answer.then((a) => writeAnswer(outgoing, a))
    else void listener(incoming, outgoing)
  }
  const server = options.tls ? tlsServer(options.tls, settings, onRequest) : createServer(settings, onRequest)
  server.maxConnections = LIMITS.connectionsMax
  server.on('clientError', (error: NodeJS.ErrnoException, socket) =>
    refuseClient(whyRefused(error), socket as Socket, options.ids),
  )
  await listen(server, options)
  const stopped = new AbortController()
  void lookAtBodies(stalled, options, stopped.signal)
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : options.port
  let closing: Promise<void> | null = null
  return {
    host: options.host,
    port,
    close: () => (closing ??= closeServer(server, options).finally(() => stopped.abort())),
  }
}

async function lookAtBodies(stalled: StalledBodies, options: ServeOptions, signal: AbortSignal): Promise<void> {
  const everyMs = (options.requestStallMs ?? LIMITS.requestStallMs) / LOOKS
  while (!signal.aborted) {
    await options.clock.sleep(everyMs, signal).catch(() => {}) // cut short by the end of the server
    if (!signal.aborted) stalled.look()
  }
}

function tlsServer(
  tls: { cert: string; key: string },
  settings: object,
  onRequest: (incoming: IncomingMessage, outgoing: ServerResponse) => void,
): TlsServer {
  try {
    return createTlsServer({ ...settings, ...tls, minVersion: 'TLSv1.2' }, onRequest)
  } catch (error) {
    throw new Failure('config.value_unsupported', 'reading the certificate and the key of the server', {
      cause: error,
      evidence: { flags: ['--tls-cert', '--tls-key'] },
      remediation: 'Give PEM files: the certificate with its chain, and the unencrypted key that belongs to it.',
    })
  }
}

async function listen(server: Server | TlsServer, { host, port }: ServeOptions): Promise<void> {
  const { promise, resolve, reject } = deferred<undefined>()
  server.once('error', reject)
  server.listen({ host, port }, () => resolve(undefined))
  try {
    await promise
  } catch (error) {
    throw listenFailure(error as NodeJS.ErrnoException, host, port) // listen rejects with nothing else
  }
  server.removeAllListeners('error')
}

function listenFailure(error: NodeJS.ErrnoException, host: string, port: number): Failure {
  if (error.code !== 'EADDRINUSE')
    return new Failure('config.value_unsupported', `listening on ${host}:${port}`, {
      cause: error,
      evidence: { host, port, error: error.code ?? error.message },
      remediation:
        error.code === 'EACCES'
          ? 'Ports below 1024 need a privilege; choose a higher one with --port.'
          : 'Choose an address of this host with --host.',
    })
  const holder = findPortHolder(port)
  return new Failure('config.port_in_use', `listening on ${host}:${port}`, {
    evidence: { host, port, ...(holder ? { heldBy: { pid: holder.pid, name: holder.name } } : {}) },
    ...(holder
      ? { remediation: `Stop process ${holder.pid} (${holder.name}), or choose another port with --port.` }
      : {}),
  })
}

type WhyRefused = 'gone' | 'late' | 'large' | 'no HTTP'

const whyRefused = ({ code }: NodeJS.ErrnoException): WhyRefused =>
  code === 'ECONNRESET'
    ? 'gone'
    : code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? 'late'
      : code === 'HPE_HEADER_OVERFLOW'
        ? 'large'
        : 'no HTTP'

const REFUSALS = {
  late: ['408 Request Timeout', 'the request did not arrive in time'],
  large: ['431 Request Header Fields Too Large', 'the headers are too large'],
  'no HTTP': ['400 Bad Request', 'the request is not HTTP'],
} as const

/** The bytes were no request, or they stopped coming; the answer is a problem like any other. */
function refuseClient(why: WhyRefused, socket: Socket, ids: Ids): void {
  if (why === 'gone' || !socket.writable) {
    socket.destroy()
    return
  }
  const [line, message] = REFUSALS[why]
  const { body } = badRequest(ids, message)
  const headers = {
    ...SECURITY_HEADERS,
    'content-type': PROBLEM_TYPE,
    'content-length': String(Buffer.byteLength(body)),
    connection: 'close',
  }
  const head = [`HTTP/1.1 ${line}`, ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`)].join('\r\n')
  socket.end(`${head}\r\n\r\n${body}`)
}

function badRequest(ids: Ids, message: string): { body: string; status: number } {
  const failure = invalidRequest('reading the request', '', message).toRecord()
  const problem = problemOf(failure, { instance: '', requestId: ids.make('request') })
  return { body: JSON.stringify(problem), status: problem.status }
}

async function closeServer(server: Server | TlsServer, options: ServeOptions): Promise<void> {
  const closed = deferred<'closed'>()
  server.close(() => closed.resolve('closed'))
  const endAt = options.clock.monotonic() + (options.closeGraceMs ?? CLOSE_GRACE_MS)
  while (options.clock.monotonic() < endAt) {
    // Kept-alive connections become idle one after another as their requests end.
    server.closeIdleConnections()
    if ((await Promise.race([closed.promise, options.clock.sleep(CLOSE_STEP_MS)])) === 'closed') return
  }
  server.closeAllConnections()
  await closed.promise
}
