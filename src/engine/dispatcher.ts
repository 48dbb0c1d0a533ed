import { deferred } from '../base/deferred.ts'
import type { Orders, PollRequest, PollResponse } from '../contract/exchange.ts'
import { LIMITS } from '../domain/limits.ts'
import { claimSteps } from '../store/steps/claim-steps.ts'
import type { LeasedStep } from '../store/steps/complete-steps.ts'
import { HeldQueues } from './agents/readiness.ts'
import { renderAssignments } from './assignments.ts'
import type { EngineContext } from './context.ts'
import type { Caller } from './engine.ts'
import { LowWater } from './low-water.ts'
import { reconcile } from './reconcile.ts'
import type { WorkerSession } from './sessions.ts'
import { type Settled, settleRun } from './settle.ts'
import { WorkerRegistry } from './worker-registry.ts'

/** How old a low-water mark must be to count, and how often all marks are dropped: what a lost hint hides is found then. */
const LOW_WATER_LAG_MS = 250
const LOW_WATER_RESET_MS = 10_000

/** Who may have what: the parked polls of the workers that are here, and the claiming of queued steps for them. */
export class Dispatcher {
  readonly #ctx: EngineContext
  readonly workers: WorkerRegistry
  /** Queues that may hold something nobody has claimed, with a count that tells whether more came while a claim was looking. */
  readonly #hinted = new Set<number>()
  #hintCount = 0
  /** Oldest run that a claim may still find, per session; see Claim.from. */
  readonly #lowWater = new LowWater(LOW_WATER_LAG_MS)
  #resetAt = 0
  /** Counts claims. */
  #turn = 0
  readonly #claiming = new Map<string, Promise<void>>()
  /** Queues whose steps need what is not there: they are claimed by nobody. */
  readonly #held: HeldQueues
  /** Tells other servers that there is work for workers which are not here. */
  onUnserved: (queues: number[], from: string | null) => void = () => {}
  /** Steps may be leased that nobody was told of: the answer of a statement was lost. */
  onDoubt: () => void = () => {}

  constructor(ctx: EngineContext) {
    this.#ctx = ctx
    this.#held = new HeldQueues(ctx, ctx.times.tickMs)
    this.workers = new WorkerRegistry(ctx)
    this.workers.onCame = (session) => this.hintAll(session.queues)
    this.workers.onGone = (id) => this.#lowWater.forget(id)
  }

