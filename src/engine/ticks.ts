import type { Happening } from '../domain/advance/happenings.ts'
import { failureRecord, type FailureRecord } from '../domain/failure.ts'
import type { FailureCode } from '../domain/failures.ts'
import { LIMITS } from '../domain/limits.ts'
import { pruneArtifacts } from '../store/artifacts/artifacts.ts'
import { sweepBlobs } from '../store/artifacts/blobs.ts'
import { pruneCalls, pruneExpired, pruneOfRuns } from '../store/memory/prune-memories.ts'
import { findProgress, findStill } from '../store/runs/read-runs.ts'
import { endSessions, findLiveOnHost, markEmptied, sweepSessions, tickSessions } from '../store/sessions/sessions.ts'
import { findDue, findHeldKinds, findOrphans, findStopping, FIRST_DUE, FIRST_STEP } from '../store/steps/find-steps.ts'
import { pruneAudit } from '../store/audit/audit.ts'
import { pruneTombstones } from '../store/resources/resource-clock.ts'
import { markUsed } from '../store/tokens/tokens.ts'
import { pruneIdempotencyKeys, vacuumEmbedded } from '../store/upkeep.ts'
import type { EngineContext } from './context.ts'
import type { Dispatcher } from './dispatcher.ts'
import { dispatchReason } from './reasons.ts'
import { rearmRun } from './rearm-run.ts'
import { recoverLeases } from './recover-leases.ts'
import type { RefusedTokens } from './refused-tokens.ts'
import { RunTicks } from './run-ticks.ts'
import { Settler } from './settler.ts'
import { Steadiness } from './steadiness.ts'
import { stepIdOf } from './step-id.ts'
import type { TokenCache } from './token-cache.ts'

const UPKEEP_MS = 60_000
const STILL_PAGE = 200
/** Each may have thousands of entries. */
const MEMORIES_OF_RUNS_MAX = 50
/** Each may be hundreds of megabytes. */
const SWEPT_BLOBS_MAX = 20
/** An assignment in a report's reply that is not confirmed for this long is sent again to the parked poll. */
const RESEND_MS = 2_000
/** After this a lease whose answer was lost is old enough to be told from one that is on its way. */
const RECOVER_SOON_MS = 2_500

/**
 * What keeps time: renews leases, sweeps the sessions of the dead, requeues what they held, looks at what is due, tells workers of
 * cancels. Bounded, safe twice and from several servers at once. At rest it is one statement a second.
 */
export class Ticker {
  readonly #ctx: EngineContext
  readonly #dispatcher: Dispatcher
  readonly #tokens: TokenCache
  readonly #refused: RefusedTokens
  readonly #settler: Settler
  readonly #runs: RunTicks
  readonly #steadiness: Steadiness
  #lastUpkeep: number
  #lastStill: number
  #stillCursor = ''
  #dueAfter = FIRST_DUE
  #orphansAfter = FIRST_STEP
  /** Monotonic ms at which leases are compared with the store's. */
  #recoverAt: number
  #hasLookedAround = false
  /** Live servers at the last tick, this one included. */
  servers = 1
  /** For how long this server has not heard the others; null while it does. */
  deafMs: () => number | null = () => null
  /** Called with the upkeep, once a minute. */
  onUpkeep: () => Promise<void> = () => Promise.resolve()
  /** Called with each tick, for what the upkeep did not come to the end of. */
  onRest: () => Promise<void> = () => Promise.resolve()
  /** Called now and then beside other servers: whether they can still be heard. */
  onListenCheck: () => void = () => {}

  constructor(ctx: EngineContext, dispatcher: Dispatcher, tokens: TokenCache, refused: RefusedTokens) {
    this.#ctx = ctx
    this.#dispatcher = dispatcher
    this.#tokens = tokens
    this.#refused = refused
    this.#steadiness = new Steadiness(ctx.clock, ctx.times.leaseMs)
    this.#settler = new Settler(ctx, dispatcher, () => this.#steadiness.pulse())
    this.#runs = new RunTicks(ctx, this.#settler)
    this.#lastUpkeep = ctx.clock.monotonic()
    this.#lastStill = this.#lastUpkeep
    this.#recoverAt = this.#lastUpkeep + ctx.times.acknowledgeMs
  }

