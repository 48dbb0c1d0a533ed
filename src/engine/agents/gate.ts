import type { Metrics } from '../../base/metrics.ts'
import type { DataRules } from '../../domain/agents/data-rules.ts'
import type { TokenCap } from '../../domain/agents/rules/worker-rules.ts'
import type { AskedCall, Denial, Verdict } from '../../domain/agents/verdict.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import type { Queryable } from '../../store/db.ts'
import type { ResourcesAt } from '../resources/resources-at.ts'

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

/** All that is about to be done at once. */
export interface AskedTogether {
  namespace: string
  calls: readonly AskedCall[]
  models: readonly AskedModel[]
}

/** What rules say of a model that is about to be asked. */
export interface ModelWord {
  /** Null where it may be asked. */
  failure: FailureRecord | null
  /** What its run may use, the least first. */
  caps: readonly TokenCap[]
}

/** All that was asked together may be done. */
export interface Allowed {
  /** On the calls, one for one. */
  verdicts: readonly Verdict[]
  /** What the runs of the models may use, one for one. It is counted under a lock. */
  caps: readonly (readonly TokenCap[])[]
  /** Whether some run of the namespace has a cap: what is spent there is counted by others than budgets. */
  isCapping: boolean
}

/**
 * What the rules say, by the rows as they are now. Answers one for one, in order. It fails closed: an error while reading a rule is an answer that
 * denies, never an exception of its own.
 */
export interface Gate {
  calls(on: Queryable, asked: readonly AskedCall[]): Promise<Verdict[]>
  /** Why the run that an allowed call begins may not begin beside `begun` others; null: it may. Exact under the lock of the run that makes the call. */
  beginning(on: Queryable, asked: AskedCall, begun: number): Promise<Denial | null>
  models(on: Queryable, asked: readonly AskedModel[]): Promise<ModelWord[]>
  dataRules(on: Queryable, at: AskedRun): Promise<DataRules>
  /**
   * The word on each of those that may do all they ask for by the rules of one version alone. Null: something else has to be looked at, or to be written
   * down, for which it takes a transaction. Counts nothing: whoever acts on it does.
   */
  allowedAt(resources: ResourcesAt, asked: readonly AskedTogether[]): Promise<(Allowed | null)[]>
}

/** Counts a word that is acted on: of calls of tools, and of models that are asked. */
export const countVerdict = (
  { metrics }: { metrics: Metrics },
  about: 'tool' | 'model',
  verdict: Verdict['verdict'],
): void => metrics.count('orrery_rule_verdicts_total', 1, { about, verdict })
