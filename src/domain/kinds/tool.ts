import { z } from 'zod'
import type { JsonObject } from '../../base/json.ts'
import { OPERATION_CLASSES } from '../agents/verdict.ts'
import { LIMITS } from '../limits.ts'
import { isObject } from '../placed-problem.ts'
import { duration, positiveDuration } from '../schema.ts'
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

const retryObject = z.strictObject({
  max: z
    .int()
    .min(0)
    .max(20)
    .default(2)
    .describe(
      'Tries after the first one, for what passes by itself; of what is not repeatable only before anything was sent.',
    ),
  initial: duration.default(500).describe('Wait before the first of them, when the tool names no time.'),
  maxDelay: duration.default(30_000).describe('Longest wait. A tool that asks for a longer one is not tried again.'),
  factor: z.number().min(1).max(100).default(2).describe('Each wait is so many times the one before.'),
  jitter: z.number().min(0).max(1).default(0.2).describe('Share of a wait that is left to chance.'),
})

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
    .preprocess((value) => (typeof value === 'number' ? { max: value } : value), retryObject)
    .default(retryObject.parse({}))
    .describe('Tries after the first one; a number is `max`.'),
  maxOutputBytes: z
    .int()
    .min(1)
    .max(LIMITS.toolOutputMaxBytes)
    .default(LIMITS.outputBytes)
    .describe('Largest output, as bytes of JSON or text; a larger one is `tool.invalid_output`.'),
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
