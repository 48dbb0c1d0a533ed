import type { Clock } from '../base/clock.ts'

/** What a stream of items looks like on the wire. */
export interface StreamForm<T> {
  item(value: T): string
  /** Sent when nothing else was for a while; null: nothing. */
  heartbeat: string | null
  heartbeatMs: number
  /** After the last item. */
  end(): string
  /** The source failed in the middle: what the reader is told before the end. */
  failed(error: unknown): string
}

/**
 * A body that is pulled: a reader that does not read makes nothing pile up, and one that goes away ends the source. The source
 * is opened with the first pull, so a body that nobody reads costs nothing.
 */
export function streamBody<T>(
  open: (signal: AbortSignal) => AsyncIterable<T>,
  form: StreamForm<T>,
  deps: { clock: Clock; signal: AbortSignal },
): ReadableStream<Uint8Array> {
  const gone = new AbortController()
  const stop = () => gone.abort()
  const encoder = new TextEncoder()
  let source: AsyncIterator<T> | null = null
  let next: Promise<IteratorResult<T>> | null = null

  const finish = () => {
    deps.signal.removeEventListener('abort', stop)
    gone.abort()
    // The source may be in the middle of a wait; nobody is there to be told how it ended.
    void Promise.resolve(source?.return?.()).catch(() => undefined)
  }
  /** The next result, or null when it is time for a heartbeat. */
  const nextOrHeartbeat = async (waiting: Promise<IteratorResult<T>>): Promise<IteratorResult<T> | null> => {
    if (form.heartbeat === null) return waiting
    const timer = new AbortController()
    const heartbeat = deps.clock.sleep(form.heartbeatMs, timer.signal).then(
      () => null,
      () => null,
    )
    try {
      return await Promise.race([waiting, heartbeat])
    } finally {
      timer.abort()
    }
  }

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (source === null) {
          if (deps.signal.aborted) gone.abort()
          else deps.signal.addEventListener('abort', stop, { once: true })
          source = open(gone.signal)[Symbol.asyncIterator]()
        }
        next ??= source.next()
        try {
          const result = await nextOrHeartbeat(next)
          if (result === null) {
            controller.enqueue(encoder.encode(form.heartbeat ?? ''))
            return
          }
          next = null
          if (!result.done) {
            controller.enqueue(encoder.encode(form.item(result.value)))
            return
          }
          if (!gone.signal.aborted) controller.enqueue(encoder.encode(form.end()))
        } catch (error) {
          if (!gone.signal.aborted) controller.enqueue(encoder.encode(form.failed(error)))
        }
        finish()
        controller.close()
      },
      cancel: finish,
    },
    { highWaterMark: 0 },
  )
}
