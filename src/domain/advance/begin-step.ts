import { derivedId } from '../../base/ids.ts'
import { scopeOfActivation } from '../activation-scope.ts'
import { beginWait, childInputs, isMatch, questionOf } from '../begin.ts'
import type { Scope } from '../expression.ts'
import { Failure } from '../failure.ts'
import { checkInputs } from '../inputs.ts'
import { keyOf, keyText, type Step } from '../step.ts'
import { type ChildNode, isWork, type ParkedNode, type WaitNode } from '../workflow.ts'
import type { Given, Need, StoredWorkflow } from './needs.ts'
import type { Round } from './round.ts'
import { bareScope, scopeOf, scopeOfStep } from './scope.ts'

/** Lets a step go: into its queue, or to wait for what it waits for. `scope` is that of its node. */
export function* begin(round: Round, step: Step, scope: Scope): Generator<Need, void, Given> {
  const node = round.node(step.node)
  if (isWork(node)) {
    round.put(step, { type: 'ready', expiresAt: round.expiry(step) })
    return
  }
  try {
    yield* park(round, step, node, scopeOfActivation(scope, node, step))
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    round.put(step, { type: 'failed', failure: error.toRecord() }, { code: error.code })
  }
}

function* park(round: Round, step: Step, node: ParkedNode, scope: Scope): Generator<Need, void, Given> {
  const { now } = round.input
  const what = `beginning ${round.nameOf(step)}`
  const of = `${round.run.id}/${keyText(step)}/${step.fence + 1}`
  switch (node.kind) {
    case 'wait': {
      const begun = beginWait(node, scope, { now, what })
      const on = begun.waits === 'event' ? begun.name : null
      const parked = round.put(step, { type: 'parked', waits: begun.waits, on, until: begun.until })
      if (!parked) return
      if (begun.waits === 'event') yield* take(round, parked, node, { name: begun.name, scope })
      else if (begun.until <= now) round.put(parked, { type: 'succeeded' })
      return
    }
    case 'approval': {
      const question = questionOf(node, scope)
      const expiresAt = node.expiresMs === null ? null : now + node.expiresMs
      const id = derivedId('approval', of, now)
      const parked = round.put(step, { type: 'parked', waits: 'approval', on: id, until: expiresAt })
      if (parked) round.beside.asked.push({ ...keyOf(parked), id, fence: parked.fence, expiresAt, ...question })
      return
    }
    case 'workflow': {
      const workflow = yield* findWorkflow(round, node.ref)
      if (workflow instanceof Failure) throw workflow
      const inputs = checkInputs(workflow, childInputs(node, scope, what))
      const runId = derivedId('run', of, now)
      const until = node.timeoutMs === null ? null : now + node.timeoutMs
      const parked = round.put(step, { type: 'parked', waits: 'child', on: runId, until })
      if (parked) round.beside.children.push({ ...keyOf(parked), runId, fence: parked.fence, workflow, inputs })
    }
  }
}

export function* findWorkflow(round: Round, ref: ChildNode['ref']): Generator<Need, StoredWorkflow | Failure, Given> {
  const key = JSON.stringify(ref)
  const known = round.workflows.get(key)
  if (known) return known
  const given = yield { type: 'workflow', ref }
  const found =
    given.workflow ?? new Failure('child.definition_not_found', `looking for workflow ${key}`, { evidence: { ...ref } })
  round.workflows.set(key, found)
  return found
}

/** The approval's row is gone: it is asked for again, under the same id. */
export function askAgain(round: Round, step: Step & { state: 'waiting' }, scope: Scope): void {
  const node = round.node(step.node)
  if (node.kind !== 'approval' || step.on === null) return
  const question = questionOf(node, scopeOfActivation(scope, node, step))
  round.beside.asked.push({ ...keyOf(step), id: step.on, fence: step.fence, expiresAt: step.dueAt, ...question })
}

/** An event has come: the steps that wait for it may take it. */
export function* eventSent(round: Round, name: string): Generator<Need, void, Given> {
  if (round.run.stop !== null) return
  const given = yield { type: 'event_waits', name }
  const waiting = (given.steps ?? []).map((s) => round.rows.get(keyText(s)) ?? s)
  for (const step of waiting) round.rows.set(keyText(step), step)
  const scope =
    waiting.length > 0
      ? yield* scopeOf(
          round,
          waiting.map((s) => s.node),
        )
      : bareScope(round)
  for (const step of waiting) {
    const node = round.node(step.node)
    if (step.state !== 'waiting' || step.on !== name || node.kind !== 'wait') continue
    const own = node.turns === undefined ? scopeOfActivation(scope, node, step) : yield* scopeOfStep(round, step)
    yield* take(round, step, node, { name, scope: own })
  }
}

/** Gives a step the oldest kept event that it waits for, if there is one. Each event is taken once. */
function* take(
  round: Round,
  step: Step,
  node: WaitNode,
  { name, scope }: { name: string; scope: Scope },
): Generator<Need, void, Given> {
  const kept = round.kept.get(name) ?? (yield { type: 'events', name }).events ?? []
  round.kept.set(name, kept)
  const at = kept.findIndex(({ payload }) => isMatch(node, { name, payload }, scope))
  const [event] = at < 0 ? [] : kept.splice(at, 1)
  if (!event) return
  round.beside.taken.push({ ...keyOf(step), id: event.id })
  round.result.outputs.push({ ...keyOf(step), output: event.payload })
  round.put(step, { type: 'succeeded' })
}
