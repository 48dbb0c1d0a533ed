/**
 * How far down a session's claims need to look. What was claimed leaves dead entries in the queue's index, and while an old snapshot is
 * held nothing cleans them: without a mark each claim would wade through all of them again. A run's row may become visible a
 * moment after one with a higher id was claimed, so a mark counts only when it is some seconds old.
 */
export class LowWater {
  readonly #lagMs: number
  readonly #marks = new Map<string, { older: string; newer: string; since: number }>()

  constructor(lagMs: number) {
    this.#lagMs = lagMs
  }

  /** Nothing queued for this session is older than this run id. */
  from(session: string): string {
    return this.#marks.get(session)?.older ?? ''
  }

  /** The session claimed up to this run. */
  claimed(session: string, runId: string, now: number): void {
    const mark = this.#marks.get(session)
    if (!mark) this.#marks.set(session, { older: '', newer: runId, since: now })
    else if (now - mark.since >= this.#lagMs) this.#marks.set(session, { older: mark.newer, newer: runId, since: now })
  }

  forget(session: string): void {
    this.#marks.delete(session)
  }

  /** Something older may be queued again. */
  reset(): void {
    this.#marks.clear()
  }
}
