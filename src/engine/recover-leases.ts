import { findHeld, findLeaseKeys } from '../store/steps/find-steps.ts'
import type { EngineContext } from './context.ts'
import type { Dispatcher } from './dispatcher.ts'
import { stepIdOf } from './step-id.ts'

/** Younger leases are on their way through this server. */
const YOUNG_MS = 2_000

/**
 * Steps that the store says are leased to sessions of this server, and that it does not know: the answer of the statement that
 * leased them was lost, or the server that leased them ended before it had sent them. They are sent as if just leased; a worker
 * that has one already passes it over. The other way round, what has ended at another server, or was taken back because its
 * deadline was over, holds no slot any more, and its worker is told to stop should it still be at it. Gives how many leases were
 * found.
 */
export async function recoverLeases(ctx: EngineContext, dispatcher: Dispatcher): Promise<number> {
  const sessions = [...dispatcher.workers.sessions()].filter((s) => !s.ended)
  if (sessions.length === 0) return 0
  // What ends while the store is asked is not unknown: it was known before.
  const before = new Map(sessions.map((s) => [s.id, new Set(s.owned.keys())]))
  const isUnknown = (h: { runId: string; node: number; path: string; fence: number; session: string }) => {
    const key = `${stepIdOf(h)}@${h.fence}`
    return before.get(h.session)?.has(key) === false && dispatcher.workers.get(h.session)?.owned.has(key) === false
  }
  const asOf = ctx.clock.monotonic()
  const keys = await findLeaseKeys(ctx.db, { sessions: sessions.map((s) => s.id), olderThanMs: YOUNG_MS })
  const leased = new Map(keys.map((k) => [`${k.session} ${stepIdOf(k)}@${k.fence}`, k]))
  for (const session of sessions) {
    for (const [key, owned] of [...session.owned]) {
      const { step, fence, ownedAt } = owned
      const lease = leased.get(`${session.id} ${key}`)
      // It may have told another server only.
      if (lease?.begun) owned.confirmed = true
      // What this server has known for longer is old enough for the store to have named it.
      if (lease || asOf - ownedAt <= YOUNG_MS) continue
      session.disown(step, fence)
      session.order({ step, fence, reason: 'attempt.stale_lease' })
    }
  }
  const unknown = new Set(keys.filter(isUnknown).map((h) => `${stepIdOf(h)}@${h.fence}`))
  if (unknown.size === 0) return 0
  const of = [...new Set(keys.filter(isUnknown).map((h) => h.session))]
  const held = (await findHeld(ctx.db, of)).filter((h) => unknown.has(`${stepIdOf(h)}@${h.fence}`) && isUnknown(h))
  ctx.log.warn('leases found that nobody sent', { steps: held.length, sessions: of })
  ctx.metrics.count('orrery_leases_recovered_total', held.length)
  await dispatcher.hand(held)
  for (const id of of) dispatcher.workers.get(id)?.wake()
  return held.length
}