  /** One round. Gives how long the next one may wait, in ms. */
  async tick(): Promise<number> {
    const { ctx } = this
    this.#steadiness.pulse()
    const sessions = [...this.#dispatcher.workers.sessions()]
    const seen = sessions.filter((s) => s.seen)
    for (const s of seen) s.seen = false
    const tokens = this.#tokens.hashes()
    const asksRunning = this.servers > 1 || ctx.clock.monotonic() >= this.#recoverAt
    let row
    try {
      row = await tickSessions(ctx.db, {
        server: ctx.serverId,
        version: ctx.version,
        address: ctx.address,
        seen: seen.map((s) => ({ session: s.id, held: s.owned.size, draining: s.draining })),
        known: sessions.map((s) => s.id),
        tokens,
        leaseMs: ctx.times.leaseMs,
        deafMs: this.deafMs(),
        lookouts: this.#dispatcher.lookouts(),
        asksRunning,
      })
    } catch (error) {
      this.#steadiness.missed()
      for (const s of seen) s.seen = true
      throw error
    }
    const now = ctx.clock.monotonic()
    this.#steadiness.reached()
    this.servers = row.servers
    this.#tokens.confirm(tokens, row.badTokens)
    // Beside other servers it is a matter of course that a worker reports to one what another has leased to it.
    if (row.servers > 1) this.#recoverAt = Math.min(this.#recoverAt, now + 2 * ctx.times.tickMs)
    // Before what is queued is offered: that may be waiting in one that another server made.
    // In one that is new nobody has looked yet.
    const hasNew = row.queues !== ctx.queues.all().size && (await ctx.queues.refresh())
    const queued = hasNew ? [...ctx.queues.all().keys()] : row.queued
    for (const id of row.gone) this.#dispatcher.workers.forget(id)
    let hasOrphans = row.hasOrphans
    if (await this.#endDeadNeighbours()) hasOrphans = true
    if (row.expired.length > 0 && this.#steadiness.isSteady) {
      const swept = await sweepSessions(ctx.db, row.expired)
      for (const id of swept) this.#dispatcher.workers.forget(id)
      if (swept.length > 0) {
        ctx.log.warn('worker sessions lost', { sessions: swept })
        ctx.metrics.count('orrery_sessions_lost_total', swept.length)
        hasOrphans = true
      }
    }
    let more = hasOrphans && (await this.#requeueOrphans())
    if (row.dueInMs !== null && row.dueInMs <= 0) more = (await this.#lookAtDue()) || more
    if (row.deadlineInMs !== null && row.deadlineInMs <= 0) more = (await this.#runs.stopOverdue()) || more
    if (row.hasEndedChildren) more = (await this.#runs.tellParents()) || more
    if (row.hasStops) more = (await this.#runs.stopOrphans()) || more
    await this.#tellStopping()
    for (const s of this.#dispatcher.workers.sessions()) s.resend(now - RESEND_MS)
    if (now >= this.#recoverAt)
      await this.#recover(now, row.hasRunning !== false || sessions.some((s) => s.owned.size > 0))
    if (this.#steadiness.isSteady) await this.#requeueUnacknowledged(now)
    if (queued.length > 0) this.#dispatcher.hintAll(queued)
    await this.#dispatcher.lookAtHeld(queued)
    await this.#dispatcher.pump()
    if (now - this.#lastStill >= Math.min(ctx.times.stallMs, UPKEEP_MS)) await this.#lookAtStill(now)
    if (now - this.#lastUpkeep >= UPKEEP_MS) await this.#upkeep(now)
    else await this.onRest()
    if (more) return 0
    const soon = [row.dueInMs, row.deadlineInMs].flatMap((ms) => (ms !== null && ms > 0 ? [Math.ceil(ms)] : []))
    return Math.min(ctx.times.tickMs, ...soon)
  }

  get ctx(): EngineContext {
    return this.#ctx
  }

  /** Sessions of this very host whose process is gone: no need to wait for their lease. */
  async #endDeadNeighbours(): Promise<boolean> {
    const known = [...this.#dispatcher.workers.sessions()].filter((s) => s.host === this.#ctx.host)
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

  /**
   * Takes back what sessions hold whose process is known to be gone. Commands outlive their worker: a session that holds some
   * stays until its lease ends, so that the worker's next life can adopt them; its functions are taken back at once. True when
   * a session was ended.
   */
  async endDead(ids: string[]): Promise<boolean> {
    for (const id of ids) this.#dispatcher.workers.forget(id)
    const held = await findHeldKinds(this.#ctx.db, ids)
    const adoptable = new Set(held.filter((h) => h.isCommand).map((h) => h.session))
    const ended = await endSessions(
      this.#ctx.db,
      ids.filter((id) => !adoptable.has(id)),
      'worker.lost',
    )
    const byRun = new Map<string, Happening[]>()
    for (const h of held) {
      if (!adoptable.has(h.session) || h.isCommand) continue
      const failure = lostFailure('worker.lost', h)
      const happening: Happening = {
        type: 'attempt_lost',
        node: h.node,
        path: h.path,
        fence: h.fence,
        session: h.session,
        failure,
      }
      byRun.set(h.runId, [...(byRun.get(h.runId) ?? []), happening])
    }
    await this.#settler.settle(byRun)
    if (adoptable.size > 0)
      this.#ctx.log.warn('worker process is gone; its commands wait for its return until the lease ends', {
        sessions: [...adoptable],
      })
    if (ended.length > 0) {
      this.#ctx.log.warn('worker process is gone', { sessions: ended })
      this.#ctx.metrics.count('orrery_sessions_lost_total', ended.length)
    }
    return ended.length > 0
  }

  async #requeueOrphans(): Promise<boolean> {
    const orphans = await findOrphans(this.#ctx.db, { after: this.#orphansAfter, limit: LIMITS.tickItemsMax })
    this.#orphansAfter = nextPlace(orphans, FIRST_STEP)
    const byRun = new Map<string, Happening[]>()
    for (const o of orphans) {
      const code: FailureCode = o.code === 'worker.restarted' ? 'worker.restarted' : 'worker.lost'
      const happening: Happening =
        o.code === 'worker.left'
          ? { type: 'attempt_left', node: o.node, path: o.path, fence: o.fence, session: o.session }
          : {
              type: 'attempt_lost',
              node: o.node,
              path: o.path,
              fence: o.fence,
              session: o.session,
              failure: lostFailure(code, o),
            }
      byRun.set(o.runId, [...(byRun.get(o.runId) ?? []), happening])
    }
    const settledAny = await this.#settler.settle(byRun)
    return orphans.length === LIMITS.tickItemsMax && settledAny
  }

  async #lookAtDue(): Promise<boolean> {
    const due = await findDue(this.#ctx.db, { after: this.#dueAfter, limit: LIMITS.tickItemsMax })
    this.#dueAfter = nextPlace(due, FIRST_DUE)
    const byRun = new Map<string, Happening[]>()
    for (const step of due) {
      const { runId, node, path } = step
      const happening: Happening = { type: 'due', node, path }
      // What it waited for is known only now: once it has failed, nothing tells any more.
      if (step.state === 'queued') {
        happening.waitedFor = await dispatchReason(this.#ctx, runId, step)
        this.#steadiness.pulse()
      }
      byRun.set(runId, [...(byRun.get(runId) ?? []), happening])
    }
    const settledAny = await this.#settler.settle(byRun)
    return due.length === LIMITS.tickItemsMax && settledAny
  }

  /** Tells the sessions of this server which of their attempts belong to runs that are being stopped. */
  async #tellStopping(): Promise<void> {
    const busy = [...this.#dispatcher.workers.sessions()].filter((s) => s.owned.size > 0)
    if (busy.length === 0) return
    for (const s of await findStopping(
      this.#ctx.db,
      busy.map((b) => b.id),
    )) {
      this.#dispatcher.workers.get(s.session)?.order({ step: stepIdOf(s), fence: s.fence, reason: 'run.canceled' })
    }
  }

  /** The answer of a statement that leased steps may have been lost: look soon, not only when it is time. */
  doubt(): void {
    this.#recoverAt = Math.min(this.#recoverAt, this.#ctx.clock.monotonic() + RECOVER_SOON_MS)
  }

  /** `isBusy`: the store or this server knows of something that runs. */
  async #recover(now: number, isBusy: boolean): Promise<void> {
    if (isBusy) await recoverLeases(this.#ctx, this.#dispatcher)
    this.#recoverAt = now + this.#ctx.times.acknowledgeMs
  }

  /** Assignments that a live worker never confirmed: fenced and given to another. */
  async #requeueUnacknowledged(now: number): Promise<void> {
    for (const session of [...this.#dispatcher.workers.sessions()]) {
      // Not heard of here: it speaks to another server, which looks after it, or to none, and then its lease ends.
      if (now - session.lastHeardAt >= this.#ctx.times.leaseMs) {
        if (!session.isParked) this.#dispatcher.workers.release(session.id)
        continue
      }
      for (const owned of [...session.owned.values()]) {
        if (owned.confirmed || now - owned.ownedAt < this.#ctx.times.acknowledgeMs) continue
        const [runId = '', node = '', path = ''] = owned.step.split('.')
        session.disown(owned.step, owned.fence)
        const failure = failureRecord(
          'attempt.never_acknowledged',
          `assigning ${owned.step} to worker ${session.worker}`,
          {
            evidence: { worker: session.worker, waitedMs: Math.round(now - owned.ownedAt) },
          },
        )
        await this.#settler.settle(
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
    await this.#runs.askAgain()
    await this.#runs.closeForgotten()
    this.#stillCursor = page.length === STILL_PAGE ? (page.at(-1)?.id ?? '') : ''
    for (const run of page) {
      const armed = await rearmRun(this.#ctx, run)
      if (armed.length === 0) continue
      this.#ctx.log.warn('stalled run armed again', { runId: run.id, steps: armed.length })
      this.#ctx.metrics.count('orrery_runs_rearmed_total')
      await this.#settler.settle(new Map([[run.id, armed.map((a) => ({ type: 'due' as const, ...a }))]]))
    }
  }

  async #upkeep(now: number): Promise<void> {
    this.#lastUpkeep = now
    await pruneIdempotencyKeys(this.#ctx.db, LIMITS.idempotencyMs, LIMITS.tickItemsMax)
    await pruneArtifacts(this.#ctx.db, LIMITS.tickItemsMax)
    const expired = await pruneExpired(this.#ctx.db, LIMITS.tickItemsMax)
    if (expired > 0) this.#ctx.metrics.count('orrery_memory_pruned_total', expired)
    await pruneOfRuns(this.#ctx.db, { keepMs: LIMITS.memoryOfRunMs, limit: MEMORIES_OF_RUNS_MAX })
    await pruneCalls(this.#ctx.db, { keepMs: LIMITS.memoryCallMs, limit: LIMITS.tickItemsMax })
    await sweepBlobs(this.#ctx.db, { idleMs: LIMITS.blobIdleMs, limit: SWEPT_BLOBS_MAX })
    await pruneTombstones(this.#ctx.db, LIMITS.tombstoneMs, LIMITS.tickItemsMax)
    await this.onUpkeep()
    if (this.servers > 1) this.onListenCheck()
    await this.#refused.flush(this.#ctx.db)
    await pruneAudit(this.#ctx.db, LIMITS.auditMs, LIMITS.tickItemsMax)
    await markEmptied(this.#ctx.db)
    await markUsed(this.#ctx.db, this.#tokens.takeUsed())
    if (this.#ctx.db.kind === 'pglite') await vacuumEmbedded(this.#ctx.db)
  }

  /** Wakes those who wait here for runs that another server moves. */
  async lookAtWatched(seen: Map<string, number>): Promise<void> {
    const watched = this.#ctx.watch.watched()
    for (const id of [...seen.keys()]) if (!watched.includes(id)) seen.delete(id)
    if (watched.length === 0) return
    for (const p of await findProgress(this.#ctx.db, watched)) {
      if (p.ended) this.#ctx.watch.notifyEnded(p.id)
      else if (seen.get(p.id) !== p.seq) this.#ctx.watch.notify(p.id)
      seen.set(p.id, p.seq)
    }
  }
}

/** Where the next page begins: behind this one, so that rows which stay there starve none behind them; at the end from the first again. */
const nextPlace = <Place>(page: readonly Place[], first: Place): Place =>
  page.length < LIMITS.tickItemsMax ? first : (page.at(-1) ?? first)

const lostFailure = (code: FailureCode, held: { worker: string; session: string }): FailureRecord =>
  failureRecord(code, `running on worker ${held.worker}`, { evidence: { worker: held.worker, session: held.session } })
