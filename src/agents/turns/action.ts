import type { Json } from '../../base/json.ts'
import type { ParkedOn, WorkerEntry } from '../../domain/agents/journal.ts'
import type { JsonObject } from '../../base/json.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import type { ModelRequest } from '../../domain/model-call.ts'
import type { TableEntry } from './tool-table.ts'

export type ModelAsked = Extract<WorkerEntry, { kind: 'model_asked' }>
export type ToolAsked = Extract<WorkerEntry, { kind: 'tool_asked' }>

/** A model call whose intent is recorded, or is to be. */
export interface ModelCall {
  entry: ModelAsked
  request: ModelRequest
  /** Go with the answer into the journal, for the transcript. */
  warnings: string[]
}

/** A tool call that may be made now. */
export interface ReadyCall {
  call: string
  tool: string
  agent: string | null
  entry: TableEntry
  input: JsonObject
}

export type StepEnd =
  | { ok: true; output: Json; /** What people should know, though it is no failure. */ notes: string[] }
  | { ok: false; failure: FailureRecord }

/** What a step of agents does next. Everything before `call_*`, `park` and `end` is recorded first. */
export type Action =
  /** These follow from what is known; they go along with the next append. */
  | { do: 'write'; entries: WorkerEntry[] }
  | { do: 'ask_model'; call: ModelCall }
  | { do: 'call_model'; call: ModelCall }
  | { do: 'ask_tools'; entries: ToolAsked[] }
  /** Side by side. */
  | { do: 'call_tools'; calls: ReadyCall[] }
  | { do: 'park'; on: ParkedOn }
  | { do: 'end'; end: StepEnd }
