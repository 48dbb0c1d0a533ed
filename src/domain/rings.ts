import { isStepGood, type StepState } from './machines.ts'
import type { Definition, WorkflowNode } from './workflow.ts'

const known = new WeakMap<Definition, ReadonlyMap<number, readonly number[]>>()

/**
 * The steps that `next` joins to this one, itself included, in the order of the workflow: they begin together, take turns as `next`
 * leads, and end together. A node without turns is alone.
 */
export function ringOf(definition: Definition, node: number): readonly number[] {
  return byNode(definition).get(node) ?? [node]
}

/** All rings of a definition. */
export function ringsOf(definition: Definition): (readonly number[])[] {
  return [...new Set(byNode(definition).values())]
}

function byNode(definition: Definition): ReadonlyMap<number, readonly number[]> {
  let rings = known.get(definition)
  if (!rings) {
    const edges = definition.nodes.map((n) => n.turns?.next.map((way) => way.node) ?? [])
    rings = joinedBy(edges)
    known.set(definition, rings)
  }
  return rings
}

/** Nodes that edges join, whichever way they point: each with all of its part, in ascending order. Those without edges are left out. */
export function joinedBy(edges: readonly (readonly number[])[]): Map<number, readonly number[]> {
  const neighbours = new Map<number, number[]>()
  const join = (from: number, to: number) => {
    const of = neighbours.get(from)
    if (of) of.push(to)
    else neighbours.set(from, [to])
  }
  for (const [from, targets] of edges.entries()) {
    for (const to of targets) {
      join(from, to)
      join(to, from)
    }
  }
  const parts = new Map<number, readonly number[]>()
  for (const start of neighbours.keys()) {
    if (parts.has(start)) continue
    const members = [start]
    const seen = new Set(members)
    for (const node of members) {
      for (const next of neighbours.get(node) ?? []) {
        if (seen.has(next)) continue
        seen.add(next)
        members.push(next)
      }
    }
    members.sort((a, b) => a - b)
    for (const member of members) parts.set(member, members)
  }
  return parts
}

/** Those of a ring that begin: which no other step names. Where each is named, the first of the workflow. */
export function beginnersOf(members: readonly number[], edges: readonly (readonly number[])[]): number[] {
  const named = new Set(members.flatMap((from) => (edges[from] ?? []).filter((to) => to !== from)))
  const free = members.filter((node) => !named.has(node))
  return free.length > 0 ? free : members.slice(0, 1)
}

/**
 * Whether what follows may go on from here. `onFailure: continue` turns a failure into success: of a step that takes turns that of each
 * turn, else that of the step as a whole.
 */
export function endsWell(node: WorkflowNode | undefined, { path, state }: { path: string; state: StepState }): boolean {
  if (isStepGood(state)) return true
  return state === 'failed' && node?.onFailure === 'continue' && (path !== '') === (node.turns !== undefined)
}
