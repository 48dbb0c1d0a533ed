import type { JsonObject } from '../../base/json.ts'
import { MEMORY_GRANTS } from '../kinds/agent.ts'
import type { ToolSpec } from '../kinds/tool.ts'
import { askToolOf, handoffToolOf } from './asked-call.ts'
import type { Bound } from './bound.ts'
import { MEMORY_TOOLS } from './memory-tools.ts'

/** What work for another agent is asked with. */
export const PROMPT_SCHEMA: JsonObject = {
  type: 'object',
  properties: {
    prompt: { type: 'string', minLength: 1, description: 'All that it has to know: it sees nothing else.' },
  },
  required: ['prompt'],
  additionalProperties: false,
}

/** What the conversation is handed over with. */
export const REASON_SCHEMA: JsonObject = {
  type: 'object',
  properties: { reason: { type: 'string', description: 'Why it should go on.' } },
  additionalProperties: false,
}

/** What a tool of a Tool resource is called with: an agent takes a prompt where its tool says nothing else. */
export const inputSchemaOf = ({ type, inputSchema }: Pick<ToolSpec, 'type' | 'inputSchema'>): JsonObject =>
  type === 'agent' && Object.keys(inputSchema).length <= 1 ? PROMPT_SCHEMA : inputSchema

export interface CallSchema {
  /** Null: nothing is known of it here. */
  schema: JsonObject | null
  /** The MCP server that says the rest, which only a worker can ask; null: there is no more. */
  server: string | null
}

/** What a call takes, as far as the definition of its run knows: all of it, but for tools of MCP servers. Pure. */
export function schemaOfCall(bound: Bound | undefined, agent: string | null, tool: string): CallSchema {
  const known = bound && Object.hasOwn(bound.tools, tool) ? bound.tools[tool] : undefined
  if (known) return { schema: inputSchemaOf(known), server: known.mcp?.server ?? null }
  const spec = bound && agent !== null && Object.hasOwn(bound.agents, agent) ? bound.agents[agent]?.spec : undefined
  const whole = (schema: JsonObject | null): CallSchema => ({ schema, server: null })
  if (spec?.delegates?.some((name) => askToolOf(name) === tool)) return whole(PROMPT_SCHEMA)
  if (spec?.handoffs?.some((name) => handoffToolOf(name) === tool)) return whole(REASON_SCHEMA)
  const [of = '', ...rest] = tool.split('.')
  if (spec?.memories?.some(({ name }) => name === of)) {
    const grant = MEMORY_GRANTS.find((one) => one === rest.join('.'))
    if (grant !== undefined) return whole(MEMORY_TOOLS[grant].input)
  }
  return { schema: null, server: spec?.mcpServers?.some(({ name }) => name === of) === true ? of : null }
}
