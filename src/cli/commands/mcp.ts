import { resolve } from 'node:path'
import type { Json, JsonObject } from '../../base/json.ts'
import { silentLog } from '../../base/log.ts'
import { createEgress } from '../../agents/egress.ts'
import { createMcpClients, type McpEnv, type McpServerRef } from '../../agents/mcp/mcp-clients.ts'
import type { Client } from '../../client/client.ts'
import { createMcpServer } from '../../client/mcp/create-mcp-server.ts'
import type { ToolResult } from '../../domain/agents/tool-envelope.ts'
import { Failure } from '../../domain/failure.ts'
import { DEFAULT_NAMESPACE } from '../../domain/kinds/envelope.ts'
import {
  mcpServerSpecSchema,
  type McpServerSpec,
  readMcpServer,
  secretsOfMcpServer,
} from '../../domain/kinds/mcp-server.ts'
import { isObject } from '../../domain/placed-problem.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { CliDeps } from '../deps.ts'
import { readGiven, readText } from '../inputs.ts'
import type { Output } from '../output.ts'
import { readManifests } from '../resource-files.ts'
import { printable, printableLine } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'

export interface McpFlags extends ServerFlags {
  namespace?: string
}

export interface McpUseFlags extends McpFlags {
  file?: string[]
  secret?: string[]
  toolFiles?: string
}

export interface McpCallFlags extends McpUseFlags {
  input?: string
}

/** `orrery mcp list`. */
export async function listMcpServers(deps: CliDeps, output: Output, flags: McpFlags): Promise<number> {
  const client = await connect(deps, flags)
  const namespace = flags.namespace ?? DEFAULT_NAMESPACE
  const servers = await allServers(client, namespace)
  if (output.isData) {
    output.printData({ servers })
    return 0
  }
  if (servers.length === 0 && output.format !== 'name') {
    output.remark('No MCP servers. Declare one: orrery apply -f FILE (see docs/guides/agents/mcp.md)')
    return 0
  }
  output.printTable(
    [{ title: 'NAME', isName: true }, ...['TRANSPORT', 'OPTIONAL', 'SECRETS', 'WHERE'].map((title) => ({ title }))],
    servers.map(({ name, transport, optional, secrets, where }) => [
      { text: name },
      { text: transport },
      { text: optional ? 'yes' : '-' },
      { text: secrets ?? '-', ...(secrets === 'missing' ? { style: 'bad' as const } : {}) },
      { text: printableLine(where) },
    ]),
  )
  return 0
}

interface ListedServer {
  name: string
  transport: string
  optional: boolean
  /** `found` or `missing`; null: it needs none. */
  secrets: 'found' | 'missing' | null
  where: string
}

async function allServers(client: Client, namespace: string): Promise<ListedServer[]> {
  const servers: ListedServer[] = []
  for (let cursor: string | undefined; ;) {
    const page = await client.resources.list('McpServer', {
      namespace,
      limit: LIMITS.pageMax,
      ...(cursor === undefined ? {} : { cursor }),
    })
    for (const { metadata, spec } of page.items) servers.push(await listed(client, metadata, spec))
    if (page.next === null) return servers
    cursor = page.next
  }
}

/** A spec of a newer server is shown as far as it is understood. */
async function listed(
  client: Client,
  { namespace, name }: { namespace: string; name: string },
  spec: JsonObject,
): Promise<ListedServer> {
  const read = mcpServerSpecSchema.safeParse(spec)
  if (!read.success) return { name, transport: String(spec['transport']), optional: false, secrets: null, where: '' }
  const { transport, optional, stdio, http } = read.data
  const where = http?.url ?? [stdio?.command ?? '', ...(stdio?.args ?? [])].join(' ')
  return { name, transport, optional, secrets: await secretsOf(client, namespace, read.data), where }
}

/** Whether all secrets that it names are somewhere; values are never asked for. */
async function secretsOf(client: Client, namespace: string, spec: McpServerSpec): Promise<ListedServer['secrets']> {
  const wanted = secretsOfMcpServer(spec)
  for (const { ref } of wanted) {
    const { keys } = await client.getSecret(namespace, ref.secret, { keys: [ref.key] })
    if (!keys.find(({ key }) => key === ref.key)?.places.some(({ found }) => found)) return 'missing'
  }
  return wanted.length === 0 ? null : 'found'
}

/** `orrery mcp tools NAME`: what an agent would be offered. */
export async function showMcpTools(deps: CliDeps, output: Output, name: string, flags: McpUseFlags): Promise<number> {
  const tools = await withServer(deps, output, name, flags, (clients, server, env) => clients.tools(server, env))
  if (output.isData) {
    output.printData({ tools })
    return 0
  }
  if (tools.length === 0 && output.format !== 'name') {
    output.remark('It offers no tools, or spec.tools lets none of them through.')
    return 0
  }
  output.printTable(
    [
      { title: 'TOOL', isName: true },
      ...['OPERATION', 'REPEATABLE'].map((title) => ({ title })),
      { title: 'DESCRIPTION' },
    ],
    tools.map((tool) => [
      { text: printableLine(tool.name) },
      { text: tool.operation },
      { text: tool.repeatable ? 'yes' : '-' },
      { text: printableLine(tool.description.split('\n')[0] ?? '') },
    ]),
  )
  return 0
}

