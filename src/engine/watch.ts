import type { Deadlines } from '../base/deadlines.ts'

/** Wakes those who wait for a run on this server. A wake is a hint: whoever wakes reads the store. */
export interface Watch {
  /** Resolves when the run moved, after `maxMs`, or when the signal aborts. */
  wait(runId: string, maxMs: number, signal: AbortSignal): Promise<void>
  /** The same, but only the run's end wakes it. */
  waitEnd(runId: string, maxMs: number, signal: AbortSignal): Promise<void>
  /** A run that was created here: what becomes of it is remembered for a while, so that its creator need not ask. */
  expect(runId: string): void
  /** What is remembered of a run; null when nothing is. */
  peek(runId: string): 'open' | 'ended' | null
  /** Runs that somebody waits for. */
  watched(): string[]
  notify(runId: string): void
  notifyEnded(runId: string): void
}

/** Half of the runs remembered at most; of an older one the store is asked. */
const GENERATION_MAX = 25_000

export function createWatch(deadlines: Deadlines): Watch {
  const moved = new Map<string, Set<() => void>>()
  const ended = new Map<string, Set<() => void>>()
  // Two generations: throwing the older half away costs nothing, taking the oldest out of a full map one by one does.
  let young = new Map<string, 'open' | 'ended'>()
  let old = new Map<string, 'open' | 'ended'>()

  const wait = (
    waiters: Map<string, Set<() => void>>,
    runId: string,
    maxMs: number,
    signal: AbortSignal,
  ): Promise<void> =>
    new Promise((resolve) => {
      if (signal.aborted) return resolve()
      const set = waiters.get(runId) ?? new Set()
      waiters.set(runId, set)
      const wake = () => {
        set.delete(wake)
        if (set.size === 0 && waiters.get(runId) === set) waiters.delete(runId)
        cancel()
        signal.removeEventListener('abort', wake)
        resolve()
      }
      const cancel = deadlines.add(maxMs, wake)
      set.add(wake)
      signal.addEventListener('abort', wake, { once: true })
    })
  const wakeAll = (waiters: Map<string, Set<() => void>>, runId: string): void => {
    for (const wake of waiters.get(runId) ?? []) wake()
  }

  return {
    wait: (runId, maxMs, signal) => wait(moved, runId, maxMs, signal),
    waitEnd: (runId, maxMs, signal) => wait(ended, runId, maxMs, signal),
    expect(runId) {
      if (young.size >= GENERATION_MAX) {
        old = young
        young = new Map()
      }
      young.set(runId, 'open')
    },
    peek: (runId) => young.get(runId) ?? old.get(runId) ?? null,
    watched: () => [...new Set([...moved.keys(), ...ended.keys()])],
    notify: (runId) => wakeAll(moved, runId),
    notifyEnded(runId) {
      if (young.has(runId)) young.set(runId, 'ended')
      else if (old.has(runId)) old.set(runId, 'ended')
      wakeAll(moved, runId)
      wakeAll(ended, runId)
    },
  }
}
