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
      /** Why, for the people who decide; absent where no rule says. */
      reason?: string
      /** Names of tokens or roles that may decide; null: whoever may decide approvals at all. */
      approvers: readonly string[] | null
      expiresMs: number | null
    }

export type Denial = Extract<Verdict, { verdict: 'deny' }>

/** What the spec of an agent itself says about its calls. */
export interface OwnRules {
  /** Names of its roles. */
  roles: readonly string[]
  /** `always`: a person decides about each of its calls. */
  approval: 'by-rule' | 'always'
  approvers: readonly string[] | null
  approvalExpiresMs: number | null
  /** Whether its spec offers it a tool of this name at all. */
  isOffered: boolean
  /** The field of the spec that gives it this very call: of a memory, of work for another agent. Null: it is a tool. */
  given: string | null
}

/** Who is given work by a call, or the conversation. */
export interface CallTarget {
  of: 'agent' | 'workflow' | 'handoff'
  name: string
}

/** A call that the rules are asked about. */
export interface AskedCall {
  /** As it is stored. */
  namespace: string
  workflow: string
  /** Null when it is only asked what would be. */
  runId: string | null
  /** Null when a step calls the tool by itself. */
  agent: string | null
  tool: string
  operation: OperationClass
  input: JsonObject
  /** Null when a step calls the tool by itself, and of an agent that the definition does not have: it is denied. */
  own: OwnRules | null
  /** Null when no work is given away. */
  target: CallTarget | null
  /** What is called is a program that makes connections of its own, which nobody looks at. */
  isUnconfined: boolean
}

/** What rules look at of a run. */
export interface RunFacts {
  /** Of the run, and of the one at the top where it has no others. */
  labels: Readonly<Record<string, string>>
  /** Of the runs from the top down to this one: what holds for a workflow holds for the work that it gives away. */
  workflows: readonly string[]
  /** How many runs it is below another; 0 for one that a person or a trigger started. */
  depth: number
  /** Runs right below it. */
  runsBelow: number
}
