import { z } from 'zod'
import type { JsonObject } from '../../base/json.ts'
import { LIMITS } from '../limits.ts'
import { isObject, type Placed, placedProblem } from '../placed-problem.ts'
import { positiveDuration, secretRef } from '../schema.ts'
import { dnsName } from './envelope.ts'
import { defineKind, READY } from './kind.ts'
import { addressOfHttp } from './http-address.ts'

/** Who shares the entries of a memory. */
export const MEMORY_SCOPES = ['run', 'agent', 'shared'] as const

/** How entries are searched. */
export const MEMORY_SEARCHES = ['auto', 'keyword', 'vector'] as const
export type MemorySearch = (typeof MEMORY_SEARCHES)[number]

const http = z.strictObject({
  url: addressOfHttp.describe(
    'Where the provider is; `/put`, `/get`, `/search`, `/list`, `/delete` and `/ping` are below it.',
  ),
  credentials: secretRef.optional().describe('What opens it, sent with every request.'),
  header: z
    .string()
    .regex(/^[A-Za-z][A-Za-z0-9-]{0,63}$/, { error: 'must be the name of a header' })
    .optional()
    .describe('Header that has the credentials as they are; left out: `Authorization`, as a bearer token.'),
  timeout: positiveDuration.default(10_000).describe('One request.'),
  allowPrivateAddresses: z.boolean().default(false).describe('Loopback and private networks may be called.'),
})

const ingest = z.strictObject({
  chunkSize: z
    .int()
    .min(100)
    .max(LIMITS.memoryTextChars)
    .default(1_000)
    .describe(
      'Characters of one piece of a text that is taken in; it ends at a paragraph, line or blank when there is one near.',
    ),
  overlap: z.int().min(0).max(10_000).default(200).describe('Characters at its end that the next piece begins with.'),
})

const search = z.strictObject({
  limit: z
    .int()
    .min(1)
    .max(LIMITS.memoryFoundMax)
    .default(10)
    .describe('Entries that a search gives when it does not say.'),
  by: z
    .enum(MEMORY_SEARCHES)
    .default('auto')
    .describe(
      '`keyword`: by words. `vector`: by meaning. `auto`: by meaning where there is an `embedding`, else by words.',
    ),
  minScore: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe('Entries below this score are left out; 1 is the best there is.'),
})

export const memorySpecSchema = z.strictObject({
  description: z
    .string()
    .min(1)
    .max(2_000)
    .optional()
    .describe('What is kept in it: agents are told so with its tools.'),
  scope: z
    .enum(MEMORY_SCOPES)
    .describe(
      'Who shares its entries: `run` a run with all that runs below it, and they go some time after its end; `agent` all runs of one agent; `shared` everybody.',
    ),
  provider: z
    .enum(['store', 'http'])
    .default('store')
    .describe(
      '`store`: the database of the server. `http`: a service that keeps the contract of docs/guides/agents/memory.md.',
    ),
  http: http.optional().describe('For `http`: the service.'),
  ttl: positiveDuration
    .optional()
    .describe('How long an entry is kept after it was last written; left out: until it is deleted.'),
  maxEntries: z
    .int()
    .min(1)
    .max(LIMITS.memoryEntriesMax)
    .optional()
    .describe(`Entries of one run, of one agent, or shared ones; ${LIMITS.memoryEntries} when left out.`),
  maxBytes: z
    .int()
    .min(1_024)
    .max(LIMITS.memoryBytesMax)
    .optional()
    .describe(`All of these together; ${LIMITS.memoryBytes} when left out.`),
  embedding: z
    .strictObject({
      endpoint: dnsName.describe('Name of a ModelEndpoint of the same namespace.'),
      model: z
        .string()
        .min(1)
        .max(256)
        .optional()
        .describe('Its model of embeddings, for `azure-openai` the deployment; left out: the model of the endpoint.'),
    })
    .optional()
    .describe('What turns texts into vectors, for search by meaning.'),
  ingest: ingest.default(ingest.parse({})).describe('How long texts are cut.'),
  search: search.default(search.parse({})).describe('How it is searched when a search does not say.'),
})

/** A spec as runs use it: defaults filled in, durations in milliseconds. */
export type MemorySpec = z.infer<typeof memorySpecSchema>

/** Of a spec that was checked when it was stored. */
export const readMemory = (spec: JsonObject): MemorySpec => memorySpecSchema.parse(spec)

/** What one run, one agent or everybody together may keep in it. */
export const roomOf = ({ maxEntries, maxBytes }: Pick<MemorySpec, 'maxEntries' | 'maxBytes'>) => ({
  maxEntries: maxEntries ?? LIMITS.memoryEntries,
  maxBytes: maxBytes ?? LIMITS.memoryBytes,
})

/** How it is searched when a search wants `by`. */
export const searchOf = (spec: Pick<MemorySpec, 'embedding' | 'provider'>, by: MemorySearch): MemorySearch =>
  by === 'auto' && spec.provider === 'store' ? (spec.embedding ? 'vector' : 'keyword') : by

const problem = (message: string, ...path: string[]): Placed =>
  placedProblem('manifest.invalid', message, ['spec', ...path])

/** What the schema cannot say: which fields go together. */
function crossCheck(spec: JsonObject): Placed[] {
  const found: Placed[] = []
  const isHttp = spec['provider'] === 'http'
  if (isHttp && spec['http'] === undefined) found.push(problem('is required for http: { url: https://… }', 'http'))
  if (!isHttp && spec['http'] !== undefined) found.push({ ...problem('is for the provider http', 'http'), at: 'key' })
  if (isHttp)
    for (const key of ['embedding', 'maxEntries', 'maxBytes'])
      if (spec[key] !== undefined)
        found.push({ ...problem('is for the provider store; an http provider sees to it itself', key), at: 'key' })
  const { ingest: cut, search: how } = spec
  if (isObject(cut)) {
    const { chunkSize = 1_000, overlap = 200 } = cut
    if (typeof chunkSize === 'number' && typeof overlap === 'number' && overlap * 2 > chunkSize)
      found.push(problem('must be half of chunkSize at most', 'ingest', 'overlap'))
  }
  if (isObject(how) && how['by'] === 'vector' && !isHttp && spec['embedding'] === undefined)
    found.push(problem('needs an embedding, which is missing', 'search', 'by'))
  return found
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')

export const memoryKind = defineKind({
  kind: 'Memory',
  plural: 'memories',
  shortNames: ['mem'],
  summary: 'What agents remember: texts by key, of one run, of one agent or shared, searched by words or by meaning.',
  spec: memorySpecSchema,
  crossCheck,
  columns: [
    { title: 'SCOPE', text: ({ spec }) => textOf(spec['scope']) },
    { title: 'PROVIDER', text: ({ spec }) => textOf(spec['provider']) || 'store' },
    {
      title: 'EMBEDDING',
      text: ({ spec }) => (isObject(spec['embedding']) ? textOf(spec['embedding']['endpoint']) : ''),
    },
    { title: 'TTL', wide: true, text: ({ spec }) => textOf(spec['ttl']) },
  ],
  statusOf: () => ({ phase: 'ready', conditions: [READY] }),
})
