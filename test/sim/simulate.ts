// One seed: faults for a while, then calm until every run has ended.
import type { Definition } from '../../src/domain/workflow.ts'
import type { StepRow } from './invariants.ts'
import { CALM, type Weather } from './network.ts'
import type { SimStore } from './store.ts'
import { boundTo, randomWorkflow, workflowBelow } from './workflows.ts'
import { Broken, World } from './world.ts'

export interface SimOptions {
  seed: number
  /** Turns of the world with faults. */
  ticks: number
  /** Workflows with steps that wait in rows, and people who send events and decide. */
  waits?: boolean
  /** Workers that are told to drain: they finish, say good-bye, go, and come again. */
  drains?: boolean
  /** Steps of agents, and people who decide about their calls. */
  agents?: boolean
}

export interface SimResult {
  seed: number
  lines: string[]
  /** What did not hold; null when all did. */
  broken: string | null
  runs: number
  ends: number
  turns: number
  /** Journaled by agents. */
  entries: number
}

export const DEFAULT_TICKS = 120
/** Agents of one run that wait for runs below them, each with turns of its own, take some hundred. */
const CALM_TURNS_MAX = 1_200
const CALM_TURN_MS = 400
/**
 * Longer than this, due or queued with a worker free, is too long when nothing is broken. Generous: behind a balancer a server learns
 * only in seconds that a slot is free again, and there is a backlog.
 */
const PATIENCE_MS = 25_000
/** An assignment whose reply was lost must be on its way again by then; later it would be given to another, which hides the loss. */
const UNSENT_MS = 5_000
/** The last turns with faults: much is under way and lost when the sky clears. */
const STORM_TURNS = 8
const STORM: Weather = { lossChance: 0.5, doubleChance: 0.1, lateChance: 0.1 }

export async function simulate(
  store: SimStore,
  { seed, ticks, waits = false, drains = false, agents = false }: SimOptions,
): Promise<SimResult> {
  await store.clear()
  const world = new World(store, seed, { servers: 2, workers: 3 })
  const result = (broken: string | null): SimResult => ({
    ...{ seed, broken, lines: world.lines },
    ...{ runs: world.snapshot.runs.length, ends: world.ledger.recorded.ends, turns },
    entries: world.journals.entries,
  })
  let turns = 0
  try {
    await store.setClock(world.clock.now())
    for (const i of world.servers.keys()) world.startServer(i)
    const client = new Client(world, { waits, agents })
    await client.prepare()
    for (const slot of world.slots) world.startWorker(slot, { session: null, attempts: [] })
    for (; turns < ticks; turns++) {
      if (drains) drainSome(world)
      if (ticks - turns > STORM_TURNS) stir(world)
      else world.network.weather = STORM
      await world.turn(world.dice.pick([20, 60, 120, 250, 250, 500]), client.wishes())
    }
    world.say('sky', 'clears')
    calm(world)
    turns += await untilAllEnded(world, agents ? () => client.answers() : () => [])
    return result(null)
  } catch (error) {
    if (!(error instanceof Broken)) throw error
    for (const w of world.workers) if (w.isAlive) world.say(`${w.slot.name}#${w.pid}`, w.describe())
    for (const s of world.snapshot.steps)
      if (s.state === 'running' || s.state === 'queued')
        world.say('left', `${s.run_id.slice(-5)}.${s.node}.${s.path} ${s.state} @${s.fence} ${s.session ?? ''}`)
    for (const s of await store.db.query<object>(
      `select id, state, held, draining, expires_at from session order by id`,
    ))
      world.say('session', JSON.stringify(s))
    world.say('homes', world.describeServers())
    return result(error.message)
  } finally {
    await putAway(world)
  }
}

/** Lets go of everything that still waits, so that the next seed finds the store alone. */
async function putAway(world: World): Promise<void> {
  for (const server of world.servers) if (server) server.db.alive = false
  for (const worker of world.workers) worker.crash()
  world.clock.advance(3_600_000)
  await world.store.settle()
}

/** Faults, each by chance. */
function stir(world: World): void {
  const { dice, network, servers, store } = world
  const now = world.clock.now()
  if (dice.chance(0.1)) {
    const lossChance = dice.pick([0, 0.05, 0.3])
    network.weather = { lossChance, doubleChance: dice.pick([0, 0.1, 0.3]), lateChance: dice.pick([0, 0.1, 0.4]) }
    world.answerLoss = dice.pick([0, 0, 0.01])
  }
  for (const [i, server] of servers.entries()) {
    if (!server && dice.chance(0.15)) world.startServer(i)
    else if (dice.chance(0.015)) world.killServer(i, dice.chance(0.3) ? 'now' : { statements: dice.int(0, 12) })
    else if (server && dice.chance(0.01)) server.pausedUntil = now + dice.int(500, 9_000)
  }
  if (dice.chance(0.01)) {
    store.outageUntil = now + dice.int(200, 6_000)
    world.say('store', `away until ${store.outageUntil - now} ms from now`)
  }
  for (const worker of world.workers.filter((w) => w.isAlive)) {
    if (dice.chance(worker.isOwedAnAnswer ? 0.04 : 0.01)) stopWorker(world, worker)
    else if (dice.chance(0.01)) {
      worker.pausedUntil = now + dice.int(1_000, 12_000)
      if (dice.chance(0.5)) worker.stubbornUntil = worker.pausedUntil + dice.int(0, 5_000)
      world.say(worker.slot.name, `#${worker.pid} sleeps ${worker.pausedUntil - now} ms`)
    }
  }
  for (const slot of world.slots) {
    const hasProcess = world.workers.some((w) => w.isAlive && w.slot === slot && !w.isTakenForDead)
    if (!hasProcess && dice.chance(0.2)) returnWorker(world, slot)
  }
}

