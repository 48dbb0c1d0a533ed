import type { Happening } from '../domain/advance.ts'
import { failureRecord } from '../domain/failure.ts'
import type { FailureCode } from '../domain/failures.ts'
import { LIMITS } from '../domain/limits.ts'
import { findProgress, findStill, rearmSteps } from '../store/runs/read-runs.ts'
import { endSessions, findLiveOnHost, sweepSessions, tickSessions } from '../store/sessions/sessions.ts'
import { findDue, findOrphans, findStopping } from '../store/steps/find-steps.ts'
import { pruneIdempotencyKeys, vacuumEmbedded } from '../store/upkeep.ts'
import type { EngineContext } from './context.ts'
import type { Dispatcher } from './dispatcher.ts'
import { settleRun } from './settle.ts'
import { stepIdOf } from './step-id.ts'

const UPKEEP_MS = 60_000
const STILL_PAGE = 200

/**
 * What keeps time: renews leases, sweeps the sessions of the dead, requeues what they held, looks at what is due, tells workers of
 * cancels. Bounded, safe twice and from several servers at once. At rest it is one statement a second.
 */
export class Ticker {
  readonly #ctx: EngineContext
  readonly #dispatcher: Dispatcher
  /** Monotonic ms since which every tick reached the store; null while it does not. */
  #steadySince: number | null = null
  #lastUpkeep: number
  #lastStill: number
  #stillCursor = ''
  #hasLookedAround = false
  /** Live servers at the last tick, this one included. */
  servers = 1

  constructor(ctx: EngineContext, dispatcher: Dispatcher) {
    this.#ctx = ctx
    this.#dispatcher = dispatcher
    this.#lastUpkeep = ctx.clock.monotonic()
    this.#lastStill = this.#lastUpkeep
  }

