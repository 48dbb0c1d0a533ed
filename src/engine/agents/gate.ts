import type { DataRules } from '../../domain/agents/data-rules.ts'
import type { AskedCall, RuleName, Verdict } from '../../domain/agents/verdict.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import type { Queryable } from '../../store/db.ts'

/** For whom something is asked. */
export interface AskedRun {
  /** As it is stored. */
  namespace: string
  workflow: string
  /** Null when nobody runs yet: it is asked what would be. */
  runId: string | null
  /** Null when a step calls a tool by itself, or a person asks a model. */
  agent: string | null
}

/** A model that is about to be asked. */
export interface AskedModel extends AskedRun {
  endpoint: string
}

/** The most tokens that a run, and those below it, may use, as a rule has it. */
export interface TokenCap {
  rule: RuleName
  /** Of the rule. */
  uid: string
  tokens: number
}

/**
 * What the rules say, by the rows as they are now. Answers one for one, in order. It fails closed: an error while reading a rule is an answer that
 * denies, never an exception of its own.
 */
export interface Gate {
  calls(on: Queryable, asked: readonly AskedCall[]): Promise<Verdict[]>
  /** Null where the model may be asked. */
  models(on: Queryable, asked: readonly AskedModel[]): Promise<(FailureRecord | null)[]>
  dataRules(on: Queryable, at: AskedRun): Promise<DataRules>
  /** The least first. */
  tokenCaps(on: Queryable, asked: readonly AskedRun[]): Promise<TokenCap[][]>
}
