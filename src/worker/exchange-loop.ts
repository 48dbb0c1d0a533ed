import {
  type Clock,
  createDeadlines,
  type Deadlines,
  type Deferred,
  deferred,
  type Log,
  type Metrics,
  outOfScope,
  type Random,
  type Tracer,
  endOfTurn,
} from '../base/index.ts'
import type { Backend } from '../backends/backend.ts'
import type { ExchangeLane, Orders, RegisterRequest, RegisterResponse } from '../contract/exchange.ts'
import { Failure, type FailureRecord } from '../domain/failure.ts'
import { versionSkew } from '../domain/version-skew.ts'
import { withDeadline } from './deadline.ts'
import type { HeartbeatHandle, StartHeartbeats } from './heartbeats.ts'
import { finalRefusal, Link } from './link.ts'
import type { Outbox } from './outbox.ts'
import { ReportLane } from './report-lane.ts'
import { readSessionFile, writeSessionFile } from './session-file.ts'
import { FileShipping } from './ship-files.ts'
import type { AgentRuntime } from './agent-runtime.ts'
import { AttemptAsker } from './attempt-asker.ts'
import { FileFetching } from './fetch-files.ts'
import { Supervisor } from './supervisor.ts'

/** One timer for all that is held. */
const SWEEP_MS = 25
const KEPT_SWEEP_MS = 60_000
const REGISTER_MS = 15_000
/** How much later than promised a poll's answer may come before it counts as lost. */
const POLL_SLACK_MS = 10_000
const FAREWELL_MS = 2_000
/** Polls in a row that came back at once with nothing; a server that does that is given a rest. */
const EMPTY_POLLS_MAX = 20
const SHORT_LIVED_MS = 1_000

export type WorkerEnd = { reason: 'drained' } | { reason: 'stopped' } | { reason: 'failed'; failure: FailureRecord }

/** Who the worker is, as it tells the server. */
export type Identity = Omit<RegisterRequest, 'replaces' | 'held' | 'clock'>

export interface ExchangeDeps {
  lane: ExchangeLane
  identity: Identity
  backend: Backend | null
  /** Null: this worker runs no agents. */
  agents: AgentRuntime | null
  modules: Record<string, unknown>
  env: Record<string, string>
  stateDir: string | null
  startHeartbeats: StartHeartbeats
  outbox: Outbox
  clock: Clock
  random: Random
  log: Log
  metrics?: Metrics | undefined
  tracer?: Tracer | undefined
  remember?: (value: string) => void
}

/** The two lanes and the session they run under. */
export class ExchangeLoop {
  readonly #deps: ExchangeDeps
  readonly #stop = new AbortController()
  readonly #link: Link
  readonly #deadlines: Deadlines
  readonly #ended: Deferred<WorkerEnd> = deferred()
  readonly supervisor: Supervisor
  readonly reports: ReportLane
  #session: RegisterResponse | null = null
  /** The last session there was; the next one replaces it. */
  #former: string | null = null
  #heartbeats: HeartbeatHandle | null = null
  #poll = new AbortController()
  #registered: Deferred<void> = deferred()
  /** The last write of the session file. */
  #saved: Promise<void> = Promise.resolve()
  #draining = false
  #sweeping = false
  #leaving = false
  #over = false
  #openedAt = 0
  /** `worker ready` was said. */
  #isReady = false
  /** The version of a server whose difference from ours was told. */
  #skewTold: string | null = null
  /** Sessions in a row that ended as soon as they were open. */
  #shortLived = 0

