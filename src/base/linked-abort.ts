/** A signal that aborts with another one, or earlier. What `AbortSignal.any` gives costs several times as much, and each call of a model or a tool needs one. */
export interface LinkedAbort {
  readonly signal: AbortSignal
  abort(reason: Error): void
  /** What it was for is over: whatever still listens ends, and the other signal forgets this one. */
  end(): void
}

/** One for all: whoever hears it has nobody to tell it to. */
const OVER = new Error('what it was done for is over')

export function linkedAbort(outer: AbortSignal): LinkedAbort {
  const own = new AbortController()
  const onAbort = (): void => own.abort(outer.reason)
  if (outer.aborted) onAbort()
  else outer.addEventListener('abort', onAbort)
  return {
    signal: own.signal,
    abort: (reason) => own.abort(reason),
    end() {
      outer.removeEventListener('abort', onAbort)
      own.abort(OVER)
    },
  }
}
