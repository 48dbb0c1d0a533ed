/** Newest runs whose trace is remembered; for older ones the lines of a log fall back to the run's own trace. */
const REMEMBERED_MAX = 10_000
const given = new Map<string, string>()

/** Remembers, for the log lines about it, that a run belongs to a trace that its request came with. */
export function rememberRunTrace(runId: string, traceparent: string): void {
  if (given.size >= REMEMBERED_MAX) for (const oldest of given.keys()) if (given.delete(oldest)) break
  given.set(runId, traceparent)
}

/** The `traceparent` that a run came with, as far as this process knows; null when its trace is its own. */
export const givenTraceOf = (runId: string): string | null => given.get(runId) ?? null