  constructor(deps: ExchangeDeps) {
    this.#deps = deps
    const { lane, clock, log, outbox, backend, modules, env } = deps
    this.#link = new Link(deps)
    this.#deadlines = createDeadlines(clock)
    const asker = new AttemptAsker({
      deadlines: this.#deadlines,
      link: this.#link,
      session: () => this.#session?.session ?? null,
      signal: this.#stop.signal,
    })
    this.supervisor = new Supervisor({
      capacity: deps.identity.capacity,
      backend,
      modules,
      env,
      clock,
      log,
      outbox,
      files: new FileShipping(lane, asker),
      fetching: new FileFetching(lane, asker),
      agents: deps.agents,
      lane,
      asker,
      deadlines: this.#deadlines,
      worker: deps.identity.worker,
      metrics: deps.metrics,
      tracer: deps.tracer,
      // The lane is shared: what goes wrong there is no attempt's own.
      send: (report) => outOfScope(() => this.reports.push(report)),
      remember: (value) => deps.remember?.(value),
      onBusy: () => void this.#sweep(),
      onIdle: () => {
        if (this.#draining) void this.#leave()
      },
    })
    this.reports = new ReportLane({
      lane,
      clock,
      deadlines: this.#deadlines,
      link: this.#link,
      outbox,
      signal: this.#stop.signal,
      session: () => this.#session?.session ?? null,
      free: () => this.supervisor.free,
      draining: () => this.#draining,
      onAck: (report, ack) => this.supervisor.settle(report, ack),
      onReply: (reply, session) => this.#obey(reply, session),
      onRefused: (failure) => this.#fail(failure),
    })
  }

  get ended(): Promise<WorkerEnd> {
    return this.#ended.promise
  }
  get session(): string | null {
    return this.#session?.session ?? null
  }
  get outages(): number {
    return this.#link.outages
  }
  get draining(): boolean {
    return this.#draining
  }

  /** Resolves when the first session is open, or when there will be none. */
  async start(): Promise<void> {
    this.#former = await readSessionFile(this.#deps.stateDir)
    void this.#run()
    void this.#sweepKept()
    await Promise.race([this.#registered.promise, this.#ended.promise])
  }

  /** Finishes what runs, takes nothing new; resolves when the server has all of it. */
  async drain(): Promise<void> {
    if (!this.#draining && !this.#over) {
      this.#draining = true
      this.#deps.log.info('draining')
      this.supervisor.drain()
      // The parked poll promised free slots.
      this.#poll.abort(new Error('draining'))
    }
    await this.#ended.promise
  }

  /** Ends at once. What was not acknowledged is on disk, where there is a directory for it. */
  async stop(): Promise<void> {
    await this.#end({ reason: 'stopped' })
    await this.#ended.promise
  }

  async #run(): Promise<void> {
    let failures = 0
    let empty = 0
    while (!this.#over) {
      try {
        const session = this.#session
        if (session === null) {
          if (this.#shortLived > 1) await this.#link.rest(this.#shortLived, this.#stop.signal)
          await this.#register()
          failures = 0
          continue
        }
        const told = await this.#pollOnce(session)
        failures = 0
        empty = told ? 0 : empty + 1
        // What ended at once is reported first: a run waits for that, and nobody for the next poll.
        await endOfTurn()
        if (empty > EMPTY_POLLS_MAX) await this.#link.rest(1, this.#stop.signal)
      } catch (error) {
        if (this.#over) return
        // Cut by ourselves, because there is news for the server.
        if (this.#poll.signal.aborted) {
          this.#poll = new AbortController()
          continue
        }
        const refused = finalRefusal(error) ?? (this.#session === null ? refusedRegister(error) : null)
        if (refused) {
          this.#fail(refused)
          return
        }
        this.#link.down(error)
        await this.#link.rest(++failures, this.#stop.signal)
      }
    }
  }

  async #register(): Promise<void> {
    const { lane, clock, identity, stateDir, startHeartbeats, log } = this.#deps
    const request = { ...identity, clock: clock.now(), replaces: this.#former, held: this.supervisor.held() }
    const options = { ms: REGISTER_MS, signal: this.#stop.signal }
    const session = await withDeadline(this.#deadlines, options, (cut) => lane.register(request, cut))
    if (this.#over) return
    this.#link.up()
    log.info('session open', { session: session.session, replaces: this.#former, adopted: session.adopted.length })
    this.#tellReady(session)
    this.#former = session.session
    this.#openedAt = clock.monotonic()
    this.#heartbeats = startHeartbeats(session, () => this.#sessionEnded(session.session))
    this.#session = session
    this.supervisor.registered(session.adopted)
    this.reports.pump()
    this.#registered.resolve()
    this.#saved = writeSessionFile(stateDir, session.session).catch((error: unknown) => {
      log.warn('session file cannot be written', { dir: stateDir, error: String(error) })
    })
    if (this.#draining && !this.supervisor.busy) void this.#leave()
  }

  /** The one line that says that this worker takes work; its fields are a promise to those who wait for it. */
  #tellReady(session: RegisterResponse): void {
    const { log, identity } = this.#deps
    const { worker, version, capacity, backends, modules, features = [], labels, namespaces } = identity
    if (!this.#isReady) {
      this.#isReady = true
      log.info('worker ready', {
        event: 'worker.ready',
        workerId: worker,
        sessionId: session.session,
        version,
        serverVersion: session.serverVersion,
        capacity,
        backends,
        features,
        modules,
        labels,
        namespaces,
      })
    }
    const skew = versionSkew(version, session.serverVersion)
    if (skew !== 'same' && this.#skewTold !== session.serverVersion) {
      this.#skewTold = session.serverVersion
      log.warn('server and worker are of different versions', {
        code: 'version.skew',
        worker: version,
        server: session.serverVersion,
        skew,
      })
    }
  }

  /** False when the answer came at once and said nothing. */
  async #pollOnce(session: RegisterResponse): Promise<boolean> {
    const { lane, clock } = this.#deps
    const { free } = this.supervisor
    const request = { session: session.session, free, held: this.supervisor.held(), draining: this.#draining }
    const askedAt = clock.monotonic()
    const options = { ms: session.pollMs + POLL_SLACK_MS, signal: this.#poll.signal }
    const reply = await withDeadline(this.#deadlines, options, (cut) => lane.poll(request, cut))
    this.#link.up()
    this.#obey(reply, session.session)
    const saysNothing = reply.assignments.length + reply.cancels.length === 0
    return !(saysNothing && clock.monotonic() - askedAt < 5)
  }

  #obey(reply: Orders & { sessionState: 'live' | 'ended' }, session: string): void {
    // A late answer to an earlier session orders nothing any more.
    if (this.#over || this.#session?.session !== session) return
    if (reply.sessionState === 'ended') {
      this.#sessionEnded(session)
      return
    }
    if (reply.cancels.length > 0) this.supervisor.cancel(reply.cancels)
    if (reply.assignments.length > 0) this.supervisor.accept(reply.assignments)
    if (reply.drain && !this.#draining) void this.drain()
  }

  #sessionEnded(session: string): void {
    if (this.#over || this.#session?.session !== session) return
    this.#deps.log.warn('session ended by the server', { session, code: 'attempt.stale_lease' })
    this.#session = null
    this.#shortLived = this.#deps.clock.monotonic() - this.#openedAt < SHORT_LIVED_MS ? this.#shortLived + 1 : 0
    this.#heartbeats?.stop()
    this.#heartbeats = null
    this.supervisor.sessionEnded()
    this.#poll.abort(new Error('session ended'))
  }

  async #sweep(): Promise<void> {
    if (this.#sweeping) return
    this.#sweeping = true
    try {
      while (this.supervisor.busy) {
        await this.#deps.clock.sleep(SWEEP_MS, this.#stop.signal)
        this.supervisor.sweep()
      }
    } catch {
      // The worker stops.
    }
    this.#sweeping = false
  }

  /** Workspaces that were kept for a while go when it is over. */
  async #sweepKept(): Promise<void> {
    const { backend, clock, log } = this.#deps
    if (!backend) return
    for (;;) {
      try {
        await clock.sleep(KEPT_SWEEP_MS, this.#stop.signal)
      } catch {
        return
      }
      await backend.sweepKept().catch((error: unknown) => {
        log.warn('kept workspaces could not be removed', { error: String(error) })
      })
    }
  }

  /** Drained: tells the server, so that it sends nothing after us, and ends. */
  async #leave(): Promise<void> {
    if (this.#over || this.#leaving) return
    this.#leaving = true
    if (this.#session) await this.#sayGoodBye(this.#session)
    this.#leaving = false
    // What came meanwhile is given back first; its acknowledgement leads here again.
    if (!this.supervisor.busy) await this.#end({ reason: 'drained' })
  }

  async #sayGoodBye(session: RegisterResponse): Promise<void> {
    const { lane } = this.#deps
    const request = { session: session.session, free: 0, draining: true, reports: [] }
    try {
      const options = { ms: FAREWELL_MS, signal: this.#stop.signal }
      await withDeadline(this.#deadlines, options, (cut) => lane.report(request, cut))
    } catch {
      // Without it the session ends with its lease.
    }
  }

  #fail(failure: Failure): void {
    this.#deps.log.error('the server refuses this worker', { code: failure.code, error: failure.message })
    void this.#end({ reason: 'failed', failure: failure.toRecord() })
  }

  async #end(end: WorkerEnd): Promise<void> {
    if (this.#over) return
    this.#over = true
    this.#session = null
    this.#heartbeats?.stop()
    // A refused worker stops all of its work; a stopped one leaves commands to its next life.
    const keepCommands = this.#deps.stateDir !== null && end.reason === 'stopped'
    const unsaved = this.supervisor.leave({ keepCommands })
    this.#poll.abort(new Error('worker ended'))
    this.#stop.abort(new Error('worker ended'))
    await this.#deps.outbox.save(unsaved)
    await this.#saved
    await this.supervisor.gone()
    await this.#deps.agents?.close()
    await this.#deps.outbox.close()
    this.#ended.resolve(end)
  }
}

/** A register that is refused for what it says would be refused for ever. */
function refusedRegister(error: unknown): Failure | null {
  return error instanceof Failure && error.code === 'request.invalid' ? error : null
}
