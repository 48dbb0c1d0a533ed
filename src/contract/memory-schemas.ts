import { z } from 'zod'
import type { JsonObject } from '../base/json.ts'
import { MEMORY_GRANTS } from '../domain/kinds/agent.ts'
import { MEMORY_SEARCHES } from '../domain/kinds/memory.ts'
import { LIMITS } from '../domain/limits.ts'
import { isCount, isId, isMembers } from './hot-messages.ts'
import { cursor, flag, limit } from './page-schemas.ts'

const time = z.string().meta({ format: 'date-time' })
const key = z.string().min(1).max(LIMITS.memoryKeyChars)
const scope = z
  .string()
  .min(1)
  .max(128)
  .optional()
  .describe('`agent/NAME` or `run/ID`; left out for a memory whose entries are shared.')
const metadata = z
  .custom<JsonObject>(isMembers, 'must be an object')
  .meta({ type: 'object', description: 'Facts about it, given back with it.' })

export const ListEntriesQuerySchema = z.strictObject({
  scope,
  prefix: z.string().max(LIMITS.memoryKeyChars).optional().describe('Keys that begin so.'),
  cursor: cursor.max(2_048).optional(),
  limit: limit.optional(),
})
export const EntryQuerySchema = z.strictObject({ key: key.describe('Its key.'), scope })
export const ScopeQuerySchema = z.strictObject({ scope })
export const DeleteEntriesQuerySchema = z
  .strictObject({
    key: z.array(key).min(1).max(LIMITS.pageMax).optional().describe('The entry of this key.'),
    prefix: key.optional().describe('All whose key begins so.'),
    all: flag.optional().describe('`true`: every entry.'),
    scope,
  })
  .refine(
    ({ key: keys, prefix, all }) =>
      [keys, prefix, all === 'true' || undefined].filter((one) => one !== undefined).length === 1,
    {
      error: 'must have exactly one of key, prefix and all=true',
    },
  )

export const PutMemoryEntrySchema = z.strictObject({
  text: z.string().min(1).max(LIMITS.memoryTextChars).meta({ description: 'What is remembered.' }),
  metadata: metadata.optional(),
})
export const SearchMemorySchema = z.strictObject({
  query: z.string().min(1).max(LIMITS.memoryQueryChars).meta({ description: 'What is looked for, in words.' }),
  limit: z
    .int()
    .min(1)
    .max(LIMITS.memoryFoundMax)
    .optional()
    .meta({ description: 'Entries at most; as the memory says when left out.' }),
  by: z
    .enum(MEMORY_SEARCHES)
    .optional()
    .meta({ description: 'By words or by meaning; as the memory says when left out.' }),
  minScore: z.number().min(0).max(1).optional().meta({ description: 'Entries below this score are left out.' }),
})
export const IngestMemorySchema = z.strictObject({
  source: z
    .string()
    .min(1)
    .max(LIMITS.memoryKeyChars - 16)
    .meta({ description: 'Where the text is from; the beginning of the keys.' }),
  text: z.string().min(1).max(LIMITS.memoryIngestBytes).meta({ description: 'All of it.' }),
  metadata: metadata.optional(),
})

// Answers. They are described, not checked: the types hold them.

const entry = {
  scope: z.string().meta({ description: '`shared`, `agent/NAME` or `run/ID`.' }),
  key: z.string(),
  metadata: z.record(z.string(), z.unknown()),
  bytes: z.int(),
  writtenBy: z
    .string()
    .nullable()
    .meta({ description: 'An agent, or the id of a token; null: the provider does not tell.' }),
  updatedAt: time,
  expiresAt: time.nullable().meta({ description: 'Null: it stays until it is deleted.' }),
}
export const MemoryEntryViewSchema = z
  .object({ ...entry, excerpt: z.string().meta({ description: 'The beginning of its text.' }) })
  .meta({ id: 'MemoryEntry' })
export const MemoryEntryDetailSchema = z.object({ ...entry, text: z.string() }).meta({ id: 'MemoryEntryDetail' })
export const MemoryFoundSchema = z.object({
  items: z.array(z.object({ ...entry, text: z.string(), score: z.number().meta({ description: 'From 0 to 1.' }) })),
  warnings: z.array(z.string()),
})
export const MemoryWrittenSchema = z.object({ key: z.string(), replaced: z.boolean() })
export const MemoryIngestedSchema = z.object({
  source: z.string(),
  chunks: z.int(),
  removed: z.int().meta({ description: 'Pieces of what was taken in before that are not there any more.' }),
})
export const MemoryDeletedSchema = z.object({ deleted: z.int() })
export const MemoryCheckSchema = z.object({
  provider: z.enum(['store', 'http']),
  numbers: z.int().nullable().meta({ description: 'Length of its vectors; null: it has no embedding.' }),
})

// The exchange.

const id = z
  .custom<string>(isId, 'must be 1 to 256 printable ASCII characters without blanks')
  .meta({ type: 'string', pattern: '^[\\x21-\\x7e]{1,256}$' })
export const MemorySchema = z.strictObject({
  session: id,
  step: id,
  fence: z.custom<number>(isCount, 'must be a whole number from 1').meta({ type: 'integer', minimum: 1 }),
  agent: z.string().min(1).max(256),
  memory: z.string().min(1).max(256),
  operation: z.enum(MEMORY_GRANTS),
  input: z.custom<JsonObject>(isMembers, 'must be an object').meta({ type: 'object' }),
  call: z.string().min(1).max(512),
})
export const MemoryResponseSchema = z.object({
  state: z.enum(['held', 'stale']),
  result: z.record(z.string(), z.unknown()).nullable(),
})
