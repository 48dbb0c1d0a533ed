import { scopeOfActivation } from '../activation-scope.ts'
import type { Scope } from '../expression.ts'
import { isStepTerminal } from '../machines.ts'
import { ringOf } from '../rings.ts'
import { indexOf, keyText, pathOf, type Step } from '../step.ts'
import { plainNamespace } from '../tenancy.ts'
import { wayOf, wayTo } from '../turn-way.ts'
import type { Given, Need } from './needs.ts'
import type { Round } from './round.ts'

/** The scope of expressions that read neither inputs nor steps. */
export function bareScope(round: Round): Scope {
  const { name, namespace } = round.input.definition
  const run = { id: round.run.id, workflow: name, namespace: plainNamespace(namespace) }
  return { inputs: {}, steps: {}, run }
}

/** What the expressions of these nodes may read. */
export function* scopeOf(round: Round, nodes: readonly number[]): Generator<Need, Scope, Given> {
  return yield* scopeOfRefs(round, new Set(nodes.flatMap((node) => round.node(node).refs)))
}

function* scopeOfRefs(round: Round, refs: ReadonlySet<number>): Generator<Need, Scope, Given> {
  const scope = bareScope(round)
  const given = yield { type: 'scope', nodes: [...refs] }
  Object.assign(scope, given.scope)
  // Outputs that came with these very happenings are not in the store yet.
  for (const o of round.result.outputs) {
    if (!refs.has(o.node)) continue
    const name = round.node(o.node).name
    const known = scope.steps[name]?.output
    if (o.path === '') scope.steps[name] = { output: o.output, state: 'succeeded' }
    else if (Array.isArray(known)) known[indexOf(o.path)] = o.output
  }
  for (const ref of refs) {
    const step = round.rows.get(keyText({ node: ref, path: '' }))
    if (!step) continue
    const { name } = round.node(ref)
    scope.steps[name] = { output: scope.steps[name]?.output ?? null, state: step.state }
  }
  return scope
}

/** What the expressions of one activation may read. Of a turn: of each step of its ring the latest turn on the way. */
export function* scopeOfStep(round: Round, step: Step): Generator<Need, Scope, Given> {
  const node = round.node(step.node)
  if (node.turns === undefined || step.path === '')
    return scopeOfActivation(yield* scopeOf(round, [step.node]), node, step)
  const ring = new Set(ringOf(round.input.definition, step.node))
  const scope = yield* scopeOfRefs(round, new Set(node.refs.filter((ref) => !ring.has(ref))))
  const way = isStepTerminal(step.state) ? wayTo(step) : wayOf(step.item)
  const read = node.refs.filter((ref) => ring.has(ref))
  const keys = read.flatMap((ref) => (way[ref] === undefined ? [] : [{ node: ref, path: pathOf(way[ref]) }]))
  const given = keys.length > 0 ? ((yield { type: 'outputs', keys }).outputs ?? []) : []
  for (const ref of read) scope.steps[round.node(ref).name] = { output: null, state: 'pending' }
  for (const key of keys) {
    const stored = given.find((o) => keyText(o) === keyText(key))
    const here = round.result.outputs.findLast((o) => keyText(o) === keyText(key))
    const state = round.rows.get(keyText(key))?.state ?? stored?.state ?? 'pending'
    scope.steps[round.node(key.node).name] = { output: here?.output ?? stored?.output ?? null, state }
  }
  return scopeOfActivation(scope, node, step)
}
