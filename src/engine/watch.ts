/** Wakes those who wait for a run on this server. A wake is a hint: whoever wakes reads the store. */
export interface Watch {
  /** Resolves when the run moved, after `maxMs`, or when the signal aborts. */
  wait(runId: string, maxMs: number, signal: AbortSignal): Promise<void>
  /** Runs that somebody waits for. */
  watched(): string[]
  notify(runId: string): void
}

export function createWatch(sleep: (ms: number, signal: AbortSignal) => Promise<void>): Watch {
  const waiters = new Map<string, Set<() => void>>()
  return {
    async wait(runId, maxMs, signal) {
      const stop = new AbortController()
      const woken = new Promise<void>((resolve) => {
        const set = waiters.get(runId) ?? new Set()
        waiters.set(runId, set)
        set.add(resolve)
        stop.signal.addEventListener('abort', () => {
          set.delete(resolve)
          if (set.size === 0) waiters.delete(runId)
        })
      })
      try {
        await Promise.race([woken, sleep(maxMs, AbortSignal.any([signal, stop.signal])).catch(() => {})])
      } finally {
        stop.abort()
      }
    },
    watched: () => [...waiters.keys()],
    notify(runId) {
      for (const wake of waiters.get(runId) ?? []) wake()
    },
  }
}
