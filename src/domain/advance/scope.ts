import type { Scope } from '../expression.ts'
import { indexOf, keyText } from '../step.ts'
import { plainNamespace } from '../tenancy.ts'
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
  const scope = bareScope(round)
  const refs = new Set(nodes.flatMap((node) => round.node(node).refs))
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
