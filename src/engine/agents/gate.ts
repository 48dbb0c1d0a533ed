import { type DataRules, NO_DATA_RULES } from '../../domain/agents/data-rules.ts'
import type { AskedCall, Verdict } from '../../domain/agents/verdict.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import type { Queryable } from '../../store/db.ts'

/** A model that an agent is about to ask. */
export interface AskedModel {
  namespace: string
  workflow: string
  agent: string
  endpoint: string
}

/**
 * What the rules say, by the rows as they are now. Answers one for one, in order. It fails closed: an error while reading a rule is an answer that
 * denies, never an exception of its own.
 */
export interface Gate {
  calls(on: Queryable, asked: readonly AskedCall[]): Promise<Verdict[]>
  /** Null where the model may be asked. */
  models(on: Queryable, asked: readonly AskedModel[]): Promise<(FailureRecord | null)[]>
  dataRules(on: Queryable, at: { namespace: string; workflow: string; agent: string }): Promise<DataRules>
}

/** No rule: everything is allowed. */
export const openGate: Gate = {
  calls: (_, asked) => Promise.resolve(asked.map(() => ({ verdict: 'allow', rule: 'default' }))),
  models: (_, asked) => Promise.resolve(asked.map(() => null)),
  dataRules: () => Promise.resolve(NO_DATA_RULES),
}
