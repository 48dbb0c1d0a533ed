import { z } from 'zod'
import type { JsonObject } from '../../base/json.ts'
import { OPERATION_CLASSES, type OperationClass } from '../agents/verdict.ts'
import { LIMITS } from '../limits.ts'
import { isObject, type Placed, placedProblem } from '../placed-problem.ts'
import { duration, positiveDuration, secretRef } from '../schema.ts'
import { httpAddress } from './http-address.ts'
import { defineKind, READY } from './kind.ts'

/** Revisions of the protocol that a server may be held to; `auto` asks the server. */
export const MCP_REVISIONS = ['auto', '2026-07-28', '2025-11-25'] as const

/** What a program may be kept from; `none` of what the user of the worker may do. */
const MCP_ISOLATIONS = ['none', 'sandbox'] as const
export type McpIsolation = (typeof MCP_ISOLATIONS)[number]

const url = httpAddress({
  example: 'https://tools.example/mcp',
  credentials: 'use http.auth or http.headers',
}).refine((text) => (URL.parse(text)?.hash ?? '') === '', { error: 'must have no fragment' })

const text = z.string({ error: 'must be a string; quote it' }).max(32_768)
const textOrSecret = z.union([text, secretRef], { error: 'must be a string or { secret: NAME, key: KEY }' })

const variableName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: 'is no name of a variable' })
const headerName = z.string().regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/, { error: 'is no name of a header' })

/** Headers that the protocol itself sends, or that say how the message travels. */
const OWN_HEADERS =
  /^(host|content-length|content-type|transfer-encoding|connection|accept|mcp-session-id|mcp-protocol-version|mcp-method|mcp-name|last-event-id)$/i

const pattern = z.string().min(1).max(256).describe('Name of a tool as the server calls it; `*` is any text.')
const patterns = z.array(pattern).min(1).max(LIMITS.mcpToolsMax)

const stdio = z.strictObject({
  command: z
    .string()
    .min(1)
    .max(4_096)
    .describe('Program on the worker: a path, or a name that is looked for in PATH.'),
  args: z.array(text).max(256).default([]).describe('Its arguments.'),
  env: z
    .record(variableName, textOrSecret)
    .default({})
    .describe('Its variables, a text or one key of a secret. Beside them it has PATH, HOME and TMPDIR, and no others.'),
  workdir: z
    .string()
    .regex(/^\//, { error: 'must be an absolute path' })
    .max(4_096)
    .optional()
    .describe(
      'Where it runs; left out, in an empty directory that is also its HOME and goes with it. Not in a sandbox.',
    ),
  isolation: z
    .enum(MCP_ISOLATIONS)
    .default('none')
    .describe(
      'What it is kept from. `sandbox` sees no network, no home, no environment but its own and of the host the system, read only; its program is one below /usr, or `./NAME` of the files of the tools of the worker. `none`: it may do what the worker may.',
    ),
})

const auth = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('bearer').describe('`Authorization: Bearer TOKEN`.'),
    token: secretRef.describe('The token.'),
  }),
  z.strictObject({
    type: z.literal('header').describe('A header of any name.'),
    name: headerName.describe('Its name, such as `X-API-Key`.'),
    value: secretRef.describe('Its value.'),
  }),
  z.strictObject({
    type: z.literal('oauth').describe('OAuth client credentials: a token is had from the authorization server.'),
    clientId: z.string().min(1).max(1_024).describe('As the authorization server knows it.'),
    clientSecret: secretRef.optional().describe('Its secret; or name a `privateKey`.'),
    privateKey: secretRef.optional().describe('Key in PEM that signs a statement instead of a secret.'),
    algorithm: z
      .enum(['RS256', 'RS384', 'RS512', 'PS256', 'ES256', 'ES384', 'EdDSA'])
      .optional()
      .describe('For `privateKey`: how it signs; ES256 when left out.'),
    scope: z.string().min(1).max(4_096).optional().describe('Scopes that are asked for, with spaces between.'),
    issuer: url.describe('The authorization server; whichever other the MCP server names is not shown the secret.'),
  }),
])

const http = z.strictObject({
  url: url.describe('Address of its endpoint.'),
  headers: z
    .record(headerName, textOrSecret)
    .default({})
    .describe('Sent with every request: a text, or one key of a secret.'),
  auth: auth.optional().describe('How it is told who asks.'),
  allowPrivateAddresses: z.boolean().default(false).describe('Loopback and private networks may be called.'),
})

const override = z.strictObject({
  match: pattern,
  operation: z.enum(OPERATION_CLASSES).optional().describe('What a call of it does to the world.'),
  repeatable: z
    .boolean()
    .optional()
    .describe('A call whose result was lost may be made again; left out: true of `read`, false of all others.'),
  timeout: positiveDuration.optional().describe('One call of it.'),
})