  async poll(caller: Caller, request: PollRequest, signal: AbortSignal): Promise<PollResponse> {
    const session = await this.workers.session(caller, request.session)
    if (session === 'ended') return { sessionState: 'ended', assignments: [], cancels: [], drain: false }
    session.draining = request.draining
    await reconcile(this.#ctx, session, request)
    if (!signal.aborted) await this.claimFor(session)
    const until = this.#ctx.clock.monotonic() + this.#ctx.times.pollMs
    while (session.outgoing.length === 0 && session.cancels.size === 0 && !session.ended && !signal.aborted) {
      const left = until - this.#ctx.clock.monotonic()
      if (left <= 0) break
      const why = await this.#park(session, left, signal)
      // A newer poll is here: whoever sent this one does not read its answer.
      if (why === 'replaced') return { sessionState: 'live', assignments: [], cancels: [], drain: false }
      if (why === 'over') break
      if (!signal.aborted) await this.claimFor(session)
    }
    if (session.ended) return { sessionState: 'ended', assignments: [], cancels: [], drain: false }
    // Nobody reads the answer of a request that was cut: what it would carry waits for the next one.
    if (signal.aborted) return { sessionState: 'live', assignments: [], cancels: [], drain: false }
    return { sessionState: 'live', ...this.takeOrders(session, 'poll') }
  }

  /** Waits to be woken, for the time to be over, or for a newer poll to take the place. */
  async #park(session: WorkerSession, ms: number, signal: AbortSignal): Promise<'woken' | 'over' | 'replaced'> {
    const woken = deferred<'woken' | 'over' | 'replaced'>()
    const unpark = session.park(woken.resolve)
    const onCut = () => woken.resolve('woken')
    signal.addEventListener('abort', onCut, { once: true })
    const cancel = this.#ctx.deadlines.add(ms, () => woken.resolve('over'))
    // A hint may have come between the claim and the parking.
    if (session.outgoing.length > 0 || session.cancels.size > 0 || this.#mayClaim(session)) woken.resolve('woken')
    try {
      return await woken.promise
    } finally {
      cancel()
      signal.removeEventListener('abort', onCut)
      unpark()
    }
  }

  /** Everything that the next reply on a lane carries. */
  takeOrders(session: WorkerSession, lane: 'poll' | 'report'): Orders {
    const now = this.#ctx.clock.monotonic()
    const assignments = session.outgoing.splice(0)
    for (const a of assignments) {
      const owned = session.owned.get(`${a.step}@${a.fence}`)
      if (!owned) continue
      owned.sentAt = now
      owned.lane = lane
    }
    const cancels = [...session.cancels.values()]
    session.cancels.clear()
    return { assignments: assignments.filter((a) => session.owned.has(`${a.step}@${a.fence}`)), cancels, drain: false }
  }

  /** A live session with a free slot for this queue; parked ones first, then the least busy. Reserves the slot. */
  reserve(queueId: number): WorkerSession | null {
    let best: WorkerSession | null = null
    for (const session of this.workers.sessions()) {
      if (session.free === 0 || !session.directQueues.includes(queueId)) continue
      if (
        !best ||
        (session.isParked && !best.isParked) ||
        (session.isParked === best.isParked && session.free > best.free)
      )
        best = session
    }
    if (best) best.reserved += 1
    return best
  }

  /**
   * Hands leased steps to their sessions; those that cannot be rendered fail. Never throws: what is leased is leased, and what
   * cannot be handed now is found again by `recoverLeases`.
   */
  async hand(leased: readonly LeasedStep[]): Promise<void> {
    if (leased.length === 0) return
    try {
      await this.#hand(leased)
    } catch (error) {
      this.#ctx.log.warn('leased steps could not be handed on yet', { steps: leased.length, error: String(error) })
      this.onDoubt()
    }
  }

  async #hand(leased: readonly LeasedStep[]): Promise<void> {
    for (const r of await renderAssignments(this.#ctx, leased)) {
      const session = this.workers.get(r.leased.session)
      if (r.kind === 'failed') {
        const { runId, node, path, fence } = r.leased
        const settled = await settleRun(this.#ctx, runId, [
          { type: 'attempt_failed', node, path, fence, session: r.leased.session, failure: r.failure },
        ])
        this.hintSettled(runId, settled)
      } else if (session) {
        // Not sent yet: `takeOrders` marks it.
        this.#ctx.metrics.count('orrery_attempts_started_total')
        session.own(r.assignment, r.leased.definition, this.#ctx.clock.monotonic())
        session.outgoing.push(r.assignment)
      }
      // No session: it ended meanwhile, and the sweep requeues what it holds.
    }
  }

  /** Says that queues may have got steps, and of which run the oldest of them is; null: that is not known. */
  hint(queues: readonly number[], from: string | null): void {
    if (queues.length === 0) return
    for (const q of queues) this.#hinted.add(q)
    this.#hintCount += 1
    if (from === null) this.#lowWater.reset()
    else this.#lowWater.lower(from)
    let served = false
    for (const session of this.workers.sessions()) {
      if (session.free === 0 || !queues.some((q) => session.queues.includes(q))) continue
      served = true
      if (session.isParked) session.wake()
    }
    if (!served) this.onUnserved([...queues], from)
  }

  /** Says what a settled run queued. The ids of runs below it say nothing of when they were made. */
  hintSettled(runId: string, settled: Settled | null): void {
    if (settled) this.hint(settled.queued, settled.started.length > 0 ? null : runId)
  }

  /** Queues that sessions with room serve, and from which run on they may hold something that nobody has looked at. Now and then from the first. */
  lookouts(): Map<number, string> {
    const now = this.#ctx.clock.monotonic()
    if (now - this.#resetAt >= LOW_WATER_RESET_MS) {
      this.#resetAt = now
      this.#lowWater.reset()
    }
    const found = new Map<number, string>()
    for (const session of this.workers.sessions()) {
      if (session.free === 0 || session.ended) continue
      const from = this.#lowWater.from(session.id)
      for (const queue of session.queues) {
        const known = found.get(queue)
        if (known === undefined || from < known) found.set(queue, from)
      }
    }
    return found
  }

  /** Every queue of these may hold something: a session came, or the store says so. */
  hintAll(queues: readonly number[]): void {
    for (const q of queues) this.#hinted.add(q)
    this.#hintCount += 1
  }

  #mayClaim(session: WorkerSession): boolean {
    return session.free > 0 && session.queues.some((q) => this.#isOffered(q))
  }

  /** It may hold something, and what its steps need is there as far as is known. */
  #isOffered(queue: number): boolean {
    return this.#hinted.has(queue) && !this.#held.has(queue)
  }

