import type { Bound } from '../agents/bound.ts'
import { beginnersOf, joinedBy } from '../rings.ts'
import type {
  AgentNode,
  ApprovalNode,
  ChildNode,
  Definition,
  FunctionNode,
  RetryPolicy,
  WaitNode,
} from '../workflow.ts'

export const NO_RETRY: RetryPolicy = { max: 0, initialMs: 1_000, maxMs: 60_000, factor: 2, jitter: 0, on: null }

type Named = {
  name: string
  needs?: string[]
  refs?: string[]
  /** Steps that may follow it, by name. */
  next?: (string | { step: string; if: string })[]
  /** 100 unless said otherwise. */
  maxTurns?: number
}

/** A node of a test: its name, what it needs by name, and what is not the usual. */
export type NodeSpec = Named & Partial<Omit<FunctionNode, keyof Named | 'kind' | 'turns'>>

type Common = Partial<Omit<FunctionNode, keyof Named | 'kind' | 'function' | 'with'>>
type Own<N> = Omit<N, Exclude<keyof FunctionNode, 'kind' | 'with'>>
/** A node that waits in rows. */
export type ParkedSpec = Named & Common & (Own<WaitNode> | Own<ApprovalNode> | Own<ChildNode>)
/** A node of an agent: see `AgentNode`. */
export type AgentSpecOfNode = Named & Common & Own<AgentNode>
export type AnySpec = NodeSpec | ParkedSpec | AgentSpecOfNode

/** A step of an agent called `writer`. */
export const agentNode = (name: string, extra: Partial<Named> & Common = {}): AgentSpecOfNode => ({
  ...extra,
  name,
  kind: 'agent',
  agent: 'writer',
  with: null,
})

/** What definitions with agents refer to: nothing but what is given. */
export const boundOf = (given: Partial<Bound> = {}): Bound => ({
  agents: {},
  tools: {},
  mcpServers: {},
  memories: {},
  workflows: {},
  ...given,
})

/** A definition of function steps, as if compiled from a manifest. */
export function definitionOf(specs: readonly AnySpec[], extra: Partial<Omit<Definition, 'nodes'>> = {}): Definition {
  const position = new Map(specs.map((s, i) => [s.name, i]))
  const numbers = (names: readonly string[] = []) =>
    names.map((name) => {
      const at = position.get(name)
      if (at === undefined) throw new Error(`no node ${name}`)
      return at
    })
  const waysOf = (next: Named['next'] = []) =>
    next.map((way) => (typeof way === 'string' ? { step: way, if: null } : way))
  const edges = specs.map(({ next }) => numbers(waysOf(next).map((way) => way.step)))
  const rings = joinedBy(edges)
  const turnsOf = (at: number, next: Named['next'], max = 100) => {
    const ring = rings.get(at)
    const ways = waysOf(next).map((way, i) => ({ node: edges[at]?.[i] ?? 0, if: way.if }))
    return ring ? { turns: { max, begins: beginnersOf(ring, edges).includes(at), next: ways } } : {}
  }
  return {
    namespace: 'default',
    name: 'test',
    labels: {},
    inputs: null,
    failFast: false,
    timeoutMs: null,
    modules: { m: './m.ts' },
    ...extra,
    nodes: specs.map(({ needs, refs, next, maxTurns, ...spec }, at) => ({
      ...('kind' in spec ? {} : { kind: 'function', function: 'm.work', with: null }),
      join: null,
      if: null,
      forEach: null,
      matrix: null,
      loop: null,
      maxParallel: null,
      retry: NO_RETRY,
      timeoutMs: null,
      queueTimeoutMs: null,
      outputSchema: null,
      onFailure: 'fail',
      repeatable: true,
      runsOn: {},
      ...spec,
      ...turnsOf(at, next, maxTurns),
      needs: numbers(needs),
      refs: numbers(refs),
    })) as Definition['nodes'], // a spec has what its kind needs beside what is given to all
  }
}
