import { deferred } from '../base/deferred.ts'
import type {
  HeartbeatRequest,
  HeartbeatResponse,
  Orders,
  PollRequest,
  PollResponse,
  RegisterRequest,
  RegisterResponse,
} from '../contract/exchange.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { claimSteps } from '../store/steps/claim-steps.ts'
import type { LeasedStep } from '../store/steps/complete-steps.ts'
import { adoptSteps, findAttemptFates, findHeld } from '../store/steps/find-steps.ts'
import { areLive, endSessions, findSession, openSession } from '../store/sessions/sessions.ts'
import { renderAssignments } from './assignments.ts'
import type { EngineContext } from './context.ts'
import type { Caller } from './engine.ts'
import { WorkerSession } from './sessions.ts'
import { settleRun } from './settle.ts'
import { parseStepId, stepIdOf } from './step-id.ts'

/** An assignment that is not in a poll's list is sent again at once on the poll lane, after this long on the report lane. */
const REPORT_LANE_RESEND_MS = 2_000
/** What a worker holds and this server does not know is looked up at most this often. */
const CHECK_HELD_MS = 1_000

/**
 * Who works here and who may have what: the sessions that this server hears of, their parked polls, and the claiming of queued
 * steps for them.
 */
export class Dispatcher {
  readonly #ctx: EngineContext
  readonly #sessions = new Map<string, WorkerSession>()
  /** Queues that may hold something nobody has claimed, with a count that tells whether more came while a claim was looking. */
  readonly #hinted = new Set<number>()
  #hintCount = 0
  /** Oldest run that a claim may still find, per session; see Claim.from. */
  readonly #lowWater = new Map<string, string>()
  readonly #claiming = new Map<string, Promise<void>>()
  /** Tells other servers that there is work for workers which are not here. */
  onUnserved: (queues: number[]) => void = () => {}

  constructor(ctx: EngineContext) {
    this.#ctx = ctx
  }

  sessions(): IterableIterator<WorkerSession> {
    return this.#sessions.values()
  }

  get(id: string): WorkerSession | undefined {
    return this.#sessions.get(id)
  }

