import { z } from 'zod'
import type { JsonObject } from '../../base/json.ts'
import { OPERATION_CLASSES } from '../agents/verdict.ts'
import { isObject } from '../placed-problem.ts'
import { positiveDuration } from '../schema.ts'
import { dnsName } from './envelope.ts'
import { defineKind, READY } from './kind.ts'

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

export const toolKind = defineKind({
  kind: 'Tool',
  plural: 'tools',
  shortNames: [],
  summary: 'Something that an agent may call.',
  spec: toolSpecSchema,
  columns: [],
  statusOf: () => ({ phase: 'ready', conditions: [READY] }),
})
