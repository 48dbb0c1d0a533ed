import type { Random } from './random.ts'

export interface BackoffPolicy {
  initialMs: number
  maxMs: number
  factor: number
  /** Share of the delay that is left to chance, 0 to 1. */
  jitter: number
}

/** The delay before try `n` (1 = the first retry). */
export function backoffMs(policy: BackoffPolicy, n: number, random: Random): number {
  const full = Math.min(policy.maxMs, policy.initialMs * policy.factor ** Math.max(0, n - 1))
  return Math.round(full * (1 - policy.jitter * random.next()))
}
