import type { JsonObject } from '../../base/json.ts'

/** Whose entries: a namespace as it is stored, a memory of it, and `shared`, `agent/<name>` or `run/<id>`. */
export interface MemoryPlace {
  namespace: string
  memory: string
  scope: string
}

export interface NewEntry {
  key: string
  text: string
  metadata: JsonObject
  /** Of length one; null: the memory has no embedding. */
  embedding: Float32Array | null
}

export interface EntryRow {
  scope: string
  key: string
  body: string
  metadata: JsonObject
  bytes: number
  written_by: string
  created_at: Date
  updated_at: Date
  expires_at: Date | null
}

export interface FoundRow extends EntryRow {
  /** From 0 to 1. */
  score: number
}

export const ENTRY_COLUMNS =
  'e.scope, e.key, e.body, e.metadata, e.bytes, e.written_by, e.created_at, e.updated_at, e.expires_at'

/** What has expired is not there any more, pruned or not. */
export const IS_THERE = '(e.expires_at is null or e.expires_at > (select clock_now()))'

export const bytesOfEntry = ({ key, text, metadata }: Omit<NewEntry, 'embedding'>): number =>
  Buffer.byteLength(key) + Buffer.byteLength(text) + Buffer.byteLength(JSON.stringify(metadata))
