import type { Json, JsonObject } from '../../base/json.ts'
import type { FailureCode } from '../failures.ts'
import type { OperationClass } from './verdict.ts'

/** A call of a tool, as every kind of tool is handed it. `external` tools are sent exactly this as JSON. */
export interface ToolCallEnvelope {
  version: 1
  tool: string
  /** The same for every try of one call, and for the call after a crash: a tool that knows it does the work once. */
  idempotencyKey: string
  /** Counts tries from 1. */
  attempt: number
  operation: OperationClass
  input: JsonObject
  /** How long the caller waits, in ms from now. */
  timeoutMs: number
  context: {
    namespace: string
    runId: string
    step: string
    agent: string | null
    traceparent: string
  }
}

/** What a call gave. `code`, `reason` and `retryable` are what the trace shows as tool_code, tool_reason and retryable. */
export type ToolResult =
  | { ok: true; output: Json }
  | {
      ok: false
      /** A `tool.*`, `mcp.*`, `secret.*`, `approval.*`, `policy.*` or `model.address_blocked` code. */
      code: FailureCode
      /** One line for the model and the trace. Never a secret. */
      reason: string
      /** Another try may succeed. */
      retryable: boolean
      evidence?: JsonObject
    }

/** What a tool is offered to a model as. */
export interface OfferedTool {
  /** As the model calls it. */
  name: string
  description: string
  /** JSON Schema of an object. */
  inputSchema: JsonObject
  outputSchema: JsonObject | null
  operation: OperationClass
  /** True: a call whose result was lost is made again with its idempotency key. False: a person decides (`tool.outcome_unknown`). */
  repeatable: boolean
}
