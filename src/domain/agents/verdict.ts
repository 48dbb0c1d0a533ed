import type { JsonObject } from '../../base/json.ts'

/** What a call does to the world: what rules tell apart. */
export const OPERATION_CLASSES = ['read', 'write', 'delete', 'admin'] as const
export type OperationClass = (typeof OPERATION_CLASSES)[number]

/** A rule that decided, as people name it: `policy/no-deletes`, `role/reader`, `agent/writer`, or `default`. */
export type RuleName = string

/** What the rules say of one call of a tool. An error while reading a rule is a `deny`. */
export type Verdict =
  | { verdict: 'allow'; rule: RuleName }
  | {
      verdict: 'deny'
      code: 'tool.permission_denied' | 'policy.denied' | 'policy.routing_blocked'
      rule: RuleName
      /** Why, for the model and for people. */
      reason: string
      /** What would let it pass. */
      remediation: string
    }
  | {
      verdict: 'approval'
      rule: RuleName
      /** Names of tokens or roles that may decide; null: whoever may decide approvals at all. */
      approvers: string[] | null
      expiresMs: number | null
    }

/** A call that the rules are asked about. */
export interface AskedCall {
  namespace: string
  workflow: string
  /** Null when a step calls the tool by itself. */
  agent: string | null
  tool: string
  operation: OperationClass
  input: JsonObject
}