const tools = z.strictObject({
  include: patterns.optional().describe('Only these are offered; `*` is any text.'),
  exclude: patterns.optional().describe('These are not, even when they are included.'),
  operation: z
    .enum(OPERATION_CLASSES)
    .default('write')
    .describe('What a call of its tools does to the world, where no override says otherwise.'),
  overrides: z
    .array(override)
    .min(1)
    .max(LIMITS.mcpToolsMax)
    .optional()
    .describe('What is known of single tools; the first that matches and says it counts.'),
})

const timeouts = z.strictObject({
  connect: positiveDuration.default(30_000).describe('To start or reach it and to list its tools.'),
  call: positiveDuration
    .default(60_000)
    .describe('One call of a tool. Progress that it tells of does not lengthen it.'),
})

const reconnect = z.strictObject({
  max: z.int().min(0).max(20).default(3).describe('Further tries to reach it before what needs it fails.'),
  initial: duration.default(500).describe('Wait before the first of them.'),
  maxDelay: duration.default(15_000).describe('Longest wait.'),
  factor: z.number().min(1).max(100).default(2).describe('Each wait is so many times the one before.'),
  jitter: z.number().min(0).max(1).default(0.2).describe('Share of a wait that is left to chance.'),
})

export const mcpServerSpecSchema = z.strictObject({
  transport: z
    .enum(['stdio', 'http'])
    .describe('How it is spoken to: a program that the worker starts, or an address (streamable HTTP).'),
  stdio: stdio.optional().describe('For `stdio`: the program.'),
  http: http.optional().describe('For `http`: the address.'),
  protocol: z
    .enum(MCP_REVISIONS)
    .default('auto')
    .describe('Revision of the protocol; `auto` asks the server and takes the newest that both speak.'),
  tools: tools.default(tools.parse({})).describe('Which of its tools are offered, and what is known of them.'),
  timeouts: timeouts.default(timeouts.parse({})).describe('How long it may take.'),
  reconnect: reconnect.default(reconnect.parse({})).describe('What is done when it cannot be reached, or went away.'),
  idleStop: positiveDuration
    .default(300_000)
    .describe('The program or the session ends when nobody has used it for so long; the next use begins it anew.'),
  outputBytes: z
    .int()
    .min(1_024)
    .max(LIMITS.mcpOutputBytes)
    .default(LIMITS.outputBytes)
    .describe('Largest output of a call, as JSON; a larger one fails with `tool.invalid_output`.'),
  optional: z
    .boolean()
    .default(false)
    .describe(
      'Agents go on without it when it cannot be reached, with a warning; an agent may say the same of its own.',
    ),
})

/** A spec as runs use it: defaults filled in, durations in milliseconds. */
export type McpServerSpec = z.infer<typeof mcpServerSpecSchema>

/** Of a spec that was checked when it was stored. */
export const readMcpServer = (spec: JsonObject): McpServerSpec => mcpServerSpecSchema.parse(spec)

export interface McpSecret {
  /** Where in the spec, such as `http.headers.X-Key`. */
  use: string
  ref: { secret: string; key: string }
}

/** Secrets that a session with the server needs, by where the spec names them. */
export function secretsOfMcpServer({ stdio, http }: Pick<McpServerSpec, 'stdio' | 'http'>): McpSecret[] {
  const found: McpSecret[] = []
  const take = (use: string, value: string | McpSecret['ref'] | undefined): void => {
    if (typeof value === 'object') found.push({ use, ref: value })
  }
  for (const [name, value] of Object.entries(stdio?.env ?? {})) take(`stdio.env.${name}`, value)
  for (const [name, value] of Object.entries(http?.headers ?? {})) take(`http.headers.${name}`, value)
  const given = http?.auth
  if (given?.type === 'bearer') take('http.auth.token', given.token)
  if (given?.type === 'header') take('http.auth.value', given.value)
  if (given?.type === 'oauth') {
    take('http.auth.clientSecret', given.clientSecret)
    take('http.auth.privateKey', given.privateKey)
  }
  return found
}

/** Whether a name fits a pattern in which `*` is any text. */
export function fitsPattern(name: string, pattern: string): boolean {
  const parts = pattern.split('*')
  const [first = ''] = parts
  if (parts.length === 1) return name === pattern
  if (!name.startsWith(first)) return false
  const last = parts.at(-1) ?? ''
  let at = first.length
  // Each part is taken where it first comes: with `*` on both of its sides no later place does better.
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return name.length - last.length >= at && name.endsWith(last)
}

/** Whether the server's filters leave a tool in. */
export function isOffered(name: string, { include, exclude }: McpServerSpec['tools']): boolean {
  const among = (list: readonly string[]): boolean => list.some((pattern) => fitsPattern(name, pattern))
  return (include === undefined || among(include)) && (exclude === undefined || !among(exclude))
}

/** What a server says of a tool of its own. Only hints: nothing is trusted more because of them. */
export interface ToolHints {
  destructiveHint?: boolean | undefined
}

export interface ToolTraits {
  operation: OperationClass
  repeatable: boolean
  timeoutMs: number
}

