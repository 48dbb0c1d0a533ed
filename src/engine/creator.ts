import { currentScope } from '../base/scope.ts'
import { formatTraceparent } from '../base/trace.ts'
import { checkInputs } from '../domain/inputs.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { putDeadlines } from '../store/runs/child-runs.ts'
import { type CreatedRows, createRuns, findIdempotent, type RunRow } from '../store/runs/create-runs.ts'
import type { Batcher } from './batcher.ts'
import type { EngineContext } from './context.ts'
import { type Compiled, withNote } from './definitions.ts'
import type { Dispatcher } from './dispatcher.ts'
import { groupCommit } from './group-commit.ts'
import type { Caller, CreateOutcome, NewRun } from './engine.ts'
import type { WorkerSession } from './sessions.ts'
import { settleRun } from './settle.ts'
import { canSee, reach } from './visible.ts'

interface Item {
  row: RunRow
  compiled: Compiled
  remarks: readonly string[]
}

/** Creates runs by group commit; the first root of each is born leased when a worker here has room. */
export class Creator {
  readonly #ctx: EngineContext
  readonly #dispatcher: Dispatcher
  readonly #batcher: Batcher<Item, CreateOutcome>

  constructor(ctx: EngineContext, dispatcher: Dispatcher) {
    this.#ctx = ctx
    this.#dispatcher = dispatcher
    this.#batcher = groupCommit(ctx, 'create', (items) => this.#flush(items))
  }

  async create(caller: Caller, runs: readonly NewRun[]): Promise<CreateOutcome[]> {
    const items: Item[] = []
    const bound = new Map<string, { compiled: Compiled; remarks: readonly string[] }>()
    for (const run of runs) {
      const compiled = this.#ctx.definitions.peek(run.definition) ?? (await this.#ctx.definitions.get(run.definition))
      const { definition } = compiled
      if (!canSee(caller, definition.namespace)) {
        throw new Failure('definition.not_found', `looking for definition ${run.definition}`)
      }
      const held = bound.get(run.definition) ?? (await this.#bind(caller, compiled))
      bound.set(run.definition, held)
      items.push({ ...held, row: this.#rowOf(caller, run, held) })
    }
    // Under a key it may be another run's; whoever asks is told by the outcome.
    const [only] = items
    if (only && items.length === 1 && only.row.idempotency === null) currentScope()?.made?.(only.row.id)
    return Promise.all(items.map((item) => this.#batcher.add(item)))
  }

  /** What a run of it holds. Nothing is asked where no step is of an agent. */
  async #bind(caller: Caller, compiled: Compiled): Promise<Pick<Item, 'compiled' | 'remarks'>> {
    if (!compiled.isOpen) return { compiled, remarks: [] }
    const { hash, remarks } = await this.#ctx.binder.bind(compiled, { sees: reach(caller) })
    return { compiled: await this.#ctx.definitions.get(hash), remarks }
  }

  #rowOf(caller: Caller, run: NewRun, { compiled, remarks }: Pick<Item, 'compiled' | 'remarks'>): RunRow {
    const { definition, hash, roots, firstChanges } = compiled
    const notes = [...(run.note ? [run.note] : []), ...remarks]
    const inputs = JSON.stringify(definition.inputs === null ? run.inputs : checkInputs(definition, run.inputs))
    const inputBytes = Buffer.byteLength(inputs)
    if (inputBytes > LIMITS.inputBytes) {
      throw new Failure('request.too_large', `creating a run of ${definition.name}`, {
        evidence: { inputBytes, limit: LIMITS.inputBytes },
      })
    }
    const { idempotencyKey: key, fingerprint } = run
    const foreign = currentScope()?.foreignTrace
    return {
      id: this.#ctx.ids.make('run'),
      namespace: definition.namespace,
      workflow: definition.name,
      definition: hash,
      inputs,
      labels: JSON.stringify({ ...definition.labels, ...run.labels }),
      nodes: definition.nodes.length,
      roots: roots.length,
      changes: notes.length > 0 ? withNote(firstChanges, notes.join('; ')) : firstChanges,
      idempotency: key === null ? null : { scope: caller.actor, key, fingerprint: fingerprint ?? '' },
      born: null,
      ...(foreign ? { trace: formatTraceparent(foreign) } : {}),
      createdBy: caller.actor,
    }
  }

  async #flush(items: Item[]): Promise<CreateOutcome[]> {
    const reserved = new Map<string, WorkerSession>()
    const rows = items.map(({ row, compiled }) => {
      const root = compiled.roots[0]
      const session = root === undefined ? null : this.#dispatcher.reserve(compiled.queueIds[root] ?? 0)
      if (root === undefined || !session) return row
      reserved.set(row.id, session)
      return { ...row, born: { node: root, session: session.id } }
    })
    try {
      const { created, leased } = await this.#create(rows, items)
      const byId = new Map(items.map((i) => [i.row.id, i]))
      await this.#dispatcher.hand(
        leased.map((b) => {
          const item = byId.get(b.runId) as Item // the statement gives back only ids that it was given
          return {
            runId: b.runId,
            node: b.node,
            path: '',
            fence: 1,
            tries: 0,
            session: b.session,
            definition: item.row.definition,
            trace: item.row.trace ?? null,
            inputs: this.#inputsFor(item, b.node),
            item: null,
          }
        }),
      )
      for (const b of leased) this.#dispatcher.workers.get(b.session)?.wake()
      this.#after(items, created, new Set(leased.map((l) => l.runId)))
      const taken = items.filter((i) => !created.has(i.row.id))
      const existing = taken.length > 0 ? await this.#existing(taken) : new Map<string, CreateOutcome>()
      return rows.map((row, i) => {
        const { definition, id: runId } = row
        return existing.get(runId) ?? { kind: 'created', runId, definition, remarks: items[i]?.remarks ?? [] }
      })
    } catch (error) {
      // Perhaps it was done and only its answer was lost.
      this.#dispatcher.onDoubt()
      throw error
    } finally {
      for (const session of reserved.values()) session.reserved -= 1
    }
  }

  /** One statement; runs with a time-out get it in the same transaction. */
  async #create(rows: readonly RunRow[], items: readonly Item[]): Promise<CreatedRows> {
    const { db, times } = this.#ctx
    const timed = items.flatMap(({ row, compiled }) => {
      const { timeoutMs } = compiled.definition
      return timeoutMs === null ? [] : [{ runId: row.id, timeoutMs }]
    })
    if (timed.length === 0) return createRuns(db, rows, times.deadlineGraceMs)
    return db.transaction(async (tx) => {
      const out = await createRuns(tx, rows, times.deadlineGraceMs)
      await putDeadlines(
        tx,
        timed.filter((t) => out.created.has(t.runId)),
      )
      return out
    })
  }

  #inputsFor({ row, compiled }: Item, node: number): unknown {
    return compiled.isConstant[node] ? null : JSON.parse(row.inputs)
  }

