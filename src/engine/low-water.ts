/**
 * How far down a session's claims need to look. What was claimed leaves dead entries in the queue's index, and while an old snapshot is
 * held nothing cleans them: without a mark each claim would wade through all of them again. Whoever queues something says of which run, and
 * that lowers the mark. What another server queued may be claimed around a moment before its word comes, so a mark counts only when it is a little old.
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

  /** Steps of this run, and perhaps of later ones, may be queued again. */
  lower(runId: string): void {
    for (const mark of this.#marks.values()) {
      if (runId < mark.older) mark.older = runId
      if (runId < mark.newer) mark.newer = runId
    }
  }

  /** Something older may be queued again, and nobody knows of which run. */
  reset(): void {
    this.#marks.clear()
  }
}
