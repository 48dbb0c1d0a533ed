import type { Anything } from '../domain/advance/happenings.ts'
import { failureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { findMissingApprovals } from '../store/approvals/approvals.ts'
import { closeCallApprovals, findForgottenCalls } from '../store/approvals/call-approvals.ts'
import {
  findEndedChildren,
  findOverdue,
  findStops,
  forgetDeadlines,
  forgetStops,
  markTold,
} from '../store/runs/child-runs.ts'
import { endOfChild } from './children.ts'
import type { EngineContext } from './context.ts'
import type { Settler } from './settler.ts'

/**
 * What runs are owed as a whole: that their time is over, that a run below has ended, that nobody waits for them any more, that an
 * approval is asked for again. Each is bounded and safe twice and from several servers at once: what was done is marked after it.
 * Each says whether there may be more.
 */
export class RunTicks {
  readonly #ctx: EngineContext
  readonly #settler: Settler

  constructor(ctx: EngineContext, settler: Settler) {
    this.#ctx = ctx
    this.#settler = settler
  }

  async stopOverdue(): Promise<boolean> {
    const ids = await findOverdue(this.#ctx.db, LIMITS.tickItemsMax)
    const done = await this.#settleEach(ids, () => [{ type: 'stop', why: 'timeout' }])
    if (done.length > 0) await forgetDeadlines(this.#ctx.db, done)
    return done.length === LIMITS.tickItemsMax
  }

  async tellParents(): Promise<boolean> {
    const ended = await findEndedChildren(this.#ctx.db, LIMITS.tickItemsMax)
    const byParent = Map.groupBy(ended, (child) => child.parent_run)
    const happenings = new Map<string, Anything[]>()
    for (const [parent, children] of byParent)
      happenings.set(parent, await Promise.all(children.map((child) => endOfChild(this.#ctx, child))))
    const done = await this.#settleEach([...byParent.keys()], (parent) => happenings.get(parent) ?? [])
    const told = done.flatMap((parent) => byParent.get(parent)?.map((child) => child.id) ?? [])
    if (told.length > 0) await markTold(this.#ctx.db, told)
    return told.length === LIMITS.tickItemsMax
  }

  async stopOrphans(): Promise<boolean> {
    const ids = await findStops(this.#ctx.db, LIMITS.tickItemsMax)
    const done = await this.#settleEach(ids, () => [{ type: 'stop', why: 'cancel' }])
    if (done.length > 0) await forgetStops(this.#ctx.db, done)
    return done.length === LIMITS.tickItemsMax
  }

  /** Approvals that steps wait for and that are not there. */
  async askAgain(): Promise<void> {
    const missing = await findMissingApprovals(this.#ctx.db, LIMITS.tickItemsMax)
    if (missing.length === 0) return
    const { code } = failureRecord('approval.missing', 'looking at what waits for approvals')
    this.#ctx.log.warn('approvals asked for again', { code, steps: missing.length })
    const byRun = Map.groupBy(missing, (m) => m.runId)
    await this.#settleEach([...byRun.keys()], (run) =>
      (byRun.get(run) ?? []).map(({ node, path }) => ({ type: 'approval_missing', node, path })),
    )
  }

  /** Approvals of calls whose steps have ended. */
  async closeForgotten(): Promise<void> {
    const forgotten = await findForgottenCalls(this.#ctx.db, LIMITS.tickItemsMax)
    if (forgotten.length > 0) await closeCallApprovals(this.#ctx.db, forgotten)
  }

  /** Those that could be settled; one that fails is told of in the log and comes again. */
  async #settleEach(ids: readonly string[], happeningsOf: (id: string) => Anything[]): Promise<string[]> {
    const done: string[] = []
    for (const id of ids) if (await this.#settler.settle(new Map([[id, happeningsOf(id)]]))) done.push(id)
    return done
  }
}
