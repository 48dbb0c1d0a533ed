import type { AgentSpec } from '../kinds/agent.ts'
import { isolationOf } from '../kinds/tool.ts'
import { fitsName } from '../name-pattern.ts'
import type { Bound } from './bound.ts'
import type { WorkerEntry } from './journal.ts'
import type { AskedCall, CallTarget, OwnRules } from './verdict.ts'

/** The tool by which an agent gives work to another one, and the one by which it hands the conversation over. */
export const askToolOf = (agent: string): string => `ask_${agent}`
export const handoffToolOf = (agent: string): string => `hand_over_to_${agent}`

/** Which field of an agent's spec offers it a tool of this name; null when none does. */
export function offeredBy(
  spec: AgentSpec,
  tool: string,
): 'tools' | 'mcpServers' | 'memories' | 'delegates' | 'handoffs' | null {
  if (spec.tools?.includes(tool)) return 'tools'
  if (spec.delegates?.some((agent) => askToolOf(agent) === tool)) return 'delegates'
  if (spec.handoffs?.some((agent) => handoffToolOf(agent) === tool)) return 'handoffs'
  if (spec.memories?.some(({ name, allow }) => allow.some((grant) => `${name}.${grant}` === tool))) return 'memories'
  const isOfServer = spec.mcpServers?.some(
    ({ name, tools = ['*'] }) =>
      tool.startsWith(`${name}.`) && tools.some((pattern) => fitsName(pattern, tool.slice(name.length + 1))),
  )
  return isOfServer ? 'mcpServers' : null
}

/** What an agent's spec says about its call of a tool. Pure. */
export function ownRulesOf(spec: AgentSpec, tool: string): OwnRules {
  const by = offeredBy(spec, tool)
  return {
    roles: spec.roles ?? [],
    approval: spec.approval,
    approvers: spec.approvers ?? null,
    approvalExpiresMs: spec.approvalExpires ?? null,
    isOffered: by !== null,
    given: by === 'tools' || by === 'mcpServers' ? null : by,
  }
}

/** The definition that a call belongs to. */
export interface AskingDefinition {
  namespace: string
  name: string
  bound?: Bound | undefined
}

/**
 * What the rules are asked about a call that a worker wants to make. What the definition knows is not taken from the worker: the class of a tool of its
 * own, who gets the work, and what the agent's spec says; an agent that the definition does not have has no rules of its own, and is denied.
 */
export function askedCallOf(
  { namespace, name: workflow, bound }: AskingDefinition,
  runId: string,
  {
    agent,
    tool,
    operation,
    input,
  }: Pick<Extract<WorkerEntry, { kind: 'tool_asked' }>, 'tool' | 'operation' | 'input'> & {
    agent: string | null
  },
): AskedCall {
  const spec = agent === null ? undefined : bound?.agents[agent]?.spec
  const known = bound?.tools[tool]
  return {
    namespace,
    workflow,
    runId,
    agent,
    tool,
    operation: known?.operation ?? operation,
    input,
    own: spec ? ownRulesOf(spec, tool) : null,
    target: targetOf(bound, spec, tool),
    isUnconfined: isUnconfined(bound, tool),
  }
}

/** Whether a tool is a program that makes connections of its own: a command that is kept from nothing, or a server that the worker starts. Pure. */
export function isUnconfined(bound: Pick<Bound, 'tools' | 'mcpServers'> | undefined, tool: string): boolean {
  const known = bound?.tools[tool]
  const server = known ? known.mcp?.server : tool.slice(0, Math.max(0, tool.indexOf('.')))
  if (known?.type === 'command') return isolationOf(known) === 'none'
  return server !== undefined && bound?.mcpServers[server]?.transport === 'stdio'
}

/** Who is given work by a call. Pure. */
export function targetOf(
  bound: Pick<Bound, 'tools'> | undefined,
  spec: Pick<AgentSpec, 'delegates' | 'handoffs'> | undefined,
  tool: string,
): CallTarget | null {
  const delegate = spec?.delegates?.find((agent) => askToolOf(agent) === tool)
  if (delegate !== undefined) return { of: 'agent', name: delegate }
  const handoff = spec?.handoffs?.find((agent) => handoffToolOf(agent) === tool)
  if (handoff !== undefined) return { of: 'handoff', name: handoff }
  const known = bound?.tools[tool]
  if (known?.type === 'agent') return { of: 'agent', name: known.agent ?? tool }
  if (known?.type === 'workflow') return { of: 'workflow', name: known.workflow ?? tool }
  return null
}
