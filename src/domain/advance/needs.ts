import type { Json, JsonObject } from '../../base/json.ts'
import type { Scope } from '../expression.ts'
import type { JournalEntry } from '../agents/journal.ts'
import type { AskedCall, Denial } from '../agents/verdict.ts'
import type { Failure } from '../failure.ts'
import type { StepState } from '../machines.ts'
import type { Step, StepKey } from '../step.ts'
import type { ChildNode } from '../workflow.ts'

/** What `advance` must be given before it can go on. */
export type Need =
  | { type: 'steps'; keys: StepKey[] }
  | { type: 'idle_steps' }
  /** The first activation of this forEach that failed. */
  | { type: 'failed_activation'; node: number }
  /** The first activations of this forEach, from a path on, that were not let into the queue. */
  | { type: 'pending_activations'; node: number; from: string; limit: number }
  /** Activations of this node that have not ended. */
  | { type: 'open_activations'; node: number }
  /** Turns of these nodes that ended and were not followed, or that a person re-opened. */
  | { type: 'turns_to_follow'; nodes: readonly number[] }
  /** What these activations gave, and how they ended. */
  | { type: 'outputs'; keys: StepKey[] }
  /** Steps that wait for an event of this name. */
  | { type: 'event_waits'; name: string }
  /** Events of this name that no step has taken, oldest first. */
  | { type: 'events'; name: string }
  /** The workflow that a step wants to run. */
  | { type: 'workflow'; ref: ChildNode['ref'] }
  /** Approvals of calls, held until the end. */
  | { type: 'approvals'; ids: string[] }
  /** The call of an agent that a run below answers. */
  | { type: 'child_call'; node: number; path: string; run: string }
  /** What the journal of an activation has of one call, in order: only attempts above a fence count. */
  | { type: 'call_entries'; node: number; path: string; call: string; after: number }
  /** Whether the run that this call begins may begin now, beside those that the same round begins. */
  | { type: 'delegation'; call: AskedCall; begun: number }
  /** Whether one of these budgets has let go of those who wait for it since the step was leased; from now on it waits with that. */
  | { type: 'budgets_woken'; node: number; path: string; budgets: string[] }
  /** Scope of expressions: outputs and states of these nodes, and the run's inputs. */
  | { type: 'scope'; nodes: number[] }

export interface Given {
  steps?: Step[]
  scope?: Pick<Scope, 'inputs' | 'steps'>
  outputs?: (StepKey & { output: Json; state: StepState })[]
  events?: KeptEvent[]
  workflow?: StoredWorkflow | Failure
  approvals?: CallApproval[]
  call?: string
  entries?: JournalEntry[]
  /** Of a delegation; left out: the run may begin. */
  refusal?: Denial | null
  isWoken?: boolean
}

/** An approval of a call as it stands. */
export interface CallApproval extends StepKey {
  id: string
  fence: number
  state: 'pending' | 'approved' | 'denied' | 'expired' | 'canceled'
  about: 'call' | 'outcome'
  call: string
  /** ms. */
  expiresAt: number | null
}

export interface KeptEvent {
  id: string
  payload: Json
}

/** A workflow as far as starting a run of it has to know. */
export interface StoredWorkflow {
  hash: string
  name: string
  inputs: JsonObject | null
  /** Labels of its runs. */
  labels: Record<string, string>
  /** A remark for the first event of its run; null: none. */
  note: string | null
}
