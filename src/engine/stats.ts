import { LIMITS } from '../domain/limits.ts'
import { countSteps, type StepCount } from '../store/steps/count-steps.ts'
import type { EngineContext } from './context.ts'
import type { Dispatcher } from './dispatcher.ts'

/** What a server knows of its load. */
export interface EngineStats {
  /** Workers that speak to this server. */
  sessions: number
  slots: { free: number; busy: number }
  /** Of the whole store; null when it could not be asked. */
  steps: StepCount[] | null
}

/** Younger counts than this are given again: a scraper that is impatient, or several of them, cost no statements. */
const FRESH_MS = 5_000

export function createStats(ctx: EngineContext, dispatcher: Dispatcher): () => Promise<EngineStats> {
  let counted: { at: number; steps: Promise<StepCount[] | null> } | null = null
  return async () => {
    const now = ctx.clock.monotonic()
    if (counted === null || now - counted.at >= FRESH_MS)
      counted = { at: now, steps: countSteps(ctx.db, LIMITS.stepsCountedMax).catch(() => null) }
    const stats = { sessions: 0, slots: { free: 0, busy: 0 } }
    for (const session of dispatcher.workers.sessions()) {
      stats.sessions += 1
      stats.slots.free += session.free
      stats.slots.busy += session.owned.size
    }
    return { ...stats, steps: await counted.steps }
  }
}
