import { z } from 'zod'
import type { JsonObject } from '../../base/json.ts'
import { OPERATION_CLASSES } from '../agents/verdict.ts'
import { LIMITS } from '../limits.ts'
import { isObject } from '../placed-problem.ts'
import { positiveDuration } from '../schema.ts'
import type { SecretRef } from '../secrets.ts'
import { dnsName } from './envelope.ts'
import { defineKind, READY } from './kind.ts'
import {
  authBlock,
  callbackBlock,
  commandBlock,
  externalBlock,
  grpcBlock,
  httpBlock,
  mcpBlock,
  retryBlock,
  wasmBlock,
} from './tool-blocks.ts'
import { checkTool } from './tool-checks.ts'

export const TOOL_TYPES = [
  'http',
  'external',
  'grpc',
  'callback',
  'command',
  'wasm',
  'mcp',
  'agent',
  'workflow',
] as const

export const ISOLATIONS = ['none', 'sandbox', 'container', 'wasm'] as const
export type Isolation = (typeof ISOLATIONS)[number]

const jsonSchema = z
  .custom<JsonObject>(isObject, { error: 'must be a JSON Schema object' })
  .meta({ title: 'JSON Schema' })

export const toolSpecSchema = z.strictObject({
  type: z.enum(TOOL_TYPES).describe('How it is called.'),
  description: z.string().min(1).max(4_000).describe('What it does: what the model chooses by.'),
  inputSchema: jsonSchema.default({ type: 'object' }).describe('Of what it is called with; checked before every call.'),
  outputSchema: jsonSchema.optional().describe('Of what it gives; checked after every call.'),
  operation: z
    .enum(OPERATION_CLASSES)
    .default('read')
    .describe('What a call does to the world: what rules tell apart.'),
  repeatable: z
    .boolean()
    .optional()
    .describe(
      'A call whose result was lost may be made again with its idempotency key; left out: true of `read`, false of all others.',
    ),
  timeout: positiveDuration.default(30_000).describe('One try.'),
  retry: z
    .preprocess((value) => (typeof value === 'number' ? { max: value } : value), retryBlock)
    .default(retryBlock.parse({}))
    .describe('Tries after the first one; a number is `max`.'),
  maxOutputBytes: z
    .int()
    .min(1)
    .max(LIMITS.toolOutputMaxBytes)
    .default(LIMITS.outputBytes)
    .describe('Largest output, as bytes of JSON or text; a larger one is `tool.invalid_output`.'),
  auth: authBlock.optional().describe('For what is called over a network: how the tool is shown who calls.'),
  allowPrivateAddresses: z
    .boolean()
    .default(false)
    .describe('For what is called over a network: loopback and private networks may be called.'),
  isolation: z
    .enum(ISOLATIONS)
    .optional()
    .describe(
      'What a program is kept from. `sandbox` sees no network, no home and no environment but its own; `none` only on workers that allow it. Left out: `sandbox` for `command`, `wasm` for `wasm`, else `none`.',
    ),
  http: httpBlock.optional().describe('For `http`: the request.'),
  external: externalBlock.optional().describe('For `external`: who is handed the whole call.'),
  callback: callbackBlock.optional().describe('For `callback`: a request whose answer comes later.'),
  grpc: grpcBlock.optional().describe('For `grpc`: the method.'),
  command: commandBlock.optional().describe('For `command`: the program.'),
  wasm: wasmBlock.optional().describe('For `wasm`: the module.'),
  mcp: mcpBlock.optional().describe('For `mcp`: which tool of which server.'),
  agent: dnsName.optional().describe('For `agent`: the agent that is run below.'),
  workflow: z
    .string()
    .min(1)
    .optional()
    .describe('For `workflow`: NAME, NAME@VERSION or NAMESPACE/NAME of what is run below.'),
})

/** A spec as runs use it: defaults filled in, durations in milliseconds. */
export type ToolSpec = z.infer<typeof toolSpecSchema>

/** Of a spec that was checked when it was stored. */
export const readTool = (spec: JsonObject): ToolSpec => toolSpecSchema.parse(spec)

/** Whether a call whose result was lost is made again without asking anybody. */
export const isRepeatable = ({ repeatable, operation }: Pick<ToolSpec, 'repeatable' | 'operation'>): boolean =>
  repeatable ?? operation === 'read'

/** What its program is kept from. */
export const isolationOf = ({ type, isolation }: Pick<ToolSpec, 'type' | 'isolation'>): Isolation =>
  isolation ?? (type === 'command' ? 'sandbox' : type === 'wasm' ? 'wasm' : 'none')

/** Secrets that a call may ask for, each once: a worker is handed no others. */
export function secretsOfTool({ auth, command, wasm }: ToolSpec): SecretRef[] {
  const named = [
    ...(auth ? [auth.token, auth.value, auth.username, auth.password, auth.clientId, auth.clientSecret] : []),
    ...Object.values(command?.env ?? {}),
    ...Object.values(wasm?.env ?? {}),
  ]
  const refs = named.filter((value) => typeof value === 'object')
  return [...new Map(refs.map((ref) => [`${ref.secret}/${ref.key}`, ref])).values()]
}

export const toolKind = defineKind({
  kind: 'Tool',
  plural: 'tools',
  shortNames: [],
  summary: 'Something that an agent may call.',
  spec: toolSpecSchema,
  crossCheck: checkTool,
  columns: [
    { title: 'TYPE', text: ({ spec }) => textOf(spec['type']) },
    { title: 'OPERATION', text: ({ spec }) => textOf(spec['operation'] ?? 'read') },
    { title: 'DESCRIPTION', wide: true, text: ({ spec }) => textOf(spec['description']).split('\n')[0] ?? '' },
  ],
  statusOf: () => ({ phase: 'ready', conditions: [READY] }),
})

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')
