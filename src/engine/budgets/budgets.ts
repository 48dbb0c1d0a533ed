import type { ParkedOn } from '../../domain/agents/journal.ts'
import type { TokenCap } from '../../domain/agents/rules/worker-rules.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import type { ModelResult, ModelUsage } from '../../domain/model-call.ts'
import type { Cost } from '../../domain/prices.ts'
import type { Queryable } from '../../store/db.ts'
import type { LiveBudget } from '../../store/budgets/live-budgets.ts'
import type { HeldCount } from '../../store/budgets/counters.ts'
import type { HoldDraft } from '../../store/budgets/holds.ts'
import type { EndedCall } from '../../store/journal/append-at.ts'
import type { AllowanceWish } from './allowances.ts'
import type { ResourcesAt } from '../resources/resources-at.ts'

/** Names one call of a model for ever. */
export interface CallKey {
  /** Empty of a call that is made in no run. */
  runId: string
  node: number
  path: string
  /** Of the attempt that makes it; 0 of a call that is made in no run. */
  fence: number
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

/** Billionths of a currency. */
export interface Money {
  nanos: number
  currency: string
}

/** A call that is about to be made: what it may cost at most is set aside before. */
export interface ReserveWish extends CallKey, Spender {
  /** Estimated tokens of the request, and the most that the answer may have. */
  tokens: { input: number; output: number }
  /** What rules let its run use, besides. */
  caps?: readonly TokenCap[]
  /** What it may cost at most, by the resources as they are; null: no price is known. Left out: it has to be looked up. */
  cost?: Money | null
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
export interface ModelUse extends Omit<CallKey, 'generation' | 'call'> {
  namespace: string
  workflow: string
  asked: readonly (Pick<Spender, 'agent' | 'endpoint'> &
    Required<Pick<ReserveWish, 'tokens' | 'caps'>> & { call: string })[]
  ended: readonly { call: string; result: Pick<ModelResult, 'endpoint' | 'model' | 'usage' | 'cost'> | null }[]
  /** Rules of the namespace count what is spent there, besides its budgets. */
  isCapping: boolean
}

/** What becomes of a use by the resources of one version: where no budget counts it, at once; else when it is set aside by a count. */
export interface KnownUse {
  /** What each call that is asked may cost at most. Null: no price is known, or nothing counts it. */
  costs: readonly (Money | null)[]
  /** What calls took that have ended. */
  ended: readonly EndedCall[]
  /** What is set aside. */
  holds: readonly HoldDraft[]
  /** In which budgets. None: nothing counts it. */
  wishes: readonly AllowanceWish[]
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
  /** Answers one for one, in order. */
  knownAt(on: Queryable, resources: ResourcesAt, uses: readonly ModelUse[]): Promise<KnownUse[]>
  /**
   * Takes what a use sets aside from what may be set aside by the counts made last, whether it is written down or not; gives these counts. Null: it has
   * to be counted, for which it takes a transaction.
   */
  take(use: KnownUse): readonly HeldCount[] | null
  /** What `knownAt` gave is written down. */
  written(use: ModelUse, known: KnownUse): void
  /** Counts that something was to be set aside by do not hold any more. */
  outdated(counts: readonly HeldCount[]): void
}

/** No budget: nothing is counted. */
export const openBudgets: Budgets = {
  reserve: (_, wishes) => Promise.resolve(wishes.map(() => null)),
  settle: () => Promise.resolve(),
  knownAt: (_, __, uses) =>
    Promise.resolve(
      uses.map(({ asked, ended }) => ({
        costs: asked.map(() => null),
        ended: ended.map(({ call }) => ({ call, spending: null })),
        holds: [],
        wishes: [],
      })),
    ),
  take: () => [],
  written: () => {},
  outdated: () => {},
}
