import type { Scope } from './expression.ts'
import { indexOf, type Step } from './step.ts'
import type { WorkflowNode } from './workflow.ts'

/** The scope with what one activation of its own adds: the item and its index, the combination of a matrix, the turn of a loop or of a ring. */
export function scopeOfActivation(
  scope: Scope,
  node: WorkflowNode,
  { path, item }: Pick<Step, 'path' | 'item'>,
): Scope {
  if (path === '') return scope
  const index = indexOf(path)
  // What led to a turn of a ring is its item, and shows in what `steps` gives.
  if (node.turns !== undefined) return { ...scope, turn: { index } }
  // A turn keeps what the one before it gave as its item; the first has none before it.
  if (node.loop !== null) return { ...scope, turn: { index, ...(index === 0 ? {} : { output: item }) } }
  return { ...scope, item, index, ...(node.matrix === null ? {} : { matrix: item }) }
}
