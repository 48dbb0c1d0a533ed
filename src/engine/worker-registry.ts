import type { HeartbeatRequest, HeartbeatResponse, RegisterRequest, RegisterResponse } from '../contract/exchange.ts'
import { Failure } from '../domain/failure.ts'
import type { RefusalFacts } from '../domain/installation-facts.ts'
import { LIMITS } from '../domain/limits.ts'
import { mayExchange } from '../domain/version-skew.ts'
import { workerProblems } from '../domain/worker-problems.ts'
import { WORKER_PIN } from '../domain/workflow.ts'
import { endSessions, findSession, openSession, recordSkew } from '../store/sessions/sessions.ts'
import { adoptSteps, findHeld } from '../store/steps/find-steps.ts'
import { renderAssignments } from './assignments.ts'
import type { EngineContext } from './context.ts'
import type { Caller } from './engine.ts'
import { WorkerSession } from './sessions.ts'
import { parseStepId, stepIdOf } from './step-id.ts'
import { knowsSession, servedBy, shownReach } from './visible.ts'

/** Workers that were turned away are remembered this long, and as many. */
const REFUSAL_MS = 600_000
const REFUSALS_MAX = 20
/** A change of a worker's clock by less than this is not written down. */
const SKEW_STEP_MS = 1_000

const skewOf = (theirs: number, ours: number): number =>
  Math.max(-2_000_000_000, Math.min(2_000_000_000, Math.round(theirs - ours)))

/** A session of another token: refused, or as good as gone for those who may not know of it. */
function foreign(caller: Caller, session: string, serves: string[] | null): 'ended' {
  if (knowsSession(caller, serves)) throw new Failure('client.forbidden', `speaking for session ${session}`)
  return 'ended'
}

/** Who works here: the sessions that this server hears of, how they come and go, and who was turned away. */
export class WorkerRegistry {
  readonly #ctx: EngineContext
  readonly #sessions = new Map<string, WorkerSession>()
  #refusals: { worker: string; at: number; failure: Failure }[] = []
  /** A session is here that may have work. */
  onCame: (session: WorkerSession) => void = () => {}
  /** A session is here no longer. */
  onGone: (id: string) => void = () => {}

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
    const ctx = this.#ctx
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
    this.onCame(session)
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
    this.onCame(session)
    return session
  }

  /** A worker that went to another server: what it holds is read from the store should it come back. Its session lives on. */
  release(id: string): void {
    this.#sessions.delete(id)
    this.onGone(id)
  }

  forget(id: string): void {
    const session = this.#sessions.get(id)
    if (!session) return
    session.ended = true
    session.wake()
    this.#sessions.delete(id)
    this.onGone(id)
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
}