  /** One round. Gives how long the next one may wait, in ms. */
  async tick(): Promise<number> {
    const { ctx } = this
    const sessions = [...this.#dispatcher.sessions()]
    const seen = sessions.filter((s) => s.seen)
    for (const s of seen) s.seen = false
    let row
    try {
      row = await tickSessions(ctx.db, {
        server: ctx.serverId,
        version: ctx.version,
        address: ctx.address,
        seen: seen.map((s) => ({ session: s.id, held: s.owned.size, draining: s.draining })),
        known: sessions.map((s) => s.id),
        leaseMs: ctx.times.leaseMs,
      })
    } catch (error) {
      this.#steadySince = null
      for (const s of seen) s.seen = true
      throw error
    }
    const now = ctx.clock.monotonic()
    this.#steadySince ??= now
    this.servers = row.servers
    for (const id of row.gone) this.#dispatcher.forget(id)
    let hasOrphans = row.hasOrphans
    if (await this.#endDeadNeighbours()) hasOrphans = true
    // After an outage nobody could renew: workers get one whole lease to be heard before anyone is called lost.
    if (row.expired.length > 0 && now - this.#steadySince >= ctx.times.leaseMs) {
      const swept = await sweepSessions(ctx.db, row.expired)
      for (const id of swept) this.#dispatcher.forget(id)
      if (swept.length > 0) {
        ctx.log.warn('worker sessions lost', { sessions: swept })
        ctx.metrics.count('orrery_sessions_lost_total', swept.length)
        hasOrphans = true
      }
    }
    let more = hasOrphans && (await this.#requeueOrphans())
    if (row.dueInMs !== null && row.dueInMs <= 0) more = (await this.#lookAtDue()) || more
    await this.#tellStopping()
    await this.#requeueUnacknowledged(now)
    if (row.hasQueued) this.#dispatcher.hintAll([...ctx.queues.all().keys()])
    await this.#dispatcher.pump()
    if (now - this.#lastStill >= Math.min(ctx.times.stallMs, UPKEEP_MS)) await this.#lookAtStill(now)
    if (now - this.#lastUpkeep >= UPKEEP_MS) await this.#upkeep(now)
    if (more) return 0
    return Math.max(
      0,
      Math.min(ctx.times.tickMs, row.dueInMs !== null && row.dueInMs > 0 ? Math.ceil(row.dueInMs) : ctx.times.tickMs),
    )
  }

  get ctx(): EngineContext {
    return this.#ctx
  }

  /** Sessions of this very host whose process is gone: no need to wait for their lease. */
  async #endDeadNeighbours(): Promise<boolean> {
    const known = [...this.#dispatcher.sessions()].filter((s) => s.host === this.#ctx.host)
    // At the first tick also those that only the store knows: what was left when this host's processes were killed.
    const stored = this.#hasLookedAround
      ? []
      : (await findLiveOnHost(this.#ctx.db, this.#ctx.host)).map((s) => ({
          id: s.id,
          pid: s.pid,
          pidStart: s.pid_start,
        }))
    this.#hasLookedAround = true
    const dead = [...known, ...stored].filter((s) => this.#ctx.isAlive(s.pid, s.pidStart) === false)
    return dead.length > 0 && this.endDead(dead.map((s) => s.id))
  }

  /** Ends sessions whose process is known to be gone. True when any was live. */
  async endDead(ids: string[]): Promise<boolean> {
    const ended = await endSessions(this.#ctx.db, ids, 'worker.lost')
    for (const id of ids) this.#dispatcher.forget(id)
    if (ended.length > 0) {
      this.#ctx.log.warn('worker process is gone', { sessions: ended })
      this.#ctx.metrics.count('orrery_sessions_lost_total', ended.length)
    }
    return ended.length > 0
  }

  async #requeueOrphans(): Promise<boolean> {
    const orphans = await findOrphans(this.#ctx.db, LIMITS.tickItemsMax)
    const byRun = new Map<string, Happening[]>()
    for (const o of orphans) {
      const code: FailureCode = o.code === 'worker.restarted' ? 'worker.restarted' : 'worker.lost'
      const happening: Happening =
        o.code === 'worker.left'
          ? { type: 'attempt_returned', node: o.node, path: o.path, fence: o.fence, session: o.session }
          : {
              type: 'attempt_lost',
              node: o.node,
              path: o.path,
              fence: o.fence,
              session: o.session,
              failure: failureRecord(code, `running on worker ${o.worker}`, {
                evidence: { worker: o.worker, session: o.session },
              }),
            }
      byRun.set(o.runId, [...(byRun.get(o.runId) ?? []), happening])
    }
    await this.#settleAll(byRun)
    return orphans.length === LIMITS.tickItemsMax
  }

  async #lookAtDue(): Promise<boolean> {
    const due = await findDue(this.#ctx.db, LIMITS.tickItemsMax)
    const byRun = new Map<string, Happening[]>()
    for (const { runId, node, path } of due)
      byRun.set(runId, [...(byRun.get(runId) ?? []), { type: 'due', node, path }])
    const queuedTooLong = await this.#settleAll(byRun)
    return due.length === LIMITS.tickItemsMax && queuedTooLong
  }

  /** Settles runs one by one; one that fails does not stop the others. False when none could be settled. */
  async #settleAll(byRun: ReadonlyMap<string, Happening[]>): Promise<boolean> {
    let settledAny = false
    for (const [runId, happenings] of byRun) {
      try {
        const settled = await settleRun(this.#ctx, runId, happenings)
        settledAny = true
        this.#dispatcher.hint(settled?.queued ?? [], { old: true })
        if (settled?.ended) this.#ctx.metrics.count('orrery_runs_ended_total', 1, { state: settled.ended })
      } catch (error) {
        this.#ctx.log.error('run could not be settled', {
          runId,
          error: error instanceof Error ? (error.stack ?? error.message) : String(error),
        })
        this.#ctx.metrics.count('orrery_settle_errors_total')
      }
    }
    return settledAny
  }

  /** Tells the sessions of this server which of their attempts belong to runs that are being stopped. */
  async #tellStopping(): Promise<void> {
    const busy = [...this.#dispatcher.sessions()].filter((s) => s.owned.size > 0)
    if (busy.length === 0) return
    for (const s of await findStopping(
      this.#ctx.db,
      busy.map((b) => b.id),
    )) {
      this.#dispatcher.get(s.session)?.order({ step: stepIdOf(s), fence: s.fence, reason: 'run.canceled' })
    }
  }

  /** Assignments that a live worker never confirmed: fenced and given to another. */
  async #requeueUnacknowledged(now: number): Promise<void> {
    for (const session of [...this.#dispatcher.sessions()]) {
      for (const owned of [...session.owned.values()]) {
        if (owned.confirmed || owned.firstSentAt === null || now - owned.firstSentAt < this.#ctx.times.acknowledgeMs)
          continue
        const [runId = '', node = '', path = ''] = owned.step.split('.')
        session.disown(owned.step, owned.fence)
        const failure = failureRecord(
          'attempt.never_acknowledged',
          `assigning ${owned.step} to worker ${session.worker}`,
          {
            evidence: { worker: session.worker, waitedMs: Math.round(now - owned.firstSentAt) },
          },
        )
        await this.#settleAll(
          new Map([
            [
              runId,
              [{ type: 'attempt_lost', node: Number(node), path, fence: owned.fence, session: session.id, failure }],
            ],
          ]),
        )
      }
    }
  }

  /** Runs in which nothing moved for long: what could run and was forgotten is armed again, and noted. Never silent. */
  async #lookAtStill(now: number): Promise<void> {
    this.#lastStill = now
    const page = await findStill(this.#ctx.db, {
      stillMs: this.#ctx.times.stallMs,
      after: this.#stillCursor,
      limit: STILL_PAGE,
    })
    this.#stillCursor = page.length === STILL_PAGE ? (page.at(-1)?.id ?? '') : ''
    for (const run of page) {
      const armed = await rearmSteps(this.#ctx.db, run.id)
      if (armed.length === 0) continue
      this.#ctx.log.warn('stalled run armed again', { runId: run.id, steps: armed.length })
      this.#ctx.metrics.count('orrery_runs_rearmed_total')
      await this.#settleAll(new Map([[run.id, armed.map((a) => ({ type: 'due' as const, ...a }))]]))
    }
  }

  async #upkeep(now: number): Promise<void> {
    this.#lastUpkeep = now
    await pruneIdempotencyKeys(this.#ctx.db, LIMITS.idempotencyMs, LIMITS.tickItemsMax)
    await this.#ctx.queues.refresh()
    if (this.#ctx.db.kind === 'pglite') await vacuumEmbedded(this.#ctx.db)
  }

  /** Wakes those who wait here for runs that another server moves. */
  async lookAtWatched(seen: Map<string, number>): Promise<void> {
    const watched = this.#ctx.watch.watched()
    for (const id of [...seen.keys()]) if (!watched.includes(id)) seen.delete(id)
    if (watched.length === 0) return
    for (const p of await findProgress(this.#ctx.db, watched)) {
      if (seen.get(p.id) !== p.seq) this.#ctx.watch.notify(p.id)
      seen.set(p.id, p.seq)
    }
  }
}
