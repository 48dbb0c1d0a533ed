import { assert } from '../../base/assert.ts'
import { createIds } from '../../base/ids.ts'
import type { JsonObject, Json } from '../../base/json.ts'
import { systemClock } from '../../base/clock.ts'
import { systemRandom } from '../../base/random.ts'
import { displayName } from '../../domain/step.ts'
import { definitionOf, type NodeSpec } from '../../domain/testing/definitions.ts'
import { type Definition, isDecided, queueKey, requirementsOf } from '../../domain/workflow.ts'
import type { Db } from '../db.ts'
import { listQueues, putDefinition } from '../definitions/put-definition.ts'
import { listEvents } from '../events/events.ts'
import { createRuns, type RunRow } from '../runs/create-runs.ts'
import { openSession } from '../sessions/sessions.ts'
import { claimSteps } from '../steps/claim-steps.ts'
import { completeSteps, type Completion, type LeasedStep, type SessionRoom } from '../steps/complete-steps.ts'
import { factsOf, type NodeFacts } from '../steps/node-facts.ts'
import { lockRun } from '../steps/save-advance.ts'

export const GRACE_MS = 10_000
export const INLINE_BYTES = 8_192
export const LEASE_MS = 8_000

export interface StoredWorkflow {
  hash: string
  definition: Definition
  /** By node. */
  queues: number[]
}

/** A store of a test, with the verbs that every test needs. */
export class StoreRig {
  readonly db: Db
  readonly #ids = createIds(systemClock, systemRandom)
  readonly #facts = new Map<string, NodeFacts[]>()
  #made = 0

  constructor(db: Db) {
    this.db = db
  }

  async put(specs: readonly NodeSpec[], extra: Parameters<typeof definitionOf>[1] = {}): Promise<StoredWorkflow> {
    const definition = definitionOf(specs, { name: `test-${++this.#made}`, ...extra })
    const hash = await putDefinition(this.db, definition)
    const byKey = new Map((await listQueues(this.db, 0)).map((q) => [queueKey(q.requirements), q.id]))
    const queues = definition.nodes.map((n) => byKey.get(queueKey(requirementsOf(definition, n))) ?? 0)
    this.#facts.set(hash, factsOf(definition, queues))
    return { hash, definition, queues }
  }

  /** The row that makes a run. */
  rowOf({ hash, definition }: StoredWorkflow, extra: Partial<RunRow> & { inputsOf?: JsonObject } = {}): RunRow {
    const { inputsOf, ...rest } = extra
    return {
      id: this.#ids.make('run'),
      namespace: definition.namespace,
      workflow: definition.name,
      definition: hash,
      inputs: JSON.stringify(inputsOf ?? {}),
      labels: '{}',
      nodes: definition.nodes.length,
      roots: definition.nodes.filter((n) => n.needs.length === 0 && !isDecided(n)).length,
      changes: '[{"of":"run","to":"pending"}]',
      idempotency: null,
      born: null,
      createdBy: 'tok',
      ...rest,
    }
  }

  async run(workflow: StoredWorkflow, inputs: JsonObject = {}): Promise<string> {
    const row = this.rowOf(workflow, { inputsOf: inputs })
    await createRuns(this.db, [row], GRACE_MS)
    return row.id
  }

  async session(options: { leaseMs?: number; worker?: string } = {}): Promise<string> {
    const id = this.#ids.make('session')
    const of = { worker: options.worker ?? 'w', tokenId: 'tok', host: 'h', pid: 1, pidStart: null, version: '0' }
    const offer = { capacity: 10, labels: {}, namespaces: null, backends: ['function'], modules: ['m'] }
    await openSession(this.db, { id, ...of, ...offer, clockSkewMs: 0 }, options.leaseMs ?? LEASE_MS)
    return id
  }

  claim(session: string, workflow: StoredWorkflow, limit = 100): Promise<LeasedStep[]> {
    const queues = [...new Set(workflow.queues)]
    return claimSteps(this.db, { session, queues, limit, from: '', graceMs: GRACE_MS })
  }

  /** A worker's word for a leased step. */
  done(step: Omit<LeasedStep, 'item' | 'inputs'>, output: Json = null): Completion {
    const facts = this.#facts.get(step.definition)?.[step.node]
    assert(facts, `definition ${step.definition} was not put here`)
    const { runId, node, path, session, fence, definition } = step
    const word = { output: JSON.stringify(output), startedAgoMs: 20, endedAgoMs: 10, worker: 'w' }
    return { runId, node, path, session, fence, definition, facts, ...word }
  }

  complete(completions: readonly Completion[], rooms: readonly SessionRoom[] = []) {
    return completeSteps(this.db, completions, rooms, { inlineOutputBytes: INLINE_BYTES, graceMs: GRACE_MS })
  }

  /** Activations of a run by name, with the columns that tests look at. */
  async steps(runId: string, { definition }: StoredWorkflow): Promise<Record<string, StepFacts>> {
    const rows = await this.db.query<StepFacts & { node: number; path: string }>(
      `select node, path, state, fence, tries, session, ok, bad, due_at, output, output_large from step where run_id = $1 order by node, path`,
      [runId],
    )
    return Object.fromEntries(rows.map((r) => [displayName(definition.nodes[r.node]?.name ?? '', r.path), r]))
  }

  async runRow(runId: string) {
    const row = await this.db.transaction((tx) => lockRun(tx, runId))
    if (!row) throw new Error(`no run ${runId}`)
    return row
  }

  /** Numbers of a run's events. */
  async eventSeqs(runId: string): Promise<number[]> {
    return (await listEvents(this.db, runId, 0, 10_000)).map((e) => e.seq)
  }

  /** Every transition of a run's events: `step>state`. */
  async transitions(runId: string): Promise<string[]> {
    const events = await listEvents(this.db, runId, 0, 10_000)
    return events.flatMap((e) => e.changes.map((c) => `${c.of}>${c.to}`))
  }
}

export interface StepFacts {
  state: string
  fence: number
  tries: number
  session: string | null
  ok: number
  bad: number
  due_at: Date | null
  output: Json
  output_large: boolean
}
