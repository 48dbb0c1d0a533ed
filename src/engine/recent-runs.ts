const KEPT_MAX = 50_000

/** The last few thousand runs of some kind, by id. What was forgotten costs time, never correctness. */
export class RecentRuns {
  readonly #ids = new Set<string>()

  add(id: string): void {
    this.#ids.add(id)
    if (this.#ids.size <= KEPT_MAX) return
    const [oldest] = this.#ids
    if (oldest !== undefined) this.#ids.delete(oldest)
  }

  /** Whether it was known; from now on it is not. */
  take(id: string): boolean {
    return this.#ids.delete(id)
  }
}
