import type { JsonObject } from '../../base/json.ts'
import type { MemoryGrant } from '../kinds/agent.ts'
import { LIMITS } from '../limits.ts'
import type { OfferedTool } from './tool-envelope.ts'
import type { OperationClass } from './verdict.ts'

interface MemoryTool {
  operation: OperationClass
  says: string
  input: JsonObject
  output: JsonObject
}

const text = (description: string, maxLength: number): JsonObject => ({
  type: 'string',
  minLength: 1,
  maxLength,
  description,
})
const KEY = text('Name of the entry, such as `customer/4711/preferences`.', LIMITS.memoryKeyChars)
const METADATA: JsonObject = { type: 'object', description: 'Facts about it, given back with it.' }
const objectOf = (properties: JsonObject, required: string[]): JsonObject => ({
  type: 'object',
  properties,
  required,
  additionalProperties: false,
})
const WARNINGS: JsonObject = { type: 'array', items: { type: 'string' } }
const ENTRY: JsonObject = objectOf(
  { key: { type: 'string' }, text: { type: 'string' }, metadata: { type: 'object' }, updatedAt: { type: 'string' } },
  ['key', 'text', 'metadata', 'updatedAt'],
)

/** What an agent can do with a memory, as a model is told of it. */
export const MEMORY_TOOLS: Readonly<Record<MemoryGrant, MemoryTool>> = {
  read: {
    operation: 'read',
    says: 'Gives one entry by its key; `entry` is null when there is none.',
    input: objectOf({ key: KEY }, ['key']),
    output: objectOf({ entry: { anyOf: [ENTRY, { type: 'null' }] } }, ['entry']),
  },
  write: {
    operation: 'write',
    says: 'Writes an entry; one of the same key is replaced.',
    input: objectOf({ key: KEY, text: text('What is remembered.', LIMITS.memoryTextChars), metadata: METADATA }, [
      'key',
      'text',
    ]),
    output: objectOf({ key: { type: 'string' }, replaced: { type: 'boolean' } }, ['key', 'replaced']),
  },
  search: {
    operation: 'read',
    says: 'Finds the entries that fit best, the best first.',
    input: objectOf(
      {
        query: text('What is looked for, in words.', LIMITS.memoryQueryChars),
        limit: { type: 'integer', minimum: 1, maximum: LIMITS.memoryFoundMax, description: 'Entries at most.' },
      },
      ['query'],
    ),
    output: objectOf(
      {
        entries: {
          type: 'array',
          items: objectOf({ ...(ENTRY['properties'] as JsonObject), score: { type: 'number' } }, [
            'key',
            'text',
            'metadata',
            'updatedAt',
            'score',
          ]),
        },
        warnings: WARNINGS,
      },
      ['entries', 'warnings'],
    ),
  },
  list: {
    operation: 'read',
    says: 'Lists keys in their order, a page; `next` is the cursor of the next one, null at the end.',
    input: objectOf(
      {
        prefix: { type: 'string', maxLength: LIMITS.memoryKeyChars, description: 'Keys that begin so.' },
        cursor: { type: 'string', maxLength: 1_024, description: '`next` of the page before.' },
        limit: { type: 'integer', minimum: 1, maximum: 500, description: 'Keys at most; 50 when left out.' },
      },
      [],
    ),
    output: objectOf(
      {
        entries: {
          type: 'array',
          items: objectOf({ key: { type: 'string' }, bytes: { type: 'integer' }, updatedAt: { type: 'string' } }, [
            'key',
            'bytes',
            'updatedAt',
          ]),
        },
        next: { anyOf: [{ type: 'string' }, { type: 'null' }] },
      },
      ['entries', 'next'],
    ),
  },
  ingest: {
    operation: 'write',
    says: 'Takes a long text in, cut into entries `SOURCE/chunk-0001` and so on; what was taken in of the same source before is replaced.',
    input: objectOf(
      {
        source: text('Where the text is from; the beginning of the keys.', LIMITS.memoryKeyChars - 16),
        text: text('All of it.', LIMITS.memoryIngestBytes),
        metadata: METADATA,
      },
      ['source', 'text'],
    ),
    output: objectOf({ source: { type: 'string' }, chunks: { type: 'integer' }, removed: { type: 'integer' } }, [
      'source',
      'chunks',
      'removed',
    ]),
  },
}

/**
 * The tools by which an agent uses a memory that it is granted: `NAME.read` and so on, in the order of the grants. Every call may be made again with
 * its idempotency key: what was written is not written twice.
 */
export function memoryTools(
  name: string,
  grants: readonly MemoryGrant[],
  about: { description?: string | undefined } = {},
): OfferedTool[] {
  const what = about.description === undefined ? '' : ` The memory ${name} has: ${about.description}`
  return [...new Set(grants)].map((grant) => {
    const { operation, says, input, output } = MEMORY_TOOLS[grant]
    return {
      name: `${name}.${grant}`,
      description: `${says}${what}`,
      inputSchema: input,
      outputSchema: output,
      operation,
      repeatable: true,
    }
  })
}
