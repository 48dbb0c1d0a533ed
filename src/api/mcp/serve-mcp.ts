import type { IncomingMessage } from 'node:http'
import type { AuthInfo, McpHttpHandler } from '@modelcontextprotocol/server'
import { assert } from '../../base/assert.ts'
import { currentScope, type Scope } from '../../base/scope.ts'
import { Secret } from '../../base/secret.ts'
import { createClient } from '../../client/create-client.ts'
import { handlerTransport } from '../../client/handler-transport.ts'
import { createMcpServer } from '../../client/mcp/create-mcp-server.ts'
import { Failure } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { Answer, ApiEnv } from '../context.ts'
import { bearerToken } from '../request-headers.ts'
import type { RequestContext } from '../request-context.ts'

/** What of a request the protocol reads. */
const READ_HEADERS = ['accept', 'content-type', 'mcp-protocol-version', 'mcp-session-id', 'mcp-method', 'mcp-name']

/**
 * Orrery as an MCP server over streamable HTTP. Nothing is kept between two requests, so any server answers any of them. Each tool asks the API of this very
 * process under the caller's own token: what the token may not do or see, no tool does or shows, and the audit log has it as any other request.
 */
export function createMcpRoute(
  deps: { readonly version: string },
  fetch: (request: Request, env: ApiEnv) => Promise<Response>,
) {
  let handler: Promise<McpHttpHandler> | null = null
  // The package answers by itself and tells its caller nothing of why: what it met last, by the request that it was met in.
  const met = new WeakMap<Scope, Error>()
  const onerror = (error: Error): void => {
    const scope = currentScope()
    if (scope) met.set(scope, error)
  }
  const open = async (): Promise<McpHttpHandler> => {
    const sdk = await import('@modelcontextprotocol/server')
    return sdk.createMcpHandler(
      ({ authInfo }) => {
        assert(authInfo, 'an MCP request came without its token')
        const via = authInfo.extra?.['via'] as IncomingMessage | undefined
        const transport = handlerTransport((request, env) => fetch(request, { ...env, ...(via ? { via } : {}) }))
        const client = createClient({ transport, token: new Secret(authInfo.token) })
        return createMcpServer(sdk, client, deps.version)
      },
      { maxRequestBodySize: LIMITS.bodyBytes, onerror },
    )
  }

  return async (x: RequestContext): Promise<Answer> => {
    checkOrigin(x)
    const token = bearerToken(x.header('authorization'))
    assert(token !== null, 'a request passed without a token')
    const headers = new Headers()
    for (const name of READ_HEADERS) {
      const value = x.header(name)
      if (value !== null) headers.set(name, value)
    }
    const { incoming } = x.call.body
    const authInfo: AuthInfo = {
      token,
      clientId: x.caller.actor,
      scopes: [],
      extra: { ...(incoming ? { via: incoming } : {}) },
    }
    const request = new Request(`http://orrery${x.path}`, {
      method: 'POST',
      headers,
      body: x.bodyText,
      signal: x.signal,
    })
    const { status, headers: answered, body } = await (await (handler ??= open())).fetch(request, { authInfo })
    if (status >= 500)
      x.recordFailure(met.get(x) ?? new Error(`the MCP package answered ${status} and did not say why`))
    return x.respond(status, body, Object.fromEntries(answered))
  }
}

/** A page of the web may ask when its origin was named, or comes from this machine: a name that was bent to lead here is neither. */
function checkOrigin(x: RequestContext): void {
  const origin = x.header('origin')
  if (origin === null || x.edge.mayAsk(origin)) return
  throw new Failure('client.forbidden', `POST ${x.path}`, {
    evidence: { origin: origin.slice(0, 200) },
    remediation: 'Name the origin with --cors-origin when its pages are meant to ask.',
  })
}
