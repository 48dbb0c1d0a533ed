import type { ParkedOn } from '../../domain/agents/journal.ts'
import type { TokenCap } from '../../domain/agents/rules/worker-rules.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import type { ModelResult, ModelUsage } from '../../domain/model-call.ts'
import type { Cost } from '../../domain/prices.ts'
import type { Queryable } from '../../store/db.ts'
import type { LiveBudget } from '../../store/budgets/live-budgets.ts'
import type { SpendingDraft } from '../../store/budgets/spending.ts'
import type { EndedCall } from '../../store/journal/append-at.ts'
import type { ResourcesAt } from './resources-at.ts'

/** Names one call of a model for ever. */
export interface CallKey {
  /** Empty of a call that is made in no run. */
  runId: string
  node: number
  path: string
  /** Which journal of the activation: another number once the step is tried anew after a failure. Names of calls may come again then. */
  generation: number
  call: string
}

/** Who spends, and on what. */
export interface Spender {
  namespace: string
  workflow: string
  agent: string
  endpoint: string
}

/** A call that is about to be made: what it may cost at most is set aside before. */
export interface ReserveWish extends CallKey, Spender {
  /** Estimated tokens of the request, and the most that the answer may have. */
  tokens: { input: number; output: number }
  /** What rules let its run use, besides. */
  caps?: readonly TokenCap[]
  /** Nobody waits for it: what does not fit is refused at once. */
  isLone?: boolean
}

/** A call that has ended, with what it took. Null: it failed, or its attempt did, and what was set aside is free again. */
export interface Spent extends CallKey, Spender {
  usage: ModelUsage | null
  /** Null: no price is known. */
  cost: Cost | null
  /** As its provider calls it; that of the endpoint when it is not known. */
  model?: string
}

/** What one attempt writes down of models at once: whom it is about to ask, and what ended. */
export interface ModelUse {
  runId: string
  namespace: string
  workflow: string
  asked: readonly Pick<Spender, 'agent' | 'endpoint'>[]
  ended: readonly { call: string; result: Pick<ModelResult, 'endpoint' | 'model' | 'usage' | 'cost'> | null }[]
}

/** Why a call may not be made. Park is what to wait for; null: it is not to be waited for. */
export interface Refusal {
  failure: FailureRecord
  park: ParkedOn | null
}

/** Budgets as they are, with the time of the database. */
export interface LiveBudgets {
  now: Date
  budgets: readonly LiveBudget[]
}

/** Called in the transaction that records the calls. Both take many at once, of several runs. */
export interface Budgets {
  /**
   * Answers one for one, in order; null where it was set aside. Without `park` the step fails. The same call again is set aside once. `known` are the
   * budgets of all their namespaces, for who knows that they are as they were.
   */
  reserve(tx: Queryable, wishes: readonly ReserveWish[], known?: LiveBudgets | null): Promise<(null | Refusal)[]>
  /** What was never set aside is counted all the same. The same call twice counts once. */
  settle(tx: Queryable, spent: readonly Spent[]): Promise<void>
  /**
   * What each is to write down of calls that have ended, when by the resources of one version no budget counts what it asks. Null: a budget does, for
   * which it takes a transaction.
   */
  uncountedAt(
    on: Queryable,
    resources: ResourcesAt,
    uses: readonly ModelUse[],
  ): Promise<(readonly EndedCall[] | null)[]>
  /** What `uncountedAt` gave is written down. */
  written(spending: readonly SpendingDraft[]): void
}

/** No budget: nothing is counted. */
export const openBudgets: Budgets = {
  reserve: (_, wishes) => Promise.resolve(wishes.map(() => null)),
  settle: () => Promise.resolve(),
  uncountedAt: (_, __, uses) =>
    Promise.resolve(uses.map(({ ended }) => ended.map(({ call }) => ({ call, spending: null })))),
  written: () => {},
}
