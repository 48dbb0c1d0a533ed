import type { JsonObject } from '../base/json.ts'
import type { MemorySearch } from '../domain/kinds/memory.ts'

/** Bodies of the API of memories. Times are RFC 3339 in UTC. */

/** An entry as a list shows it. */
export interface MemoryEntryView {
  /** `shared`, `agent/NAME` or `run/ID`. */
  scope: string
  key: string
  /** The beginning of its text. */
  excerpt: string
  metadata: JsonObject
  bytes: number
  /** `agent/NAME`, or the id of a token; null: the provider does not tell. */
  writtenBy: string | null
  updatedAt: string
  /** Null: it stays until it is deleted. */
  expiresAt: string | null
}

export interface MemoryEntryDetail extends Omit<MemoryEntryView, 'excerpt'> {
  text: string
}

export interface MemoryFoundView {
  /** The best first; scores are from 0 to 1. */
  items: (MemoryEntryDetail & { score: number })[]
  warnings: string[]
}

export interface PutMemoryEntryRequest {
  text: string
  metadata?: JsonObject | undefined
}
export interface MemoryWrittenView {
  key: string
  replaced: boolean
}

export interface SearchMemoryRequest {
  query: string
  limit?: number | undefined
  by?: MemorySearch | undefined
  minScore?: number | undefined
}

export interface IngestMemoryRequest {
  source: string
  text: string
  metadata?: JsonObject | undefined
}
export interface MemoryIngestedView {
  source: string
  chunks: number
  /** Pieces of what was taken in before that are not there any more. */
  removed: number
}

export interface MemoryCheckView {
  provider: 'store' | 'http'
  /** Length of its vectors; null: it has no embedding. */
  numbers: number | null
}
