import type { Json, JsonObject } from '../../base/json.ts'
import type { ParkedOn, StoredEntry, WorkerEntry } from '../../domain/agents/journal.ts'
import type { ToolCallEnvelope, ToolResult } from '../../domain/agents/tool-envelope.ts'
import type { Verdict } from '../../domain/agents/verdict.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import type { ModelEvent, ModelRequest } from '../../domain/model-call.ts'
import type { DataGuard } from './data-guard.ts'
import type { LiveModels } from './plan.ts'
import type { TableEntry } from './tool-table.ts'

/** What an append brings back. */
export interface Appended {
  /** By call, of the `tool_asked` entries that were recorded. */
  verdicts: Readonly<Record<string, { verdict: Verdict; approval: string | null }>>
  /** The `model_asked` of the append was not recorded, and everything before it was: what forbids it, and what is to be waited for. */
  refused: { failure: FailureRecord; park: ParkedOn | null } | null
  /** Another one than before: what is live changed, and is asked for anew. */
  contextVersion: string
}

export interface LiveContext extends LiveModels {
  version: string
  /** What data rules make of what an agent sends to models, and a step without one as ''; null when there are none. */
  guardOf(agent: string): DataGuard | null
}

/** A call of a tool, as the host is handed it. */
export interface HostCall {
  entry: TableEntry
  /** Null when a step calls the tool by itself. */
  agent: string | null
  envelope: ToolCallEnvelope
}

/** What people are shown while an agent works. Best effort: nothing depends on it. */
export type ShownEvent =
  | { type: 'turn'; turn: number; agent: string; purpose: string; endpoint: string }
  | { type: 'text'; text: string }
  /** What came of this answer so far is void: it begins anew. */
  | { type: 'retrying'; endpoint: string; code: string; delayMs: number }
  | { type: 'answered'; turn: number; tokens: number; cost: number | null; currency: string | null }
  | { type: 'failed'; endpoint: string; code: string }
  | { type: 'tool'; call: string; tool: string; input: JsonObject }
  | {
      type: 'tool_result'
      call: string
      tool: string
      ok: boolean
      code: string | null
      reason: string | null
      ms: number
    }
  | { type: 'handed_over'; from: string; to: string }
  | { type: 'waiting'; on: ParkedOn['type'] }
  | { type: 'tool_log'; tool: string; line: string }
  | { type: 'note'; text: string }

/** Whom a call of a model is for, and when it may leave. */
export interface ModelAt {
  agent: string
  endpoint: string
  idempotencyKey: string
  goAhead: Promise<boolean>
  signal: AbortSignal
}

/** What the turn loop asks of the outside. */
export interface AgentHost {
  readonly namespace: string
  readonly runId: string
  readonly traceparent: string
  /** True: go no further than the next boundary, another attempt goes on. */
  readonly isLeaving: boolean
  readJournal(): Promise<StoredEntry[]>
  /** Resolves when recorded. Throws what is no Failure when the attempt is not ours any more: then nothing more may be done. */
  append(entries: readonly WorkerEntry[]): Promise<Appended>
  context(): Promise<LiveContext>
  /** Tools of MCP servers and memories of an agent; throws a Failure when one that it needs cannot be had. */
  discover(agent: string, signal: AbortSignal): Promise<TableEntry[]>
  /**
   * Asks that endpoint and no other. The request is made ready when the first event is asked for, and sent when `goAhead` resolves to true; false: there is no
   * event. Throws a Failure, or the signal's reason.
   */
  model(request: ModelRequest, at: ModelAt): AsyncGenerator<ModelEvent, void>
  /** Throws the signal's reason alone. */
  callTool(call: HostCall, signal: AbortSignal): Promise<ToolResult>
  show(event: ShownEvent): void
}

/** How an attempt at a step of agents ends. */
export type TurnsEnd =
  | { kind: 'succeeded'; output: Json }
  | { kind: 'failed'; failure: FailureRecord }
  | { kind: 'parked'; on: ParkedOn }
  /** Another attempt goes on from the journal. */
  | { kind: 'returned' }
