import { z } from 'zod'
import { LIMITS } from '../domain/limits.ts'
import { PROVIDERS } from '../domain/kinds/model-endpoint.ts'

const tokens = z.int().min(0)

/** POST /v1/namespaces/{namespace}/modelendpoints/{model}:ask */
export const AskModelSchema = z.strictObject({
  prompt: z
    .string()
    .min(1, { error: 'is empty' })
    .max(LIMITS.promptChars, { error: `is longer than ${LIMITS.promptChars} characters` })
    .meta({ description: 'What is asked.' }),
  system: z.string().min(1).max(LIMITS.promptChars).optional().meta({ description: 'Instructions before the prompt.' }),
  maxTokens: z.int().min(1).max(10_000_000).optional().meta({ description: 'Largest answer.' }),
  temperature: z.number().min(0).max(2).optional().meta({ description: 'How much is left to chance.' }),
  useFallbacks: z
    .boolean()
    .optional()
    .meta({ description: 'False: this endpoint alone is asked, whatever happens. True when it is left out.' }),
})

const CostSchema = z
  .object({ currency: z.string(), amount: z.number().meta({ description: 'In the currency.' }) })
  .meta({ id: 'Cost' })

export const ModelResultSchema = z
  .object({
    endpoint: z.string().meta({ description: 'Which endpoint answered: the one that was asked, or a fallback.' }),
    provider: z.enum(PROVIDERS),
    model: z.string(),
    text: z.string(),
    toolCalls: z.array(
      z.object({
        id: z.string(),
        name: z.string(),
        input: z.record(z.string(), z.unknown()).nullable(),
        text: z.string(),
      }),
    ),
    output: z.object({ value: z.unknown(), problems: z.array(z.string()) }).nullable(),
    finish: z.enum(['stop', 'length', 'tool-calls', 'content-filter', 'other']),
    usage: z.object({
      inputTokens: tokens,
      outputTokens: tokens,
      cachedInputTokens: tokens,
      cacheWriteTokens: tokens,
      reasoningTokens: tokens,
      isEstimated: z.boolean().meta({ description: 'The provider told nothing: counted by the length of the texts.' }),
    }),
    cost: CostSchema.nullable().meta({ description: 'Null: no price is known.' }),
    warnings: z.array(z.string()),
    tried: z
      .array(z.object({ endpoint: z.string(), tries: tokens, code: z.string(), message: z.string() }))
      .meta({ description: 'Endpoints that did not answer before this one did.' }),
    firstPartMs: z.number(),
    totalMs: z.number(),
  })
  .meta({ id: 'ModelResult' })
