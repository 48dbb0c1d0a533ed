// Servers, workers, a client and the faults that befall them, under one seeded scheduler and one clock.
import { createIds, HandClock, type Log, type LogFields } from '../../src/base/index.ts'
import { Failure } from '../../src/domain/failure.ts'
import type { Definition } from '../../src/domain/workflow.ts'
import { createEngine, type EngineTimes, type RunningEngine } from '../../src/engine/index.ts'
import { simGate } from './agent-life.ts'
import { Dice } from './dice.ts'
import { EventReader, checkSnapshot, readSnapshot, type Snapshot } from './invariants.ts'
import { JournalReader } from './journals.ts'
import { Ledger } from './ledger.ts'
import { Network } from './network.ts'
import { ServerDb, type SimStore } from './store.ts'
import { CALLER, type Exchange, type Remains, WorkerProcess, type WorkerSlot } from './worker-process.ts'

const START_MS = Date.UTC(2030, 0, 1)

/** Half of what is usual, so that a seed has twice the history. */
export const SIM_TIMES: EngineTimes = {
  leaseMs: 4_000,
  heartbeatMs: 1_000,
  pollMs: 10_000,
  tickMs: 500,
  acknowledgeMs: 8_000,
  dispatchGraceMs: 1_000,
  stallMs: 30_000,
  deadlineGraceMs: 1_000,
}

interface Server {
  name: string
  host: string
  db: ServerDb
  engine: RunningEngine
  nextTick: number
  pausedUntil: number
  ticking: boolean
  /** Ticks in a row that reached the store. */
  steady: number
}

const ROUNDS_MAX = 6

/** Something that no fault excuses. */
export class Broken extends Error {
  override name = 'Broken'
}

export class World {
  readonly clock = new HandClock(START_MS)
  readonly dice: Dice
  readonly network: Network
  readonly store: SimStore
  readonly ledger = new Ledger((session) => this.#openedBy.get(session)?.isAlive === false)
  readonly #openedBy = new Map<string, WorkerProcess>()
  readonly events = new EventReader()
  readonly journals = new JournalReader()
  readonly definitions = new Map<string, Definition>()
  readonly lines: string[] = []
  readonly broken: string[] = []
  readonly servers: (Server | null)[]
  readonly workers: WorkerProcess[] = []
  readonly slots: WorkerSlot[]
  /** What workers that died left for their next lives. */
  readonly disks = new Map<WorkerSlot, Remains>()
  snapshot: Snapshot = { runs: [], steps: [] }
  /** Chance that a statement is carried out and its answer lost. */
  answerLoss = 0
  /** Requests go to any server, as behind a balancer; else a worker stays with one while it answers. */
  readonly isBalanced: boolean
  readonly #homes = new Map<string, number>()
  readonly #engineDice: Dice
  #lives = 0
  #pids = 1_000

  constructor(store: SimStore, seed: number, options: { servers: number; workers: number }) {
    this.store = store
    this.dice = new Dice(seed)
    this.#engineDice = new Dice(seed + 0x5eed)
    this.network = new Network(this.dice, () => this.clock.now())
    this.isBalanced = this.dice.chance(0.3)
    this.servers = Array.from({ length: options.servers }, () => null)
    this.slots = Array.from({ length: options.workers }, (_, i) => ({
      name: `w${i}`,
      host: i === 0 ? 'host0' : 'elsewhere',
      capacity: this.dice.int(1, 4),
      zone: i % 2 === 0 ? 'a' : 'b',
      clockSkewMs: this.dice.pick([0, 0, -3_600_000, 86_400_000 * 40]),
    }))
  }

  say(who: string, text: string): void {
    this.lines.push(`${String(this.clock.now() - START_MS).padStart(7)} ${who} ${text}`)
  }

  /** An error that a fault explains is a line of the log; any other is a defect. */
  excuse(who: string, what: string, error: unknown): void {
    if (error instanceof Failure) this.say(who, `${what}: ${error.code}`)
    else this.broken.push(`${who} ${what}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
  }

  startServer(index: number): void {
    const life = ++this.#lives
    const name = `s${index}.${life}`
    const now = () => this.clock.now()
    const db = new ServerDb(this.store, now, () => this.answerLoss > 0 && this.dice.chance(this.answerLoss))
    const host = `host${index}`
    const engine = createEngine({
      db,
      clock: this.clock,
      ids: createIds(this.clock, this.#engineDice.random),
      random: this.#engineDice.random,
      log: this.#logOf(name),
      metrics: { count: () => {}, gauge: () => {}, observe: () => {} },
      serverId: `srv_${name}`,
      version: 'sim',
      address: null,
      host,
      isAlive: (pid) => this.#isAlive(host, pid),
      times: SIM_TIMES,
      gate: simGate,
    })
    this.servers[index] = { name, host, db, engine, nextTick: now(), pausedUntil: 0, ticking: false, steady: 0 }
    this.say(name, 'starts')
  }

  #logOf(name: string): Log {
    const line =
      (level: string) =>
      (message: string, fields: LogFields = {}) => {
        this.say(name, `${level}: ${message} ${JSON.stringify(fields)}`)
        // Runs that a tick cannot settle are a defect, unless the store was away.
        if (level === 'error' && !/server is dead|outage|answer lost|asking the database/.test(String(fields['err'])))
          this.broken.push(`${name} ${message}: ${String(fields['err'])}`)
      }
    const log: Log = {
      debug: () => {},
      info: () => {},
      warn: line('warn'),
      error: line('error'),
      child: () => log,
    }
    return log
  }

  #isAlive(host: string, pid: number): boolean | null {
    const process = this.workers.find((w) => w.pid === pid)
    return process && process.slot.host === host ? process.isAlive : null
  }

  killServer(index: number, when: 'now' | { statements: number }): void {
    const server = this.servers[index]
    if (!server) return
    if (when !== 'now') {
      server.db.diesAfter = when.statements
      return
    }
    server.db.alive = false
    this.servers[index] = null
    this.say(server.name, 'dies')
  }

  /** Buries servers that died in the middle of something. */
  buryServers(): void {
    for (const [i, server] of this.servers.entries()) if (server && !server.db.alive) this.killServer(i, 'now')
  }

  startWorker(slot: WorkerSlot, remains: Remains): WorkerProcess {
    const pid = ++this.#pids
    const process = new WorkerProcess(
      {
        slot,
        pid,
        dice: this.dice,
        network: this.network,
        now: () => this.clock.now(),
        say: (text) => this.say(`${slot.name}#${pid}`, text),
        server: () => this.#exchangeFor(slot),
      },
      remains,
    )
    this.say(`${slot.name}#${pid}`, `starts with ${remains.attempts.length} attempts`)
    this.workers.push(process)
    return process
  }

