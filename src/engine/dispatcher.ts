import { deferred } from '../base/deferred.ts'
import type {
  HeartbeatRequest,
  HeartbeatResponse,
  HeldAttempt,
  Orders,
  PollRequest,
  PollResponse,
  RegisterRequest,
  RegisterResponse,
} from '../contract/exchange.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { workerProblems } from '../domain/worker-problems.ts'
import type { RefusalFacts } from '../domain/installation-facts.ts'
import { WORKER_PIN } from '../domain/workflow.ts'
import { mayExchange } from '../domain/version-skew.ts'
import { claimSteps } from '../store/steps/claim-steps.ts'
import type { LeasedStep } from '../store/steps/complete-steps.ts'
import { adoptSteps, findAttemptFates, findHeld } from '../store/steps/find-steps.ts'
import { areLive, endSessions, findSession, openSession, recordSkew } from '../store/sessions/sessions.ts'
import { renderAssignments } from './assignments.ts'
import type { EngineContext } from './context.ts'
import type { Caller } from './engine.ts'
import { LowWater } from './low-water.ts'
import { WorkerSession } from './sessions.ts'
import { settleRun } from './settle.ts'
import { attemptKey, parseStepId, stepIdOf } from './step-id.ts'
import { knowsSession, servedBy, shownReach } from './visible.ts'

/** An assignment that is not in a poll's list is sent again at once on the poll lane, after this long on the report lane. */
const REPORT_LANE_RESEND_MS = 2_000
/** How old a low-water mark must be to count, and how often all marks are dropped: what a lost hint hides is found then. */
const LOW_WATER_LAG_MS = 2_000
const LOW_WATER_RESET_MS = 10_000
/** What a worker holds and this server does not know is looked up at most this often. */
const CHECK_HELD_MS = 1_000

/** A session of another token: refused, or as good as gone for those who may not know of it. */
function foreign(caller: Caller, session: string, serves: string[] | null): 'ended' {
  if (knowsSession(caller, serves)) throw new Failure('client.forbidden', `speaking for session ${session}`)
  return 'ended'
}

const isOutgoing = (session: WorkerSession, lease: HeldAttempt): boolean =>
  session.outgoing.some((a) => a.step === lease.step && a.fence === lease.fence)

/** Workers that were turned away are remembered this long, and as many. */
const REFUSAL_MS = 600_000
const REFUSALS_MAX = 20
/** A change of a worker's clock by less than this is not written down. */
const SKEW_STEP_MS = 1_000

