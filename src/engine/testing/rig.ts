import { afterAll, beforeAll, beforeEach } from 'vitest'
import { type Clock, HandClock } from '../../base/clock.ts'
import { createIds } from '../../base/ids.ts'
import type { Json, JsonObject } from '../../base/json.ts'
import { silentLog } from '../../base/log.ts'
import { noMetrics } from '../../base/metrics.ts'
import { seededRandom } from '../../base/random.ts'
import type {
  Assignment,
  HeldAttempt,
  PollResponse,
  RegisterRequest,
  Report,
  ReportResponse,
} from '../../contract/exchange.ts'
import { type AnySpec, definitionOf, type NodeSpec } from '../../domain/testing/definitions.ts'
import type { Db } from '../../store/db.ts'
import { openInMemory } from '../../store/testing/embedded.ts'
import { StoreRig } from '../../store/testing/rig.ts'
import type { EngineDeps, EngineTimes } from '../context.ts'
import { createEngine, DEFAULT_TIMES, type RunningEngine } from '../create-engine.ts'
import type { Caller } from '../engine.ts'

export const ADMIN: Caller = {
  actor: 'tok_admin',
  role: 'admin',
  organisation: '*',
  namespaces: null,
  requestId: 'req',
}
export const WORKER: Caller = {
  actor: 'tok_worker',
  role: 'worker',
  organisation: '*',
  namespaces: null,
  requestId: 'req',
}

const START_MS = Date.UTC(2026, 0, 1)
const TABLES =
  'server, run, step, step_output, attempt, event, log_segment, session, idempotency_key, token, resource, resource_version, approval, sent_event, run_deadline, stop_wish, secret_value, audit, artifact, blob, blob_chunk, exported_env, memory_scope, memory_entry, memory_call, journal, budget_wake, spending, spending_hold, budget_counter, budget_alert'
/** Not `truncate`, which makes files anew: forty milliseconds for tables of a few rows, before each test. */
const EMPTY = `with ${TABLES.split(', ')
  .map((table) => `of_${table} as (delete from ${table})`)
  .join(', ')} select 1`

/** What goes wrong with the statement of a name: before it is sent, or after it was done and before its answer comes back. */
export interface Faults {
  before?: (name: string) => Promise<void> | void
  after?: (name: string) => Promise<void> | void
}

/** A workflow of one step. */
export const one: NodeSpec[] = [{ name: 'a' }]

/** One rig for the tests of a file, emptied before each of them and then handed to it. */
export function useRig(each: (rig: EngineRig) => void): void {
  let rig: EngineRig
  beforeAll(async () => {
    rig = await EngineRig.open()
  })
  afterAll(() => rig.close())
  beforeEach(async () => {
    await rig.reset()
    each(rig)
  })
}

/** Engines over one store in memory, under one clock that the test turns: host's and database's together. */
export class EngineRig {
  readonly clock = new HandClock(START_MS)
  readonly random = seededRandom(7)
  readonly ids = createIds(this.clock, this.random)
  readonly faults: Faults = {}
  readonly logged: { message: string; fields: unknown }[] = []
  readonly store: StoreRig
  readonly db: Db
  readonly #real: Db
  #servers = 0

  private constructor(real: Db) {
    this.#real = real
    const asked = async <R>(name: string | undefined, ask: () => Promise<R>): Promise<R> => {
      await this.faults.before?.(name ?? '')
      const rows = await ask()
      await this.faults.after?.(name ?? '')
      return rows
    }
    this.db = {
      ...real,
      query: (sql, params, options) => asked(options?.name, () => real.query(sql, params, options)),
      transaction: (work) =>
        real.transaction((tx) =>
          work({
            query: (sql, params, options) => asked(options?.name, () => tx.query(sql, params, options)),
          }),
        ),
    }
    this.store = new StoreRig(real)
  }

  static async open(): Promise<EngineRig> {
    const rig = new EngineRig(await openInMemory())
    await rig.advance(0)
    return rig
  }