  resubscribe(): void {
    for (const session of this.#sessions.values()) session.subscribe(this.#ctx.queues.all())
  }

  async register(caller: Caller, request: RegisterRequest): Promise<RegisterResponse> {
    const { ctx } = this
    const skew = Math.max(-2_000_000_000, Math.min(2_000_000_000, Math.round(request.clock - ctx.clock.now())))
    const id = ctx.ids.make('session')
    const namespaces = caller.namespaces ?? request.namespaces
    const offer = { namespaces, backends: request.backends, modules: request.modules, labels: request.labels }
    const capacity = Math.min(LIMITS.capacityMax, request.capacity)
    await openSession(
      ctx.db,
      {
        ...offer,
        id,
        capacity,
        worker: request.worker,
        tokenId: caller.actor,
        host: request.host,
        pid: request.pid,
        pidStart: request.pidStart,
        version: request.version,
        clockSkewMs: skew,
      },
      ctx.times.leaseMs,
    )
    await ctx.queues.refresh()
    const session = new WorkerSession({
      id,
      worker: request.worker,
      offer,
      host: request.host,
      pid: request.pid,
      pidStart: request.pidStart,
      capacity,
      now: ctx.clock.monotonic(),
    })
    session.subscribe(ctx.queues.all())
    this.#sessions.set(id, session)
    this.hintAll(session.queues)
    const adopted = request.replaces ? await this.#replace(caller, request.replaces, session, request.held) : []
    ctx.log.info('worker registered', {
      workerId: request.worker,
      sessionId: id,
      capacity,
      replaces: request.replaces ?? undefined,
    })
    return {
      session: id,
      leaseMs: ctx.times.leaseMs,
      heartbeatMs: ctx.times.heartbeatMs,
      pollMs: ctx.times.pollMs,
      serverVersion: ctx.version,
      adopted,
    }
  }

  get ctx(): EngineContext {
    return this.#ctx
  }

  async #replace(
    caller: Caller,
    former: string,
    session: WorkerSession,
    held: RegisterRequest['held'],
  ): Promise<RegisterResponse['adopted']> {
    const row = await findSession(this.#ctx.db, former)
    // Another's session is not this worker's to end.
    if (!row || row.token_id !== caller.actor || row.state !== 'live') return []
    const steps = held.flatMap((h) => {
      const address = parseStepId(h.step)
      return address ? [{ ...address, fence: h.fence }] : []
    })
    const adopted = steps.length > 0 ? await adoptSteps(this.#ctx.db, { from: former, to: session.id, steps }) : []
    for (const a of adopted) {
      const step = stepIdOf(a)
      session.owned.set(`${step}@${a.fence}`, {
        step,
        fence: a.fence,
        assignment: null,
        confirmed: true,
        sentAt: null,
        firstSentAt: null,
        lane: 'poll',
      })
    }
    await endSessions(this.#ctx.db, [former], 'worker.restarted')
    this.forget(former)
    this.#ctx.tickWithin(0)
    return adopted.map((a) => ({ step: stepIdOf(a), fence: a.fence }))
  }

  /** The session of a request. One that this server has not heard of is read from the store, with what it holds. */
  async session(caller: Caller, id: string): Promise<WorkerSession | 'ended'> {
    const known = this.#sessions.get(id)
    if (known) {
      known.seen = true
      known.lastHeardAt = this.#ctx.clock.monotonic()
      return known.ended ? 'ended' : known
    }
    const row = await findSession(this.#ctx.db, id)
    if (row && row.token_id !== caller.actor) throw new Failure('client.forbidden', `speaking for session ${id}`)
    if (!row || row.state !== 'live') return 'ended'
    const session = new WorkerSession({
      id,
      worker: row.worker,
      offer: row,
      host: row.host,
      pid: row.pid,
      pidStart: row.pid_start,
      capacity: row.capacity,
      now: this.#ctx.clock.monotonic(),
    })
    await this.#ctx.queues.refresh()
    session.subscribe(this.#ctx.queues.all())
    const held = await findHeld(this.#ctx.db, [id])
    // Two requests of one session may come at once; the first one to get here made it.
    const raced = this.#sessions.get(id)
    if (raced) return raced
    for (const r of await renderAssignments(this.#ctx, held)) {
      // sentAt 0: it was sent by another server, so a poll that does not list it has not got it.
      if (r.kind === 'assignment') session.own(r.assignment, 'poll', 0)
    }
    this.#sessions.set(id, session)
    this.hintAll(session.queues)
    return session
  }

  forget(id: string): void {
    const session = this.#sessions.get(id)
    if (!session) return
    session.ended = true
    session.wake()
    this.#sessions.delete(id)
    this.#lowWater.delete(id)
  }

  async heartbeat(caller: Caller, request: HeartbeatRequest): Promise<HeartbeatResponse> {
    const session = await this.session(caller, request.session)
    return { sessionState: session === 'ended' ? 'ended' : 'live', leaseMs: this.#ctx.times.leaseMs }
  }

  async poll(caller: Caller, request: PollRequest, signal: AbortSignal): Promise<PollResponse> {
    const session = await this.session(caller, request.session)
    if (session === 'ended') return { sessionState: 'ended', assignments: [], cancels: [], drain: false }
    session.draining = request.draining
    await this.#reconcile(session, request)
    await this.claimFor(session)
    const until = this.#ctx.clock.monotonic() + this.#ctx.times.pollMs
    while (session.outgoing.length === 0 && session.cancels.size === 0 && !session.ended && !signal.aborted) {
      const left = until - this.#ctx.clock.monotonic()
      if (left <= 0 || !(await this.#park(session, left, signal))) break
      if (!signal.aborted) await this.claimFor(session)
    }
    if (session.ended) return { sessionState: 'ended', assignments: [], cancels: [], drain: false }
    // Nobody reads the answer of a request that was cut: what it would carry waits for the next one.
    if (signal.aborted) return { sessionState: 'live', assignments: [], cancels: [], drain: false }
    return { sessionState: 'live', ...this.takeOrders(session, 'poll') }
  }

  /** Waits to be woken; false when the time is over or a newer poll has taken the place. */
  async #park(session: WorkerSession, ms: number, signal: AbortSignal): Promise<boolean> {
    const woken = deferred<boolean>()
    const stop = new AbortController()
    const unpark = session.park((why) => woken.resolve(why === 'woken'))
    signal.addEventListener('abort', () => woken.resolve(true), { once: true, signal: stop.signal })
    // A hint may have come between the claim and the parking.
    if (session.outgoing.length > 0 || session.cancels.size > 0 || this.#mayClaim(session)) woken.resolve(true)
    try {
      return await Promise.race([
        woken.promise,
        this.#ctx.clock.sleep(ms, stop.signal).then(
          () => false,
          () => false,
        ),
      ])
    } finally {
      stop.abort()
      unpark()
    }
  }

  /** Compares what the worker says it holds with what it was given. */
  async #reconcile(session: WorkerSession, request: PollRequest): Promise<void> {
    const now = this.#ctx.clock.monotonic()
    const unknown = session.confirm(request.held)
    for (const owned of session.unconfirmed(request.held, now)) {
      if (owned.assignment === null || (owned.lane === 'report' && now - (owned.sentAt ?? 0) < REPORT_LANE_RESEND_MS))
        continue
      if (session.outgoing.some((a) => a.step === owned.step && a.fence === owned.fence)) continue
      owned.lane = 'poll'
      session.outgoing.push(owned.assignment)
      this.#ctx.metrics.count('orrery_assignments_resent_total')
    }
    if (unknown.length === 0 || now - session.lastCheckedAt < CHECK_HELD_MS) return
    session.lastCheckedAt = now
    const addressed = unknown.flatMap((h) => {
      const a = parseStepId(h.step)
      return a ? [{ ...a, fence: h.fence, session: session.id }] : []
    })
    const fates = await findAttemptFates(this.#ctx.db, addressed)
    for (const a of addressed) {
      const fate = fates.find(
        (f) => f.runId === a.runId && f.node === a.node && f.path === a.path && f.fence === a.fence,
      )
      const step = stepIdOf(a)
      if (fate?.mine && fate.state === 'running') {
        session.owned.set(`${step}@${a.fence}`, {
          step,
          fence: a.fence,
          assignment: null,
          confirmed: true,
          sentAt: null,
          firstSentAt: null,
          lane: 'poll',
        })
        if (fate.stopping) session.order({ step, fence: a.fence, reason: 'run.canceled' })
      } else if (!fate?.mine || fate.state !== 'succeeded') {
        session.order({ step, fence: a.fence, reason: 'attempt.stale_lease' })
      }
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
      owned.firstSentAt ??= now
      owned.lane = lane
    }
    const cancels = [...session.cancels.values()]
    session.cancels.clear()
    return { assignments: assignments.filter((a) => session.owned.has(`${a.step}@${a.fence}`)), cancels, drain: false }
  }

  /** A live session with a free slot for this queue; parked ones first, then the least busy. Reserves the slot. */
  reserve(queueId: number): WorkerSession | null {
    let best: WorkerSession | null = null
    for (const session of this.#sessions.values()) {
      if (session.free === 0 || !session.queues.includes(queueId)) continue
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

  /** Hands leased steps to their sessions; those that cannot be rendered fail. */
  async hand(leased: readonly LeasedStep[]): Promise<void> {
    for (const r of await renderAssignments(this.#ctx, leased)) {
      const session = this.#sessions.get(r.leased.session)
      if (r.kind === 'failed') {
        const { runId, node, path, fence } = r.leased
        const settled = await settleRun(this.#ctx, runId, [
          { type: 'attempt_failed', node, path, fence, session: r.leased.session, failure: r.failure },
        ])
        this.hint(settled?.queued ?? [], { old: true })
      } else if (session) {
        // Not sent yet: `takeOrders` marks it.
        session.own(r.assignment, 'poll', null)
        session.outgoing.push(r.assignment)
      }
      // No session: it ended meanwhile, and the sweep requeues what it holds.
    }
  }

  /** Says that queues may have got steps. `old`: among them steps of runs older than what claims have seen. */
  hint(queues: readonly number[], options: { old: boolean }): void {
    if (queues.length === 0) return
    for (const q of queues) this.#hinted.add(q)
    this.#hintCount += 1
    if (options.old) this.#lowWater.clear()
    let served = false
    for (const session of this.#sessions.values()) {
      if (session.free === 0 || !queues.some((q) => session.queues.includes(q))) continue
      served = true
      if (session.isParked) session.wake()
    }
    if (!served) this.onUnserved([...queues])
  }

  /** Every queue of these may hold something: after a start, or when the store says that something is queued. */
  hintAll(queues: readonly number[]): void {
    for (const q of queues) this.#hinted.add(q)
    this.#hintCount += 1
    this.#lowWater.clear()
  }

  #mayClaim(session: WorkerSession): boolean {
    return session.free > 0 && session.queues.some((q) => this.#hinted.has(q))
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
    const limit = Math.min(session.free, LIMITS.flushItemsMax)
    const queues = session.queues.filter((q) => this.#hinted.has(q))
    const before = this.#hintCount
    session.reserved += limit
    try {
      const leased = await claimSteps(this.#ctx.db, {
        session: session.id,
        queues,
        limit,
        from: this.#lowWater.get(session.id) ?? '',
        graceMs: this.#ctx.times.deadlineGraceMs,
      })
      if (leased.length < limit && this.#hintCount === before) for (const q of queues) this.#hinted.delete(q)
      const last = leased.at(-1)
      if (last && queues.length === 1) this.#lowWater.set(session.id, last.runId)
      await this.hand(leased)
    } finally {
      session.reserved -= limit
    }
  }

  /** Claims for every parked session that has room, and wakes it with what it got. */
  async pump(): Promise<void> {
    for (const session of [...this.#sessions.values()]) {
      if (!session.isParked || !this.#mayClaim(session)) continue
      await this.claimFor(session)
      if (session.outgoing.length > 0) session.wake()
    }
  }

  /** Which of these sessions the store still calls live. */
  live(ids: readonly string[]): Promise<Set<string>> {
    return areLive(this.#ctx.db, ids)
  }
}
