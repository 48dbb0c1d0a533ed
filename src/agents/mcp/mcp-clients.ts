import { createHash } from 'node:crypto'
import type { Clock } from '../../base/clock.ts'
import type { Log } from '../../base/log.ts'
import type { Random } from '../../base/random.ts'
import type { OfferedTool, ToolCallEnvelope, ToolResult } from '../../domain/agents/tool-envelope.ts'
import { Failure } from '../../domain/failure.ts'
import { type McpServerSpec, secretsOfMcpServer } from '../../domain/kinds/mcp-server.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { Egress } from '../egress.ts'
import type { ToolPrograms } from '../tools/tool-programs.ts'
import { callMcpTool, refusedBy } from './call-tool.ts'
import { McpSession, type SessionOf } from './mcp-session.ts'

export interface McpServerRef {
  namespace: string
  /** What its tools are called by: `NAME.TOOL`. */
  name: string
  spec: McpServerSpec
}

/** What a call is given by whoever makes it. */
export interface McpEnv {
  /** Ends the wait of this caller; its reason is what is thrown then. */
  signal: AbortSignal
  egress: Egress
  /** The value behind a reference. Throws `secret.not_found` and the like. */
  secret(ref: { secret: string; key: string }): Promise<string>
  /** Whether a call may be made twice; left out: as the server's spec says of the tool. */
  repeatable?: boolean
}

/** The MCP servers that a process speaks to. Attempts of one namespace, spec and secrets share a session; whose secret is changed, gets another. */
export interface McpClients {
  /** The tools that its spec lets through, as `NAME.TOOL`. Throws a Failure `mcp.*`, or the signal's reason. */
  tools(server: McpServerRef, env: McpEnv): Promise<OfferedTool[]>
  /** Calls a tool by its own name or as `NAME.TOOL`. Whatever happens is a result; throws only the signal's reason. */
  call(server: McpServerRef, tool: string, envelope: ToolCallEnvelope, env: McpEnv): Promise<ToolResult>
  /** Ends every session, and every program with it. */
  close(): Promise<void>
}

export interface McpClientsDeps {
  clock: Clock
  random: Random
  log: Log
  about: { name: string; version: string }
  /** Where programs are looked for, as in the variable PATH; null: the usual places. */
  path: string | null
  /** What the host has for programs in a sandbox. */
  programs: Pick<ToolPrograms, 'files'>
}

export function createMcpClients(deps: McpClientsDeps): McpClients {
  const sessions = new Map<string, McpSession>()
  let isClosed = false

  async function sessionOf(server: McpServerRef, env: McpEnv): Promise<McpSession> {
    const values = await secretValues(server, env)
    const { namespace, name, spec } = server
    if (isClosed) throw new Failure('mcp.unreachable', `reaching MCP server ${namespace}/${name}: this worker stops`)
    const key = createHash('sha256')
      .update(JSON.stringify([namespace, name, spec, [...values], env.egress.hosts ?? []]))
      .digest('base64')
    const session = sessions.get(key) ?? new McpSession({ ...deps, egress: env.egress }, detailsOf(server, values))
    // The order of the map is that of the last use.
    sessions.delete(key)
    sessions.set(key, session)
    for (const [other, { isUsed }] of sessions) {
      if (sessions.size <= LIMITS.mcpSessionsMax) break
      if (isUsed || other === key) continue
      void sessions.get(other)?.close()
      sessions.delete(other)
    }
    return session
  }

  return {
    async tools(server, env) {
      env.signal.throwIfAborted()
      const session = await sessionOf(server, env)
      return session.use(async () => {
        const { tools } = await session.ready(env.signal)
        return [...tools.values()].map(({ offered }) => offered)
      })
    },
    async call(server, tool, envelope, env) {
      env.signal.throwIfAborted()
      const prefix = `${server.name}.`
      const own = tool.startsWith(prefix) ? tool.slice(prefix.length) : tool
      let session: McpSession
      try {
        session = await sessionOf(server, env)
      } catch (error) {
        env.signal.throwIfAborted()
        return refusedBy(error)
      }
      return session.use(() => callMcpTool(session, own, envelope, env))
    },
    async close() {
      isClosed = true
      const all = [...sessions.values()]
      sessions.clear()
      await Promise.all(all.map((session) => session.close()))
    },
  }
}

/** Values by where the spec names them. One that cannot be had is a server that would not let us in. */
async function secretValues({ namespace, name, spec }: McpServerRef, env: McpEnv): Promise<Map<string, string>> {
  const values = new Map<string, string>()
  for (const { use, ref } of secretsOfMcpServer(spec)) {
    try {
      values.set(use, await env.secret(ref))
    } catch (error) {
      env.signal.throwIfAborted()
      if (!(error instanceof Failure)) throw error
      throw new Failure('mcp.auth_failed', `reading spec.${use} of MCP server ${namespace}/${name}`, {
        cause: error,
        evidence: { server: `${namespace}/${name}`, use, ...ref },
        remediation: error.remediation,
      })
    }
  }
  return values
}

function detailsOf({ namespace, name, spec }: McpServerRef, values: Map<string, string>): SessionOf {
  return {
    namespace,
    name,
    spec,
    hidden: [...new Set(values.values())],
    secrets: secretsOfMcpServer(spec).map(({ use, ref }) => `${use}: ${ref.secret}/${ref.key}`),
    valueAt: (use, given) => (typeof given === 'string' ? given : (values.get(use) ?? '')),
  }
}