  /** Offers what waited for a model endpoint or a secret that is there now, of the queues that hold something. */
  async lookAtHeld(queued: readonly number[]): Promise<void> {
    const held = queued.filter((queue) => this.#held.has(queue))
    const ready = await this.#held.ready(held, (queue) => this.#ctx.queues.all().get(queue))
    this.hint(ready, null)
  }

  /** Claims what the session has room for. One claim a session at a time; the others find its result in `outgoing`. */
  async claimFor(session: WorkerSession): Promise<void> {
    const running = this.#claiming.get(session.id)
    if (running) return running
    if (!this.#mayClaim(session)) return
    const claim = this.#claim(session).finally(() => this.#claiming.delete(session.id))
    this.#claiming.set(session.id, claim)
    return claim
  }

  async #claim(session: WorkerSession): Promise<void> {
    const offered = session.queues.filter((q) => this.#isOffered(q))
    const hinted = await this.#held.ready(offered, (queue) => this.#ctx.queues.all().get(queue))
    const limit = Math.min(session.free, LIMITS.flushItemsMax)
    if (hinted.length === 0 || limit === 0) return
    // Another queue comes first each time: one that never runs dry would starve all behind it.
    const first = this.#turn++ % hinted.length
    const queues = [...hinted.slice(first), ...hinted.slice(0, first)]
    const before = this.#hintCount
    session.reserved += limit
    try {
      const leased = await claimSteps(this.#ctx.db, {
        session: session.id,
        queues,
        limit,
        from: this.#lowWater.from(session.id),
        graceMs: this.#ctx.times.deadlineGraceMs,
      })
      this.#ctx.metrics.count('orrery_claims_total', 1, { result: leased.length > 0 ? 'found' : 'empty' })
      if (leased.length < limit && this.#hintCount === before) for (const q of queues) this.#hinted.delete(q)
      const last = leased.at(-1)
      // A mark holds for all queues of the session: what waits in one that is held must not fall behind it.
      const waits = session.queues.some((q) => this.#held.has(q))
      if (last && queues.length === 1 && !waits)
        this.#lowWater.claimed(session.id, last.runId, this.#ctx.clock.monotonic())
      await this.hand(leased)
    } catch (error) {
      // Perhaps it was done and only its answer was lost.
      this.onDoubt()
      throw error
    } finally {
      session.reserved -= limit
    }
  }

  /** Claims for every parked session that has room, and wakes it with what it got. */
  async pump(): Promise<void> {
    for (const session of [...this.workers.sessions()]) {
      if (!session.isParked || !this.#mayClaim(session)) continue
      await this.claimFor(session)
      if (session.outgoing.length > 0) session.wake()
    }
  }
}
