import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Report } from '../../src/contract/exchange.ts'
import type { Happening } from '../../src/domain/advance/happenings.ts'
import type { ParkedOn } from '../../src/domain/agents/journal.ts'
import { failureRecord } from '../../src/domain/failure.ts'
import { displayName, keyText, pathOf, type StepKey } from '../../src/domain/step.ts'
import { boundOf, definitionOf } from '../../src/domain/testing/definitions.ts'
import { MemoryRun } from '../../src/domain/testing/memory-run.ts'
import type { RunningEngine } from '../../src/engine/index.ts'
import { ADMIN, EngineRig, type RigWorker } from '../../src/engine/testing/rig.ts'
import { stepOfRow } from '../../src/store/steps/step-rows.ts'
import { endOf, type Graph, graphs } from './generate.ts'

const RUNS = 40
/** More rounds than any of these graphs can need. */
const ROUNDS_MAX = 400

let rig: EngineRig
beforeAll(async () => {
  rig = await EngineRig.open()
})
afterAll(() => rig.close())

const failure = failureRecord('step.function_threw', 'testing')

/** One run, executed twice: by a real engine with its SQL, and by the pure machine over a map. */
class Twin {
  readonly memory: MemoryRun
  readonly #engine: RunningEngine
  readonly #worker: RigWorker
  readonly runId: string
  /** What the machine told of, `step>state`. */
  readonly #told: string[] = []
  /** Held by the worker, and leased in memory under the same fence. */
  readonly #leases = new Map<string, StepKey & { fence: number; session: string }>()

  constructor(memory: MemoryRun, engine: RunningEngine, worker: RigWorker, runId: string) {
    this.memory = memory
    this.#engine = engine
    this.#worker = worker
    this.runId = runId
  }

  static async start({ specs, failFast, inputs }: Graph): Promise<Twin> {
    await rig.reset()
    const engine = rig.engine()
    const worker = await rig.worker(engine, { capacity: 1_000, backends: ['function', 'agent'] })
    const definition = definitionOf(specs, { failFast, bound: boundOf() })
    const { hash } = await engine.putDefinition(ADMIN, definition)
    const runId = await rig.start(engine, hash, inputs)
    const twin = new Twin(new MemoryRun(definition, inputs, rig.clock.now()), engine, worker, runId)
    for (const step of twin.memory.inState('queued')) twin.#told.push(`${twin.#name(step)}>queued`)
    await twin.rest()
    return twin
  }

