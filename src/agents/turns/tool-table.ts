import { askToolOf, handoffToolOf } from '../../domain/agents/asked-call.ts'
import type { Bound } from '../../domain/agents/bound.ts'
import { inputSchemaOf, PROMPT_SCHEMA, REASON_SCHEMA } from '../../domain/agents/call-schemas.ts'
import type { OfferedTool } from '../../domain/agents/tool-envelope.ts'
import type { MemoryGrant } from '../../domain/kinds/agent.ts'
import { isRepeatable, type ToolSpec } from '../../domain/kinds/tool.ts'
import { LIMITS } from '../../domain/limits.ts'

/** How a tool that an agent is offered is called. */
export type ToolSource =
  | { by: 'tool'; spec: ToolSpec }
  | { by: 'mcp'; server: string; tool: string }
  | { by: 'memory'; memory: string; grant: MemoryGrant }
  /** A run below this one. */
  | { by: 'child'; of: 'agent' | 'workflow'; name: string }
  /** The conversation goes on with that agent. */
  | { by: 'handoff'; agent: string }

export interface TableEntry {
  offered: OfferedTool
  source: ToolSource
  timeoutMs: number
}

/** What an agent may call, by the name that the model calls it by. */
export interface ToolTable {
  entries: ReadonlyMap<string, TableEntry>
  /** What is not as the agent's spec says, for people. */
  warnings: readonly string[]
}

/** Longest wait for what has no time-out of its own. */
const OTHER_TIMEOUT_MS = 60_000

/** Pure: all that an agent is offered. `found` are tools that are only known while it runs: those of MCP servers and of memories. */
export function toolTableOf(bound: Bound, agent: string, found: readonly TableEntry[] = []): ToolTable {
  const spec = bound.agents[agent]?.spec
  const entries = new Map<string, TableEntry>()
  const warnings: string[] = []
  const add = (entry: TableEntry): void => {
    const { name } = entry.offered
    if (entries.has(name)) warnings.push(`two tools are called ${name}: the second is not offered`)
    else if (entries.size >= LIMITS.modelToolsMax)
      warnings.push(`${name} is not offered: a model takes ${LIMITS.modelToolsMax} tools`)
    else entries.set(name, entry)
  }
  for (const name of spec?.tools ?? []) {
    const tool = bound.tools[name]
    if (tool) add(entryOf(name, tool))
  }
  for (const name of spec?.delegates ?? []) add(delegateEntry(bound, name))
  for (const name of spec?.handoffs ?? []) add(handoffEntry(bound, name))
  for (const entry of found) add(entry)
  return { entries, warnings }
}

/** A tool of a Tool resource. */
export function entryOf(name: string, spec: ToolSpec): TableEntry {
  return {
    offered: {
      name,
      description: spec.description,
      inputSchema: inputSchemaOf(spec),
      outputSchema: spec.outputSchema ?? null,
      operation: spec.operation,
      repeatable: isRepeatable(spec),
    },
    source: sourceOf(spec),
    timeoutMs: spec.timeout,
  }
}

function sourceOf(spec: ToolSpec): ToolSource {
  if (spec.type === 'agent') return { by: 'child', of: 'agent', name: spec.agent ?? '' }
  if (spec.type === 'workflow') return { by: 'child', of: 'workflow', name: spec.workflow ?? '' }
  return { by: 'tool', spec }
}

function delegateEntry(bound: Bound, agent: string): TableEntry {
  const about = bound.agents[agent]?.spec.description
  return {
    offered: {
      name: askToolOf(agent),
      description: `Gives a piece of work to the agent ${agent} and waits for its answer.${about ? ` ${about}` : ''}`,
      inputSchema: PROMPT_SCHEMA,
      outputSchema: null,
      operation: 'write',
      repeatable: true, // a run below is begun once, however often it is asked for
    },
    source: { by: 'child', of: 'agent', name: agent },
    timeoutMs: OTHER_TIMEOUT_MS,
  }
}

function handoffEntry(bound: Bound, agent: string): TableEntry {
  const about = bound.agents[agent]?.spec.description
  return {
    offered: {
      name: handoffToolOf(agent),
      description: `Hands the conversation over to the agent ${agent}, who goes on with it instead.${about ? ` ${about}` : ''}`,
      inputSchema: REASON_SCHEMA,
      outputSchema: null,
      operation: 'read',
      repeatable: true,
    },
    source: { by: 'handoff', agent },
    timeoutMs: OTHER_TIMEOUT_MS,
  }
}
