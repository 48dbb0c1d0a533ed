import { StringDecoder } from 'node:string_decoder'
import { Failure } from '../domain/failure.ts'
import type { Transport, TransportRequest } from './transport.ts'
import { unreachable } from './unreachable.ts'

/** A web-standard handler; body and signal travel beside the request, in memory. */
export type FetchHandler = (request: Request, env?: { body?: string; signal?: AbortSignal }) => Promise<Response>

/** Answers, at once and without the objects of the web, what the server has a shorter way for; null for everything else. */
export type AnswerHere = (
  request: Pick<TransportRequest, 'method' | 'path' | 'headers' | 'body' | 'signal'>,
) => Promise<{ status: number; headers: Readonly<Record<string, string>>; body: unknown }> | null

const TARGET = { address: 'embedded', addressFrom: null }

/** Reaches a server in the same process: no socket, but the same tokens, limits and parsing. */
export function handlerTransport(fetch: FetchHandler, answerHere: AnswerHere = () => null): Transport {
  const start = async (request: TransportRequest): Promise<Response> => {
    request.signal?.throwIfAborted()
    const init = { method: request.method, headers: request.headers }
    // A Request that is given a signal leaves a listener on it until it is collected: a worker's signal lives as long as the worker.
    const env = { body: request.body ?? '', ...(request.signal ? { signal: request.signal } : {}) }
    const answer = fetch(new Request(`http://embedded${request.path}`, init), env)
    return orAborted(answer, request.signal)
  }
  const headOf = (response: Response) => ({
    status: response.status,
    contentType: response.headers.get('content-type') ?? '',
  })
  return {
    ...TARGET,
    send: async (request) => {
      request.signal?.throwIfAborted()
      const short = answerHere(request)
      if (short) {
        const { status, headers, body } = await orAborted(short, request.signal)
        return { status, contentType: headers['content-type'] ?? '', body: typeof body === 'string' ? body : '' }
      }
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
function orAborted<T>(answer: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return answer
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