  #name({ node, path }: StepKey): string {
    return displayName(this.memory.definition.nodes[node]?.name ?? '', path)
  }

  #happen(...happenings: Parameters<MemoryRun['happen']>): void {
    const result = this.memory.happen(...happenings)
    for (const c of result.changes) this.#told.push(`${this.#name(c)}>${c.to}`)
  }

  /** Lets both come to rest: nothing is due, and the worker holds whatever is queued. */
  async rest(): Promise<void> {
    for (let round = 0; ; round++) {
      expect(round).toBeLessThan(ROUNDS_MAX)
      await this.#engine.tick()
      const due = await rig.db.query(
        `select 1 from step where run_id = $1 and due_at <= clock_now() and state <> 'running' limit 1`,
        [this.runId],
      )
      if (due.length === 0) break
    }
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const due = [...this.memory.steps.values()].filter((s) => s.dueAt !== null && s.dueAt <= this.memory.now)
      if (due.length === 0) break
      this.#happen(...due.map((s): Happening => ({ type: 'due', node: s.node, path: s.path })))
    }
    await this.#worker.poll()
    for (const [key, { step }] of this.#worker.held) {
      if (this.#leases.has(key)) continue
      const [, node = '', path = ''] = step.split('.')
      this.#leases.set(key, this.memory.lease({ node: Number(node), path }, this.#worker.session))
    }
    await this.expectEqual()
  }

  async expectEqual(): Promise<void> {
    const rows = await rig.db.query<Parameters<typeof stepOfRow>[0]>('select * from step where run_id = $1', [
      this.runId,
    ])
    const byKey = (steps: Iterable<ReturnType<typeof stepOfRow>>) =>
      Object.fromEntries(
        [...steps].map((s) => [
          `${this.#name(s)} ${keyText(s)}`,
          // The id of an approval follows from that of its run.
          { ...s, ...('failure' in s ? { failure: codeOf(s) } : {}), ...('on' in s ? { on: onOf(s) } : {}) },
        ]),
      )
    expect(byKey(rows.map(stepOfRow))).toEqual(byKey(this.memory.steps.values()))
    const run = await rig.store.runRow(this.runId)
    const { open, active, bad, total, stop } = this.memory.run
    expect({ open: run.open, active: run.active, bad: run.bad, total: run.total, stop: run.stop }).toEqual({
      open,
      active,
      bad,
      total,
      stop,
    })
    expect(run.ended ? run.state : null).toBe(this.memory.ended)
    const told = (await rig.store.transitions(this.runId)).filter(
      (t) => !t.startsWith('run>') && !t.endsWith('>running'),
    )
    expect(told.toSorted()).toEqual(this.#told.toSorted())
    const seqs = await rig.store.eventSeqs(this.runId)
    expect(seqs).toEqual(seqs.map((_, i) => i + 1))
  }

  get held(): string[] {
    return [...this.#worker.held.keys()]
  }

  /** Ends attempts, in one batch and this order, as their identities say. */
  async end(keys: readonly string[], seed: number): Promise<void> {
    const reports: Report[] = []
    const happenings: Happening[] = []
    for (const key of keys) {
      const lease = this.#leases.get(key)
      const held = this.#worker.held.get(key)
      if (!lease || !held) throw new Error(`${key} is not held`)
      this.#leases.delete(key)
      const end = endOf(seed, this.#name(lease), lease.fence)
      const isAgent = this.memory.definition.nodes[lease.node]?.kind === 'agent'
      const on = isAgent ? parkOf(seed, this.#name(lease), lease.fence) : null
      if (on) {
        reports.push(this.#worker.reportOf(held, { kind: 'parked', on }))
        happenings.push({ ...lease, type: 'attempt_parked', on })
      } else if (end.kind === 'failed') {
        reports.push(this.#worker.reportOf(held, { kind: 'failed', failure }))
        happenings.push({ ...lease, type: 'attempt_failed', failure })
      } else if (end.kind === 'returned') {
        reports.push(this.#worker.reportOf(held, { kind: 'returned' }))
        happenings.push({ ...lease, type: 'attempt_returned' })
      } else {
        reports.push(this.#worker.reportOf(held, { kind: 'succeeded', output: end.output }))
        happenings.push({ ...lease, type: 'attempt_succeeded', output: end.output })
      }
    }
    const { acks } = await this.#worker.send(reports)
    expect(acks.map((a) => a.outcome)).toEqual(acks.map(() => 'recorded'))
    this.#happen(...happenings)
    await this.rest()
  }

  async cancel(): Promise<void> {
    await this.#engine.cancelRun(ADMIN, this.runId)
    this.#happen({ type: 'stop', why: 'cancel' })
    await this.rest()
  }

  /** Decides about every call that is asked about. False when none is. */
  async decide(): Promise<boolean> {
    const { runId } = this
    const filter = { namespace: null, states: ['pending' as const], runId, step: null, cursor: null, limit: 100 }
    const { items } = await this.#engine.listApprovals(ADMIN, filter)
    for (const { id, step } of items.filter(({ call }) => call !== null)) {
      const approved = step.length % 2 === 0
      await this.#engine.decideApproval(ADMIN, id, { approved, comment: null, inputs: null })
      const asked = [...this.memory.approvals.values()].find((a) => a.state === 'pending' && this.#name(a) === step)
      if (!asked) throw new Error(`the machine does not ask about ${step}`)
      const decision = { approved, by: ADMIN.actor, comment: null, input: null, output: null }
      const { node, path } = asked
      this.#happen({ type: 'call_decided', node, path, approval: asked.id, decision })
    }
    if (items.length > 0) await this.rest()
    return items.length > 0
  }

  /** Turns the clock to the next back-off. False when none is under way. */
  async sleep(): Promise<boolean> {
    const dues = [...this.memory.steps.values()].flatMap((s) => (s.state === 'waiting' ? (s.dueAt ?? []) : []))
    if (dues.length === 0) return false
    await rig.advance(Math.min(...dues) - this.memory.now)
    await this.#worker.heartbeat()
    this.memory.now = rig.clock.now()
    await this.rest()
    return true
  }
}

const onOf = (step: { waits: string; on: string | null }): string | null => (step.waits === 'approval' ? null : step.on)

/** For what the attempt of an agent ends though its step has not, drawn from its identity; null: its step ends with it. */
function parkOf(seed: number, step: string, fence: number): ParkedOn | null {
  let hash = seed
  for (const c of `${step}#${fence}`) hash = (Math.imul(hash ^ c.charCodeAt(0), 0x01000193) >>> 0) % 1_000_003
  if (fence > 4) return null
  if (hash % 4 === 0) return { type: 'budget', budgets: ['default/b'], retryAfterMs: 1_500, failure }
  return hash % 4 === 1 ? { type: 'outcome', call: 'c', tool: 't', input: {} } : null
}

/** Every other step with the turns of an agent in place of its function. */
const withAgents = (graph: Graph): Graph => ({
  ...graph,
  specs: graph.specs.map((spec, i) =>
    'kind' in spec || i % 2 === 0 ? spec : { ...spec, kind: 'agent', agent: 'writer', with: null },
  ),
})

const codeOf = (step: object): unknown =>
  'failure' in step && step.failure !== null && typeof step.failure === 'object' && 'code' in step.failure
    ? step.failure.code
    : null

/** Ends what is held, a random part at a time and in random order, until the run has ended. */
async function execute(
  twin: Twin,
  draw: () => number,
  options: { seed: number; cancelAt: number | null; oneByOne: boolean },
) {
  for (let round = 0; twin.memory.ended === null; round++) {
    expect(round).toBeLessThan(ROUNDS_MAX)
    if (round === options.cancelAt) {
      await twin.cancel()
      continue
    }
    const held = twin.held
    if (held.length === 0) {
      expect((await twin.decide()) || (await twin.sleep())).toBe(true)
      continue
    }
    const shuffled = held.map((key) => ({ key, at: draw() })).sort((a, b) => a.at - b.at)
    const size = options.oneByOne ? 1 : 1 + Math.floor(draw() * held.length)
    await twin.end(
      shuffled.slice(0, size).map((s) => s.key),
      options.seed,
    )
  }
}

describe('the SQL of the hot path and the pure machine', () => {
  test('make the same of random graphs, whatever the order and the batches', { timeout: 300_000 }, async () => {
    const scenario = fc.record({
      graph: graphs,
      seed: fc.nat(),
      agents: fc.boolean(),
      cancelAt: fc.oneof({ weight: 4, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: fc.nat({ max: 6 }) }),
      order: fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { minLength: 7, maxLength: 40 }),
    })
    await fc.assert(
      fc.asyncProperty(scenario, async ({ graph: drawn, agents, seed, cancelAt, order }) => {
        const graph = agents ? withAgents(drawn) : drawn
        let at = 0
        const draw = () => order[at++ % order.length] ?? 0
        const twin = await Twin.start(graph)
        // Under failFast, where ways part and meet again, and where a join fires with the first, it matters which of a batch comes first, and both orders are right: one at
        // a time has one answer.
        const oneByOne = graph.failFast || graph.specs.some((s) => s.join || s.next)
        await execute(twin, draw, { seed, cancelAt, oneByOne })
      }),
      { numRuns: RUNS },
    )
  })

  test('agree on a wide forEach behind a limit', { timeout: 60_000 }, async () => {
    const twin = await Twin.start({
      specs: [
        { name: 'each', forEach: '${{ inputs.items }}', maxParallel: 3 },
        { name: 'after', needs: ['each'], refs: ['each'], if: 'size(steps.each.output) == 12' },
      ],
      failFast: false,
      inputs: { items: Array.from({ length: 12 }, (_, i) => i) },
    })
    expect(twin.held).toHaveLength(3)
    expect(twin.held[0]).toContain(pathOf(0))
    let at = 0
    await execute(twin, () => (at = (at * 7 + 3) % 11) / 11, { seed: 3, cancelAt: null, oneByOne: false })
  })
})