/** `orrery mcp call NAME TOOL`: its output, or the failure. */
export async function callMcpTool(
  deps: CliDeps,
  output: Output,
  { name, tool }: { name: string; tool: string },
  flags: McpCallFlags,
): Promise<number> {
  const input = await inputOf(deps, flags.input)
  const result: ToolResult = await withServer(deps, output, name, flags, async (clients, server, env) => {
    const tools = await clients.tools(server, env)
    const own = tool.startsWith(`${name}.`) ? tool : `${name}.${tool}`
    const operation = tools.find((offered) => offered.name === own)?.operation ?? 'write'
    return clients.call(server, own, envelopeOf(deps, server, { tool: own, operation, input }), env)
  })
  if (!result.ok) throw new Failure(result.code, result.reason, result.evidence ? { evidence: result.evidence } : {})
  if (output.isData) output.printData({ output: result.output })
  else output.print(printable(textOf(result.output)))
  return 0
}

const textOf = (value: Json): string => (typeof value === 'string' ? value : JSON.stringify(value, null, 2))

async function inputOf(deps: CliDeps, given: string | undefined): Promise<JsonObject> {
  if (given === undefined) return {}
  const text = await readGiven(deps, given, 'the input')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = null
  }
  if (!isObject(value))
    throw usageFailure(
      '--input is no JSON object',
      'Write for example --input \'{"path": "a.txt"}\', or --input @FILE.',
    )
  return value
}

const envelopeOf = (
  deps: CliDeps,
  { namespace }: McpServerRef,
  { tool, operation, input }: { tool: string; operation: 'read' | 'write' | 'delete' | 'admin'; input: JsonObject },
) => ({
  version: 1 as const,
  tool,
  idempotencyKey: `cli/${deps.clock.now()}/${deps.random.next()}`,
  attempt: 1,
  operation,
  input,
  // What its spec says is shorter.
  timeoutMs: LIMITS.waitMaxMs * 60,
  context: { namespace, runId: 'cli', step: 'cli', agent: null, traceparent: '' },
})

/**
 * Speaks to a server from here, as this user: what `stdio` names is started on this machine, never on the server's. Secrets cannot be read back from the
 * server, so they are given by hand.
 */
async function withServer<T>(
  deps: CliDeps,
  output: Output,
  name: string,
  flags: McpUseFlags,
  work: (clients: ReturnType<typeof createMcpClients>, server: McpServerRef, env: McpEnv) => Promise<T>,
): Promise<T> {
  const secrets = await secretsGiven(deps, flags.secret ?? [])
  const server = await findServer(deps, output, name, flags)
  const warn = (message: string, fields?: Record<string, unknown>): void =>
    output.remark(printableLine(`${message} ${JSON.stringify(fields ?? {})}`))
  const files = flags.toolFiles ?? deps.env['ORRERY_TOOL_FILES']
  const clients = createMcpClients({
    clock: deps.clock,
    random: deps.random,
    log: { ...silentLog, warn },
    about: { name: 'orrery', version: deps.version },
    path: deps.env['PATH'] ?? null,
    programs: { files: files === undefined ? null : resolve(deps.cwd, files) },
  })
  const egress = createEgress()
  const env: McpEnv = {
    signal: new AbortController().signal,
    egress,
    secret: ({ secret, key }) => {
      const value = secrets.get(`${secret}/${key}`)
      if (value !== undefined) return Promise.resolve(value)
      throw new Failure('secret.not_found', `looking for secret ${secret}, which is not read from the server here`, {
        remediation: `Give it with --secret ${secret}/${key}=VALUE, or --secret ${secret}/${key}=@FILE.`,
      })
    },
  }
  try {
    return await work(clients, server, env)
  } finally {
    await clients.close()
    await egress.close()
  }
}

async function findServer(deps: CliDeps, output: Output, name: string, flags: McpUseFlags): Promise<McpServerRef> {
  const namespace = flags.namespace ?? DEFAULT_NAMESPACE
  if (flags.file === undefined) {
    const client = await connect(deps, flags)
    const { spec } = await client.resources.get({ kind: 'McpServer', namespace, name })
    return { namespace, name, spec: readMcpServer(spec) }
  }
  const documents = await readManifests(deps, output, { paths: flags.file, recursive: false, namespace })
  const found = documents.find((document) => document.kind === 'McpServer' && document.name === name)
  if (found) return { namespace, name, spec: readMcpServer(found.spec) }
  const names = documents.filter(({ kind }) => kind === 'McpServer').map((document) => document.name)
  throw new Failure('resource.not_found', `looking for McpServer ${name} in ${flags.file.join(', ')}`, {
    evidence: { names },
  })
}

async function secretsGiven(deps: CliDeps, given: readonly string[]): Promise<Map<string, string>> {
  const secrets = new Map<string, string>()
  for (const text of given) {
    const [, place, value] = /^([^/=]+\/[^=]+)=(.*)$/s.exec(text) ?? []
    if (place === undefined || value === undefined)
      throw usageFailure(
        '--secret is not of the form NAME/KEY=VALUE',
        'Write for example --secret github/token=@token.txt.',
      )
    secrets.set(place, value.startsWith('@') ? (await readText(deps, value.slice(1), 'the secret')).trimEnd() : value)
  }
  return secrets
}

/** `orrery mcp serve`: Orrery as an MCP server over the standard streams, until the input ends. */
export async function serveMcp(deps: CliDeps, flags: ServerFlags): Promise<number> {
  const client = await connect(deps, flags)
  const [sdk, { serveStdio, StdioServerTransport }] = await Promise.all([
    import('@modelcontextprotocol/server'),
    import('@modelcontextprotocol/server/stdio'),
  ])
  // Whose token it is, and that there is a server, is known before the first message is answered.
  await client.whoami()
  const transport = new StdioServerTransport()
  const ended = new Promise<void>((resolve) => {
    process.stdin.once('end', resolve)
    process.stdin.once('close', resolve)
  })
  const handle = serveStdio(() => createMcpServer(sdk, client, deps.version), { transport })
  await ended
  await handle.close()
  client.close()
  return 0
}
