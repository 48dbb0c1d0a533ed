import type { OfferedTool } from '../../domain/agents/tool-envelope.ts'
import { Failure, type FailureRecord } from '../../domain/failure.ts'
import { fitsPattern } from '../../domain/kinds/mcp-server.ts'
import type { McpClients, McpEnv, McpServerRef } from './mcp-clients.ts'

/** A server that an agent names. */
export interface WantedServer extends McpServerRef {
  /** The agent's word; what the server's spec says counts as well. */
  optional: boolean
  /** The agent's own choice among what the server offers; null: all. `*` is any text. */
  tools: readonly string[] | null
}

export interface OfferedServers {
  tools: OfferedTool[]
  /** Of optional servers that the agent goes on without. */
  warnings: FailureRecord[]
}

/**
 * The tools of all servers that an agent names. One that cannot be reached fails it, unless it is optional: then that is a warning, and the agent has the
 * tools of the others. Throws a Failure `mcp.*`, or the signal's reason.
 */
export async function offerMcpServers(
  clients: McpClients,
  servers: readonly WantedServer[],
  env: McpEnv,
): Promise<OfferedServers> {
  const offers = await Promise.allSettled(servers.map((server) => clients.tools(server, env)))
  const tools: OfferedTool[] = []
  const warnings: FailureRecord[] = []
  for (const [i, server] of servers.entries()) {
    const offer = offers[i]
    if (offer?.status === 'fulfilled') {
      tools.push(...offer.value.filter(({ name }) => isWanted(name.slice(server.name.length + 1), server.tools)))
      continue
    }
    env.signal.throwIfAborted()
    const reason: unknown = offer?.reason
    if (!(reason instanceof Failure) || !(server.optional || server.spec.optional)) throw reason
    warnings.push(reason.toRecord())
  }
  return { tools, warnings }
}

const isWanted = (tool: string, wanted: readonly string[] | null): boolean =>
  wanted === null || wanted.some((pattern) => fitsPattern(tool, pattern))
