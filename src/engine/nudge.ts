import type { Nudged } from '../contract/api-types.ts'
import type { Anything } from '../domain/advance/happenings.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { findMissingApprovals } from '../store/approvals/approvals.ts'
import { listEvents } from '../store/events/events.ts'
import { findProgress, findRun } from '../store/runs/read-runs.ts'
import { findDueOf } from '../store/steps/find-steps.ts'
import type { EngineContext } from './context.ts'
import type { Caller } from './engine.ts'
import { rearmRun } from './rearm-run.ts'
import { type Settled, settleRun } from './settle.ts'
import { reach } from './visible.ts'

/**
 * Looks at a live run as if everything in it were due that can be: arms what was forgotten, asks again for approvals that are gone,
 * and settles. Harmless: what need not move stays. Gives what moved; an ended run is refused with `run.finished`.
 */
export async function nudgeRun(
  ctx: EngineContext,
  caller: Caller,
  runId: string,
): Promise<{ changed: Nudged['changed']; settled: Settled | null }> {
  const row = await findRun(ctx.db, runId, reach(caller))
  if (!row) throw new Failure('run.not_found', `looking for run ${runId}`)
  if (row.ended_at !== null)
    throw new Failure('run.finished', `nudging run ${runId}`, { evidence: { state: row.state } })
  const before = (await findProgress(ctx.db, [runId]))[0]?.seq ?? 0
  await rearmRun(ctx, row)
  const due = await findDueOf(ctx.db, { runId, limit: LIMITS.tickItemsMax })
  const missing = (await findMissingApprovals(ctx.db, LIMITS.tickItemsMax)).filter((m) => m.runId === runId)
  const happenings: Anything[] = [
    ...due.map(({ node, path }) => ({ type: 'due' as const, node, path })),
    ...missing.map(({ node, path }) => ({ type: 'approval_missing' as const, node, path })),
  ]
  const settled = happenings.length > 0 ? await settleRun(ctx, runId, happenings) : null
  const events = await listEvents(ctx.db, runId, before, LIMITS.eventsMax)
  const moved = events.flatMap((e) => e.changes.map(({ of, to }) => ({ of, to })))
  const asked = missing.map((m) => ({ of: `${m.node}`, to: 'asked again for its approval' }))
  return { changed: [...moved, ...asked], settled }
}
