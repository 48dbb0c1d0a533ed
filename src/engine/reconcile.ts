import type { HeldAttempt, PollRequest } from '../contract/exchange.ts'
import { findAttemptFates } from '../store/steps/find-steps.ts'
import type { EngineContext } from './context.ts'
import type { WorkerSession } from './sessions.ts'
import { attemptKey, parseStepId, stepIdOf } from './step-id.ts'

/** An assignment that is not in a poll's list is sent again at once on the poll lane, after this long on the report lane. */
const REPORT_LANE_RESEND_MS = 2_000
/** What a worker holds and this server does not know is looked up at most this often. */
const CHECK_HELD_MS = 1_000

const isOutgoing = (session: WorkerSession, lease: HeldAttempt): boolean =>
  session.outgoing.some((a) => a.step === lease.step && a.fence === lease.fence)

/** Compares what the worker says it holds with what it was given: what got lost is sent again, what is no longer its own is stopped. */
export async function reconcile(ctx: EngineContext, session: WorkerSession, request: PollRequest): Promise<void> {
  const now = ctx.clock.monotonic()
  const unknown = session.confirm(request.held)
  // What went out with a report's reply may be younger than this poll.
  const unlisted = session.unlisted(request.held).filter((o) => {
    const sentAt = o.sentAt ?? now
    return o.confirmed || o.lane === 'report' ? now - sentAt >= REPORT_LANE_RESEND_MS : true
  })
  const isCheckDue = now - session.lastCheckedAt >= CHECK_HELD_MS
  const lost = unlisted.filter((o) => !o.confirmed || isCheckDue)
  if (lost.length === 0 && (unknown.length === 0 || !isCheckDue)) return
  if (isCheckDue) session.lastCheckedAt = now
  const addressOf = (h: HeldAttempt) => {
    const a = parseStepId(h.step)
    return a ? [{ ...a, fence: h.fence, session: session.id }] : []
  }
  const addressed = isCheckDue ? unknown.flatMap(addressOf) : []
  const fates = new Map(
    (await findAttemptFates(ctx.db, [...addressed, ...lost.flatMap(addressOf)])).map((f) => [attemptKey(f), f]),
  )
  for (const owned of lost) {
    const [a] = addressOf(owned)
    const fate = a && fates.get(attemptKey(a))
    if (!fate?.mine || fate.state !== 'running') {
      // It ended at another server, or was taken back.
      session.disown(owned.step, owned.fence)
    } else if (!owned.confirmed && owned.assignment && !isOutgoing(session, owned)) {
      owned.lane = 'poll'
      session.outgoing.push(owned.assignment)
      ctx.metrics.count('orrery_assignments_resent_total')
    }
  }
  for (const a of addressed) {
    const fate = fates.get(attemptKey(a))
    const step = stepIdOf(a)
    if (fate?.mine && fate.state === 'running') {
      session.ownSent({ step, fence: a.fence, assignment: null, definition: null, confirmed: true }, now)
      if (fate.stopping) session.order({ step, fence: a.fence, reason: 'run.canceled' })
    } else if (!fate?.mine || fate.state !== 'succeeded') {
      session.order({ step, fence: a.fence, reason: 'attempt.stale_lease' })
    }
  }
}
