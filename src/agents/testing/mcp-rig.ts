import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { onTestFinished } from 'vitest'
import { type Clock, systemClock } from '../../base/clock.ts'
import type { JsonObject } from '../../base/json.ts'
import type { Log, LogFields } from '../../base/log.ts'
import { silentLog } from '../../base/log.ts'
import { seededRandom } from '../../base/random.ts'
import type { ToolCallEnvelope } from '../../domain/agents/tool-envelope.ts'
import { Failure } from '../../domain/failure.ts'
import { readResources } from '../../domain/kinds/documents.ts'
import { readMcpServer } from '../../domain/kinds/mcp-server.ts'
import { createEgress } from '../egress.ts'
import { createMcpClients, type McpEnv, type McpServerRef } from '../mcp/mcp-clients.ts'

const PROGRAM = join(import.meta.dirname, 'mcp-program.ts')
/** A server that nobody here wrote. */
export const EVERYTHING = createRequire(import.meta.url).resolve(
  '@modelcontextprotocol/server-everything/dist/index.js',
)

export const envelopeOf = (input: JsonObject, more: Partial<ToolCallEnvelope> = {}): ToolCallEnvelope => ({
  version: 1,
  tool: 'it',
  idempotencyKey: 'stp_1/call_1',
  attempt: 1,
  operation: 'write',
  input,
  timeoutMs: 60_000,
  context: {
    namespace: 'default',
    runId: 'run_1',
    step: 'one',
    agent: 'writer',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  },
  ...more,
})

/** A spec, checked as it is when it is applied. */
export function serverOf(name: string, spec: JsonObject): McpServerRef {
  const text = JSON.stringify({ apiVersion: 'orrery.dev/v1', kind: 'McpServer', metadata: { name }, spec })
  const { documents, problems } = readResources([{ text, file: name }], null)
  const [document] = documents
  if (!document) throw new Error(JSON.stringify(problems))
  return { namespace: 'default', name, spec: readMcpServer(document.spec) }
}

const QUICKLY = { initial: '1ms', maxDelay: '5ms' }

export const programOf = (more: JsonObject = {}, args: string[] = [], env: JsonObject = {}): McpServerRef =>
  serverOf('bad', {
    transport: 'stdio',
    stdio: { command: process.execPath, args: [PROGRAM, 'stdio', ...args], env },
    reconnect: QUICKLY,
    ...more,
  })

export const addressOf = (url: string, http: JsonObject = {}, more: JsonObject = {}): McpServerRef =>
  serverOf('far', {
    transport: 'http',
    http: { url, allowPrivateAddresses: true, ...http },
    reconnect: QUICKLY,
    ...more,
  })

export interface McpRig {
  clients: ReturnType<typeof createMcpClients>
  env: McpEnv
  /** What was logged: message and fields. */
  logged: [string, LogFields | undefined][]
  secrets: Record<string, string>
}

/** Clients that are closed with the test. */
export function mcpRig({
  clock = systemClock,
  secrets = {},
  files = null,
}: { clock?: Clock; secrets?: Record<string, string>; files?: string | null } = {}): McpRig {
  const logged: McpRig['logged'] = []
  const log: Log = { ...silentLog, warn: (message, fields) => logged.push([message, fields]) }
  const clients = createMcpClients({
    clock,
    random: seededRandom(1),
    log,
    about: { name: 'orrery', version: '0' },
    path: null,
    programs: { files },
  })
  const egress = createEgress()
  onTestFinished(async () => {
    await clients.close()
    await egress.close()
  })
  const env: McpEnv = {
    signal: new AbortController().signal,
    egress,
    secret: ({ secret, key }) => {
      const value = secrets[`${secret}/${key}`]
      if (value === undefined) return Promise.reject(new Failure('secret.not_found', `looking for secret ${secret}`))
      return Promise.resolve(value)
    },
  }
  return { clients, env, logged, secrets }
}

export interface HttpProgram {
  url: string
  port: number
  child: ChildProcess
  stop(): Promise<void>
}

/** A server over HTTP in a process of its own, which ends with the test. */
export async function startHttpProgram(variables: Record<string, string> = {}): Promise<HttpProgram> {
  const child = spawn(process.execPath, [PROGRAM, 'http'], {
    env: { ...process.env, ...variables },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  onTestFinished(stop)
  const [said] = (await once(child.stdout, 'data')) as [Buffer]
  const port = Number(said.toString().trim())
  return { url: `http://127.0.0.1:${port}/mcp`, port, child, stop }
}

/** A server of this process, which ends with the test. */
export async function startListener(listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  return `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/mcp`
}

/** The server that nobody here wrote, over HTTP, with sessions that it alone remembers. */
export async function startEverything(port: number): Promise<HttpProgram> {
  const child = spawn(process.execPath, [EVERYTHING, 'streamableHttp'], {
    env: { ...process.env, PORT: String(port) },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  onTestFinished(stop)
  for await (const chunk of child.stderr) if (String(chunk).includes('listening')) break
  return { url: `http://127.0.0.1:${port}/mcp`, port, child, stop }
}

/** An address where nobody listens. */
export async function deadAddress(): Promise<string> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/mcp`
}

/** Stands before a server and is the authorization server of it: whoever asks for a token gets `token`, or is refused. */
export async function startAuthorization(behind: string, token: string | null) {
  const asked: { authorization: string | undefined; scope: string | null; grant: string | null; assertion?: string }[] =
    []
  const front = await startListener(
    (request, response) => void answer(request, response).catch(() => response.destroy()),
  )
  const origin = new URL(front).origin
  const json = (response: ServerResponse, value: unknown, status = 200): void => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
  }
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await buffer(request)
    if (request.url?.startsWith('/.well-known/oauth-protected-resource'))
      return json(response, { resource: front, authorization_servers: [origin] })
    if (request.url?.startsWith('/.well-known/'))
      return json(response, {
        issuer: origin,
        authorization_endpoint: `${origin}/authorize`,
        token_endpoint: `${origin}/token`,
        response_types_supported: ['code'],
        grant_types_supported: ['client_credentials'],
        token_endpoint_auth_methods_supported: ['client_secret_basic', 'private_key_jwt'],
        token_endpoint_auth_signing_alg_values_supported: ['ES256'],
      })
    if (request.url === '/token') {
      const form = new URLSearchParams(body.toString())
      const assertion = form.get('client_assertion')
      asked.push({
        authorization: request.headers.authorization,
        scope: form.get('scope'),
        grant: form.get('grant_type'),
        ...(assertion === null ? {} : { assertion }),
      })
      if (token === null) return json(response, { error: 'invalid_client' }, 401)
      return json(response, { access_token: token, token_type: 'Bearer', expires_in: 3600 })
    }
    const headers = new Headers()
    for (const [name, value] of Object.entries(request.headers))
      if (typeof value === 'string' && !/^(host|connection|content-length)$/.test(name)) headers.set(name, value)
    const reply = await fetch(behind, {
      method: request.method ?? 'GET',
      headers,
      ...(body.length > 0 ? { body } : {}),
    })
    response.writeHead(reply.status, {
      'content-type': reply.headers.get('content-type') ?? 'text/plain',
      ...(reply.status === 401
        ? { 'www-authenticate': `Bearer resource_metadata="${origin}/.well-known/oauth-protected-resource"` }
        : {}),
    })
    for await (const chunk of reply.body ?? []) response.write(chunk)
    response.end()
  }
  return { front, issuer: origin, asked }
}
