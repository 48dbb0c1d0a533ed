import type { AgentSpec } from '../kinds/agent.ts'
import { traitsOf } from '../kinds/mcp-server.ts'
import { isolationOf } from '../kinds/tool.ts'
import { fitsName } from '../name-pattern.ts'
import type { WorkflowNode } from '../workflow.ts'
import type { Bound } from './bound.ts'
import type { WorkerEntry } from './journal.ts'
import { MEMORY_TOOLS } from './memory-tools.ts'
import { speakersOf } from './step-needs.ts'
import type { AskedCall, CallTarget, OperationClass, OwnRules } from './verdict.ts'

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
 * Whether a step itself may ask for this at all: an agent's for those who speak in it, a tool's for its tool, a route's for a model. Pure.
 */
export function isOfStep(
  node: WorkflowNode | undefined,
  bound: Bound | undefined,
  entry: Extract<WorkerEntry, { kind: 'tool_asked' | 'model_asked' }>,
): boolean {
  switch (node?.kind) {
    case 'agent':
      return speakersOf(node.agent, bound).includes(entry.agent)
    case 'tool':
      return entry.kind === 'tool_asked' && entry.tool === node.tool
    case 'route':
      return entry.kind === 'model_asked'
    default:
      return false
  }
}

/** The class of a tool as the definition has it; as the worker says where only that knows. Pure. */
function operationOf(bound: Bound | undefined, spec: AgentSpec | undefined, tool: string, said: OperationClass) {
  const known = bound?.tools[tool]
  if (known) return known.operation
  const by = spec && offeredBy(spec, tool)
  const at = tool.indexOf('.')
  if (by === 'delegates') return 'write'
  if (by === 'handoffs') return 'read'
  if (by === 'memories')
    return Object.entries(MEMORY_TOOLS).find(([grant]) => grant === tool.slice(at + 1))?.[1].operation ?? said
  const server = by === 'mcpServers' ? bound?.mcpServers[tool.slice(0, at)] : undefined
  // What its server says of itself only the worker has heard, and it can but make a class stricter.
  return server ? traitsOf(tool.slice(at + 1), { destructiveHint: said === 'delete' }, server).operation : said
}

/**
 * What the rules are asked about a call that a worker wants to make. What the definition knows is not taken from the worker: the class of a tool,
 * who gets the work, and what the agent's spec says; an agent that the definition does not have has no rules of its own, and is denied.
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
  return {
    namespace,
    workflow,
    runId,
    agent,
    tool,
    operation: operationOf(bound, spec, tool, operation),
    input,
    own: spec ? ownRulesOf(spec, tool) : null,
    target: targetOf(bound, spec, tool),
    isUnconfined: isUnconfined(bound, tool),
  }
}

/** Whether a tool is a program that makes connections of its own: a command, or a server that the worker starts, that is kept from nothing. Pure. */
export function isUnconfined(bound: Pick<Bound, 'tools' | 'mcpServers'> | undefined, tool: string): boolean {
  const known = bound?.tools[tool]
  const server = known ? known.mcp?.server : tool.slice(0, Math.max(0, tool.indexOf('.')))
  if (known?.type === 'command') return isolationOf(known) === 'none'
  const { transport, stdio } = (server === undefined ? null : bound?.mcpServers[server]) ?? {}
  return transport === 'stdio' && stdio?.isolation !== 'sandbox'
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
