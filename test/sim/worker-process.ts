// A scripted worker: what the real one does on the wire, as a state machine that the scheduler turns.
import type { Json } from '../../src/base/json.ts'
import type {
  Assignment,
  HeldAttempt,
  Orders,
  PollRequest,
  RegisterRequest,
  Report,
  ReportAck,
  ReportRequest,
} from '../../src/contract/exchange.ts'
import { type FailureRecord, failureRecord } from '../../src/domain/failure.ts'
import type { ParkedOn } from '../../src/domain/agents/journal.ts'
import type { Engine } from '../../src/engine/index.ts'
import { AgentLife } from './agent-life.ts'
import type { Dice } from './dice.ts'
import type { Network } from './network.ts'

/** What stays the same over the lives of a worker. */
export interface WorkerSlot {
  name: string
  host: string
  capacity: number
  zone: string
  clockSkewMs: number
}

/** What a life leaves on its disk for the next one. */
export interface Remains {
  session: string | null
  attempts: Attempt[]
}

export type Exchange = Pick<Engine, 'register' | 'poll' | 'report' | 'heartbeat' | 'readJournal' | 'append'>

type EndBody =
  | { kind: 'succeeded'; output: Json }
  | { kind: 'failed'; failure: FailureRecord }
  | { kind: 'canceled' }
  | { kind: 'returned' }
  | { kind: 'parked'; on: ParkedOn }

type ReportBody = EndBody | { kind: 'started' } | { kind: 'log'; index: number }

interface PendingReport {
  attempt: Attempt
  seq: number
  body: ReportBody
}

export interface Attempt {
  key: string
  assignment: Assignment
  beganAt: number
  /** Null: it never ends by itself. */
  endsAt: number | null
  outcome: EndBody
  endedAt: number | null
  end: EndBody | null
  seq: number
  startSaid: boolean
  /** One of its reports is on its way. */
  busy: boolean
  /** Of an agent's step. */
  agent?: AgentLife
}

export interface WorkerDeps {
  slot: WorkerSlot
  pid: number
  dice: Dice
  network: Network
  now: () => number
  say: (text: string) => void
  /** The server that this request goes to. */
  server: () => Exchange
}

const ANSWER_MS = 3_000
const REPORTS_IN_FLIGHT = 2
const DONE_MAX = 5_000

export class WorkerProcess {
  readonly pid: number
  readonly slot: WorkerSlot
  readonly #deps: WorkerDeps
  readonly #held = new Map<string, Attempt>()
  readonly #done = new Set<string>()
  #gathered: PendingReport[] = []
  #reportsInFlight = 0
  session: string | null = null
  #former: string | null
  #heartbeatMs = 0
  #pollMs = 0
  #nextHeartbeat = 0
  #registerAt = 0
  #poll: { cut: AbortController; until: number } | null = null
  #pollAt = 0
  #reportAt = 0
  #inbox: (() => void)[] = []
  pausedUntil = 0
  /** Goes on under a session that has ended, until then. */
  stubbornUntil = 0
  draining = false
  /** Its good-bye is on its way until then. */
  #leavingUntil: number | null = null
  isAlive = true
  /** Another life of the same worker has begun beside it. */
  isTakenForDead = false

  constructor(deps: WorkerDeps, remains: Remains) {
    this.#deps = deps
    this.pid = deps.pid
    this.slot = deps.slot
    this.#former = remains.session
    for (const attempt of remains.attempts) this.#takeUp({ ...attempt, busy: false, seq: attempt.seq + 1_000 })
  }

  get held(): number {
    return this.#held.size
  }

