import type { z } from 'zod'
import { LIMITS } from '../domain/limits.ts'
import { EXCHANGE_PATHS } from './exchange.ts'
import * as m from './memory-schemas.ts'
import type { RouteOf } from './route.ts'
import { pageOf } from './schemas.ts'

export type MemoryRouteId =
  | 'listMemoryEntries'
  | 'getMemoryEntry'
  | 'putMemoryEntry'
  | 'searchMemory'
  | 'ingestMemory'
  | 'deleteMemoryEntries'
  | 'checkMemory'
  | 'memory'

const JSON_TYPE = 'application/json'
const ok = (schema: z.ZodType) => ({ status: 200, description: 'As asked.', type: JSON_TYPE, schema })

const ONE = '/v1/namespaces/{namespace}/memories/{memory}'
const reads = { auth: 'viewer', bodyBytes: 0 } as const
const writes = { auth: 'operator', bodyBytes: LIMITS.bodyBytes } as const

/** What is in memories, for people and, as the last one, for agents. */
export const MEMORY_ROUTES: readonly RouteOf<MemoryRouteId>[] = [
  {
    ...reads,
    method: 'GET',
    id: 'listMemoryEntries',
    path: `${ONE}/entries`,
    summary: 'Entries of a memory by scope and key, with the beginning of their texts.',
    query: m.ListEntriesQuerySchema,
    responses: [ok(pageOf(m.MemoryEntryViewSchema))],
  },
  {
    ...reads,
    method: 'GET',
    id: 'getMemoryEntry',
    path: `${ONE}/entry`,
    summary: 'One entry of a memory.',
    query: m.EntryQuerySchema,
    responses: [ok(m.MemoryEntryDetailSchema)],
  },
  {
    ...writes,
    method: 'PUT',
    id: 'putMemoryEntry',
    path: `${ONE}/entry`,
    summary: 'Write an entry of a memory; one of the same key is replaced.',
    query: m.EntryQuerySchema,
    body: m.PutMemoryEntrySchema,
    responses: [ok(m.MemoryWrittenSchema)],
  },
  {
    ...reads,
    method: 'POST',
    bodyBytes: LIMITS.bodyBytes,
    id: 'searchMemory',
    path: `${ONE}/entries:search`,
    summary: 'Find the entries that fit best, by words or by meaning.',
    query: m.ScopeQuerySchema,
    body: m.SearchMemorySchema,
    responses: [ok(m.MemoryFoundSchema)],
  },
  {
    ...writes,
    method: 'POST',
    bodyBytes: LIMITS.bulkBodyBytes,
    id: 'ingestMemory',
    path: `${ONE}/entries:ingest`,
    summary: 'Take a text in, cut into entries; what was taken in of the same source before is replaced.',
    query: m.ScopeQuerySchema,
    body: m.IngestMemorySchema,
    responses: [ok(m.MemoryIngestedSchema)],
  },
  {
    ...writes,
    method: 'DELETE',
    bodyBytes: 0,
    id: 'deleteMemoryEntries',
    path: `${ONE}/entries`,
    summary: 'Delete entries of a memory: those of a `key`, which may be given several times, of a `prefix`, or all.',
    query: m.DeleteEntriesQuerySchema,
    lists: ['key'],
    responses: [ok(m.MemoryDeletedSchema)],
  },
  {
    ...writes,
    method: 'POST',
    id: 'checkMemory',
    path: `${ONE}:check`,
    summary: 'Ask whether a memory can be used: its service and its model of embeddings answer.',
    responses: [ok(m.MemoryCheckSchema)],
  },
  {
    method: 'POST',
    auth: 'worker',
    id: 'memory',
    path: EXCHANGE_PATHS.memory,
    summary: 'Let the agent of an attempt use a memory that it is granted.',
    body: m.MemorySchema,
    bodyBytes: LIMITS.bulkBodyBytes,
    responses: [ok(m.MemoryResponseSchema)],
  },
]
