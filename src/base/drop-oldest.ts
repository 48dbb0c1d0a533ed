/** Lets go of what was put in first, until no more than `max` are kept. */
export function dropOldest(kept: Map<string, unknown>, max: number): void {
  for (const oldest of kept.keys()) {
    if (kept.size <= max) return
    kept.delete(oldest)
  }
}