/** Also in the middle of a storm: who leaves is owed answers then. */
function drainSome(world: World): void {
  for (const worker of world.workers.filter((w) => w.isAlive && !w.draining && !w.isTakenForDead)) {
    if (!world.dice.chance(0.03)) continue
    worker.drain()
    world.say(worker.slot.name, `#${worker.pid} drains`)
  }
}

/** It dies, or is taken for dead and goes on beside its successor for a while. */
function stopWorker(world: World, worker: World['workers'][number]): void {
  const { dice } = world
  if (dice.chance(0.4)) {
    const until = world.clock.now() + dice.int(500, 15_000)
    worker.stubbornUntil = until
    worker.isTakenForDead = true
    world.disks.set(worker.slot, { session: worker.session, attempts: [] })
    world.say(worker.slot.name, `#${worker.pid} is taken for dead`)
    return
  }
  const remains = worker.crash()
  world.say(worker.slot.name, `#${worker.pid} dies`)
  world.disks.set(worker.slot, remains)
}

function returnWorker(world: World, slot: World['slots'][number]): void {
  const { dice } = world
  const remains = world.disks.get(slot) ?? { session: null, attempts: [] }
  world.disks.delete(slot)
  const hasDisk = dice.chance(0.9)
  world.startWorker(slot, {
    // Without its session file it speaks of old attempts under a session that does not replace the old one.
    session: hasDisk && dice.chance(0.5) ? remains.session : null,
    attempts: hasDisk ? remains.attempts : [],
  })
}

/** Ends every fault: who lay down gets up, who went on beside another dies. */
function calm(world: World): void {
  const now = world.clock.now()
  world.network.weather = CALM
  world.answerLoss = 0
  world.store.outageUntil = 0
  for (const [i, server] of world.servers.entries()) {
    if (server) {
      server.pausedUntil = Math.min(server.pausedUntil, now)
      server.db.diesAfter = null
    } else world.startServer(i)
  }
  for (const worker of world.workers.filter((w) => w.isAlive)) {
    worker.pausedUntil = 0
    worker.stubbornUntil = 0
    worker.reconnect()
    if (worker.isTakenForDead) worker.crash()
  }
  for (const slot of world.slots)
    if (!world.workers.some((w) => w.isAlive && w.slot === slot)) returnWorker(world, slot)
}

/** `people`: who does what is owed them. */
async function untilAllEnded(world: World, people: () => (() => void)[]): Promise<number> {
  const since = new Map<string, { state: string; at: number }>()
  for (let turn = 1; turn <= CALM_TURNS_MAX; turn++) {
    // A worker that drained until now has successors.
    for (const slot of world.slots)
      if (!world.workers.some((w) => w.isAlive && w.slot === slot)) returnWorker(world, slot)
    await world.turn(CALM_TURN_MS, people())
    const now = world.clock.now()
    if (world.snapshot.runs.every((r) => r.ended)) return turn
    for (const step of world.snapshot.steps) {
      const key = `${step.run_id}.${step.node}.${step.path}`
      const isLate = step.due_ms !== null && step.due_ms <= now
      const isUnsent = step.state === 'running' && !isSent(world, step)
      const idle = step.state === 'queued' && hasIdle(world, step) ? 'queued' : ''
      const state = isLate ? 'due' : isUnsent ? `unsent@${step.fence}` : idle
      const before = since.get(key)
      if (before?.state !== state) since.set(key, { state, at: now })
      else if (isUnsent && now - before.at > UNSENT_MS)
        throw new Broken(`assignment lost: ${key}@${step.fence} was never sent again to ${step.session}`)
      else if (state !== '' && now - before.at > PATIENCE_MS)
        throw new Broken(`waits though it could run: ${key} is ${state} since ${now - before.at} ms`)
    }
  }
  const left = world.snapshot.runs.filter((r) => !r.ended).map((r) => r.id)
  const held = world.snapshot.steps.filter((s) => left.includes(s.run_id) && s.state === 'running')
  throw new Broken(
    `does not end: ${left.join(', ')}; running: ${held.map((s) => `${s.node}.${s.path}@${s.fence} by ${s.session}`).join(', ')}`,
  )
}

/** Its worker has it, or had it, or cannot be asked any more. */
function isSent(world: World, step: StepRow): boolean {
  const worker = world.workerOf(step.session ?? '')
  const name = `${step.run_id}.${step.node}${step.path === '' ? '' : `.${step.path}`}`
  return !worker || worker.knows(`${name}@${step.fence}`)
}

