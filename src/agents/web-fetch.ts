import { once } from '../base/once.ts'
import { Failure } from '../domain/failure.ts'
import type { Reply, SendRequest } from './reply.ts'

/** Loaded when something is first called. */
const undici = once(() => import('undici'))

/** Answers that have no body, not even an empty one. */
const BARE: ReadonlySet<number> = new Set([204, 205, 304])

/** A fetch of what packages send, which is methods, headers and bodies: nothing else that the web knows of a request has an effect. */
export const webFetch =
  (send: SendRequest): typeof globalThis.fetch =>
  async (input, init = {}) => {
    const { method = 'GET', redirect, signal = null } = init
    const { body, type } = await bodyOf(init.body)
    const headers = headersOf(init.headers)
    if (type !== null) headers['content-type'] ??= type
    const url = typeof input === 'string' ? input : input instanceof URL ? input.href : input.url
    const reply = await send(url, {
      method,
      headers,
      body,
      signal,
      redirect: redirect === 'manual' ? redirect : undefined,
    }).catch((cause: unknown) => {
      signal?.throwIfAborted()
      throw cause instanceof Failure ? cause : new TypeError('fetch failed', { cause })
    })
    return responseOf(reply)
  }

/** What is no text is read first: it is rare, and short. */
async function bodyOf(
  given: RequestInit['body'] | undefined,
): Promise<{ body: string | Uint8Array | null; type: string | null }> {
  if (given === null || given === undefined) return { body: null, type: null }
  if (typeof given === 'string') return { body: given, type: 'text/plain;charset=UTF-8' }
  const whole = new Response(given)
  return { body: new Uint8Array(await whole.arrayBuffer()), type: whole.headers.get('content-type') }
}

function headersOf(given: RequestInit['headers']): Record<string, string> {
  if (given instanceof Headers || Array.isArray(given)) return Object.fromEntries(new Headers(given))
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(given ?? {})) headers[name.toLowerCase()] = String(value)
  return headers
}

async function responseOf(reply: Reply): Promise<Response> {
  const { Response: Whole } = await undici()
  const { status, statusText, headers } = reply
  if (BARE.has(status)) reply.discard()
  const body = BARE.has(status) ? null : streamOf(reply)
  // The package is the implementation of the platform's own.
  return new Whole(body, { status, statusText, headers }) as unknown as Response
}

function streamOf({ body, discard }: Reply): ReadableStream<Uint8Array> {
  const chunks = body[Symbol.asyncIterator]()
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const next = await chunks.next()
        if (next.done === true) controller.close()
        else controller.enqueue(next.value)
      },
      cancel: discard,
    },
    { highWaterMark: 0 },
  )
}
