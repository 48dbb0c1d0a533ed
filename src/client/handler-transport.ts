import { StringDecoder } from 'node:string_decoder'
import { Failure } from '../domain/failure.ts'
import type { Transport, TransportRequest } from './transport.ts'
import { unreachable } from './unreachable.ts'

/** A web-standard handler; body and signal travel beside the request, in memory. */
export type FetchHandler = (request: Request, env?: { body?: string; signal?: AbortSignal }) => Promise<Response>

const TARGET = { address: 'embedded', addressFrom: null }

/** Reaches a server in the same process: no socket, but the same tokens, limits and parsing. */
export function handlerTransport(fetch: FetchHandler): Transport {
  const start = async (request: TransportRequest): Promise<Response> => {
    request.signal?.throwIfAborted()
    const init = { method: request.method, headers: request.headers }
    // A Request that is given a signal leaves a listener on it until it is collected: a worker's signal lives as long as the worker.
    const env = { body: request.body ?? '', ...(request.signal ? { signal: request.signal } : {}) }
    const answer = fetch(new Request(`http://embedded${request.path}`, init), env)
    const response = await (request.signal ? orAborted(answer, request.signal) : answer)
    return response
  }
  const headOf = (response: Response) => ({
    status: response.status,
    contentType: response.headers.get('content-type') ?? '',
  })
  return {
    ...TARGET,
    send: async (request) => {
      const response = await start(request)
      return { ...headOf(response), body: await response.text() }
    },
    open: async (request) => {
      const response = await start(request)
      return { ...headOf(response), body: readBody(response, request) }
    },
    close: () => undefined,
  }
}

/** A handler that does not listen to the signal must not hold its caller. */
function orAborted<T>(answer: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    answer.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

async function* readBody(response: Response, request: TransportRequest): AsyncIterable<string> {
  if (!response.body) return
  const decoder = new StringDecoder(request.encoding ?? 'utf8')
  try {
    for await (const chunk of response.body)
      yield decoder.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
  } catch (error) {
    if (request.signal?.aborted) throw request.signal.reason
    if (error instanceof Failure) throw error
    throw unreachable('http', TARGET, `${request.method} ${request.path}`, {}, error)
  }
  request.signal?.throwIfAborted()
}