  #after(items: readonly Item[], created: ReadonlySet<string>, leased: ReadonlySet<string>): void {
    this.#ctx.metrics.count('orrery_runs_created_total', created.size)
    for (const id of created) this.#ctx.watch.expect(id)
    const queues = new Set<number>()
    let oldest: string | null = null
    for (const { row, compiled } of items) {
      if (!created.has(row.id)) continue
      if (oldest === null || row.id < oldest) oldest = row.id
      // Where the first root was leased it waits in no queue.
      const waiting = leased.has(row.id) ? compiled.roots.slice(1) : compiled.roots
      for (const root of waiting) queues.add(compiled.queueIds[root] ?? 0)
      if (compiled.owedRoots.length > 0) this.#decide(row.id, compiled)
    }
    this.#dispatcher.hint([...queues], oldest)
  }

  #decide(runId: string, compiled: Compiled): void {
    const happenings = compiled.owedRoots.map((node) => ({ type: 'due' as const, node, path: '' }))
    settleRun(this.#ctx, runId, happenings).then(
      (s) => this.#dispatcher.hintSettled(runId, s),
      (error: unknown) => this.#ctx.log.warn('decision put off to the next tick', { runId, error: String(error) }),
    )
  }

  /** Runs whose idempotency key was taken: by the same request before, or by another. */
  async #existing(taken: readonly Item[]): Promise<Map<string, CreateOutcome>> {
    const keys = taken.flatMap((i) => (i.row.idempotency ? [i.row.idempotency] : []))
    const found = await findIdempotent(this.#ctx.db, keys)
    return new Map(
      taken.map(({ row }): [string, CreateOutcome] => {
        const key = row.idempotency
        const known = found.find((f) => f.scope === key?.scope && f.key === key.key)
        if (!known) throw new Failure('storage.unreachable', `looking for the run of Idempotency-Key ${key?.key ?? ''}`)
        return [
          row.id,
          { kind: known.fingerprint === key?.fingerprint ? 'existing' : 'key_reused', runId: known.runId },
        ]
      }),
    )
  }
}
