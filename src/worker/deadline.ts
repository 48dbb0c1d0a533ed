import { deferred, type Deadlines } from '../base/index.ts'

/**
 * Calls the server with a limit: a request that a proxy swallowed counts as cut after `ms`. Rejects as soon as `signal` aborts,
 * also when the lane does not listen to it.
 */
export async function withDeadline<T>(
  deadlines: Deadlines,
  options: { ms: number; signal: AbortSignal },
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  options.signal.throwIfAborted()
  const request = new AbortController()
  const cut = deferred<never>()
  const end = (reason: Error) => {
    cut.reject(reason)
    request.abort(reason)
  }
  const onAbort = () => end(options.signal.reason as Error)
  options.signal.addEventListener('abort', onAbort, { once: true })
  const cancel = deadlines.add(options.ms, () => end(new Error(`no answer within ${options.ms} ms`)))
  try {
    return await Promise.race([call(request.signal), cut.promise])
  } finally {
    cancel()
    options.signal.removeEventListener('abort', onAbort)
  }
}
