import { backoffMs } from '../base/backoff.ts'
import { derivedId } from '../base/ids.ts'
import type { Json, JsonObject } from '../base/json.ts'
import type { Random } from '../base/random.ts'
import { scopeOfActivation } from './activation-scope.ts'
import { beginWait, childInputs, isMatch, type Question, questionOf } from './begin.ts'
import { type FailureRecord, Failure, failureOfProblems, failureRecord } from './failure.ts'
import type { Scope } from './expression.ts'
import { FAILURES } from './failures.ts'
import { checkInputs, checkSchema } from './inputs.ts'
import { LIMITS } from './limits.ts'
import { isStepGood, isStepTerminal } from './machines.ts'
import { combinationsOf } from './matrix.ts'
import {
  applyToStep,
  displayName,
  indexOf,
  isJoinImpossible,
  isJoinMet,
  isTry,
  keyText,
  newStep,
  pathOf,
  type Step,
  type StepEvent,
  type StepKey,
} from './step.ts'
import { evaluateCondition, evaluateTemplate } from './template.ts'
import { plainNamespace } from './tenancy.ts'
import {
  type ChildNode,
  type Definition,
  isDecided,
  isWork,
  type ParkedNode,
  type WaitNode,
  type WorkflowNode,
} from './workflow.ts'

/** A run as the pure functions see it. */
export interface RunCore {
  id: string
  /** Set once somebody, failFast or the run's time-out wants it stopped. */
  stop: 'cancel' | 'fail_fast' | 'timeout' | null
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
    /** A person decided. The fence names the approval: each try of the step asks anew. */
    | { type: 'decided'; fence: number; decision: Decision }
    /** The run below has ended. */
    | { type: 'child_ended'; fence: number; end: ChildEnd }
    /** The row of the approval that it waits for is gone. */
    | { type: 'approval_missing' }
  )

export interface Decision {
  approved: boolean
  by: string
  comment: string | null
  fields: JsonObject | null
}

export interface ChildEnd {
  state: 'succeeded' | 'failed' | 'canceled'
  failure: FailureRecord | null
  /** Outputs of its last steps by name. */
  output: Json
}

/** A request to stop the whole run: idle steps end at once, running ones when their worker confirms or is lost. */
export interface StopHappening {
  type: 'stop'
  why: 'cancel' | 'fail_fast' | 'timeout'
}

/** An event of this name was sent to the run, and is kept until a step takes it. */
export interface EventSent {
  type: 'event_sent'
  name: string
}

export type Anything = Happening | StopHappening | EventSent
export const isKeyed = (h: Anything): h is Happening => h.type !== 'stop' && h.type !== 'event_sent'

/** What `advance` must be given before it can go on. */
export type Need =
  | { type: 'steps'; keys: StepKey[] }
  | { type: 'idle_steps' }
  /** The first activation of this forEach that failed. */
  | { type: 'failed_activation'; node: number }
  /** The first activations of this forEach, from a path on, that were not let into the queue. */
  | { type: 'pending_activations'; node: number; from: string; limit: number }
  /** Activations of this node that have not ended. */
  | { type: 'open_activations'; node: number }
  /** What these activations gave. */
  | { type: 'outputs'; keys: StepKey[] }
  /** Steps that wait for an event of this name. */
  | { type: 'event_waits'; name: string }
  /** Events of this name that no step has taken, oldest first. */
  | { type: 'events'; name: string }
  /** The workflow that a step wants to run. */
  | { type: 'workflow'; ref: ChildNode['ref'] }
  /** Scope of expressions: outputs and states of these nodes, and the run's inputs. */
  | { type: 'scope'; nodes: number[] }

export interface Given {
  steps?: Step[]
  scope?: Pick<Scope, 'inputs' | 'steps'>
  outputs?: (StepKey & { output: Json })[]
  events?: KeptEvent[]
  workflow?: StoredWorkflow | Failure
}

export interface KeptEvent {
  id: string
  payload: Json
}

/** A workflow as far as starting a run of it has to know. */
export interface StoredWorkflow {
  hash: string
  name: string
  inputs: JsonObject | null
}

