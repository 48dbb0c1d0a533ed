import { misfitOf, shareOf, type Wanted, type WindowState } from '../../domain/agents/fit.ts'
import { LIMITS } from '../../domain/limits.ts'
import { type Alert, forgetAlerts, noteAlerts } from '../../store/budgets/alerts.ts'
import {
  type Count,
  type CounterKey,
  countWindows,
  foldCounters,
  lockCounters,
  makeCounters,
} from '../../store/budgets/counters.ts'
import { dropHolds, type Hold, putHolds } from '../../store/budgets/holds.ts'
import { listBudgets } from '../../store/budgets/live-budgets.ts'
import type { Origin } from '../../store/budgets/origins.ts'
import { recordSpending, type SpendingDraft, type SpendingRow } from '../../store/budgets/spending.ts'
import type { Queryable } from '../../store/db.ts'
import type { EndedCall } from '../../store/journal/append-at.ts'
import type { EngineContext } from '../context.ts'
import { type Ledger, refuse } from './budget-refusal.ts'
import {
  type Budget,
  capBudget,
  isCounted,
  type OpenWindow,
  readLive,
  shownBudget,
  windowAt,
} from './budget-windows.ts'
import type { Budgets, LiveBudgets, ModelUse, Refusal, ReserveWish, Spent } from './budgets.ts'
import { OriginBook } from './origin-book.ts'
import { PriceBook } from './price-book.ts'
import type { ResourcesAt } from './resources-at.ts'

/** A counter is set forward when that spares the next count so many rows: it is not written for each call. */
const FOLD_ROWS = 50
/** Counters, and alerts, that are kept in memory as known. */
const KNOWN_MAX = 50_000

const keyOf = ({ budget, key }: CounterKey): string => `${budget} ${key}`

/**
 * Budgets by what is stored. What calls took is written down and never changed; a budget is a sum of it. Setting aside holds the lock of each counter
 * from the count to the end of the transaction, so that of all that is set aside at once no more passes than fits; one lock for all calls of a flush.
 * What is spent is written down without a lock.
 */
export class Accountant implements Budgets {
  readonly #ctx: Pick<EngineContext, 'log' | 'metrics'>
  readonly #origins = new OriginBook()
  /** Counters that are there. */
  readonly #known = new Set<string>()
  /** Alerts that somebody told of. */
  readonly #told = new Set<string>()
  /** Called when a share was reached, in the transaction that notes it. */
  onAlert: () => void = () => {}

  constructor(ctx: Pick<EngineContext, 'log' | 'metrics'>) {
    this.#ctx = ctx
  }

