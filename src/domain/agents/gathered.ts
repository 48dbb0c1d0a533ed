import type { JsonObject } from '../../base/json.ts'
import { type AgentSpec, BETWEEN_INSTRUCTIONS } from '../kinds/agent.ts'
import type { McpServerSpec } from '../kinds/mcp-server.ts'
import type { MemorySpec } from '../kinds/memory.ts'
import type { ToolSpec } from '../kinds/tool.ts'
import type { Definition } from '../workflow.ts'
import type { Bound } from './bound.ts'

/** Everything that can be reached from the agent and tool steps of a workflow, as it is stored. */
export interface Gathered {
  agents: Map<string, { spec: AgentSpec; instructions: string }>
  tools: Map<string, ToolSpec>
  mcpServers: Map<string, McpServerSpec>
  memories: Map<string, MemorySpec>
  /** By what tools call them: NAME, NAME@VERSION or NAMESPACE/NAME. */
  workflows: Map<string, { hash: string; inputs: JsonObject | null; description: string | null }>
}

export const nothingGathered = (): Gathered => ({
  agents: new Map(),
  tools: new Map(),
  mcpServers: new Map(),
  memories: new Map(),
  workflows: new Map(),
})

/** Where to begin. */
export interface Roots {
  agents: readonly string[]
  tools: readonly string[]
}

/** The instructions of an agent with the shared texts that it names filled in. */
export const filledIn = ({ instructions }: AgentSpec, textOf: (ref: string) => string): string =>
  instructions.map((part) => ('ref' in part ? textOf(part.ref) : part.text)).join(BETWEEN_INSTRUCTIONS)

/** What of it can be reached from these, and which of the agents run below others. Cycles are fine. */
export function reachable(all: Gathered, roots: Roots): { part: Gathered; below: ReadonlySet<string> } {
  const part = nothingGathered()
  const below = new Set<string>()
  const agents = [...roots.agents]
  const addTool = (name: string): void => {
    const spec = all.tools.get(name)
    if (!spec || part.tools.has(name)) return
    part.tools.set(name, spec)
    const workflow = spec.workflow === undefined ? undefined : all.workflows.get(spec.workflow)
    if (spec.workflow !== undefined && workflow) part.workflows.set(spec.workflow, workflow)
    if (spec.mcp) copy(all.mcpServers, part.mcpServers, [{ name: spec.mcp.server }])
    if (spec.agent === undefined) return
    below.add(spec.agent)
    agents.push(spec.agent)
  }
  for (const name of roots.tools) addTool(name)
  for (let name = agents.pop(); name !== undefined; name = agents.pop()) {
    const agent = all.agents.get(name)
    if (!agent || part.agents.has(name)) continue
    part.agents.set(name, agent)
    const { delegates = [], handoffs = [], tools = [], mcpServers = [], memories = [] } = agent.spec
    for (const other of delegates) below.add(other)
    agents.push(...delegates, ...handoffs)
    for (const tool of tools) addTool(tool)
    copy(all.mcpServers, part.mcpServers, mcpServers)
    copy(all.memories, part.memories, memories)
  }
  return { part, below }
}

function copy<T>(from: ReadonlyMap<string, T>, to: Map<string, T>, named: readonly { name: string }[]): void {
  for (const { name } of named) {
    const spec = from.get(name)
    if (spec) to.set(name, spec)
  }
}

/**
 * What a definition keeps of it. `addressOf` gives the hash under which the definition of an agent that runs below others is kept. It is made of what can be
 * reached from the agent and not of that definition, which may name itself: agents may give work to each other.
 */
export function boundOf(all: Gathered, roots: Roots, addressOf: (agent: string) => string): Bound {
  const { part, below } = reachable(all, roots)
  return {
    agents: recordOf(part.agents, ({ spec, instructions }, name) => ({
      spec,
      instructions,
      definition: below.has(name) ? addressOf(name) : null,
    })),
    tools: recordOf(part.tools, (spec) => spec),
    mcpServers: recordOf(part.mcpServers, (spec) => spec),
    memories: recordOf(part.memories, (spec) => spec),
    workflows: recordOf(part.workflows, (found) => found),
  }
}

const recordOf = <T, R>(map: ReadonlyMap<string, T>, to: (value: T, name: string) => R): Record<string, R> =>
  Object.fromEntries([...map].map(([name, value]) => [name, to(value, name)]))

/** What the address of an agent's definition is made of. */
export function contentOf(all: Gathered, at: { namespace: string; agent: string }): unknown {
  const { part } = reachable(all, { agents: [at.agent], tools: [] })
  return [
    'agent',
    at.namespace,
    at.agent,
    Object.entries(part).map(([name, map]) => [name, recordOf(map as Map<string, unknown>, (value) => value)]),
  ]
}

/** How the runs are called that an agent has below others; no workflow has a name with a dot. */
export const workflowOfAgent = (agent: string): string => `agent.${agent}`

/** A workflow of one step, which is this agent and is asked what the run is given. */
export function definitionOfAgent(agent: string, namespace: string, bound: Bound): Definition {
  return {
    namespace,
    name: workflowOfAgent(agent),
    labels: {},
    inputs: null,
    failFast: false,
    timeoutMs: null,
    modules: {},
    nodes: [
      {
        kind: 'agent',
        name: agent,
        agent,
        with: '${{ inputs }}',
        needs: [],
        join: null,
        if: null,
        forEach: null,
        matrix: null,
        loop: null,
        maxParallel: null,
        retry: { max: 0, initialMs: 500, maxMs: 30_000, factor: 2, jitter: 0.2, on: null },
        timeoutMs: null,
        queueTimeoutMs: null,
        outputSchema: null,
        onFailure: 'fail',
        repeatable: true,
        runsOn: {},
        refs: [],
      },
    ],
    bound,
  }
}