/** Rows beside the steps that are to be written with them. */
export interface BesideRows {
  /** Approvals to ask for; one that is there already stays. */
  asked: (StepKey & Question & { id: string; fence: number; expiresAt: number | null })[]
  /** Approvals that have ended. Only those still pending change. */
  answered: { id: string; state: 'approved' | 'denied' | 'expired' | 'canceled'; decision: Decision | null }[]
  /** Events that steps have taken. */
  taken: (StepKey & { id: string })[]
  /** Runs to start below this one. */
  children: (StepKey & { runId: string; fence: number; workflow: StoredWorkflow; inputs: JsonObject })[]
  /** Runs below that nobody waits for any more. */
  orphans: string[]
}

export const nothingBeside = (): BesideRows => ({ asked: [], answered: [], taken: [], children: [], orphans: [] })

/** What has to be let go of when a step no longer waits for what it waited for. */
export function letGo(before: Step, beside: BesideRows): void {
  if (before.state !== 'waiting' || before.on === null) return
  if (before.waits === 'approval') beside.answered.push({ id: before.on, state: 'canceled', decision: null })
  else if (before.waits === 'child') beside.orphans.push(before.on)
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
  beside: BesideRows
  changes: StepChange[]
  /** Set when the run has ended. */
  ended: 'succeeded' | 'failed' | 'canceled' | null
  /** Happenings that did not apply: another attempt holds the step, or it has ended. */
  stale: Happening[]
}

export interface AdvanceInput {
  definition: Definition
  run: RunCore
  happenings: Anything[]
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
  readonly #beside = nothingBeside()
  /** Kept events by name, without those taken in this very round. */
  readonly #kept = new Map<string, KeptEvent[]>()
  readonly #workflows = new Map<string, StoredWorkflow | Failure>()

  constructor(input: AdvanceInput) {
    this.#in = input
    this.#run = { ...input.run }
  }

