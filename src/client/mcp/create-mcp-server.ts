import type * as Sdk from '@modelcontextprotocol/server'
import type { Client } from '../client.ts'
import { resultOfError, UNTRUSTED_NOTE } from './mcp-results.ts'
import { MCP_TOOLS } from './mcp-tools.ts'

const INSTRUCTIONS = [
  'Orrery runs workflows and agents durably. Start one with run_workflow or run_agent, then ask for its end with get_run: a run may take minutes or days.',
  'A failure has a code, and says what to do about it.',
  UNTRUSTED_NOTE,
].join(' ')

/** Orrery as an MCP server, over a client: what its token may not do, no tool does. The package is handed in, so that it is loaded where it is needed alone. */
export function createMcpServer(sdk: typeof Sdk, client: Client, version: string): Sdk.McpServer {
  const server = new sdk.McpServer(
    { name: 'orrery', title: 'Orrery', version },
    { instructions: INSTRUCTIONS, capabilities: { tools: {} } },
  )
  for (const tool of MCP_TOOLS) {
    const { name, title, description, hints, input } = tool
    const annotations = { ...hints, openWorldHint: false }
    server.registerTool(name, { title, description, inputSchema: input, annotations }, async (given, context) => {
      try {
        // It was checked by the schema of this very row.
        return { ...(await tool.call(client, given as never, context.mcpReq.signal)) }
      } catch (error) {
        context.mcpReq.signal.throwIfAborted()
        return { ...resultOfError(error, `calling ${name}`) }
      }
    })
  }
  return server
}