  /** Forgets all runs and workers; definitions stay. */
  async reset(): Promise<void> {
    delete this.faults.before
    delete this.faults.after
    this.logged.length = 0
    await this.#real.query(EMPTY, [], { name: 'rig_empty' })
  }

  close(): Promise<void> {
    return this.#real.close()
  }

  async advance(ms: number): Promise<void> {
    this.clock.advance(ms)
    await this.#real.query(`select set_config('orrery.now', $1, false)`, [new Date(this.clock.now()).toISOString()])
  }

  engine(extra: Partial<Omit<EngineDeps, 'times'>> & { times?: Partial<EngineTimes> } = {}): RunningEngine {
    const log = {
      ...silentLog,
      warn: (message: string, fields?: unknown) => void this.logged.push({ message, fields }),
      error: (message: string, fields?: unknown) => void this.logged.push({ message, fields }),
    }
    return createEngine({
      db: this.db,
      clock: this.clock,
      ids: this.ids,
      random: this.random,
      log,
      metrics: noMetrics,
      serverId: `srv_${++this.#servers}`,
      version: '0',
      address: null,
      host: 'here',
      isAlive: () => null,
      ...extra,
      times: { ...DEFAULT_TIMES, pollMs: 0, ...extra.times },
    })
  }

  /** Stores a workflow through an engine; gives its hash. */
  async put(engine: RunningEngine, specs: AnySpec[], extra: Parameters<typeof definitionOf>[1] = {}): Promise<string> {
    return (await engine.putDefinition(ADMIN, definitionOf(specs, extra))).hash
  }

  async start(engine: RunningEngine, definition: string, inputs: JsonObject = {}, caller = ADMIN): Promise<string> {
    const [runId = ''] = await this.startMany(engine, definition, 1, inputs, caller)
    return runId
  }

  /** Starts runs by one request; gives their ids, oldest first. */
  async startMany(engine: RunningEngine, definition: string, count: number, inputs: JsonObject = {}, caller = ADMIN) {
    const run = { definition, inputs, labels: {}, idempotencyKey: null, fingerprint: null }
    const outcomes = await engine.createRuns(
      caller,
      Array.from({ length: count }, () => run),
    )
    const ids = outcomes.flatMap((o) => (o.kind === 'created' ? [o.runId] : []))
    if (ids.length < count) throw new Error(`runs were not created: ${JSON.stringify(outcomes)}`)
    return ids.sort()
  }

  /** Nothing can be settled any more of what these runs do, until `mend` is called. */
  async breakRuns(runs: string[]): Promise<{ mend: () => Promise<unknown> }> {
    const [row] = await this.#real.query<{ definition: string }>(`select definition from run where id = $1`, [runs[0]])
    const point = (at: string) => this.#real.query(`update run set definition = $2 where id = any($1)`, [runs, at])
    await point('gone')
    return { mend: () => point(row?.definition ?? '') }
  }

  async worker(engine: RunningEngine, extra: Partial<RegisterRequest> & { caller?: Caller } = {}): Promise<RigWorker> {
    const { caller = WORKER, ...request } = extra
    const { session, adopted } = await engine.register(caller, {
      worker: 'w',
      version: '0',
      host: 'there',
      pid: 1,
      pidStart: null,
      clock: this.clock.now(),
      capacity: 4,
      labels: {},
      namespaces: null,
      backends: ['function'],
      modules: ['m'],
      replaces: null,
      held: [],
      ...request,
    })
    const worker = new RigWorker(engine, caller, session, this.clock)
    for (const h of adopted) worker.held.set(`${h.step}@${h.fence}`, h)
    return worker
  }

  /** A run whose first step a worker holds, and has shown that it does. */
  async startHeld(engine: RunningEngine, specs: NodeSpec[] = one, extra: Partial<RegisterRequest> = {}) {
    const worker = await this.worker(engine, extra)
    const runId = await this.start(engine, await this.put(engine, specs))
    const a = await worker.pollFirst()
    await worker.poll()
    return { worker, runId, a }
  }

