import { z } from 'zod'
import type { Json, JsonObject } from '../base/json.ts'
import { OPERATION_CLASSES } from '../domain/agents/verdict.ts'
import { type FailureCode, isFailureCode } from '../domain/failures.ts'
import { PROVIDERS } from '../domain/kinds/model-endpoint.ts'
import { CURRENCY } from '../domain/currency.ts'
import { LIMITS } from '../domain/limits.ts'
import { isCount, isId, isJson, isMembers } from './hot-messages.ts'
import { numberText } from './page-schemas.ts'
import { FailureRecordSchema } from './failure-schema.ts'

/** What the worker of an agent's step writes down, and why it may have to wait. Strict: the loop that reads it back trusts it. */

const id = z
  .custom<string>(isId, 'must be 1 to 256 printable ASCII characters without blanks')
  .meta({ type: 'string', pattern: '^[\\x21-\\x7e]{1,256}$' })
const count = z.custom<number>(isCount, 'must be a whole number from 1').meta({ type: 'integer', minimum: 1 })
const json = z.custom<Json>(isJson, 'must be present').meta({ description: 'Any JSON value.' })
const jsonObject = z.custom<JsonObject>(isMembers, 'must be an object').meta({ type: 'object' })
const code = z
  .custom<FailureCode>((v) => typeof v === 'string' && isFailureCode(v), 'must be a code of the catalogue')
  .meta({ type: 'string', example: 'tool.timed_out' })
const name = z.string().min(1).max(256)
/** Of a step that calls a tool or picks a way by itself: ''. */
const nameOrNone = z.string().max(256)
const tokens = z.int().min(0).max(LIMITS.callTokensMax)
/** More than any attempt has; what is larger is no time. */
const ms = z.number().min(0).max(LIMITS.parkedMs)
const turn = z.int().min(0)

export const ToolResultSchema = z.discriminatedUnion('ok', [
  z.strictObject({ ok: z.literal(true), output: json }),
  z.strictObject({
    ok: z.literal(false),
    code,
    reason: z.string(),
    retryable: z.boolean(),
    evidence: jsonObject.optional(),
  }),
])

const toolCall = z.strictObject({ id: name, name, input: jsonObject.nullable(), text: z.string() })
const recordedResult = z.strictObject({
  endpoint: name,
  provider: z.enum(PROVIDERS),
  model: name,
  text: z.string(),
  toolCalls: z.array(toolCall),
  finish: z.enum(['stop', 'length', 'tool-calls', 'content-filter', 'other']),
  usage: z.strictObject({
    inputTokens: tokens,
    outputTokens: tokens,
    cachedInputTokens: tokens,
    cacheWriteTokens: tokens,
    reasoningTokens: tokens,
    isEstimated: z.boolean(),
  }),
  cost: z
    .strictObject({ currency: z.string().regex(CURRENCY), amount: z.number().min(0).max(LIMITS.callMoneyMax) })
    .nullable(),
  warnings: z.array(z.string()),
  tried: z.array(z.strictObject({ endpoint: z.string(), tries: z.int().min(0), code, message: z.string() })),
  totalMs: ms,
})

const workerEntry = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('model_asked'),
    call: id,
    turn,
    purpose: z.enum(['turn', 'repair', 'judge', 'route']),
    agent: nameOrNone,
    endpoint: name,
    tokens: z.strictObject({ input: tokens, output: tokens }),
  }),
  z.strictObject({ kind: z.literal('model_answered'), call: id, result: recordedResult }),
  z.strictObject({ kind: z.literal('model_failed'), call: id, failure: FailureRecordSchema }),
  z.strictObject({
    kind: z.literal('tool_asked'),
    call: id,
    turn,
    agent: nameOrNone,
    tool: name,
    operation: z.enum(OPERATION_CLASSES),
    input: jsonObject,
    repeatable: z.boolean(),
  }),
  z.strictObject({ kind: z.literal('tool_answered'), call: id, result: ToolResultSchema, ms, cut: z.int().min(0) }),
  z.strictObject({ kind: z.literal('handed_over'), turn, from: name, to: name }),
])

export const JournalSchema = z.strictObject({ session: id, step: id, fence: count, from: count })

export const AppendSchema = z.strictObject({
  session: id,
  step: id,
  fence: count,
  n: count,
  entries: z
    .array(workerEntry)
    .min(1)
    .max(LIMITS.journalAppendMax)
    // What comes behind a model that may be refused would not know of it.
    .refine(
      (entries) => entries.slice(0, -1).every((entry) => entry.kind !== 'model_asked'),
      'model_asked must be the last',
    ),
})

/** What is named together is kept with blanks between. */
const named = z.array(id).min(1).max(LIMITS.parkedOnMax)

export const ParkedOnSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('approvals'), approvals: named }),
  z.strictObject({
    type: z.literal('child'),
    calls: z
      .array(z.strictObject({ call: id, of: z.enum(['agent', 'workflow']), name, inputs: jsonObject }))
      .min(1)
      .max(LIMITS.parkedOnMax),
  }),
  z.strictObject({
    type: z.literal('budget'),
    budgets: named,
    retryAfterMs: ms.max(LIMITS.parkedMs).nullable(),
    failure: FailureRecordSchema,
  }),
  z.strictObject({ type: z.literal('outcome'), call: id, tool: name, input: jsonObject }),
])

export const StepJournalQuerySchema = z.strictObject({
  from: numberText(1, 2 ** 31 - 1)
    .optional()
    .describe('Entries from this `seq` on.'),
  limit: numberText(1, LIMITS.pageMax).optional().describe('Entries at most.'),
})

// Answers. They are described, not checked: the types hold them.

const storedEntry = z
  .object({
    seq: z.int(),
    fence: z.int(),
    at: z.string().meta({ format: 'date-time' }),
    entry: jsonObject.meta({
      description:
        'By its `kind`: model_asked, model_answered, model_failed, tool_asked, verdict, decided, tool_answered, child_started, child_ended, handed_over.',
    }),
  })
  .meta({ id: 'JournalEntry' })

export const JournalResponseSchema = z.object({
  state: z.enum(['held', 'stale']),
  entries: z.array(storedEntry),
  next: z.int().nullable(),
})
export const AppendResponseSchema = z.object({
  state: z.enum(['recorded', 'stale']),
  verdicts: z.record(z.string(), z.object({ verdict: jsonObject, approval: z.string().nullable() })),
  refused: z.object({ failure: FailureRecordSchema, park: jsonObject.nullable() }).nullable(),
  contextVersion: z.string(),
})
export const StepJournalSchema = z
  .object({
    items: z.array(storedEntry),
    next: z.int().nullable().meta({ description: '`from` of the next page; null on the last one.' }),
    countsFrom: z.int().meta({
      description:
        'Entries of attempts up to this fence were of tries that failed, and count no more. 0: all of them count.',
    }),
  })
  .meta({ id: 'StepJournal' })
