/** Edits needed to turn `a` into `b` (Levenshtein, two rows). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      next[j] = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + cost)
    }
    row = next
  }
  return row[b.length] ?? 0
}

/** The candidate that a person most likely meant, or null when none is near. A difference in letter case counts as nearest. */
export function nearest(text: string, candidates: readonly string[]): string | null {
  const short = text.slice(0, 64)
  let best: { candidate: string; cost: number } | null = null
  for (const candidate of candidates.slice(0, 500)) {
    const cost = candidate.toLowerCase() === short.toLowerCase() ? 0 : distance(short, candidate.slice(0, 64))
    if (cost <= Math.max(2, Math.floor(short.length / 3)) && (best === null || cost < best.cost))
      best = { candidate, cost }
  }
  return best?.candidate ?? null
}
