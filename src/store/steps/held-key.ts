/**
 * Names an attempt as one session speaks of it. Two lives of a worker may speak of one attempt, the former life and the one that
 * adopted it, and only one of them holds it.
 */
export const heldKey = (a: { session: string; runId: string; node: number; path: string; fence: number }): string =>
  `${a.session} ${a.runId}.${a.node}.${a.path}@${a.fence}`
