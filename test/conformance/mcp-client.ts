/**
 * Orrery's client of MCP servers as the suite starts it: `node mcp-client.ts URL`. It lists the tools of the server and calls each of them with arguments
 * that fit its schema, as an agent would.
 */
import { systemClock } from '../../src/base/clock.ts'
import type { Json, JsonObject } from '../../src/base/json.ts'
import { silentLog } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { createEgress } from '../../src/agents/egress.ts'
import { createMcpClients, type McpServerRef } from '../../src/agents/mcp/mcp-clients.ts'
import { readMcpServer } from '../../src/domain/kinds/mcp-server.ts'
import { isObject } from '../../src/domain/placed-problem.ts'

const url = process.argv.at(-1) ?? ''
const context: unknown = JSON.parse(process.env['MCP_CONFORMANCE_CONTEXT'] ?? '{}')
const given: JsonObject = isObject(context) ? context : {}
const text = (key: string): string | null => (typeof given[key] === 'string' ? given[key] : null)

const secrets: Record<string, string> = {}
const secret = (key: string, value: string) => {
  secrets[key] = value
  return { secret: 'given', key }
}

/** The authorization server of the scenario: where the suite does not say it, it is the one that the MCP server names. */
async function issuerOf(): Promise<string> {
  const response = await fetch(new URL('/.well-known/oauth-protected-resource/mcp', url))
  const metadata = (response.ok ? await response.json() : {}) as { authorization_servers?: string[] }
  return metadata.authorization_servers?.[0] ?? new URL(url).origin
}

async function authOf(): Promise<JsonObject> {
  const clientId = text('client_id')
  const clientSecret = text('client_secret')
  const privateKey = text('private_key_pem')
  if (clientId === null || (clientSecret === null && privateKey === null)) return {}
  const known = { type: 'oauth', clientId, issuer: await issuerOf() }
  const algorithm = text('signing_algorithm') ?? 'ES256'
  return {
    auth:
      privateKey === null
        ? { ...known, clientSecret: secret('secret', clientSecret ?? '') }
        : { ...known, privateKey: secret('key', privateKey), algorithm },
  }
}

/** A value that fits a schema well enough for the tools of the suite. */
function sampleOf(schema: unknown): Json {
  if (!isObject(schema)) return 'text'
  if (schema['default'] !== undefined) return schema['default']
  if (Array.isArray(schema['enum'])) return schema['enum'][0] ?? null
  switch (schema['type']) {
    case 'number':
    case 'integer':
      return 5
    case 'boolean':
      return true
    case 'array':
      return []
    case 'object': {
      const properties = isObject(schema['properties']) ? schema['properties'] : {}
      return Object.fromEntries(Object.entries(properties).map(([name, of]) => [name, sampleOf(of)]))
    }
    default:
      return 'text'
  }
}

const server: McpServerRef = {
  namespace: 'default',
  name: 'it',
  spec: readMcpServer({
    transport: 'http',
    http: { url, allowPrivateAddresses: true, ...(await authOf()) },
    reconnect: { max: 0 },
  }),
}
const clients = createMcpClients({
  programs: { files: null },
  clock: systemClock,
  random: systemRandom,
  log: { ...silentLog, warn: (message, fields) => process.stderr.write(`${message} ${JSON.stringify(fields)}\n`) },
  about: { name: 'orrery', version: '0.1.0' },
  path: null,
})
const egress = createEgress()
const env = {
  signal: new AbortController().signal,
  egress,
  secret: ({ key }: { key: string }) => Promise.resolve(secrets[key] ?? ''),
}

/** Calls that the scenario wants made with arguments of its own. */
const wanted = Array.isArray(given['toolCalls']) ? given['toolCalls'].filter(isObject) : []

try {
  const tools = await clients.tools(server, env)
  /** The one tool that wants to be told the schema of another, as it was listed. */
  const inputOf = (name: string, schema: JsonObject): JsonObject =>
    name === 'it.json_schema_echo'
      ? { schema: tools.find((tool) => tool.name === 'it.json_schema_2020_12_tool')?.inputSchema ?? null }
      : (sampleOf({ type: 'object', ...schema }) as JsonObject) // a schema of an object gives one
  const calls =
    wanted.length > 0
      ? wanted.map(({ name, arguments: input }) => ({ name: String(name), input: isObject(input) ? input : {} }))
      : tools.map(({ name, inputSchema }) => ({ name, input: inputOf(name, inputSchema) }))
  for (const { name, input } of calls) {
    const result = await clients.call(
      server,
      name,
      {
        version: 1,
        tool: name,
        idempotencyKey: `conformance/${name}`,
        attempt: 1,
        operation: 'write',
        input,
        timeoutMs: 20_000,
        context: {
          namespace: 'default',
          runId: 'run_1',
          step: 'one',
          agent: 'it',
          traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
        },
      },
      env,
    )
    process.stderr.write(`${name}: ${JSON.stringify(result)}\n`)
  }
} finally {
  await clients.close()
  await egress.close()
}
