import { backoffMs } from '../base/backoff.ts'
import type { Json } from '../base/json.ts'
import type { Random } from '../base/random.ts'
import { type FailureRecord, Failure, failureRecord } from './failure.ts'
import type { Scope } from './expression.ts'
import { FAILURES } from './failures.ts'
import { LIMITS } from './limits.ts'
import { isStepGood, isStepTerminal } from './machines.ts'
import {
  applyToStep,
  displayName,
  indexOf,
  isJoinImpossible,
  isJoinMet,
  keyText,
  newStep,
  pathOf,
  type Step,
  type StepEvent,
  type StepKey,
} from './step.ts'
import { evaluateCondition, evaluateTemplate } from './template.ts'
import { type Definition, isDecided, type WorkflowNode } from './workflow.ts'

/** A run as the pure functions see it. */
export interface RunCore {
  id: string
  /** Set once somebody, or failFast, wants it stopped. */
  stop: 'cancel' | 'fail_fast' | null
  open: number
  active: number
  bad: number
  total: number
  /** The first final failure. */
  failure: FailureRecord | null
}

/** What happened to one activation. Attempt events carry the session and fence that they speak for; under others they change nothing. */
export type Happening = StepKey &
  (
    | { type: 'attempt_succeeded'; fence: number; session: string; output: Json }
    | { type: 'attempt_failed'; fence: number; session: string; failure: FailureRecord }
    | { type: 'attempt_lost'; fence: number; session: string; failure: FailureRecord }
    | { type: 'attempt_returned'; fence: number; session: string }
    | { type: 'attempt_canceled'; fence: number; session: string }
    /** Its due time has come, or a need has ended and the pure function must look. `waitedFor`: why a queued step was not taken. */
    | { type: 'due'; waitedFor?: FailureRecord }
  )

/** A request to stop the whole run: idle steps end at once, running ones when their worker confirms or is lost. */
export interface StopHappening {
  type: 'stop'
  why: 'cancel' | 'fail_fast'
}

/** What `advance` must be given before it can go on. */
export type Need =
  | { type: 'steps'; keys: StepKey[] }
  | { type: 'idle_steps' }
  /** The first activation of this forEach that failed. */
  | { type: 'failed_activation'; node: number }
  /** The first activations of this forEach, from a path on, that were not let into the queue. */
  | { type: 'pending_activations'; node: number; from: string; limit: number }
  /** Scope of expressions: outputs and states of these nodes, and the run's inputs. */
  | { type: 'scope'; nodes: number[] }

export interface Given {
  steps?: Step[]
  scope?: Pick<Scope, 'inputs' | 'steps'>
}

/** One line of an event: what moved, and to where. */
export interface StepChange {
  node: number
  path: string
  to: string
  fence?: number
  code?: string
}

export interface AdvanceResult {
  run: RunCore
  /** Rows that changed, as they are now. */
  changed: Step[]
  /** Rows that are new. */
  created: Step[]
  /** Attempts that ended otherwise than well. */
  attempts: (StepKey & {
    fence: number
    state: 'failed' | 'lost' | 'parked' | 'canceled'
    session: string
    failure: FailureRecord | null
  })[]
  /** Outputs to keep. */
  outputs: (StepKey & { output: Json })[]
  changes: StepChange[]
  /** Set when the run has ended. */
  ended: 'succeeded' | 'failed' | 'canceled' | null
  /** Happenings that did not apply: another attempt holds the step, or it has ended. */
  stale: Happening[]
}

export interface AdvanceInput {
  definition: Definition
  run: RunCore
  happenings: (Happening | StopHappening)[]
  /** ms by the database's clock. */
  now: number
  random: Random
  /** Successors of each node. */
  dependents: readonly (readonly number[])[]
}

/** Successors of each node, from `needs`. */
export function dependentsOf(definition: Definition): number[][] {
  const out: number[][] = definition.nodes.map(() => [])
  for (const [i, node] of definition.nodes.entries()) for (const need of node.needs) out[need]?.push(i)
  return out
}