  *go(): Generator<Need, AdvanceResult, Given> {
    const keyed = this.#in.happenings.filter(isKeyed)
    yield* this.#load(keyed)
    for (const happening of keyed) this.#happen(happening)
    for (const h of this.#in.happenings) if (h.type === 'stop') yield* this.#stop(h.why)
    for (const h of this.#in.happenings) if (h.type === 'event_sent') yield* this.#eventSent(h.name)
    yield* this.#settle()
    return this.#finish()
  }

  #finish(): AdvanceResult {
    const run = this.#run
    const stoppedAs = run.stop === 'cancel' ? 'canceled' : 'failed'
    const ended = run.open > 0 ? null : run.stop !== null ? stoppedAs : run.bad > 0 ? 'failed' : 'succeeded'
    return {
      run,
      changed: [...this.#changed.values()],
      created: [...this.#created.values()],
      ...this.#result,
      beside: this.#beside,
      ended,
    }
  }

  *#load(keys: readonly StepKey[]): Generator<Need, void, Given> {
    const missing = new Map(keys.filter((k) => !this.#rows.has(keyText(k))).map((k) => [keyText(k), k]))
    if (missing.size === 0) return
    const given = yield { type: 'steps', keys: [...missing.values()].map(({ node, path }) => ({ node, path })) }
    for (const step of given.steps ?? []) this.#rows.set(keyText(step), step)
  }

  /** `answered`: what it waited for has come to its own end. */
  #put(before: Step, event: StepEvent, note: { code?: string; answered?: true } = {}): Step | null {
    const after = applyToStep(before, event)
    if (!after) return null
    if (!note.answered) letGo(before, this.#beside)
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
    if (h.type === 'decided' || h.type === 'child_ended' || h.type === 'approval_missing') return this.#answer(step, h)
    if (step.state !== 'running' || step.fence !== h.fence || step.session !== h.session)
      return void this.#result.stale.push(h)
    // While the run is being stopped nothing revives it: what comes late is kept as evidence and the step is canceled. A step that only
    // nobody needs any more may still succeed.
    const isStopped = this.#run.stop !== null || (step.stopping && h.type !== 'attempt_succeeded')
    if (isStopped && h.type !== 'attempt_lost') {
      const late = h.type === 'attempt_failed' ? h.failure : null
      const failure = step.stopping ? this.#notNeeded(step, late) : late
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

  #fail(step: Step, failure: FailureRecord, answered: { answered?: true } = {}): void {
    const { retry } = nodeAt(this.#in.definition, step.node)
    // A code of the product's own world (the worker had no disk) may be retried too; a code that can never succeed may not.
    const fits = retry.on === null ? FAILURES[failure.code].retry !== 'never' : retry.on.includes(failure.code)
    const note = { code: failure.code, ...answered }
    if (isTry(step) && step.tries < retry.max && fits) {
      const at = this.#in.now + backoffMs(retry, step.tries + 1, this.#in.random)
      this.#put(step, { type: 'backed_off', at }, note)
      return
    }
    this.#put(step, { type: 'failed', failure }, note)
  }

  #answer(step: Step, h: Extract<Happening, { type: 'decided' | 'child_ended' | 'approval_missing' }>): void {
    const waits = h.type === 'child_ended' ? 'child' : 'approval'
    const isWanted = step.state === 'waiting' && step.waits === waits
    if (!isWanted || (h.type !== 'approval_missing' && h.fence !== step.fence)) return void this.#result.stale.push(h)
    if (h.type === 'approval_missing') this.#owed.set(keyText(step), step)
    else if (h.type === 'decided') this.#decided(step, h.decision)
    else this.#childEnded(step, h.end)
  }

  #decided(step: Step & { state: 'waiting' }, decision: Decision): void {
    const { approved, by, comment, fields } = decision
    const at = new Date(this.#in.now).toISOString()
    const output = { approved, by, comment, at, ...(fields ? { inputs: fields } : {}) }
    this.#result.outputs.push({ node: step.node, path: step.path, output })
    if (step.on !== null) this.#beside.answered.push({ id: step.on, state: approved ? 'approved' : 'denied', decision })
    if (approved) return void this.#put(step, { type: 'succeeded' }, { answered: true })
    const failure = failureRecord('approval.denied', `asking for approval in ${this.#name(step)}: ${by} denied it`, {
      evidence: { approval: step.on ?? '', by, comment, at },
    })
    this.#put(step, { type: 'failed', failure }, { code: failure.code, answered: true })
  }

  #childEnded(step: Step & { state: 'waiting' }, { state, failure, output }: ChildEnd): void {
    const child = step.on ?? ''
    const node = nodeAt(this.#in.definition, step.node)
    if (state === 'succeeded') {
      const problems = node.outputSchema ? checkSchema(output, node.outputSchema) : []
      this.#result.outputs.push({ node: step.node, path: step.path, output })
      if (problems.length === 0) return void this.#put(step, { type: 'succeeded' }, { answered: true })
      const violation = failureOfProblems(problems, `checking what ${child} gave for ${this.#name(step)}`)
      return this.#fail(step, violation.toRecord(), { answered: true })
    }
    const code = state === 'failed' ? 'child.failed' : 'child.canceled'
    const record = failureRecord(
      code,
      `running ${this.#name(step)}: ${child} ${state === 'failed' ? 'failed' : 'was canceled'}`,
      {
        evidence: { run: child, state, ...(failure ? { code: failure.code } : {}) },
      },
    )
    this.#fail(step, failure ? { ...record, cause: failure } : record, { answered: true })
  }

  /** Why a step was stopped that only a join with `rest: cancel` made needless. */
  #notNeeded(step: StepKey, cause: FailureRecord | null): FailureRecord {
    const record = failureRecord(
      'step.not_needed',
      `stopping ${this.#name(step)}: the join after it was met without it`,
    )
    return cause ? { ...record, cause } : record
  }

  #lose(step: Step & { state: 'running' }, failure: FailureRecord): void {
    this.#attempt(step, 'lost', failure)
    if (this.#run.stop !== null || step.stopping) {
      this.#put(step, { type: 'canceled', failure: step.stopping ? this.#notNeeded(step, failure) : failure })
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
      if (isWork(nodeAt(this.#in.definition, step.node)))
        this.#put(step, { type: 'ready', expiresAt: this.#expiry(step) })
      else this.#owed.set(keyText(step), step)
    } else if (step.state === 'waiting' && step.waits !== 'children') {
      this.#waitIsOver(step)
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
      this.#attempt(step, step.stopping ? 'canceled' : 'failed', failure)
      if (step.stopping) this.#put(step, { type: 'canceled', failure: this.#notNeeded(step, failure) })
      else this.#fail(step, failure)
    } else if (step.state === 'pending' || step.state === 'waiting') {
      this.#owed.set(keyText(step), step)
    }
  }

  /** The time of a step that waits in a row has come: a timer is done, everything else is too late. */
  #waitIsOver(step: Step & { state: 'waiting' }): void {
    const node = nodeAt(this.#in.definition, step.node)
    if (step.waits === 'timer') this.#put(step, { type: 'succeeded' })
    else if (step.waits === 'event') {
      const failure = failureRecord('wait.timed_out', `waiting for event ${step.on ?? ''} in ${this.#name(step)}`, {
        evidence: {
          event: step.on ?? '',
          ...(node.kind === 'wait' && 'timeoutMs' in node.for ? { timeoutMs: node.for.timeoutMs } : {}),
        },
      })
      this.#put(step, { type: 'failed', failure }, { code: failure.code })
    } else if (step.waits === 'approval') this.#expire(step, node.kind === 'approval' && node.onExpiry === 'approve')
    else {
      const failure = failureRecord(
        'step.timed_out',
        `running ${this.#name(step)}: ${step.on ?? ''} did not end in time`,
        {
          evidence: { timeoutMs: node.timeoutMs ?? 0, run: step.on ?? '', enforcedBy: 'server' },
        },
      )
      this.#fail(step, failure)
    }
  }

  /** Nobody decided: the default action counts. */
  #expire(step: Step & { state: 'waiting' }, approved: boolean): void {
    const at = new Date(this.#in.now).toISOString()
    const output = { approved, by: null, comment: null, at, expired: true }
    this.#result.outputs.push({ node: step.node, path: step.path, output })
    if (step.on !== null) this.#beside.answered.push({ id: step.on, state: 'expired', decision: null })
    if (approved) return void this.#put(step, { type: 'succeeded' }, { answered: true })
    const failure = failureRecord('approval.expired', `asking for approval in ${this.#name(step)}: nobody decided`, {
      evidence: { approval: step.on ?? '', default: 'deny' },
    })
    this.#put(step, { type: 'failed', failure }, { code: failure.code, answered: true })
  }

  #name(step: StepKey): string {
    return `step ${displayName(nodeAt(this.#in.definition, step.node).name, step.path)} of ${this.#run.id}`
  }

  *#stop(why: StopHappening['why']): Generator<Need, void, Given> {
    // A person's cancel outranks the time-out, and that failFast; a second one changes nothing.
    const { stop } = this.#run
    if (stop === 'cancel' || stop === why || (stop === 'timeout' && why === 'fail_fast')) return
    this.#run.stop = why
    if (why === 'timeout') {
      const { timeoutMs } = this.#in.definition
      this.#run.failure ??= failureRecord('run.timed_out', `running ${this.#run.id}`, {
        evidence: { timeoutMs: timeoutMs ?? 0 },
      })
    }
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
    const targets = new Map<string, Target>()
    const count = (key: StepKey, good: boolean, by: Step, isGroup: boolean) => {
      const t = targets.get(keyText(key)) ?? { key, ok: 0, bad: 0, by: null, isGroup }
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
        count({ node: step.node, path: '' }, isStepGood(step.state), step, true)
        continue
      }
      const good = isStepGood(step.state) || (step.state === 'failed' && node.onFailure === 'continue')
      if (this.#run.stop === null)
        for (const to of this.#in.dependents[step.node] ?? []) count({ node: to, path: '' }, good, step, false)
      // What is bad reaches everything below it; asking once is cheaper than asking level by level.
      if (!good && this.#run.stop === null) wanted.push(...this.#sink(step.node))
    }
    yield* this.#load([...wanted, ...[...targets.values()].map((t) => t.key)])
    for (const t of targets.values()) this.#join(t)
  }

  #join(t: Target): void {
    const target = this.#rows.get(keyText(t.key))
    // A join that has fired counts no more: what ends late changes nothing.
    const counts = t.isGroup ? target?.state === 'waiting' && target.waits === 'children' : target?.state === 'pending'
    if (!target || !counts) return
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
    // Below what nobody needs nothing is wrong.
    if (cause?.state === 'canceled') {
      this.#put(step, { type: 'canceled', failure: this.#notNeeded(step, null) })
      return
    }
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
    const keys = [...this.#owed.values()]
    this.#owed.clear()
    const decidable = keys.flatMap((k) => {
      const step = this.#rows.get(keyText(k))
      return step && !(step.state === 'waiting' && step.waits === 'children') ? [step.node] : []
    })
    const scope = decidable.length > 0 ? yield* this.#scopeOf(decidable) : this.#bareScope()
    for (const key of keys) {
      const step = this.#rows.get(keyText(key))
      if (!step) continue
      if (step.state === 'pending' && isJoinImpossible(step)) this.#block(step, null)
      else if (step.state === 'pending' && isJoinMet(step)) yield* this.#decide(step, scope)
      else if (step.state === 'waiting' && step.waits === 'children') yield* this.#group(step)
      else if (step.state === 'waiting' && step.waits === 'backoff') yield* this.#begin(step, scope)
      else if (step.state === 'waiting' && step.waits === 'approval') this.#askAgain(step, scope)
    }
  }

  #bareScope(): Scope {
    const { name, namespace } = this.#in.definition
    const run = { id: this.#run.id, workflow: name, namespace: plainNamespace(namespace) }
    return { inputs: {}, steps: {}, run }
  }

  /** What the expressions of these nodes may read. */
  *#scopeOf(nodes: readonly number[]): Generator<Need, Scope, Given> {
    const scope = this.#bareScope()
    const refs = new Set(nodes.flatMap((node) => nodeAt(this.#in.definition, node).refs))
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
    return scope
  }

  *#decide(step: Step, scope: Scope): Generator<Need, void, Given> {
    const node = nodeAt(this.#in.definition, step.node)
    if (step.path === '' && node.join?.rest === 'cancel') yield* this.#cancelRest(node)
    try {
      // An activation's condition was that of its group.
      if (step.path === '' && node.if !== null && !evaluateCondition(node.if, scope)) {
        this.#put(step, { type: 'skipped' })
        return
      }
      if (step.path !== '') yield* this.#begin(step, scope)
      else if (node.loop !== null) yield* this.#spread(step, node, { items: [null], scope })
      else if (node.matrix !== null) {
        const what = `spreading ${this.#name(step)}`
        const items = combinationsOf(node.matrix, scope, { what, limit: LIMITS.forEachItemsMax })
        yield* this.#spread(step, node, { items, scope })
      } else if (node.forEach === null) yield* this.#begin(step, scope)
      else yield* this.#spread(step, node, { items: evaluateTemplate(node.forEach, scope), scope })
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      this.#put(step, { type: 'failed', failure: error.toRecord() }, { code: error.code })
    }
  }

  /** Lets a step go: into its queue, or to wait for what it waits for. `scope` is that of its node. */
  *#begin(step: Step, scope: Scope): Generator<Need, void, Given> {
    const node = nodeAt(this.#in.definition, step.node)
    if (isWork(node)) {
      this.#put(step, { type: 'ready', expiresAt: this.#expiry(step) })
      return
    }
    try {
      yield* this.#park(step, node, scopeOfActivation(scope, node, step))
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      this.#put(step, { type: 'failed', failure: error.toRecord() }, { code: error.code })
    }
  }

  *#park(step: Step, node: ParkedNode, scope: Scope): Generator<Need, void, Given> {
    const { now } = this.#in
    const what = `beginning ${this.#name(step)}`
    const of = `${this.#run.id}/${keyText(step)}/${step.fence + 1}`
    switch (node.kind) {
      case 'wait': {
        const begun = beginWait(node, scope, { now, what })
        const on = begun.waits === 'event' ? begun.name : null
        const parked = this.#put(step, { type: 'parked', waits: begun.waits, on, until: begun.until })
        if (!parked) return
        if (begun.waits === 'event') yield* this.#take(parked, node, { name: begun.name, scope })
        else if (begun.until <= now) this.#put(parked, { type: 'succeeded' })
        return
      }
      case 'approval': {
        const question = questionOf(node, scope)
        const expiresAt = node.expiresMs === null ? null : now + node.expiresMs
        const id = derivedId('approval', of, now)
        const parked = this.#put(step, { type: 'parked', waits: 'approval', on: id, until: expiresAt })
        if (parked) this.#beside.asked.push({ ...keyOf(parked), id, fence: parked.fence, expiresAt, ...question })
        return
      }
      case 'workflow': {
        const workflow = yield* this.#workflow(node.ref)
        if (workflow instanceof Failure) throw workflow
        const inputs = checkInputs(workflow, childInputs(node, scope, what))
        const runId = derivedId('run', of, now)
        const until = node.timeoutMs === null ? null : now + node.timeoutMs
        const parked = this.#put(step, { type: 'parked', waits: 'child', on: runId, until })
        if (parked) this.#beside.children.push({ ...keyOf(parked), runId, fence: parked.fence, workflow, inputs })
      }
    }
  }

  *#workflow(ref: ChildNode['ref']): Generator<Need, StoredWorkflow | Failure, Given> {
    const key = 'name' in ref ? `name/${ref.name}` : `hash/${ref.hash}`
    const known = this.#workflows.get(key)
    if (known) return known
    const given = yield { type: 'workflow', ref }
    const found =
      given.workflow ??
      new Failure('child.definition_not_found', `looking for ${key.replace('/', ' ')}`, { evidence: { ...ref } })
    this.#workflows.set(key, found)
    return found
  }

  /** The approval's row is gone: it is asked for again, under the same id. */
  #askAgain(step: Step & { state: 'waiting' }, scope: Scope): void {
    const node = nodeAt(this.#in.definition, step.node)
    if (node.kind !== 'approval' || step.on === null) return
    const question = questionOf(node, scopeOfActivation(scope, node, step))
    this.#beside.asked.push({ ...keyOf(step), id: step.on, fence: step.fence, expiresAt: step.dueAt, ...question })
  }

  *#eventSent(name: string): Generator<Need, void, Given> {
    if (this.#run.stop !== null) return
    const given = yield { type: 'event_waits', name }
    const waiting = (given.steps ?? []).map((s) => this.#rows.get(keyText(s)) ?? s)
    for (const step of waiting) this.#rows.set(keyText(step), step)
    const scope = waiting.length > 0 ? yield* this.#scopeOf(waiting.map((s) => s.node)) : this.#bareScope()
    for (const step of waiting) {
      const node = nodeAt(this.#in.definition, step.node)
      if (step.state !== 'waiting' || step.on !== name || node.kind !== 'wait') continue
      yield* this.#take(step, node, { name, scope: scopeOfActivation(scope, node, step) })
    }
  }

  /** Gives a step the oldest kept event that it waits for, if there is one. Each event is taken once. */
  *#take(step: Step, node: WaitNode, { name, scope }: { name: string; scope: Scope }): Generator<Need, void, Given> {
    const kept = this.#kept.get(name) ?? (yield { type: 'events', name }).events ?? []
    this.#kept.set(name, kept)
    const at = kept.findIndex(({ payload }) => isMatch(node, { name, payload }, scope))
    const [event] = at < 0 ? [] : kept.splice(at, 1)
    if (!event) return
    this.#beside.taken.push({ ...keyOf(step), id: event.id })
    this.#result.outputs.push({ ...keyOf(step), output: event.payload })
    this.#put(step, { type: 'succeeded' })
  }

  /** The join is met and its step wants no others: what is idle ends, what runs is told to stop. */
  *#cancelRest(node: WorkflowNode): Generator<Need, void, Given> {
    yield* this.#load(node.needs.map((need) => ({ node: need, path: '' })))
    for (const need of node.needs) {
      const step = this.#rows.get(keyText({ node: need, path: '' }))
      if (!step || isStepTerminal(step.state)) continue
      if (step.state === 'waiting' && step.waits === 'children') {
        const given = yield { type: 'open_activations', node: need }
        for (const row of given.steps ?? []) if (!this.#rows.has(keyText(row))) this.#rows.set(keyText(row), row)
        for (const row of [...this.#rows.values()]) if (row.node === need && row.path !== '') this.#stopStep(row)
      }
      this.#stopStep(step)
    }
  }

  #stopStep(step: Step): void {
    if (isStepTerminal(step.state)) return
    if (step.state !== 'running') {
      this.#put(step, { type: 'canceled', failure: this.#notNeeded(step, null) }, { code: 'step.not_needed' })
      return
    }
    const stopping: Step = { ...step, stopping: true }
    this.#rows.set(keyText(step), stopping)
    this.#changed.set(keyText(step), stopping)
  }

  *#spread(
    step: Step,
    node: WorkflowNode,
    { items, scope }: { items: Json; scope: Scope },
  ): Generator<Need, void, Given> {
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
      const child = this.#create(step.node, index, item)
      if (index < released) yield* this.#begin(child, scope)
    }
  }

  #create(node: number, index: number, item: Json): Step {
    const child = newStep({ node, path: pathOf(index) }, 0, item)
    this.#rows.set(keyText(child), child)
    this.#created.set(keyText(child), child)
    this.#run.open += 1
    this.#run.total += 1
    return child
  }

  /** A forEach whose activations moved: lets the next ones go, or ends. */
  *#group(step: Step & { state: 'waiting' }): Generator<Need, void, Given> {
    const node = nodeAt(this.#in.definition, step.node)
    const done = step.ok + step.bad
    if (done >= step.total) {
      if (step.bad === 0 && node.loop !== null && this.#run.stop === null) yield* this.#turn(step, node)
      else if (step.bad === 0) this.#put(step, { type: 'succeeded' })
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
    const scope = isWork(nodeAt(this.#in.definition, step.node)) ? null : yield* this.#scopeOf([step.node])
    let released = 0
    // Nor what was made in it: an activation that ended as soon as it began lets the next one go at once.
    const made = [...this.#created.values()].filter((s) => s.node === step.node && s.path !== '' && s.path >= from)
    for (const row of [...(given.steps ?? []), ...made.sort((a, b) => (a.path < b.path ? -1 : 1))]) {
      const child = this.#rows.get(keyText(row)) ?? row
      if (released === count || child.state !== 'pending') continue
      this.#rows.set(keyText(child), child)
      if (scope) yield* this.#begin(child, scope)
      else this.#put(child, { type: 'ready', expiresAt: this.#expiry(child) })
      released += 1
    }
    return released
  }

  /** A turn of a loop has ended well: was it the last? */
  *#turn(step: Step & { state: 'waiting' }, node: WorkflowNode): Generator<Need, void, Given> {
    const index = step.total - 1
    const key = { node: step.node, path: pathOf(index) }
    const here = this.#result.outputs.findLast((o) => keyText(o) === keyText(key))
    const output = here ? here.output : ((yield { type: 'outputs', keys: [key] }).outputs?.[0]?.output ?? null)
    const scope = yield* this.#scopeOf([step.node])
    try {
      const { until = 'true', max = 1 } = node.loop ?? {}
      if (evaluateCondition(until, { ...scope, turn: { index, output } })) {
        this.#result.outputs.push({ node: step.node, path: '', output })
        this.#put(step, { type: 'succeeded' })
        return
      }
      if (step.total >= max)
        throw new Failure(
          'loop.limit_reached',
          `running ${this.#name(step)}: ${max} turns, and ${until} does not hold`,
          {
            evidence: { turns: step.total, max, until },
          },
        )
      if (this.#run.total >= LIMITS.stepsPerRunMax)
        throw new Failure('run.too_large', `beginning another turn of ${this.#name(step)}`, {
          evidence: { limit: LIMITS.stepsPerRunMax },
        })
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      this.#put(step, { type: 'failed', failure: error.toRecord() }, { code: error.code })
      return
    }
    this.#settleDue({ ...step, need: step.need + 1, total: step.total + 1, released: step.released + 1 })
    yield* this.#begin(this.#create(step.node, step.total, output), scope)
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

/** What is told of an end: how many of its needs, or of its activations, ended how. */
interface Target {
  key: StepKey
  ok: number
  bad: number
  by: Step | null
  isGroup: boolean
}

const keyOf = ({ node, path }: StepKey): StepKey => ({ node, path })

const activeOf = (step: Step): number => (step.state === 'queued' || step.state === 'running' ? 1 : 0)
