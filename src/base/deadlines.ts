import type { Clock } from './clock.ts'

/** Coarse timers that are nearly always taken back: adding and removing one costs no system timer. */
export interface Deadlines {
  /** Calls `onDue` once, up to one grain later than `ms` from now, unless the returned function was called before. */
  add(ms: number, onDue: () => void): () => void
}

const GRAIN_MS = 100

/** One sleeper for all deadlines; it sleeps only while there are any. */
export function createDeadlines(clock: Clock): Deadlines {
  const entries = new Set<{ at: number; onDue: () => void }>()
  let running = false
  const run = async (): Promise<void> => {
    while (entries.size > 0) {
      await clock.sleep(GRAIN_MS)
      const now = clock.monotonic()
      for (const entry of entries) {
        if (entry.at > now) continue
        entries.delete(entry)
        entry.onDue()
      }
    }
    running = false
  }
  return {
    add(ms, onDue) {
      const entry = { at: clock.monotonic() + ms, onDue }
      entries.add(entry)
      if (!running) {
        running = true
        void run()
      }
      return () => void entries.delete(entry)
    },
  }
}