  /** The server that a worker's next request reaches, as it is now; a dead one refuses. */
  #exchangeFor(slot: WorkerSlot): Exchange {
    const count = this.servers.length
    let index = this.#homes.get(slot.name) ?? this.dice.int(0, count - 1)
    const server = this.servers[index]
    const isAway = !server || this.clock.now() < server.pausedUntil
    if (this.isBalanced || isAway) index = this.dice.int(0, count - 1)
    this.#homes.set(slot.name, index)
    return this.#exchangeAt(index)
  }

  #exchangeAt(index: number): Exchange {
    const reach = async <R>(call: (engine: RunningEngine) => Promise<R>): Promise<R> => {
      const server = this.servers[index]
      if (!server) throw new Failure('client.server_unreachable', 'reaching a server')
      while (this.clock.now() < server.pausedUntil) await this.clock.sleep(server.pausedUntil - this.clock.now())
      try {
        const answer = await call(server.engine)
        if (!server.db.alive) throw new Failure('client.server_unreachable', 'reaching a server')
        return answer
      } catch (error) {
        if (server.db.alive) this.excuse(server.name, 'answers', error)
        throw error
      }
    }
    return {
      register: (caller, request) =>
        reach(async (e) => {
          const response = await e.register(caller, request)
          const process = this.workers.find((w) => w.pid === request.pid)
          if (process) this.#openedBy.set(response.session, process)
          return response
        }),
      heartbeat: (caller, request) => reach((e) => e.heartbeat(caller, request)),
      poll: (caller, request, signal) =>
        reach(async (e) => {
          const short = request.session.slice(-5)
          this.say(`poll`, `${short} at ${this.servers[index]?.name} with ${request.held.length} held`)
          const response = await e.poll(caller, request, signal)
          this.say(
            'poll',
            `${short} ${response.sessionState}, gets ${response.assignments.map((a) => `${a.step.slice(-8)}@${a.fence}`).join(', ')}`,
          )
          return response
        }),
      readJournal: (caller, request) => reach((e) => e.readJournal(caller, request)),
      append: (caller, request) =>
        reach(async (e) => {
          const response = await e.append(caller, request)
          const kinds = request.entries.map((entry) => entry.kind).join(', ')
          this.say('append', `${request.step.slice(-8)}@${request.fence} ${request.n} ${kinds}: ${response.state}`)
          return response
        }),
      report: (caller, request) =>
        reach(async (e) => {
          this.ledger.asked(request)
          const response = await e.report(caller, request)
          this.ledger.answered(request, response)
          this.say('ack', response.acks.map((a) => `${a.step.slice(-8)}@${a.fence} ${a.outcome}`).join(', '))
          return response
        }),
    }
  }

  /** The worker that opened a session, while it uses it. */
  workerOf(session: string): WorkerProcess | null {
    const process = this.#openedBy.get(session)
    return process?.isAlive && process.session === session ? process : null
  }

  /** For the log of a seed that failed. */
  describeServers(): string {
    const servers = this.servers.map(
      (s) => `${s?.name} ticks in ${(s?.nextTick ?? 0) - this.clock.now()}, steady ${s?.steady}`,
    )
    return `${servers.join('; ')}; workers at ${JSON.stringify([...this.#homes])}, balanced ${this.isBalanced}`
  }

  /** A server that is up, for the client. */
  anyServer(): RunningEngine | null {
    const up = this.servers.filter((s) => s !== null && this.clock.now() >= s.pausedUntil)
    return this.dice.any(up)?.engine ?? null
  }

  #tick(server: Server): void {
    const now = this.clock.now()
    if (server.ticking || now < server.nextTick || now < server.pausedUntil) return
    server.ticking = true
    server.engine.tick().then(
      (next) => {
        server.ticking = false
        server.steady += 1
        server.nextTick = this.clock.now() + Math.max(1, next)
      },
      (error: unknown) => {
        server.ticking = false
        server.steady = 0
        server.nextTick = this.clock.now() + SIM_TIMES.tickMs
        if (server.db.alive) this.excuse(server.name, 'ticks', error)
      },
    )
  }

  /** One turn of the world: time passes, everybody acts in some order, all of it settles, and everything must hold. */
  async turn(ms: number, extra: (() => void)[] = []): Promise<void> {
    this.clock.advance(ms)
    await this.store.setClock(this.clock.now())
    const acts = [
      ...this.network.arrived(),
      ...this.servers.flatMap((s) => (s ? [() => this.#tick(s)] : [])),
      ...this.workers.map((w) => () => {
        w.giveUpLate()
        w.act()
      }),
      ...extra,
    ]
    // Answers that take no time are heard, and answered, in the same turn.
    for (let due = acts, round = 1; due.length > 0; due = round++ < ROUNDS_MAX ? this.network.arrived() : []) {
      for (const act of this.dice.shuffle(due)) act()
      await this.store.settle()
      for (const w of this.workers) w.act()
      await this.store.settle()
    }
    this.buryServers()
    await this.check()
  }

  async check(): Promise<void> {
    const audit = await this.store.takeAudit()
    for (const a of audit)
      this.say(
        'row',
        `${a.run_id.slice(-5)}.${a.node ?? 'run'}${a.path && `.${a.path}`} ${a.from_state}>${a.to_state} @${a.to_fence} ${a.to_session?.slice(-5) ?? ''}`,
      )
    this.broken.push(...this.ledger.check(audit))
    this.snapshot = await readSnapshot(this.store.db)
    this.broken.push(...checkSnapshot(this.snapshot, this.definitions))
    this.broken.push(...(await this.journals.check(this.store.db, this.snapshot.steps)))
    this.broken.push(...(await this.events.check(this.store.db, this.snapshot, this.definitions)))
    const first = this.broken[0]
    if (first !== undefined) throw new Broken(first)
  }

  /** What a person asks for, through any server. */
  ask(what: string, work: (engine: RunningEngine) => Promise<string>): void {
    const engine = this.anyServer()
    if (!engine) return
    work(engine).then(
      (said) => this.say('client', `${what}: ${said}`),
      (error: unknown) => this.excuse('client', what, error),
    )
  }

  get caller(): typeof CALLER {
    return CALLER
  }
}