/** A worker that could take the step has a free slot. */
function hasIdle(world: World, step: StepRow): boolean {
  const definition = world.definitions.get(world.snapshot.runs.find((r) => r.id === step.run_id)?.definition ?? '')
  const zone = definition?.nodes[step.node]?.runsOn['zone']
  return world.workers.some(
    (w) => w.isAlive && w.session !== null && w.held < w.slot.capacity && (zone === undefined || zone === w.slot.zone),
  )
}

/** The people: they start, cancel, retry and skip. */
class Client {
  readonly #world: World
  readonly #waits: boolean
  readonly #agents: boolean
  readonly #hashes: string[] = []
  #keys = 0

  constructor(world: World, { waits, agents }: { waits: boolean; agents: boolean }) {
    this.#world = world
    this.#waits = waits
    this.#agents = agents
  }

  async prepare(): Promise<void> {
    const { dice, servers, definitions } = this.#world
    const made: Definition[] = Array.from({ length: 4 }, (_, i) =>
      randomWorkflow(dice, `flow-${i}`, { waits: this.#waits, agents: this.#agents }),
    )
    let hashBelow = ''
    if (this.#waits || this.#agents) {
      const below = workflowBelow()
      const stored = await servers[0]?.engine.putDefinition(this.#world.caller, below)
      hashBelow = stored?.hash ?? ''
      definitions.set(hashBelow, below)
    }
    for (const workflow of made) {
      const definition = this.#agents ? { ...workflow, bound: boundTo(hashBelow) } : workflow
      const { hash } = (await servers[0]?.engine.putDefinition(this.#world.caller, definition)) ?? { hash: '' }
      definitions.set(hash, definition)
      this.#hashes.push(hash)
    }
  }

  wishes(): (() => void)[] {
    const { dice } = this.#world
    const wishes: (() => void)[] = []
    if (dice.chance(0.12)) wishes.push(() => this.#create())
    if (dice.chance(0.02)) wishes.push(() => this.#byHand('cancel'))
    if (dice.chance(0.05)) wishes.push(() => this.#byHand('retry'))
    if (dice.chance(0.03)) wishes.push(() => this.#byHand('skip'))
    if (this.#waits && dice.chance(0.05)) wishes.push(() => this.#byHand('send'))
    if (this.#waits && dice.chance(0.05)) wishes.push(() => this.#byHand('decide'))
    // Every other one is left to expire.
    if (this.#agents && dice.chance(0.3)) wishes.push(() => this.#byHand('decide'))
    return wishes
  }

  /** What nobody decides about a lost call waits for ever. */
  answers(): (() => void)[] {
    return [() => this.#byHand('decide')]
  }

  #create(): void {
    const { dice } = this.#world
    // A key used twice stands for a request that was sent again.
    const key = dice.chance(0.3) ? `key-${Math.max(1, this.#keys)}` : `key-${++this.#keys}`
    const runs = Array.from({ length: dice.int(1, 3) }, (_, i) => ({
      definition: dice.any(this.#hashes) ?? '',
      inputs: {},
      labels: {},
      idempotencyKey: `${key}-${i}`,
      fingerprint: 'same',
    }))
    this.#world.ask('create', async (engine) =>
      (await engine.createRuns(this.#world.caller, runs)).map((o) => `${o.kind} ${o.runId}`).join(', '),
    )
  }

  #byHand(what: 'cancel' | 'retry' | 'skip' | 'send' | 'decide'): void {
    const { dice, snapshot, caller, definitions } = this.#world
    const run = dice.any(snapshot.runs)
    if (!run) return
    const nodes = definitions.get(run.definition)?.nodes ?? []
    const node = dice.any(nodes)
    // Of what takes turns one turn is skipped.
    const step = node?.turns ? `${node.name}[${dice.int(0, 2)}]` : (node?.name ?? '')
    this.#world.ask(`${what} ${run.id}`, async (engine) => {
      if (what === 'cancel') return (await engine.cancelRun(caller, run.id)).state
      // Every other step by itself: no dice more, so that the seeds which were kept stay the histories that they are.
      if (what === 'retry' && nodes.findIndex((n) => n.name === step) % 2 === 1)
        return (await engine.retryStep(caller, run.id, step)).state
      if (what === 'retry') return (await engine.retryRun(caller, run.id)).state
      if (what === 'send')
        return (await engine.sendEvent(caller, run.id, { name: 'ping', payload: 1, key: null })).state
      if (what === 'decide') {
        const filter = {
          namespace: null,
          states: ['pending' as const],
          runId: null,
          step: null,
          cursor: null,
          limit: 5,
        }
        const id = dice.any((await engine.listApprovals(caller, filter)).items)?.id
        if (id === undefined) return 'nothing is asked'
        const wish = { approved: dice.chance(0.7), comment: null, inputs: null }
        return (await engine.decideApproval(caller, id, wish)).state
      }
      return (await engine.skipStep(caller, run.id, step, { attempt: 'by hand' })).state
    })
  }
}
