import type { JsonObject } from '../../base/json.ts'
import type { AgentSpec } from '../kinds/agent.ts'
import type { McpServerSpec } from '../kinds/mcp-server.ts'
import type { MemorySpec } from '../kinds/memory.ts'
import type { ToolSpec } from '../kinds/tool.ts'

/**
 * What the agent and tool steps of a definition refer to, as it was when the run was created: later edits change later runs only. Values of secrets,
 * model endpoints, prices, policies, roles and budgets are not here: they are looked up anew, and what is changed there holds from the next call on.
 */
export interface Bound {
  agents: Record<string, BoundAgent>
  tools: Record<string, ToolSpec>
  mcpServers: Record<string, McpServerSpec>
  memories: Record<string, MemorySpec>
  /** Hashes of the definitions that tools of type `workflow` run. */
  workflows: Record<string, { hash: string; inputs: JsonObject | null; description: string | null }>
}

export interface BoundAgent {
  spec: AgentSpec
  /** All of its instructions, fragments filled in, in their order. */
  instructions: string
  /** Hash of a definition of one step, which is this agent: what a delegation runs. Null when nobody delegates to it. */
  definition: string | null
}