  async settle(tx: Queryable, spent: readonly Spent[]): Promise<void> {
    if (spent.length === 0) return
    const used = spent.filter((one) => one.usage !== null)
    if (used.length > 0) {
      const unnamed = used.filter((one) => one.model === undefined)
      const book = unnamed.length > 0 ? await PriceBook.read(tx, unnamed) : null
      const origins = await this.#origins.of(
        tx,
        used.map((one) => one.runId),
      )
      const rows = used.flatMap((one) => rowOf(one, origins.get(one.runId) ?? loneOrigin(one), book))
      await recordSpending(tx, rows)
      this.written(rows)
    }
    await dropHolds(tx, spent)
  }

  async uncountedAt(
    on: Queryable,
    resources: ResourcesAt,
    uses: readonly ModelUse[],
  ): Promise<(readonly EndedCall[] | null)[]> {
    const origins = await this.#origins.of(
      on,
      uses.map(({ runId }) => runId),
    )
    return Promise.all(
      uses.map(async (use) => {
        const origin = origins.get(use.runId) ?? loneOrigin(use)
        const budgets = use.asked.length === 0 ? [] : (await resources.budgets(use.namespace)).map(readLive)
        const isCountedHere = use.asked.some((spender) =>
          budgets.some((budget) => isCounted(budget, { ...spender, origin })),
        )
        if (isCountedHere) return null
        return use.ended.map(({ call, result }) => ({ call, spending: result && draftOf(result, origin) }))
      }),
    )
  }

  written(spending: readonly SpendingDraft[]): void {
    for (const draft of spending) this.#measure(draft)
  }

  #measure({ tokens, cost }: SpendingDraft): void {
    const { metrics } = this.#ctx
    metrics.count('orrery_tokens_total', tokens.input, { direction: 'input' })
    metrics.count('orrery_tokens_total', tokens.output, { direction: 'output' })
    metrics.count('orrery_tokens_total', tokens.cachedInput, { direction: 'cached_input' })
    if (cost) metrics.count('orrery_cost_total', cost.nanos / 1e9, { currency: cost.currency })
    else metrics.count('orrery_calls_unpriced_total')
  }

  /** Counts windows forward and tells of shares that were reached: what was spent since somebody last asked. */
  async look(tx: Queryable, windows: readonly { budget: Budget; window: OpenWindow }[]): Promise<Ledger[]> {
    const ledgers = [...(await this.#open(tx, windows, [])).values()]
    await this.#tell(tx, ledgers)
    return ledgers
  }

  async reserve(
    tx: Queryable,
    wishes: readonly ReserveWish[],
    known: LiveBudgets | null = null,
  ): Promise<(null | Refusal)[]> {
    if (wishes.length === 0) return []
    const { now, budgets: live } = known ?? (await liveBudgetsOf(tx, wishes))
    if (live.length === 0 && wishes.every(({ caps = [] }) => caps.length === 0)) return wishes.map(() => null)
    const budgets = live.map(readLive)
    const origins = await this.#origins.of(
      tx,
      wishes.map((wish) => wish.runId),
    )
    const asked = wishes.map((wish) => {
      const origin = origins.get(wish.runId) ?? loneOrigin(wish)
      const counted = budgets.filter((budget) => isCounted(budget, { ...wish, origin }))
      const caps = (wish.caps ?? []).map((cap) => capBudget(cap, origin.namespace))
      const windows = [...caps, ...counted].flatMap((budget) => {
        // What is made in no run has no window of a run.
        const window = windowAt(budget, now.getTime(), origin.rootRun === '' ? null : origin.rootRun)
        return window ? [{ budget, window }] : []
      })
      return { wish, origin, windows }
    })
    const ledgers = await this.#open(
      tx,
      asked.flatMap(({ windows }) => windows),
      wishes,
    )
    const priced = asked.some(({ windows }) => windows.some(({ budget }) => budget.spec.limits.money !== undefined))
    const book = priced ? await PriceBook.read(tx, wishes) : null
    const holds: Hold[] = []
    const answers: (null | Refusal)[] = []
    for (const { wish, origin, windows } of asked) {
      const mine = windows.flatMap(({ window }) => ledgers.get(keyOf(window)) ?? [])
      if (mine.length === 0) {
        answers.push(null)
        continue
      }
      const cost = book?.estimate(wish, wish.tokens) ?? null
      const tokens = wish.tokens.input + wish.tokens.output
      const wantedIn = ({ spec }: Budget): Wanted => ({
        tokens,
        nanos: cost !== null && cost.currency === spec.limits.currency ? cost.nanos : null,
      })
      const misfits = mine.flatMap((ledger) => {
        const misfit = misfitOf(ledger.budget.spec, ledger.state, wantedIn(ledger.budget))
        return misfit ? [{ ...ledger, misfit }] : []
      })
      if (misfits.length > 0) {
        const refusal = await refuse(tx, wish, misfits, now.getTime())
        this.#ctx.metrics.count('orrery_budget_refusals_total', 1, { action: refusal.park ? 'wait' : 'fail' })
        answers.push(refusal)
        continue
      }
      for (const { budget, state } of mine) {
        state.heldTokens += tokens
        state.heldNanos += wantedIn(budget).nanos ?? 0
      }
      const { runId, node, path, call, agent, endpoint } = wish
      holds.push({ runId, node, path, call, agent, endpoint, origin, tokens, cost })
      answers.push(null)
    }
    await putHolds(tx, holds, LIMITS.holdMs)
    await this.#tell(tx, [...ledgers.values()])
    return answers
  }

  /** Counts windows under their locks, without what is set aside for the calls themselves, which are asked about anew. */
  async #open(
    tx: Queryable,
    windows: readonly { budget: Budget; window: OpenWindow }[],
    wishes: readonly ReserveWish[],
  ): Promise<Map<string, Ledger>> {
    const open = new Map(windows.map((one) => [keyOf(one.window), one]))
    if (open.size === 0) return new Map()
    const asked = [...open.values()].map(({ window }) => window)
    await this.#lock(tx, asked, wishes)
    const counts = await countWindows(tx, asked)
    const counted = counts.flatMap((count) => {
      const one = open.get(keyOf(count))
      return one ? [{ ...one, count }] : []
    })
    await foldCounters(
      tx,
      counted
        .filter(({ count }) => count.fold.rows >= FOLD_ROWS)
        .map(({ window, count: { fold } }) => ({ budget: window.budget, key: window.key, from: window.from, fold })),
    )
    return new Map(
      counted.map(({ budget, window, count }) => [keyOf(count), { budget, window, state: stateOf(count) }]),
    )
  }

  async #lock(tx: Queryable, keys: readonly CounterKey[], wishes: readonly ReserveWish[]): Promise<void> {
    const unknown = keys.filter((key) => !this.#known.has(keyOf(key)))
    // Before any lock is taken: whoever waits for a row that another transaction is making holds nothing.
    if (unknown.length > 0) await makeCounters(tx, unknown)
    const locked = await lockCounters(tx, keys, wishes)
    if (locked.length < keys.length) {
      // Forgotten meanwhile, as it is when nobody asked for long.
      await makeCounters(tx, keys)
      await lockCounters(tx, keys)
    }
    if (this.#known.size > KNOWN_MAX) this.#known.clear()
    for (const key of locked) this.#known.add(keyOf(key))
  }

  /** Tells of each share that was reached once in a window; of one of a rolling window again when it was below it in between. */
  async #tell(on: Queryable, ledgers: readonly Ledger[]): Promise<void> {
    const fresh: { alert: Alert; budget: Budget; used: number }[] = []
    const left: Alert[] = []
    for (const { budget, window, state } of ledgers) {
      const used = shareOf(budget.spec, state)
      for (const share of budget.spec.alerts) {
        const alert = { budget: budget.uid, key: window.key, share }
        const isKnown = this.#told.has(alertKey(alert))
        if (used >= share && !isKnown) fresh.push({ alert, budget, used })
        if (used < share && isKnown && budget.spec.window === '24h') left.push(alert)
      }
    }
    await forgetAlerts(on, left)
    for (const alert of left) this.#told.delete(alertKey(alert))
    const mine = await noteAlerts(
      on,
      fresh.map(({ alert }) => alert),
    )
    const noted = new Set(mine.map(alertKey))
    if (this.#told.size > KNOWN_MAX) this.#told.clear()
    for (const { alert, budget, used } of fresh) {
      this.#told.add(alertKey(alert))
      if (!noted.has(alertKey(alert))) continue
      this.onAlert()
      this.#ctx.metrics.count('orrery_budget_alerts_total')
      this.#ctx.log.warn('budget reached a share of its limit that it tells of', {
        budget: shownBudget(budget),
        window: budget.spec.window,
        alert: alert.share,
        used: Math.round(used * 1000) / 1000,
      })
    }
  }
}