  /** States of a run's steps by name. */
  async states(runId: string): Promise<Record<string, string>> {
    const rows = await this.#real.query<{ name: string; path: string; state: string }>(
      `select dn.name, s.path, s.state from step s join run on run.id = s.run_id
         join definition_node dn on dn.definition = run.definition and dn.node = s.node
        where s.run_id = $1 order by s.node, s.path`,
      [runId],
    )
    return Object.fromEntries(rows.map((r) => [r.path === '' ? r.name : `${r.name}[${Number(r.path)}]`, r.state]))
  }
}

/** A worker that does what the test says. It holds what it was given until it has reported it. */
export class RigWorker {
  readonly session: string
  readonly held = new Map<string, HeldAttempt>()
  readonly #caller: Caller
  readonly #clock: Clock
  #engine: RunningEngine
  #seq = 0

  constructor(engine: RunningEngine, caller: Caller, session: string, clock: Clock) {
    this.#engine = engine
    this.#clock = clock
    this.#caller = caller
    this.session = session
  }

  get caller(): Caller {
    return this.#caller
  }

  /** From now on it speaks to another server. */
  moveTo(engine: RunningEngine): void {
    this.#engine = engine
  }

  async poll(options: { signal?: AbortSignal; held?: HeldAttempt[]; draining?: boolean } = {}): Promise<PollResponse> {
    const held = options.held ?? [...this.held.values()]
    const request = { session: this.session, free: 4, held, draining: options.draining ?? false }
    const reply = await this.#engine.poll(this.#caller, request, options.signal ?? new AbortController().signal)
    this.#take(reply.assignments)
    return reply
  }

  /** The first assignment that a poll brings. */
  async pollFirst(): Promise<Assignment> {
    const [first] = (await this.poll()).assignments
    if (!first) throw new Error('nothing assigned')
    return first
  }

  /** A poll whose answer is lost on the way: the worker does not hold what it carried. */
  async losePoll(): Promise<Assignment[]> {
    const before = new Map(this.held)
    const { assignments } = await this.poll()
    this.held.clear()
    for (const [k, v] of before) this.held.set(k, v)
    return assignments
  }

  #take(assignments: readonly Assignment[]): void {
    for (const a of assignments) this.held.set(`${a.step}@${a.fence}`, { step: a.step, fence: a.fence })
  }

  async send(reports: Report[]): Promise<ReportResponse> {
    const reply = await this.#engine.report(this.#caller, { session: this.session, free: 4, draining: false, reports })
    for (const ack of reply.acks) {
      const report = reports.find((r) => r.seq === ack.seq)
      if (report && report.kind !== 'started' && report.kind !== 'log') this.held.delete(`${ack.step}@${ack.fence}`)
    }
    this.#take(reply.assignments)
    return reply
  }

  /** Says good-bye after a drain. */
  leave(): Promise<ReportResponse> {
    return this.#engine.report(this.#caller, { session: this.session, free: 0, draining: true, reports: [] })
  }

  report(attempt: HeldAttempt, body: ReportBody): Promise<ReportResponse> {
    return this.send([this.reportOf(attempt, body)])
  }

  reportOf({ step, fence }: HeldAttempt, body: ReportBody): Report {
    return { step, fence, seq: ++this.#seq, startedAgoMs: 2, endedAgoMs: 1, ...body }
  }

  done(attempt: HeldAttempt, output: Json = null): Promise<ReportResponse> {
    return this.report(attempt, { kind: 'succeeded', output })
  }

  heartbeat(): Promise<{ sessionState: 'live' | 'ended' }> {
    return this.#engine.heartbeat(this.#caller, { session: this.session, clock: this.#clock.now() })
  }
}

type Common = 'step' | 'fence' | 'seq' | 'startedAgoMs' | 'endedAgoMs'
/** What a report says beside which attempt it is of. */
type ReportBody = Report extends infer R ? (R extends Report ? Omit<R, Common> : never) : never
