import { Failure } from '../../domain/failure.ts'
import type { McpServerSpec } from '../../domain/kinds/mcp-server.ts'
import type { ToolDriver } from '../tools/tool-driver.ts'
import { isRepeatable } from '../../domain/kinds/tool.ts'
import type { McpClients } from './mcp-clients.ts'

/** Tools of the type `mcp`: one tool of a server, under a name, a schema and an operation class of its own. `servers` are those that the run is bound to. */
export const mcpDriver = (clients: McpClients, servers: Readonly<Record<string, McpServerSpec>>): ToolDriver => ({
  async call(spec, envelope, env) {
    const { server: name = '', tool = '' } = spec.mcp ?? {}
    const server = servers[name]
    if (!server)
      throw new Failure('resource.not_found', `looking for McpServer ${name}, which tool ${envelope.tool} names`)
    const result = await clients.call({ namespace: envelope.context.namespace, name, spec: server }, tool, envelope, {
      ...env,
      repeatable: isRepeatable(spec),
    })
    // Whether a call that was lost on the way was carried out, nobody knows; what never came that far repeats nothing.
    return result.ok || result.evidence?.['outcome'] === 'unknown' || result.code !== 'mcp.unreachable'
      ? result
      : { ...result, wasSent: false }
  },
})
