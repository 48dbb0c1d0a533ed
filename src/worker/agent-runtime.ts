import {
  createEgress,
  createMcpClients,
  createModelGateway,
  createToolRunner,
  NO_PROGRAMS,
  type Egress,
  type McpClients,
  type ModelGateway,
  type ModelSource,
  type ToolPrograms,
  type ToolRunner,
} from '../agents/index.ts'
import type { Clock, Log, Random } from '../base/index.ts'
import { Bug } from '../base/index.ts'

/** What all attempts of agents in one worker share: the ways out, the places at endpoints, the sessions with MCP servers. */
export interface AgentRuntime {
  gateway: ModelGateway
  tools: ToolRunner
  mcp: McpClients
  egress: Egress
  /** Below it each attempt that calls a tool has a directory while it runs; null: below that of the system. */
  workdir: string | null
  close(): Promise<void>
}

export function createAgentRuntime(deps: {
  clock: Clock
  random: Random
  log: Log
  version: string
  /** Where programs are looked for, as in the variable PATH; null: the usual places. */
  path: string | null
  workdir: string | null
  /** What the host has for tools that are programs. */
  programs?: ToolPrograms
  /** The way out; one of its own when absent. */
  egress?: Egress
}): AgentRuntime {
  const { clock, random, log, version, path, workdir, programs = NO_PROGRAMS } = deps
  const egress = deps.egress ?? createEgress()
  const mcp = createMcpClients({ clock, random, log, about: { name: 'orrery', version }, path, programs })
  return {
    gateway: createModelGateway({ clock, random, egress, source: NO_SOURCE }),
    tools: createToolRunner({ clock, random, programs }),
    mcp,
    egress,
    workdir,
    async close() {
      await mcp.close()
      await egress.close()
    },
  }
}

const none = (): never => {
  throw new Bug('each call of an attempt brings its own source')
}

/** What manifests name is had of the server for each attempt, with what its step may see. */
const NO_SOURCE: ModelSource = { findEndpoint: none, findPrices: none, listModels: none, resolveSecrets: none }
