import type { MemoryRequest } from '../contract/exchange.ts'
import type { IngestMemoryRequest, PutMemoryEntryRequest, SearchMemoryRequest } from '../contract/memory-types.ts'
import { LIMITS } from '../domain/limits.ts'
import type { MemoryRef } from '../engine/engine.ts'
import type { Answer, Exchange } from './context.ts'
import { ownNamespace } from './tenancy.ts'

// Bodies and queries were checked by the schema of their route before a handler sees them: that is the reason for each `as` here.

const refOf = (x: Exchange): MemoryRef => ({
  namespace: ownNamespace(x.caller, x.param('namespace')),
  name: x.param('memory'),
  scope: (x.query as { scope?: string }).scope ?? null,
})

export async function listMemoryEntries(x: Exchange): Promise<Answer> {
  const {
    prefix = '',
    cursor = null,
    limit = LIMITS.pageDefault,
  } = x.query as {
    prefix?: string
    cursor?: string
    limit?: number
  }
  return x.respondJson(200, await x.deps.engine.memories.list(x.caller, refOf(x), { prefix, cursor, limit }))
}

export async function getMemoryEntry(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.memories.get(x.caller, refOf(x), keyOf(x)))
}

export async function putMemoryEntry(x: Exchange): Promise<Answer> {
  const body = x.body as PutMemoryEntryRequest
  return x.respondJson(200, await x.deps.engine.memories.put(x.caller, refOf(x), keyOf(x), body))
}

export async function searchMemory(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.memories.search(x.caller, refOf(x), x.body as SearchMemoryRequest))
}

export async function ingestMemory(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.memories.ingest(x.caller, refOf(x), x.body as IngestMemoryRequest))
}

export async function deleteMemoryEntries(x: Exchange): Promise<Answer> {
  const { key, prefix = '' } = x.query as { key?: string[]; prefix?: string }
  return x.respondJson(200, await x.deps.engine.memories.delete(x.caller, refOf(x), key ? { keys: key } : { prefix }))
}

export async function checkMemory(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.memories.check(x.caller, refOf(x)))
}

export async function memory(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.useMemory(x.caller, x.body as MemoryRequest))
}

const keyOf = (x: Exchange): string => (x.query as { key: string }).key
