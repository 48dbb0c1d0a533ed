import type { Json, JsonObject } from '../base/json.ts'
import type { FailureRecord } from './failure.ts'
import type { FailureCode } from './failures.ts'
import type { Provider } from './kinds/model-endpoint.ts'
import type { Cost, TokenUsage } from './prices.ts'

/** A call of a tool, as a model asked for it. */
export interface ModelToolCall {
  id: string
  name: string
  /** Null when what the model wrote is no JSON object; `text` has it then. */
  input: JsonObject | null
  /** As the model wrote it. */
  text: string
}

export type ModelMessage =
  | { role: 'system'; text: string }
  | { role: 'user'; text: string }
  | { role: 'assistant'; text?: string; toolCalls?: readonly ModelToolCall[] }
  /** What a tool gave; `isError` says that it failed. */
  | { role: 'tool'; callId: string; name: string; output: Json; isError?: boolean }

export interface ModelTool {
  name: string
  description?: string
  /** JSON Schema of its input, an object. */
  inputSchema: JsonObject
}

/** The one form of a request, whoever the provider is. */
export interface ModelRequest {
  messages: readonly ModelMessage[]
  tools?: readonly ModelTool[]
  toolChoice?: 'auto' | 'none' | 'required' | { tool: string }
  /** The answer is to be JSON of this schema. */
  output?: { schema: JsonObject; name?: string }
  /** What is left out is as the endpoint's defaults say, else as the provider does. */
  maxTokens?: number
  temperature?: number
  topP?: number
  seed?: number
  stop?: readonly string[]
}

export interface ModelUsage extends TokenUsage {
  reasoningTokens: number
  /** The provider told none: counted by the length of the texts. */
  isEstimated: boolean
}

export type FinishReason = 'stop' | 'length' | 'tool-calls' | 'content-filter' | 'other'

/** What became of one endpoint of the chain. */
export interface TriedEndpoint {
  endpoint: string
  /** Requests that were sent to it. */
  tries: number
  code: FailureCode
  message: string
}

export interface ModelResult {
  /** The endpoint that answered: the one that was asked, or a fallback. */
  endpoint: string
  provider: Provider
  model: string
  text: string
  toolCalls: ModelToolCall[]
  /** When JSON was asked for: the value, and what is wrong with it; null when it was not. */
  output: { value: Json | null; problems: string[] } | null
  finish: FinishReason
  usage: ModelUsage
  /** Null: no price is known. */
  cost: Cost | null
  /** What the provider did not heed, and what is not known. */
  warnings: string[]
  /** Endpoints that did not answer before this one did. */
  tried: TriedEndpoint[]
  firstPartMs: number
  totalMs: number
}

export type ModelEvent =
  | { type: 'text'; text: string }
  | { type: 'tool-call'; call: ModelToolCall }
  | { type: 'usage'; usage: ModelUsage; cost: Cost | null }
  /** It is tried again, there or at a fallback. With `isVoid` what came before is to be forgotten: the answer begins anew. */
  | { type: 'retrying'; endpoint: string; delayMs: number; isVoid: boolean; failure: FailureRecord }
  | { type: 'finished'; result: ModelResult }