/**
 * What is held of a tool: what the first override that fits says of each, else the default of the server. A hint may tighten the default (what says
 * that it destroys is at least a `delete`) and never loosens it.
 */
export function traitsOf(name: string, hints: ToolHints, spec: Pick<McpServerSpec, 'tools' | 'timeouts'>): ToolTraits {
  const fitting = (spec.tools.overrides ?? []).filter(({ match }) => fitsPattern(name, match))
  const said = fitting.find((row) => row.operation !== undefined)?.operation
  const isWorse = hints.destructiveHint === true && ['read', 'write'].includes(spec.tools.operation)
  const operation = said ?? (isWorse ? 'delete' : spec.tools.operation)
  return {
    operation,
    repeatable: fitting.find((row) => row.repeatable !== undefined)?.repeatable ?? operation === 'read',
    timeoutMs: fitting.find((row) => row.timeout !== undefined)?.timeout ?? spec.timeouts.call,
  }
}

const problem = (message: string, ...path: (string | number)[]): Placed =>
  placedProblem('manifest.invalid', message, ['spec', ...path])

/** What the schema cannot say: which fields go together. */
function crossCheck(spec: JsonObject): Placed[] {
  const found: Placed[] = []
  const { transport } = spec
  if (transport === 'stdio' && spec['stdio'] === undefined)
    found.push(problem('is required for stdio: { command: npx, args: [-y, PACKAGE] }', 'stdio'))
  if (transport === 'http' && spec['http'] === undefined)
    found.push(problem('is required for http: { url: https://tools.example/mcp }', 'http'))
  for (const key of ['stdio', 'http'])
    if (spec[key] !== undefined && transport !== key && typeof transport === 'string')
      found.push({ ...problem(`is for the transport ${key}; this one is ${transport}`, key), at: 'key' })
  const stdio = isObject(spec['stdio']) ? spec['stdio'] : {}
  if (stdio['isolation'] === 'sandbox' && stdio['workdir'] !== undefined)
    found.push({
      ...problem('is not seen in a sandbox, which runs in a /tmp of its own', 'stdio', 'workdir'),
      at: 'key',
    })
  const http = isObject(spec['http']) ? spec['http'] : {}
  const headers = isObject(http['headers']) ? Object.keys(http['headers']) : []
  for (const name of headers)
    if (OWN_HEADERS.test(name))
      found.push({ ...problem('belongs to the protocol itself', 'http', 'headers', name), at: 'key' })
  if (isObject(http['auth'])) found.push(...authProblems(http['auth'], headers))
  const overrides = isObject(spec['tools']) ? spec['tools']['overrides'] : null
  for (const [i, row] of (Array.isArray(overrides) ? overrides : []).entries())
    if (isObject(row) && !['operation', 'repeatable', 'timeout'].some((key) => row[key] !== undefined))
      found.push(problem('says nothing: give it operation, repeatable or timeout', 'tools', 'overrides', i))
  return found
}

function authProblems(auth: JsonObject, headers: string[]): Placed[] {
  const at = (message: string, ...path: string[]): Placed => problem(message, 'http', 'auth', ...path)
  const found: Placed[] = []
  const { type } = auth
  const sent = type === 'header' && typeof auth['name'] === 'string' ? auth['name'] : 'Authorization'
  if (type === 'header' && OWN_HEADERS.test(sent)) found.push(at('belongs to the protocol itself', 'name'))
  if (headers.some((name) => name.toLowerCase() === sent.toLowerCase()))
    found.push(at(`sends ${sent}, and so does http.headers: leave one out`))
  if (type !== 'oauth') return found
  const keys = ['clientSecret', 'privateKey'].filter((key) => auth[key] !== undefined)
  if (keys.length === 0) found.push(at('is required, or privateKey', 'clientSecret'))
  if (keys.length === 2) found.push(at('stands beside clientSecret: leave one out', 'privateKey'))
  if (auth['algorithm'] !== undefined && auth['privateKey'] === undefined)
    found.push({ ...at('is for privateKey', 'algorithm'), at: 'key' })
  return found
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')

function whereOf(spec: JsonObject): string {
  const { stdio, http } = spec
  if (isObject(http)) return textOf(http['url'])
  if (!isObject(stdio)) return ''
  return [stdio['command'], ...(Array.isArray(stdio['args']) ? stdio['args'] : [])].map(textOf).join(' ')
}

export const mcpServerKind = defineKind({
  kind: 'McpServer',
  plural: 'mcpservers',
  shortNames: ['mcp'],
  summary: 'A server of the Model Context Protocol, whose tools agents may call.',
  spec: mcpServerSpecSchema,
  crossCheck,
  columns: [
    { title: 'TRANSPORT', text: ({ spec }) => textOf(spec['transport']) },
    { title: 'OPTIONAL', text: ({ spec }) => (spec['optional'] === true ? 'yes' : '') },
    { title: 'WHERE', wide: true, text: ({ spec }) => whereOf(spec) },
  ],
  statusOf: () => ({ phase: 'ready', conditions: [READY] }),
})
