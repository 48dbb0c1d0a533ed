/** A signal that aborts with another one, or earlier. What `AbortSignal.any` gives costs several times as much, and each call of a model or a tool needs one. */
export interface LinkedAbort {
  readonly signal: AbortSignal
  abort(reason: Error): void
  /** What it was for is over: whatever still listens ends, and the other signal forgets this one. */
  end(): void
}

/** One for all: whoever hears it has nobody to tell it to. */
const OVER = new Error('what it was done for is over')

/** `onAbort` is told why it aborts, at once when the other one has aborted already; its end is no abort. */
export function linkedAbort(outer: AbortSignal, onAbort?: (reason: unknown) => void): LinkedAbort {
  const own = new AbortController()
  const abort = (reason: unknown): void => {
    if (own.signal.aborted) return
    onAbort?.(reason)
    own.abort(reason)
  }
  const onOuter = (): void => abort(outer.reason)
  if (outer.aborted) onOuter()
  else outer.addEventListener('abort', onOuter)
  return {
    signal: own.signal,
    abort,
    end() {
      outer.removeEventListener('abort', onOuter)
      own.abort(OVER)
    },
  }
}