  /** Its connections are made anew: what hangs in them does not come any more. */
  reconnect(): void {
    this.#cutPoll()
    this.#pollAt = 0
    for (const u of this.#unanswered.splice(0)) u.giveUp()
  }

  /** It has told of ends and was not answered: a bad moment to die. */
  get isOwedAnAnswer(): boolean {
    return [...this.#held.values()].some((a) => a.end !== null)
  }

  /** It has the attempt, or had it. */
  knows(key: string): boolean {
    return this.#held.has(key) || this.#done.has(key)
  }

  /** For the log of a seed that failed. */
  describe(): string {
    const now = this.#deps.now()
    const poll = this.#poll ? `polls until ${this.#poll.until - now}` : `polls again in ${this.#pollAt - now}`
    const reports = `${this.#gathered.length} reports gathered, ${this.#reportsInFlight} requests out`
    const held = [...this.#held.values()].map((a) => `${a.key.slice(-10)} ${a.end?.kind ?? 'runs'}`)
    return `session ${this.session}, zone ${this.slot.zone}, capacity ${this.slot.capacity}, ${poll}, ${reports}, holds ${held.join(', ')}`
  }

  /** Dies. What is on disk: the session, ends that were not acknowledged, commands that go on without their worker. */
  crash(): Remains {
    this.isAlive = false
    this.#poll?.cut.abort(new Error('worker died'))
    const survives = (a: Attempt) => a.end !== null || a.assignment.work.kind === 'command'
    return { session: this.session ?? this.#former, attempts: [...this.#held.values()].filter(survives) }
  }

  /** Finishes what it has, gives back what comes, says good-bye and goes. */
  drain(): void {
    this.draining = true
    this.#cutPoll()
    this.#pollAt = 0
  }

  /** The good-bye was heard, or is not waited for any longer. What came meanwhile is given back first. */
  #leave(): void {
    this.#leavingUntil = null
    if (this.#held.size > 0 || !this.isAlive) return
    this.isAlive = false
    this.#cutPoll()
    this.#deps.say('has left')
  }

  #sayGoodBye(session: string, now: number): void {
    this.#leavingUntil = now + ANSWER_MS
    this.#send(
      (server) => server.report(CALLER, { session, free: 0, draining: true, reports: [] }),
      () => this.#leave(),
      () => this.#leave(),
    )
  }

  /** One turn: whatever time has made due. */
  act(): void {
    const now = this.#deps.now()
    if (!this.isAlive || now < this.pausedUntil) return
    for (const hear of this.#inbox.splice(0)) hear()
    for (const attempt of [...this.#held.values()]) this.#work(attempt, now)
    if (this.draining && this.#held.size === 0) {
      if (this.session === null || (this.#leavingUntil !== null && now >= this.#leavingUntil)) this.#leave()
      else if (this.#leavingUntil === null) this.#sayGoodBye(this.session, now)
      if (!this.isAlive) return
    }
    if (this.session === null) {
      if (now >= this.#registerAt) this.#register(now)
      return
    }
    if (now >= this.#nextHeartbeat) this.#heartbeat(this.session, now)
    this.#flush(this.session, now)
    if (this.#poll && now >= this.#poll.until) this.#cutPoll()
    if (!this.#poll && now >= this.#pollAt) this.#ask(this.session, now)
  }

  #heardBy(handle: () => void): () => void {
    return () => {
      if (!this.isAlive) return
      if (this.#deps.now() < this.pausedUntil) this.#inbox.push(handle)
      else handle()
    }
  }

  #send<R>(serve: (server: Exchange) => Promise<R>, onOk: (ok: R) => void, onError: () => void): void {
    const server = this.#deps.server()
    this.#deps.network.send(
      () => serve(server),
      (reply) => this.#heardBy(() => ('ok' in reply ? onOk(reply.ok) : onError()))(),
    )
  }

  #register(now: number): void {
    const { slot, pid, dice, say } = this.#deps
    this.#registerAt = now + ANSWER_MS
    const request: RegisterRequest = {
      worker: slot.name,
      version: '0',
      host: slot.host,
      pid,
      pidStart: String(pid),
      clock: now + slot.clockSkewMs,
      capacity: slot.capacity,
      labels: { zone: slot.zone },
      namespaces: null,
      backends: ['function', 'process', 'agent'],
      modules: ['m'],
      replaces: this.#former,
      held: this.#list(),
    }
    say(`registers, replacing ${this.#former ?? 'nothing'}`)
    this.#send(
      (server) => server.register(CALLER, request),
      (reply) => {
        // A second answer, of a doubled or repeated request: the session that is used is the first one heard of.
        if (this.session !== null) return
        this.session = reply.session
        this.#former = reply.session
        this.#heartbeatMs = reply.heartbeatMs
        this.#pollMs = reply.pollMs
        this.#nextHeartbeat = 0
        const adopted = new Set(reply.adopted.map((h) => `${h.step}@${h.fence}`))
        for (const a of this.#held.values()) if (a.end === null && !adopted.has(a.key)) this.#forget(a)
        say(`opened ${reply.session}, adopted ${reply.adopted.length}`)
      },
      () => {
        this.#registerAt = this.#deps.now() + dice.int(100, 500)
      },
    )
  }

  #heartbeat(session: string, now: number): void {
    this.#nextHeartbeat = now + this.#heartbeatMs
    this.#send(
      (server) => server.heartbeat(CALLER, { session, clock: now + this.slot.clockSkewMs }),
      (reply) => this.#obey({ ...NO_ORDERS, sessionState: reply.sessionState }, session),
      () => {},
    )
  }

  #ask(session: string, now: number): void {
    const cut = new AbortController()
    const free = Math.max(0, this.slot.capacity - this.#held.size)
    const request: PollRequest = { session, free, held: this.#list(), draining: this.draining }
    const poll = { cut, until: now + this.#pollMs + 1_000 }
    this.#poll = poll
    const over = () => {
      if (this.#poll === poll) this.#poll = null
    }
    this.#send(
      (server) => server.poll(CALLER, request, cut.signal),
      (reply) => {
        over()
        this.#obey(reply, session)
      },
      () => {
        over()
        this.#pollAt = this.#deps.now() + this.#deps.dice.int(50, 300)
      },
    )
  }

  #cutPoll(): void {
    this.#poll?.cut.abort(new Error('cut'))
    this.#poll = null
  }

  #obey(reply: Orders & { sessionState: 'live' | 'ended' }, session: string): void {
    if (this.session !== session) return
    if (reply.sessionState === 'ended') {
      if (this.#deps.now() < this.stubbornUntil) return
      this.#deps.say(`hears that ${session} has ended`)
      this.session = null
      this.#cutPoll()
      this.#registerAt = 0
      const isLost = (a: Attempt) => a.end === null && a.assignment.work.kind !== 'command'
      for (const a of [...this.#held.values()]) if (isLost(a)) this.#forget(a)
      return
    }
    for (const { step, fence, reason } of reply.cancels) {
      const attempt = this.#held.get(`${step}@${fence}`)
      if (reason === 'attempt.stale_lease') {
        if (attempt && this.#deps.now() >= this.stubbornUntil) this.#forget(attempt)
      } else if (!attempt) this.#confirmUnknown(step, fence)
      else if (attempt.end === null) {
        attempt.outcome = { kind: 'canceled' }
        attempt.endsAt = this.#deps.now() + this.#deps.dice.int(0, 400)
      }
    }
    for (const a of reply.assignments) this.#accept(a)
  }

  #accept(assignment: Assignment): void {
    const key = `${assignment.step}@${assignment.fence}`
    if (this.#held.has(key) || this.#done.has(key)) return
    const now = this.#deps.now()
    const isAgent = assignment.work.kind === 'agent' && !this.draining
    const { endsAfter, outcome } = this.draining ? RETURNED : isAgent ? OPEN : fateOf(this.#deps.dice, assignment, key)
    this.#takeUp({
      ...(isAgent ? { agent: this.#agentOf(assignment, key) } : {}),
      ...{ key, assignment, beganAt: now, endsAt: endsAfter === null ? null : now + endsAfter, outcome },
      ...{ endedAt: null, end: null, seq: 0, startSaid: false, busy: false },
    })
  }

  #agentOf({ step, fence }: Assignment, key: string): AgentLife {
    const { dice, now } = this.#deps
    const session = () => this.session
    return new AgentLife({
      ...{ dice, now, key, step, fence, session },
      send: (serve, onOk, onError) =>
        this.#send(
          (server) =>
            serve({
              readJournal: (request) => server.readJournal(CALLER, request),
              append: (request) => server.append(CALLER, request),
            }),
          onOk,
          onError,
        ),
    })
  }

  #takeUp(attempt: Attempt): void {
    this.#held.set(attempt.key, attempt)
    if (attempt.end !== null) this.#gather(attempt, attempt.end)
  }

  /** A cancel of what never came here: confirmed, and passed over should it come after all. */
  #confirmUnknown(step: string, fence: number): void {
    const key = `${step}@${fence}`
    if (this.#done.has(key)) return
    const now = this.#deps.now()
    const assignment: Assignment = {
      ...{ step, fence, runId: '', name: '', workflow: '', namespace: '', tries: 0, timeoutMs: null },
      ...{ repeatable: true, path: [], outputSchema: null, work: { kind: 'function', function: '', input: null } },
    }
    const end: EndBody = { kind: 'canceled' }
    this.#takeUp({
      ...{ key, assignment, beganAt: now, endsAt: now, outcome: end, endedAt: now, end },
      ...{ seq: 0, startSaid: false, busy: false },
    })
  }

  #work(attempt: Attempt, now: number): void {
    if (attempt.end !== null) return
    const { timeoutMs, work } = attempt.assignment
    const agentEnd = attempt.endsAt === null ? attempt.agent?.act() : null
    if (attempt.agent?.isStale) return this.#forget(attempt)
    if (agentEnd) return this.#finish(attempt, agentEnd, now)
    if (!attempt.startSaid && now - attempt.beganAt >= 100) {
      attempt.startSaid = true
      this.#gather(attempt, { kind: 'started' })
      if (work.kind === 'command') this.#gather(attempt, { kind: 'log', index: 1 })
    }
    const isLate = timeoutMs !== null && attempt.endsAt !== null && now - attempt.beganAt >= timeoutMs
    if (isLate && attempt.outcome.kind !== 'canceled') this.#finish(attempt, timedOut(attempt.key), now)
    else if (attempt.endsAt !== null && now >= attempt.endsAt) this.#finish(attempt, attempt.outcome, now)
  }

  #finish(attempt: Attempt, end: EndBody, now: number): void {
    attempt.end = end
    attempt.endedAt = now
    this.#gather(attempt, end)
  }

  #gather(attempt: Attempt, body: ReportBody): void {
    this.#gathered.push({ attempt, seq: ++attempt.seq, body })
  }

  #flush(session: string, now: number): void {
    while (this.#reportsInFlight < REPORTS_IN_FLIGHT && now >= this.#reportAt) {
      const batch = this.#takeBatch()
      if (batch.length === 0) return
      this.#report(session, batch, now)
    }
  }

  /** Reports of one attempt are never in two requests at once, and its end goes alone. */
  #takeBatch(): PendingReport[] {
    const mine = new Set<Attempt>()
    const batch: PendingReport[] = []
    const left: PendingReport[] = []
    for (const report of this.#gathered) {
      const { attempt, body } = report
      if (this.#held.get(attempt.key) !== attempt) continue
      const isBehind = left.some((l) => l.attempt === attempt) || (mine.has(attempt) && isEnd(body))
      if ((attempt.busy && !mine.has(attempt)) || isBehind) left.push(report)
      else {
        attempt.busy = true
        mine.add(attempt)
        batch.push(report)
      }
    }
    this.#gathered = left
    return batch
  }

  #report(session: string, batch: PendingReport[], now: number): void {
    this.#reportsInFlight += 1
    const free = Math.max(0, this.slot.capacity - this.#held.size)
    const request: ReportRequest = {
      ...{ session, free, draining: this.draining },
      reports: batch.map((r) => wireReport(r, now)),
    }
    const until = now + ANSWER_MS
    let isOpen = true
    const close = (again: boolean) => {
      if (!isOpen) return false
      isOpen = false
      this.#reportsInFlight -= 1
      for (const r of batch) r.attempt.busy = false
      if (again) {
        this.#gathered = [...batch, ...this.#gathered]
        this.#reportAt = this.#deps.now() + this.#deps.dice.int(50, 400)
      }
      return true
    }
    this.#unanswered.push({ until, giveUp: () => close(true) })
    this.#send(
      (server) => server.report(CALLER, request),
      (reply) => {
        // An answer after the time-out: the reports are on their way again, the acknowledgements hold all the same.
        close(false)
        for (const [i, ack] of reply.acks.entries()) this.#acknowledged(batch[i], ack)
        this.#obey(reply, session)
      },
      () => close(true),
    )
  }

  readonly #unanswered: { until: number; giveUp: () => void }[] = []

  /** Requests whose answer does not come any more. */
  giveUpLate(): void {
    const now = this.#deps.now()
    if (now < this.pausedUntil) return
    for (const u of this.#unanswered.filter((w) => w.until <= now)) u.giveUp()
    this.#unanswered.splice(0, this.#unanswered.length, ...this.#unanswered.filter((w) => w.until > now))
  }

  #acknowledged(report: PendingReport | undefined, ack: ReportAck): void {
    const attempt = report?.attempt
    if (!report || !attempt || this.#held.get(attempt.key) !== attempt) return
    if (ack.outcome === 'stale' || isEnd(report.body)) this.#forget(attempt)
  }

  #forget(attempt: Attempt): void {
    this.#held.delete(attempt.key)
    if (this.#done.size > DONE_MAX) this.#done.clear()
    this.#done.add(attempt.key)
  }

  #list(): HeldAttempt[] {
    return [...this.#held.values()].map(({ assignment: { step, fence } }) => ({ step, fence }))
  }
}

export const CALLER = {
  actor: 'tok_sim',
  role: 'admin',
  organisation: '*',
  namespaces: null,
  requestId: 'sim',
} as const satisfies Record<string, unknown>

const NO_ORDERS: Orders = { assignments: [], cancels: [], drain: false }
/** It goes on until it says that it has ended. */
const OPEN = { endsAfter: null, outcome: { kind: 'canceled' } as const }
const RETURNED = { endsAfter: 0, outcome: { kind: 'returned' } as const }

const isEnd = (body: ReportBody): body is EndBody => body.kind !== 'started' && body.kind !== 'log'

const failed = (key: string): EndBody => ({
  kind: 'failed',
  failure: failureRecord('step.function_threw', `running ${key}`, { evidence: { attempt: key } }),
})

const timedOut = (key: string): EndBody => ({
  kind: 'failed',
  failure: failureRecord('step.timed_out', `running ${key}`, { evidence: { attempt: key } }),
})

/** How an attempt will go. Each output names its attempt, so that the store can be asked whose it is. */
function fateOf(dice: Dice, { work }: Assignment, key: string): { endsAfter: number | null; outcome: EndBody } {
  const what = work.kind === 'function' ? work.function : work.kind === 'command' ? (work.command[0] ?? '') : work.kind
  const good: EndBody = { kind: 'succeeded', output: { attempt: key } }
  const quick = dice.int(0, 150)
  switch (what) {
    case 'm.slow':
    case 'sleep':
      return { endsAfter: dice.int(500, 4_000), outcome: good }
    case 'm.flaky':
    case 'flaky':
      return { endsAfter: quick, outcome: dice.chance(0.5) ? failed(key) : good }
    case 'm.broken':
      return { endsAfter: quick, outcome: failed(key) }
    case 'm.hangs':
      return { endsAfter: dice.chance(0.3) ? null : 60_000, outcome: good }
    default:
      return { endsAfter: quick, outcome: good }
  }
}

function wireReport({ attempt, seq, body }: PendingReport, now: number): Report {
  const { step, fence } = attempt.assignment
  const endedAgoMs = attempt.endedAt === null ? null : now - attempt.endedAt
  const common = { step, fence, seq, startedAgoMs: now - attempt.beganAt, endedAgoMs }
  if (body.kind === 'log') {
    const segment = { index: body.index, stream: 'stdout' as const, agoMs: 0, text: attempt.key }
    return { ...common, kind: 'log', segments: [segment] }
  }
  return { ...common, ...body }
}
