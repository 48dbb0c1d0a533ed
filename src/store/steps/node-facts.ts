import { dependentsOf } from '../../domain/advance/dependents.ts'
import { type Definition, isDecided } from '../../domain/workflow.ts'

/** What the recording of a success has to know of the node that ended: the statement itself reads no definitions. */
export interface NodeFacts {
  name: string
  dependents: readonly Dependent[]
}

export interface Dependent {
  node: number
  name: string
  queueId: number
  /** Has to be looked at by the pure function before it may run. */
  decided: boolean
  timeoutMs: number | null
  queueTimeoutMs: number | null
}

/** Facts per node of a definition whose nodes wait in these queues. */
export function factsOf(definition: Definition, queueIds: readonly number[]): NodeFacts[] {
  const dependents = dependentsOf(definition)
  return definition.nodes.map(({ name }, i) => ({
    name,
    dependents: (dependents[i] ?? []).flatMap((node) => {
      const of = definition.nodes[node]
      if (!of) return []
      const { timeoutMs, queueTimeoutMs } = of
      return [{ node, name: of.name, queueId: queueIds[node] ?? 0, decided: isDecided(of), timeoutMs, queueTimeoutMs }]
    }),
  }))
}
