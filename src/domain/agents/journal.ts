import type { Json, JsonObject } from '../../base/json.ts'
import type { FailureRecord } from '../failure.ts'
import type { ModelResult, ModelToolCall } from '../model-call.ts'
import type { ToolResult } from './tool-envelope.ts'
import type { OperationClass, Verdict } from './verdict.ts'

/** What a model is asked for. */
export type Purpose = 'turn' | 'repair' | 'judge' | 'route'

/**
 * What an agent's worker writes down before it acts on it. The journal belongs to the activation: an attempt after a loss or a wait goes on where the
 * last one stopped, one after a failure begins anew. A call is asked (its intent is recorded), then answered; an answer that is recorded is never asked
 * for again.
 */
export type WorkerEntry =
  | {
      kind: 'model_asked'
      /** Names the call within the activation; also what its idempotency key is made of. */
      call: string
      turn: number
      purpose: Purpose
      agent: string
      endpoint: string
      /** Tokens of the request, estimated, and the most that the answer may have: what budgets are asked to set aside. */
      tokens: { input: number; output: number }
    }
  | { kind: 'model_answered'; call: string; result: RecordedResult }
  | { kind: 'model_failed'; call: string; failure: FailureRecord }
  | {
      kind: 'tool_asked'
      /** The model's id of the call, unique within the activation. */
      call: string
      turn: number
      agent: string
      tool: string
      operation: OperationClass
      input: JsonObject
      repeatable: boolean
    }
  | {
      kind: 'tool_answered'
      call: string
      result: ToolResult
      ms: number
      /** Bytes that were cut off the output. */ cut: number
    }
  /** The conversation goes on with another agent. */
  | { kind: 'handed_over'; turn: number; from: string; to: string }

/** What the server adds: the rules' word on a call, a person's, and the ends of runs below. */
export type ServerEntry =
  | { kind: 'verdict'; call: string; verdict: Verdict; /** Of a verdict `approval`. */ approval: string | null }
  | {
      kind: 'decided'
      call: string
      approval: string
      /** `call`: may it be made. `outcome`: was it made (see tool.outcome_unknown). */
      about: 'call' | 'outcome'
      state: 'approved' | 'denied' | 'expired'
      by: string | null
      comment: string | null
      at: string
      /** The arguments as the person changed them; null: as they were asked. */
      input: JsonObject | null
      /** About an outcome: what the person says that the call gave; null: make the call again when approved. */
      output: Json
    }
  | { kind: 'child_started'; call: string; run: string }
  | { kind: 'child_ended'; call: string; run: string; result: ToolResult }

export type JournalEntry = WorkerEntry | ServerEntry

/** An answer of a model without what can be worked out of it again. */
export interface RecordedResult extends Pick<
  ModelResult,
  'endpoint' | 'provider' | 'model' | 'text' | 'finish' | 'usage' | 'cost' | 'warnings' | 'tried' | 'totalMs'
> {
  toolCalls: ModelToolCall[]
}

/** An entry with its place. `seq` counts from 1 within the activation, whoever wrote it. */
export interface StoredEntry {
  seq: number
  /** The attempt that it was written under; of what the server wrote the last one before it. */
  fence: number
  /** ISO 8601. */
  at: string
  entry: JournalEntry
}

/** A call by which work is given away. */
export interface ChildCall {
  call: string
  /** Name of the agent or workflow of `Bound` that is run below. */
  of: 'agent' | 'workflow'
  name: string
  inputs: JsonObject
}

/** Why an attempt ends though the step has not: what would bring it on. */
export type ParkedOn =
  | { type: 'approvals'; /** Ids, as verdicts named them. */ approvals: string[] }
  | { type: 'child'; /** What one turn gives away, each call once: the runs begin together. */ calls: ChildCall[] }
  | {
      type: 'budget'
      /** `namespace/name` of the budgets that refused. */ budgets: string[]
      /** When the first window moves; null: only a higher limit helps. */ retryAfterMs: number | null
      failure: FailureRecord
    }
  | { type: 'outcome'; call: string; tool: string; input: JsonObject }
