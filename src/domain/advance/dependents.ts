import type { Definition } from '../workflow.ts'

/** Successors of each node, from `needs`. */
export function dependentsOf(definition: Definition): number[][] {
  const out: number[][] = definition.nodes.map(() => [])
  for (const [i, node] of definition.nodes.entries()) for (const need of node.needs) out[need]?.push(i)
  return out
}