const nodeAt = (definition: Definition, node: number): WorkflowNode => {
  const found = definition.nodes[node]
  if (!found) throw new RangeError(`node ${node} of ${definition.name}`)
  return found
}

/**
 * Decides everything that follows from what happened: retries, joins, skips, blocks, forEach, the run's end. Pure: it asks for
 * rows by yielding a Need and goes on with what it is given, so the engine may load from SQL and a test from a map. Rows must
 * be locked by the caller (the run's row) while it runs.
 */
export function* advance(input: AdvanceInput): Generator<Need, AdvanceResult, Given> {
  return yield* new Advance(input).go()
}

class Advance {
  readonly #in: AdvanceInput
  readonly #run: RunCore
  readonly #rows = new Map<string, Step>()
  readonly #changed = new Map<string, Step>()
  readonly #created = new Map<string, Step>()
  readonly #result: Pick<AdvanceResult, 'attempts' | 'outputs' | 'changes' | 'stale'> = {
    attempts: [],
    outputs: [],
    changes: [],
    stale: [],
  }
  /** Activations that have just ended and whose targets have not been told. */
  #ended: Step[] = []
  /** Steps whose join has moved and that must be looked at. */
  #owed = new Map<string, StepKey>()
  /** Nodes below something bad: asked for already. */
  readonly #sunk = new Set<number>()

  constructor(input: AdvanceInput) {
    this.#in = input
    this.#run = { ...input.run }
  }

  *go(): Generator<Need, AdvanceResult, Given> {
    const keyed = this.#in.happenings.filter((h): h is Happening => h.type !== 'stop')
    yield* this.#load(keyed)
    for (const happening of keyed) this.#happen(happening)
    for (const h of this.#in.happenings) if (h.type === 'stop') yield* this.#stop(h.why)
    yield* this.#settle()
    return this.#finish()
  }

  #finish(): AdvanceResult {
    const run = this.#run
    const stoppedAs = run.stop === 'cancel' ? 'canceled' : 'failed'
    const ended = run.open > 0 ? null : run.stop !== null ? stoppedAs : run.bad > 0 ? 'failed' : 'succeeded'
    return { run, changed: [...this.#changed.values()], created: [...this.#created.values()], ...this.#result, ended }
  }

  *#load(keys: readonly StepKey[]): Generator<Need, void, Given> {
    const missing = new Map(keys.filter((k) => !this.#rows.has(keyText(k))).map((k) => [keyText(k), k]))
    if (missing.size === 0) return
    const given = yield { type: 'steps', keys: [...missing.values()].map(({ node, path }) => ({ node, path })) }
    for (const step of given.steps ?? []) this.#rows.set(keyText(step), step)
  }

  #put(before: Step, event: StepEvent, note: { code?: string } = {}): Step | null {
    const after = applyToStep(before, event)
    if (!after) return null
    const key = keyText(after)
    this.#rows.set(key, after)
    if (this.#created.has(key)) this.#created.set(key, after)
    else this.#changed.set(key, after)
    this.#run.active += activeOf(after) - activeOf(before)
    if (isStepTerminal(after.state)) {
      this.#run.open -= 1
      if (after.state === 'failed' || after.state === 'blocked') this.#countBad(after)
      this.#ended.push(after)
    }
    this.#result.changes.push({
      node: after.node,
      path: after.path,
      to: after.state,
      ...(before.state === 'running' ? { fence: before.fence } : {}),
      ...(note.code ? { code: note.code } : {}),
    })
    return after
  }

  /** A failure that `onFailure: continue` turns into success does not make the run bad; nor does one activation: its group does. */
  #countBad(step: Step & { state: 'failed' | 'blocked' }): void {
    const node = nodeAt(this.#in.definition, step.node)
    if (step.path !== '' || (step.state === 'failed' && node.onFailure === 'continue')) return
    this.#run.bad += 1
    if (step.state === 'failed') this.#run.failure ??= step.failure
  }

  #happen(h: Happening): void {
    const step = this.#rows.get(keyText(h))
    if (!step) return void this.#result.stale.push(h)
    if (h.type === 'due') return this.#due(step, h.waitedFor ?? null)
    if (step.state !== 'running' || step.fence !== h.fence || step.session !== h.session)
      return void this.#result.stale.push(h)
    // While the run is being stopped nothing revives it: what comes late is kept as evidence and the step is canceled.
    if (this.#run.stop !== null && h.type !== 'attempt_lost') {
      const failure = h.type === 'attempt_failed' ? h.failure : null
      if (h.type === 'attempt_succeeded') this.#result.outputs.push({ node: h.node, path: h.path, output: h.output })
      this.#attempt(step, 'canceled', failure)
      this.#put(step, { type: 'canceled', failure })
      return
    }
    switch (h.type) {
      case 'attempt_succeeded':
        this.#result.outputs.push({ node: h.node, path: h.path, output: h.output })
        this.#put(step, { type: 'succeeded' })
        return
      case 'attempt_failed':
        this.#attempt(step, 'failed', h.failure)
        this.#fail(step, h.failure)
        return
      case 'attempt_lost':
        return this.#lose(step, h.failure)
      case 'attempt_returned':
      case 'attempt_canceled':
        // A cancel that nobody asked for is a step given back.
        this.#attempt(step, 'parked', null)
        this.#put(step, { type: 'requeued', loss: false, expiresAt: this.#expiry(step) })
        return
    }
  }

  #attempt(
    step: Step & { state: 'running' },
    state: 'failed' | 'lost' | 'parked' | 'canceled',
    failure: FailureRecord | null,
  ): void {
    this.#result.attempts.push({
      node: step.node,
      path: step.path,
      fence: step.fence,
      state,
      session: step.session,
      failure,
    })
  }

  #expiry(step: StepKey): number | null {
    const ms = nodeAt(this.#in.definition, step.node).queueTimeoutMs
    return ms === null ? null : this.#in.now + ms
  }

  #fail(step: Step, failure: FailureRecord): void {
    const { retry } = nodeAt(this.#in.definition, step.node)
    // A code of the product's own world (the worker had no disk) may be retried too; a code that can never succeed may not.
    const fits = retry.on === null ? FAILURES[failure.code].retry !== 'never' : retry.on.includes(failure.code)
    if (step.state === 'running' && step.tries < retry.max && fits) {
      const at = this.#in.now + backoffMs(retry, step.tries + 1, this.#in.random)
      this.#put(step, { type: 'backed_off', at }, { code: failure.code })
      return
    }
    this.#put(step, { type: 'failed', failure }, { code: failure.code })
  }

  #lose(step: Step & { state: 'running' }, failure: FailureRecord): void {
    this.#attempt(step, 'lost', failure)
    if (this.#run.stop !== null) {
      this.#put(step, { type: 'canceled', failure })
      return
    }
    if (step.losses + 1 >= LIMITS.lossesMax) {
      const poison: FailureRecord = {
        ...failureRecord('attempt.poison', `running ${this.#name(step)}: lost ${step.losses + 1} workers`, {
          evidence: { losses: step.losses + 1, lastLoss: failure.code },
        }),
        cause: failure,
      }
      this.#put(step, { type: 'failed', failure: poison }, { code: 'attempt.poison' })
      return
    }
    this.#put(step, { type: 'requeued', loss: true, expiresAt: this.#expiry(step) }, { code: failure.code })
  }

  #due(step: Step, waitedFor: FailureRecord | null): void {
    if (step.dueAt === null || step.dueAt > this.#in.now) return
    if (step.state === 'waiting' && step.waits === 'backoff') {
      this.#put(step, { type: 'ready', expiresAt: this.#expiry(step) })
    } else if (step.state === 'queued') {
      const failure: FailureRecord = {
        ...failureRecord('dispatch.expired', `waiting for a worker to take ${this.#name(step)}`, {
          evidence: { queueTimeoutMs: nodeAt(this.#in.definition, step.node).queueTimeoutMs ?? 0 },
        }),
        ...(waitedFor ? { cause: waitedFor } : {}),
      }
      this.#put(step, { type: 'failed', failure }, { code: failure.code })
    } else if (step.state === 'running') {
      // The worker enforces time-outs; this one has let the deadline and its grace pass without a word.
      const failure = failureRecord(
        'step.timed_out',
        `running ${this.#name(step)}: the worker did not stop it in time`,
        {
          evidence: { timeoutMs: nodeAt(this.#in.definition, step.node).timeoutMs ?? 0, enforcedBy: 'server' },
        },
      )
      this.#attempt(step, 'failed', failure)
      this.#fail(step, failure)
    } else if (step.state === 'pending' || step.state === 'waiting') {
      this.#owed.set(keyText(step), step)
    }
  }

  #name(step: StepKey): string {
    return `step ${displayName(nodeAt(this.#in.definition, step.node).name, step.path)} of ${this.#run.id}`
  }

  *#stop(why: 'cancel' | 'fail_fast'): Generator<Need, void, Given> {
    // A person's cancel outranks failFast; a second one changes nothing.
    if (this.#run.stop === 'cancel' || this.#run.stop === why) return
    this.#run.stop = why
    const given = yield { type: 'idle_steps' }
    for (const step of given.steps ?? []) if (!this.#rows.has(keyText(step))) this.#rows.set(keyText(step), step)
    for (const step of [...this.#rows.values()]) {
      if (!isStepTerminal(step.state) && step.state !== 'running') this.#put(step, { type: 'canceled', failure: null })
    }
    // Everything idle has ended already; nobody is left to be told.
    this.#ended = this.#ended.filter((s) => s.path !== '')
    this.#owed.clear()
  }

  /** Tells the dependents of what has ended, until nothing moves. */
  *#settle(): Generator<Need, void, Given> {
    for (;;) {
      if (this.#run.stop === null && this.#run.bad > 0 && this.#in.definition.failFast) yield* this.#stop('fail_fast')
      if (this.#ended.length > 0) yield* this.#tell()
      else if (this.#owed.size > 0) yield* this.#lookAtOwed()
      else return
    }
  }

  *#tell(): Generator<Need, void, Given> {
    const ended = this.#ended
    this.#ended = []
    const targets = new Map<string, { key: StepKey; ok: number; bad: number; by: Step | null }>()
    const count = (key: StepKey, good: boolean, by: Step) => {
      const t = targets.get(keyText(key)) ?? { key, ok: 0, bad: 0, by: null }
      if (good) t.ok += 1
      else {
        t.bad += 1
        t.by ??= by
      }
      targets.set(keyText(key), t)
    }
    const wanted: StepKey[] = []
    for (const step of ended) {
      const node = nodeAt(this.#in.definition, step.node)
      if (step.path !== '') {
        count({ node: step.node, path: '' }, isStepGood(step.state), step)
        continue
      }
      const good = isStepGood(step.state) || (step.state === 'failed' && node.onFailure === 'continue')
      if (this.#run.stop === null)
        for (const to of this.#in.dependents[step.node] ?? []) count({ node: to, path: '' }, good, step)
      // What is bad reaches everything below it; asking once is cheaper than asking level by level.
      if (!good && this.#run.stop === null) wanted.push(...this.#sink(step.node))
    }
    yield* this.#load([...wanted, ...[...targets.values()].map((t) => t.key)])
    for (const t of targets.values()) this.#join(t)
  }

  #join(t: { key: StepKey; ok: number; bad: number; by: Step | null }): void {
    const target = this.#rows.get(keyText(t.key))
    if (!target || isStepTerminal(target.state)) return
    const moved: Step = { ...target, ok: target.ok + t.ok, bad: target.bad + t.bad }
    const key = keyText(moved)
    this.#rows.set(key, moved)
    this.#changed.set(key, moved)
    if (moved.state === 'waiting') {
      this.#owed.set(key, moved)
    } else if (moved.state === 'pending' && isJoinImpossible(moved)) {
      this.#block(moved, t.by)
    } else if (moved.state === 'pending' && isJoinMet(moved)) {
      if (isDecided(nodeAt(this.#in.definition, moved.node))) this.#owed.set(key, moved)
      else this.#put(moved, { type: 'ready', expiresAt: this.#expiry(moved) })
    }
  }

  #block(step: Step, cause: Step | null): void {
    const by = cause ? displayName(nodeAt(this.#in.definition, cause.node).name, cause.path) : 'a need'
    const code =
      cause && (cause.state === 'failed' || cause.state === 'blocked') ? cause.failure.code : (cause?.state ?? 'failed')
    const failure = failureRecord('step.upstream_failed', `starting ${this.#name(step)}: ${by} did not succeed`, {
      evidence: { blockedBy: by, code },
    })
    this.#put(step, { type: 'blocked', failure }, { code: failure.code })
  }

  /** What lies below a node and was not asked for yet. Each node is visited once, however many above it are bad. */
  #sink(from: number): StepKey[] {
    const keys: StepKey[] = []
    const stack = [from]
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      for (const to of this.#in.dependents[at] ?? []) {
        if (this.#sunk.has(to)) continue
        this.#sunk.add(to)
        keys.push({ node: to, path: '' })
        stack.push(to)
      }
    }
    return keys
  }

  *#lookAtOwed(): Generator<Need, void, Given> {
    const owed = [...this.#owed.values()]
    this.#owed.clear()
    const pending = owed.map((k) => this.#rows.get(keyText(k))).filter((s): s is Step => s !== undefined)
    const refs = new Set(
      pending.filter((s) => s.state === 'pending').flatMap((s) => nodeAt(this.#in.definition, s.node).refs),
    )
    const decidable = pending.filter((s) => s.state === 'pending')
    const scope: Scope = {
      inputs: {},
      steps: {},
      run: { id: this.#run.id, workflow: this.#in.definition.name, namespace: this.#in.definition.namespace },
    }
    if (decidable.length > 0) {
      const given = yield { type: 'scope', nodes: [...refs] }
      Object.assign(scope, given.scope)
      // Outputs that came with these very happenings are not in the store yet.
      for (const o of this.#result.outputs) {
        if (!refs.has(o.node)) continue
        const name = nodeAt(this.#in.definition, o.node).name
        const known = scope.steps[name]?.output
        if (o.path === '') scope.steps[name] = { output: o.output, state: 'succeeded' }
        else if (Array.isArray(known)) known[indexOf(o.path)] = o.output
      }
      for (const ref of refs) {
        const step = this.#rows.get(keyText({ node: ref, path: '' }))
        if (!step) continue
        const { name } = nodeAt(this.#in.definition, ref)
        scope.steps[name] = { output: scope.steps[name]?.output ?? null, state: step.state }
      }
    }
    for (const step of pending) {
      if (step.state === 'pending' && isJoinImpossible(step)) this.#block(step, null)
      else if (step.state === 'pending' && isJoinMet(step)) this.#decide(step, scope)
      else if (step.state === 'waiting' && step.waits === 'children') yield* this.#group(step)
    }
  }

  #decide(step: Step, scope: Scope): void {
    const node = nodeAt(this.#in.definition, step.node)
    try {
      if (node.if !== null && !evaluateCondition(node.if, scope)) {
        this.#put(step, { type: 'skipped' })
        return
      }
      if (node.forEach === null) {
        this.#put(step, { type: 'ready', expiresAt: this.#expiry(step) })
        return
      }
      this.#spread(step, node, evaluateTemplate(node.forEach, scope))
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      this.#put(step, { type: 'failed', failure: error.toRecord() }, { code: error.code })
    }
  }

  #spread(step: Step, node: WorkflowNode, items: Json): void {
    if (!Array.isArray(items)) {
      throw new Failure('expression.unresolved', `spreading ${this.#name(step)}: forEach gives no list`, {
        evidence: { got: items === null ? 'null' : typeof items },
      })
    }
    const room = LIMITS.stepsPerRunMax - this.#run.total
    if (items.length > LIMITS.forEachItemsMax || items.length > room) {
      throw new Failure('foreach.too_large', `spreading ${this.#name(step)}`, {
        evidence: { items: items.length, limit: Math.min(LIMITS.forEachItemsMax, room) },
      })
    }
    if (items.length === 0) {
      this.#result.outputs.push({ node: step.node, path: step.path, output: [] })
      this.#put(step, { type: 'succeeded' })
      return
    }
    const released = Math.min(items.length, node.maxParallel ?? items.length)
    if (!this.#put(step, { type: 'spread', count: items.length, released })) return
    for (const [index, item] of items.entries()) {
      const child = newStep({ node: step.node, path: pathOf(index) }, 0, item)
      this.#rows.set(keyText(child), child)
      this.#created.set(keyText(child), child)
      this.#run.open += 1
      this.#run.total += 1
      if (index < released) this.#put(child, { type: 'ready', expiresAt: this.#expiry(child) })
    }
  }

  /** A forEach whose activations moved: lets the next ones go, or ends. */
  *#group(step: Step & { state: 'waiting' }): Generator<Need, void, Given> {
    const node = nodeAt(this.#in.definition, step.node)
    const done = step.ok + step.bad
    if (done >= step.total) {
      if (step.bad === 0) this.#put(step, { type: 'succeeded' })
      else if (this.#run.stop !== null) this.#put(step, { type: 'canceled', failure: null })
      else yield* this.#groupFailed(step, node)
      return
    }
    const room = (node.maxParallel ?? step.total) - (step.released - done)
    const more = Math.min(step.total - step.released, room)
    if (more <= 0 || this.#run.stop !== null) return this.#settleDue(step)
    // As many have left `pending` as were released, so the next ones begin there; only where a person re-opened or skipped some
    // are there others before.
    let released = step.released + (yield* this.#release(step, pathOf(step.released), more))
    const left = step.released + more - released
    if (left > 0) released += yield* this.#release(step, '', left)
    this.#settleDue({ ...step, released })
  }

  *#release(step: Step, from: string, count: number): Generator<Need, number, Given> {
    // The store does not know yet what was let go in this very round.
    const here = [...this.#changed.values()].filter((s) => s.node === step.node && s.path !== '').length
    const given = yield { type: 'pending_activations', node: step.node, from, limit: count + here }
    let released = 0
    for (const row of given.steps ?? []) {
      const child = this.#rows.get(keyText(row)) ?? row
      if (released === count || child.state !== 'pending') continue
      this.#put(child, { type: 'ready', expiresAt: this.#expiry(child) })
      released += 1
    }
    return released
  }

  /** What was owed to the step is done. */
  #settleDue(step: Step): void {
    const settled: Step = { ...step, dueAt: null }
    this.#rows.set(keyText(step), settled)
    this.#changed.set(keyText(step), settled)
  }

  *#groupFailed(step: Step, node: WorkflowNode): Generator<Need, void, Given> {
    const given = yield { type: 'failed_activation', node: step.node }
    const here = [...this.#rows.values()].filter((s) => s.node === step.node && s.path !== '' && s.state === 'failed')
    const failed = [...(given.steps ?? []), ...here].sort((a, b) => (a.path < b.path ? -1 : 1))[0]
    const cause = failed && failed.state === 'failed' ? failed.failure : null
    const failure: FailureRecord = {
      ...failureRecord(
        cause?.code ?? 'step.upstream_failed',
        `running ${this.#name(step)}: ${step.bad} of ${step.total} activations failed`,
        {
          evidence: {
            failed: step.bad,
            total: step.total,
            ...(failed ? { first: displayName(node.name, failed.path) } : {}),
          },
        },
      ),
      ...(cause ? { cause } : {}),
    }
    this.#put(step, { type: 'failed', failure }, { code: failure.code })
  }
}

const activeOf = (step: Step): number => (step.state === 'queued' || step.state === 'running' ? 1 : 0)