function liveBudgetsOf(tx: Queryable, wishes: readonly ReserveWish[]): Promise<LiveBudgets> {
  const namespaces = [...new Set(wishes.map((wish) => wish.namespace))]
  return listBudgets(tx, namespaces, { after: null, limit: LIMITS.budgetsMax * namespaces.length })
}

const alertKey = ({ budget, key, share }: Alert): string => `${budget} ${key} ${share}`

const stateOf = ({ tokens, nanos, heldTokens, heldNanos }: Count): WindowState => ({
  tokens,
  nanos,
  heldTokens,
  heldNanos,
})

/** Of a run that nothing is known of any more: it stands for itself. */
const loneOrigin = ({
  runId,
  namespace,
  workflow,
}: {
  runId: string
  namespace: string
  workflow: string
}): Origin => ({
  runId,
  namespace,
  rootRun: runId,
  workflows: [workflow],
  labels: {},
})

function rowOf(one: Spent, origin: Origin, book: PriceBook | null): SpendingRow[] {
  const { runId, node, path, generation, call, agent, endpoint, usage, cost } = one
  if (!usage) return []
  const model = one.model ?? book?.modelOf(one.namespace, endpoint) ?? endpoint
  return [{ runId, node, path, generation, call, agent, ...draftOf({ endpoint, model, usage, cost }, origin) }]
}

const draftOf = (
  { endpoint, model, usage, cost }: NonNullable<ModelUse['ended'][number]['result']>,
  origin: Origin,
): SpendingDraft => ({
  origin,
  endpoint,
  model,
  tokens: {
    input: usage.inputTokens,
    output: usage.outputTokens,
    cachedInput: usage.cachedInputTokens,
    cacheWrite: usage.cacheWriteTokens,
  },
  cost: cost && { nanos: Math.round(cost.amount * 1e9), currency: cost.currency },
})