const skewOf = (theirs: number, ours: number): number =>
  Math.max(-2_000_000_000, Math.min(2_000_000_000, Math.round(theirs - ours)))

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
  readonly #lowWater = new LowWater(LOW_WATER_LAG_MS)
  #resetAt = 0
  /** Counts claims. */
  #turn = 0
  readonly #claiming = new Map<string, Promise<void>>()
  /** Tells other servers that there is work for workers which are not here. */
  onUnserved: (queues: number[]) => void = () => {}
  /** Steps may be leased that nobody was told of: the answer of a statement was lost. */
  onDoubt: () => void = () => {}

  #refusals: { worker: string; at: number; failure: Failure }[] = []

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
    if (!mayExchange(request.version, ctx.version)) {
      throw this.#refused(
        request.worker,
        new Failure('worker.incompatible', `registering worker ${request.worker}`, {
          evidence: { worker: request.version, server: ctx.version },
        }),
      )
    }
    const alias = request.labels[WORKER_PIN]
    if (alias !== undefined && alias !== request.worker) {
      throw new Failure(
        'request.invalid',
        `registering worker ${request.worker} with the label ${WORKER_PIN}=${alias}`,
        {
          evidence: { label: WORKER_PIN, value: alias, name: request.worker },
          remediation: `runsOn.${WORKER_PIN} means the name of a worker: give the name with --name and leave the label out.`,
        },
      )
    }
    const skew = skewOf(request.clock, ctx.clock.now())
    const id = ctx.ids.make('session')
    const namespaces = servedBy(caller, request.namespaces)
    if (namespaces !== null && namespaces.length < (request.namespaces?.length ?? 0)) {
      throw new Failure('client.forbidden', `registering worker ${request.worker}`, {
        evidence: { namespaces: request.namespaces, allowed: shownReach(caller) },
        remediation: 'Leave out the namespaces that the token may not see, or use a token that may.',
      })
    }
    const offer = {
      worker: request.worker,
      namespaces,
      backends: request.backends,
      modules: request.modules,
      features: request.features ?? [],
      labels: request.labels,
    }
    const capacity = Math.min(LIMITS.capacityMax, request.capacity)
    await openSession(
      ctx.db,
      {
        ...offer,
        id,
        capacity,
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
      actor: caller.actor,
      offer,
      host: request.host,
      pid: request.pid,
      pidStart: request.pidStart,
      capacity,
      now: ctx.clock.monotonic(),
    })
    session.skewMs = skew
    for (const problem of workerProblems({
      worker: request.worker,
      clockSkewMs: skew,
      version: request.version,
      serverVersion: ctx.version,
    }))
      ctx.log.warn('worker has a problem', { workerId: request.worker, code: problem.code, detail: problem.message })
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
      const lease = { step: stepIdOf(a), fence: a.fence, assignment: null, definition: null, confirmed: true }
      session.ownSent(lease, this.#ctx.clock.monotonic())
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
      if (known.actor !== caller.actor) return foreign(caller, id, known.offer.namespaces)
      known.seen = true
      known.lastHeardAt = this.#ctx.clock.monotonic()
      return known.ended ? 'ended' : known
    }
    const row = await findSession(this.#ctx.db, id)
    if (row && row.token_id !== caller.actor) return foreign(caller, id, row.namespaces)
    if (!row || row.state !== 'live') return 'ended'
    const session = new WorkerSession({
      id,
      worker: row.worker,
      actor: row.token_id,
      offer: row,
      host: row.host,
      pid: row.pid,
      pidStart: row.pid_start,
      capacity: row.capacity,
      now: this.#ctx.clock.monotonic(),
    })
    session.skewMs = row.clock_skew_ms
    await this.#ctx.queues.refresh()
    session.subscribe(this.#ctx.queues.all())
    // Sent by another server, or by none: a poll that does not list it has not got it.
    const rendered = await renderAssignments(this.#ctx, await findHeld(this.#ctx.db, [id]))
    // Two requests of one session may come at once; the first one to get here made it.
    const raced = this.#sessions.get(id)
    if (raced) return raced
    const now = this.#ctx.clock.monotonic()
    for (const r of rendered) {
      const { fence, definition } = r.leased
      const assignment = r.kind === 'assignment' ? r.assignment : null
      session.ownSent({ step: stepIdOf(r.leased), fence, assignment, definition, confirmed: false }, now)
    }
    this.#sessions.set(id, session)
    this.hintAll(session.queues)
    return session
  }

  /** A worker that went to another server: what it holds is read from the store should it come back. Its session lives on. */
  release(id: string): void {
    this.#sessions.delete(id)
    this.#lowWater.forget(id)
  }

  forget(id: string): void {
    const session = this.#sessions.get(id)
    if (!session) return
    session.ended = true
    session.wake()
    this.#sessions.delete(id)
    this.#lowWater.forget(id)
  }

  /** A drained worker says good-bye: it is not lost, and what may still be on its way to it is given back. */
  async leave(session: WorkerSession): Promise<void> {
    await endSessions(this.#ctx.db, [session.id], 'worker.left')
    this.forget(session.id)
    this.#ctx.log.info('worker left', { workerId: session.worker, sessionId: session.id })
  }

  async heartbeat(caller: Caller, request: HeartbeatRequest): Promise<HeartbeatResponse> {
    const session = await this.session(caller, request.session)
    if (session !== 'ended') await this.#compareClock(session, request.clock)
    return { sessionState: session === 'ended' ? 'ended' : 'live', leaseMs: this.#ctx.times.leaseMs }
  }

  /** Remembers for the doctor that a worker was turned away. */
  #refused(worker: string, failure: Failure): Failure {
    const others = this.#refusals.filter((r) => r.worker !== worker)
    this.#refusals = [...others.slice(1 - REFUSALS_MAX), { worker, at: this.#ctx.clock.monotonic(), failure }]
    return failure
  }

  /** Workers that this server turned away lately and that have not come in since. */
  refusals(): RefusalFacts[] {
    const now = this.#ctx.clock.monotonic()
    const here = new Set([...this.#sessions.values()].map((s) => s.worker))
    return this.#refusals
      .filter((r) => now - r.at < REFUSAL_MS && !here.has(r.worker))
      .map((r) => ({ worker: r.worker, agoMs: now - r.at, failure: r.failure.toRecord() }))
  }

  /** A clock that was set, or that ran away, is written down; one that only jitters costs nothing. */
  async #compareClock(session: WorkerSession, clock: number): Promise<void> {
    const skewMs = skewOf(clock, this.#ctx.clock.now())
    if (Math.abs(skewMs - session.skewMs) < SKEW_STEP_MS) return
    session.skewMs = skewMs
    // Neither a heartbeat nor its lease depends on it.
    await recordSkew(this.#ctx.db, { session: session.id, skewMs }).catch((error: unknown) =>
      this.#ctx.log.debug('the clock of a worker could not be written down', { error: String(error) }),
    )
    if (Math.abs(skewMs) > LIMITS.clockSkewMs)
      this.#ctx.log.warn('worker has a problem', { workerId: session.worker, code: 'worker.clock_skew', skewMs })
  }

  async poll(caller: Caller, request: PollRequest, signal: AbortSignal): Promise<PollResponse> {
    const session = await this.session(caller, request.session)
    if (session === 'ended') return { sessionState: 'ended', assignments: [], cancels: [], drain: false }
    session.draining = request.draining
    await this.#reconcile(session, request)
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

  /** Compares what the worker says it holds with what it was given. */
  async #reconcile(session: WorkerSession, request: PollRequest): Promise<void> {
    const now = this.#ctx.clock.monotonic()
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
      (await findAttemptFates(this.#ctx.db, [...addressed, ...lost.flatMap(addressOf)])).map((f) => [attemptKey(f), f]),
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
        this.#ctx.metrics.count('orrery_assignments_resent_total')
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
      const session = this.#sessions.get(r.leased.session)
      if (r.kind === 'failed') {
        const { runId, node, path, fence } = r.leased
        const settled = await settleRun(this.#ctx, runId, [
          { type: 'attempt_failed', node, path, fence, session: r.leased.session, failure: r.failure },
        ])
        this.hint(settled?.queued ?? [], { old: true })
      } else if (session) {
        // Not sent yet: `takeOrders` marks it.
        this.#ctx.metrics.count('orrery_attempts_started_total')
        session.own(r.assignment, r.leased.definition, this.#ctx.clock.monotonic())
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
    if (options.old) this.#lowWater.reset()
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
    const now = this.#ctx.clock.monotonic()
    if (now - this.#resetAt < LOW_WATER_RESET_MS) return
    this.#resetAt = now
    this.#lowWater.reset()
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
    const hinted = session.queues.filter((q) => this.#hinted.has(q))
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
      if (last && queues.length === 1) this.#lowWater.claimed(session.id, last.runId, this.#ctx.clock.monotonic())
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
