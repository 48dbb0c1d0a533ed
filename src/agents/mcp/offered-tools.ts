import type { Tool } from '@modelcontextprotocol/client'
import type { JsonObject } from '../../base/json.ts'
import type { OfferedTool } from '../../domain/agents/tool-envelope.ts'
import { isOffered, type McpServerSpec, type ToolTraits, traitsOf } from '../../domain/kinds/mcp-server.ts'
import { LIMITS } from '../../domain/limits.ts'

/** A tool of a server with what is held of it. */
export interface KnownTool {
  /** As the server calls it. */
  name: string
  traits: ToolTraits
  offered: OfferedTool
  /** What is checked here: the schemas without the dialect that they name. */
  checked: { input: JsonObject; output: JsonObject | null }
}

/** Most servers name an older dialect and write what all of them know. */
function withoutDialect(schema: Record<string, unknown>): JsonObject {
  return Object.fromEntries(Object.entries(schema).filter(([key]) => key !== '$schema')) as JsonObject
}

/** The tools that a server's spec lets through, by the server's own names for them. The first of two of one name counts. */
export function knownTools(server: string, listed: readonly Tool[], spec: McpServerSpec): Map<string, KnownTool> {
  const known = new Map<string, KnownTool>()
  for (const tool of listed) {
    if (known.has(tool.name) || !isOffered(tool.name, spec.tools)) continue
    const traits = traitsOf(tool.name, tool.annotations ?? {}, spec)
    known.set(tool.name, {
      name: tool.name,
      traits,
      offered: {
        name: `${server}.${tool.name}`,
        description: (tool.description ?? tool.title ?? tool.annotations?.title ?? tool.name).slice(
          0,
          LIMITS.mcpDescriptionChars,
        ),
        // Both came as JSON over the wire, and are handed on as they are.
        inputSchema: tool.inputSchema as JsonObject,
        outputSchema: (tool.outputSchema ?? null) as JsonObject | null,
        operation: traits.operation,
        repeatable: traits.repeatable,
      },
      checked: {
        input: withoutDialect(tool.inputSchema),
        output: tool.outputSchema ? withoutDialect(tool.outputSchema) : null,
      },
    })
  }
  return known
}
