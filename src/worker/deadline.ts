import type { Clock } from '../base/index.ts'

/**
 * Calls the server with a limit: a request that a proxy swallowed counts as cut after `ms`. Rejects as soon as `signal` aborts,
 * also when the lane does not listen to it.
 */
export async function withDeadline<T>(
  clock: Clock,
  options: { ms: number; signal: AbortSignal },
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  options.signal.throwIfAborted()
  const request = new AbortController()
  const timer = new AbortController()
  const onAbort = () => request.abort(options.signal.reason)
  options.signal.addEventListener('abort', onAbort, { once: true })
  const cut = new Promise<never>((_, reject) => {
    request.signal.addEventListener('abort', () => reject(request.signal.reason as Error), { once: true })
  })
  clock.sleep(options.ms, timer.signal).then(
    () => request.abort(new Error(`no answer within ${options.ms} ms`)),
    () => {},
  )
  try {
    return await Promise.race([call(request.signal), cut])
  } finally {
    timer.abort()
    options.signal.removeEventListener('abort', onAbort)
  }
}
