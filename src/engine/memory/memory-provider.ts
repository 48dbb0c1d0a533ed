import type { Json, JsonObject } from '../../base/json.ts'
import type { MemorySearch, MemorySpec } from '../../domain/kinds/memory.ts'
import type { MemoryCall } from '../../store/memory/memory-calls.ts'
import type { Caller } from '../engine.ts'

/** Whose entries, and what their memory is like. */
export interface MemoryAt {
  /** As it is stored. */
  namespace: string
  memory: string
  /** `shared`, `agent/<name>` or `run/<id>`. */
  scope: string
  spec: MemorySpec
  user: MemoryUser
}

/** Who uses a memory: what it needs is looked up and written down in his name. */
export interface MemoryUser {
  caller: Caller
  /** Null: a person. */
  agent: { workflow: string; runId: string; name: string } | null
}

export interface MemoryEntry {
  scope: string
  key: string
  text: string
  metadata: JsonObject
  bytes: number
  /** Null: the provider does not tell. */
  writtenBy: string | null
  updatedAt: string
  expiresAt: string | null
}

export interface EntryToWrite {
  key: string
  text: string
  metadata: JsonObject
}

/** A write of an agent, which is done once under its name and only while its attempt holds the step. */
export interface OnceOnly extends MemoryCall {
  session: string
  fence: number
  /** What is answered, now and when the call comes again. */
  result(written: Written): Json
}

export interface MemoryWrite {
  entries: readonly EntryToWrite[]
  /** Entries whose key begins so and that are not written now are removed. */
  replaces: string | null
  writtenBy: string
  /** Null: a person's write. */
  once: OnceOnly | null
}

export interface Written {
  /** Keys that were there before. */
  replaced: string[]
  removed: number
}

export type WriteOutcome =
  | ({ kind: 'written' } & Written)
  /** The attempt does not hold its step any more: nothing was written. */
  | { kind: 'stale' }
  /** The call was made before: nothing was written. */
  | { kind: 'done'; result: Json }

export interface MemoryQuery {
  query: string
  by: MemorySearch
  limit: number
  minScore: number
}

export interface MemoryFound {
  entries: (MemoryEntry & { score: number })[]
  /** What whoever searched should know. */
  warnings: string[]
}

/** Which entries are deleted: those of these keys, or all whose key begins so. */
export type MemoryDeletion = { keys: readonly string[] } | { prefix: string }

/** Where the entries of a memory are. Both that there are pass `memory-provider.suite.ts`. Throws `memory.*`, and `model.*` where vectors are needed. */
export interface MemoryProvider {
  put(at: MemoryAt, write: MemoryWrite): Promise<WriteOutcome>
  /** Null: there is none, or its time is over. */
  get(at: MemoryAt, key: string): Promise<MemoryEntry | null>
  search(at: MemoryAt, query: MemoryQuery): Promise<MemoryFound>
  /** In the order of keys, behind a cursor. A scope of null is all of the memory. */
  list(
    at: Omit<MemoryAt, 'scope'> & { scope: string | null },
    page: { prefix: string; cursor: string | null; limit: number },
  ): Promise<{ entries: MemoryEntry[]; next: string | null }>
  /** Gives how many there were. */
  delete(at: MemoryAt, which: MemoryDeletion): Promise<number>
}
