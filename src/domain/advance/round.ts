import type { Json } from '../../base/json.ts'
import type { FailureRecord, Failure } from '../failure.ts'
import { isStepTerminal } from '../machines.ts'
import { endsWell } from '../rings.ts'
import {
  applyToStep,
  displayName,
  keyOf,
  keyText,
  newStep,
  pathOf,
  type Step,
  type StepEvent,
  type StepKey,
} from '../step.ts'
import type { Random } from '../../base/random.ts'
import { type Definition, isJournaled, type WorkflowNode } from '../workflow.ts'
import { letGo, nothingBeside } from './beside-rows.ts'
import type { Anything, RunCore } from './happenings.ts'
import type { Given, KeptEvent, Need, StoredWorkflow } from './needs.ts'
import type { AdvanceResult } from './result.ts'

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

/** Everything that one call of `advance` knows and has decided so far. */
export class Round {
  readonly input: AdvanceInput
  readonly run: RunCore
  readonly rows = new Map<string, Step>()
  readonly changed = new Map<string, Step>()
  readonly created = new Map<string, Step>()
  readonly result: Pick<AdvanceResult, 'attempts' | 'outputs' | 'changes' | 'stale'> = {
    attempts: [],
    outputs: [],
    changes: [],
    stale: [],
  }
  /** Activations that have just ended and whose targets have not been told. */
  ended: Step[] = []
  /** Steps whose join has moved and that must be looked at. */
  readonly owed = new Map<string, StepKey>()
  /** Nodes below something bad: asked for already. */
  readonly sunk = new Set<number>()
  readonly beside = nothingBeside()
  /** Turns that have begun in this very round. */
  turnsBegun = 0
  /** Kept events by name, without those taken in this very round. */
  readonly kept = new Map<string, KeptEvent[]>()
  readonly workflows = new Map<string, StoredWorkflow | Failure>()

  constructor(input: AdvanceInput) {
    this.input = input
    this.run = { ...input.run }
  }

  node(node: number): WorkflowNode {
    const found = this.input.definition.nodes[node]
    if (!found) throw new RangeError(`node ${node} of ${this.input.definition.name}`)
    return found
  }

  *load(keys: readonly StepKey[]): Generator<Need, void, Given> {
    const missing = new Map(keys.filter((k) => !this.rows.has(keyText(k))).map((k) => [keyText(k), k]))
    if (missing.size === 0) return
    const given = yield { type: 'steps', keys: [...missing.values()].map(({ node, path }) => ({ node, path })) }
    for (const step of given.steps ?? []) this.rows.set(keyText(step), step)
  }

  /** `answered`: what it waited for has come to its own end. */
  put(before: Step, event: StepEvent, note: { code?: string; answered?: true } = {}): Step | null {
    const after = applyToStep(before, event)
    if (!after) return null
    if (!note.answered) letGo(before, this.beside)
    const isOver = isStepTerminal(after.state) || event.type === 'backed_off'
    if (isOver && before.fence > 0 && isJournaled(this.node(after.node))) this.beside.closed.push(keyOf(after))
    const key = keyText(after)
    this.rows.set(key, after)
    if (this.created.has(key)) this.created.set(key, after)
    else this.changed.set(key, after)
    this.run.active += activeOf(after) - activeOf(before)
    if (isStepTerminal(after.state)) {
      this.run.open -= 1
      if (after.state === 'failed' || after.state === 'blocked') this.#countBad(after)
      this.ended.push(after)
    }
    this.result.changes.push({
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
    const node = this.node(step.node)
    if (step.path !== '' || endsWell(node, step)) return
    this.run.bad += 1
    if (step.state === 'failed') this.run.failure ??= step.failure
  }

  expiry(step: StepKey): number | null {
    const ms = this.node(step.node).queueTimeoutMs
    return ms === null ? null : this.input.now + ms
  }

  nameOf(step: StepKey): string {
    return `step ${displayName(this.node(step.node).name, step.path)} of ${this.run.id}`
  }

  /** Takes note of a row that changed without a transition. */
  keep(step: Step): void {
    this.rows.set(keyText(step), step)
    const written = this.created.has(keyText(step)) ? this.created : this.changed
    written.set(keyText(step), step)
  }

  /** What was owed to the step is done. */
  settleDue(step: Step): void {
    const settled: Step = { ...step, dueAt: null }
    this.rows.set(keyText(step), settled)
    this.changed.set(keyText(step), settled)
  }

  create(node: number, index: number, item: Json): Step {
    const child = newStep({ node, path: pathOf(index) }, 0, item)
    this.rows.set(keyText(child), child)
    this.created.set(keyText(child), child)
    this.run.open += 1
    this.run.total += 1
    return child
  }

  endAttempt(
    step: Step & { state: 'running' },
    state: 'failed' | 'lost' | 'parked' | 'canceled',
    failure: FailureRecord | null,
  ): void {
    this.result.attempts.push({
      node: step.node,
      path: step.path,
      fence: step.fence,
      state,
      session: step.session,
      failure,
    })
  }
}

const activeOf = (step: Step): number => (step.state === 'queued' || step.state === 'running' ? 1 : 0)
