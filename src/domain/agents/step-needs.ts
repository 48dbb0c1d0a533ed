import { secretsOfMcpServer } from '../kinds/mcp-server.ts'
import { secretsOfTool } from '../kinds/tool.ts'
import type { SecretRef } from '../secrets.ts'
import type { AgentNode, RouteNode, ToolNode } from '../workflow.ts'
import type { Bound } from './bound.ts'

/** A secret that a spec names, with what it is for: `tool slack`. */
export type NamedSecret = SecretRef & { use: string }

/** What a step of agents may come to use while it runs; what runs below it has steps of its own. */
export interface StepNeeds {
  /** Agents that may speak in it: its own, and those that the conversation may be handed over to. */
  agents: string[]
  /** Endpoints that they may ask, without the fallbacks of the endpoints themselves. */
  endpoints: string[]
  /** Of these one each has to be there before it can begin. */
  firstEndpoints: string[]
  /** Secrets of its tools and MCP servers. */
  secrets: NamedSecret[]
  /** Those without which it cannot begin: an optional server may be left out. */
  firstSecrets: NamedSecret[]
}

export function needsOfStep(node: AgentNode | ToolNode | RouteNode, bound: Bound): StepNeeds {
  if (node.kind === 'route')
    return { agents: [], endpoints: [node.model], firstEndpoints: [node.model], secrets: [], firstSecrets: [] }
  if (node.kind === 'tool') {
    const secrets = secretsOf({ tools: [node.tool], servers: serversOf([node.tool], bound) }, bound)
    return { agents: [], endpoints: [], firstEndpoints: [], secrets, firstSecrets: secrets }
  }
  const agents = speakersOf(node.agent, bound)
  const specs = agents.flatMap((name) => bound.agents[name]?.spec ?? [])
  const tools = [...new Set(specs.flatMap((spec) => spec.tools ?? []))]
  const servers = specs.flatMap((spec) => spec.mcpServers ?? [])
  const needed = servers.filter(({ name, optional }) => !optional && bound.mcpServers[name]?.optional !== true)
  const secrets = (named: readonly { name: string }[]): NamedSecret[] =>
    secretsOf({ tools, servers: [...serversOf(tools, bound), ...named.map(({ name }) => name)] }, bound)
  const first = bound.agents[node.agent]?.spec
  return {
    agents,
    endpoints: [
      ...new Set(
        specs.flatMap(({ model, fallbackModels = [], check }) => [
          model,
          ...fallbackModels,
          ...(check?.model === undefined ? [] : [check.model]),
        ]),
      ),
    ],
    firstEndpoints: first === undefined ? [] : [first.model],
    secrets: secrets(servers),
    firstSecrets: secrets(needed),
  }
}

/** The agent of a step, and all that the conversation may be handed over to. */
export function speakersOf(first: string, bound: Bound | undefined): string[] {
  const found = new Set([first])
  for (const name of found) for (const other of bound?.agents[name]?.spec.handoffs ?? []) found.add(other)
  return [...found]
}

/** Servers that tools of the type `mcp` are of. */
const serversOf = (tools: readonly string[], bound: Bound): string[] =>
  tools.flatMap((name) => bound.tools[name]?.mcp?.server ?? [])

function secretsOf(
  { tools, servers }: { tools: readonly string[]; servers: readonly string[] },
  bound: Bound,
): NamedSecret[] {
  const ofTools = tools.flatMap((name) => {
    const spec = bound.tools[name]
    return spec ? secretsOfTool(spec).map((ref) => ({ ...ref, use: `tool ${name}` })) : []
  })
  const ofServers = [...new Set(servers)].flatMap((name) => {
    const spec = bound.mcpServers[name]
    return spec ? secretsOfMcpServer(spec).map(({ use, ref }) => ({ ...ref, use: `${use} of MCP server ${name}` })) : []
  })
  return [...ofTools, ...ofServers]
}
