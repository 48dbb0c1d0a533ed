import { assert } from '../../base/assert.ts'
import { misfitOf, shareOf, type Wanted, type WindowState } from '../../domain/agents/fit.ts'
import { LIMITS } from '../../domain/limits.ts'
import { type Alert, forgetAlerts, noteAlerts } from '../../store/budgets/alerts.ts'
import {
  type Count,
  counterKey,
  type CounterKey,
  countWindows,
  type HeldCount,
  foldCounters,
  holdCounters,
  lockCounters,
  makeCounters,
} from '../../store/budgets/counters.ts'
import { dropHolds, type Hold, type HoldDraft, putHolds } from '../../store/budgets/holds.ts'
import { listBudgets } from '../../store/budgets/live-budgets.ts'
import type { Origin } from '../../store/budgets/origins.ts'
import { recordSpending, type SpendingDraft, type SpendingRow } from '../../store/budgets/spending.ts'
import type { Queryable } from '../../store/db.ts'
import type { EngineContext } from '../context.ts'
import { refuse } from './budget-refusal.ts'
import {
  type Budget,
  capBudget,
  isCounted,
  type Ledger,
  type OpenWindow,
  readLive,
  shownBudget,
  windowAt,
} from './budget-windows.ts'
import { Allowances } from './allowances.ts'
import type { Budgets, KnownUse, LiveBudgets, ModelUse, Money, Refusal, ReserveWish, Spent } from './budgets.ts'
import { HeldCalls } from './held-calls.ts'
import { OriginBook } from './origin-book.ts'
import { PriceBook } from './price-book.ts'
import type { ResourcesAt } from '../resources/resources-at.ts'

/** A counter is set forward when that spares the next count so many rows: it is not written for each call. */
const FOLD_ROWS = 50
/** Counters, and alerts, that are kept in memory as known. */
const KNOWN_MAX = 50_000

/** A ledger with the count that it comes from. */
type CountedLedger = Ledger & Pick<HeldCount, 'countId' | 'mark'>

/**
 * Budgets by what is stored. What calls took is written down and never changed; a budget is a sum of it. Setting aside holds the lock of each counter
 * from the count to the end of the transaction, so that of all that is set aside at once no more passes than fits; one lock for all calls of a flush.
 * Until somebody else counts, more may be set aside by that count. What is spent is written down without a lock.
 */
export class Accountant implements Budgets {
  readonly #ctx: Pick<EngineContext, 'clock' | 'log' | 'metrics'>
  readonly #origins = new OriginBook()
  readonly #allowances: Allowances
  readonly #held: HeldCalls
  /** Counters that are there. */
  readonly #known = new Set<string>()
  /** Alerts that somebody told of. */
  readonly #told = new Set<string>()
  /** Alerts that this server noted, or forgot, in a transaction of which it does not know whether it was committed. */
  readonly #noted = new Set<string>()
  /** Called when a share was reached, in the transaction that notes it. */
  onAlert: () => void = () => {}

  constructor(ctx: Pick<EngineContext, 'clock' | 'log' | 'metrics'>) {
    this.#ctx = ctx
    this.#allowances = new Allowances(ctx.clock)
    this.#held = new HeldCalls(ctx.clock)
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
      const rows = used.flatMap((one) => this.#rowOf(one, origins.get(one.runId) ?? loneOrigin(one), book))
      // What is told again was measured when it was written.
      for (const row of await recordSpending(tx, rows)) this.#measure(row)
    }
    await dropHolds(tx, spent)
    for (const one of spent) this.#held.drop(one)
  }

  async knownAt(on: Queryable, resources: ResourcesAt, uses: readonly ModelUse[]): Promise<KnownUse[]> {
    const origins = await this.#origins.of(
      on,
      uses.map(({ runId }) => runId),
    )
    return Promise.all(uses.map((use) => this.#knownUse(resources, use, origins.get(use.runId) ?? loneOrigin(use))))
  }

  async #knownUse(resources: ResourcesAt, use: ModelUse, origin: Origin): Promise<KnownUse> {
    const budgets = (await resources.budgets(use.namespace)).map(readLive)
    const asked = await Promise.all(
      use.asked.map(async (one) => {
        const caps = one.caps.map((cap) => capBudget(cap, origin.namespace))
        const counted = [...caps, ...budgets.filter((budget) => isCounted(budget, { ...one, origin }))]
        const book = counted.length === 0 ? null : await resources.prices(use.namespace, one.endpoint)
        return { ...one, counted, cost: book?.estimate({ ...use, ...one }, one.tokens) ?? null }
      }),
    )
    const holds = asked.flatMap(({ call, agent, endpoint, tokens, counted, cost }): HoldDraft[] =>
      counted.length === 0 ? [] : [{ call, agent, endpoint, origin, tokens: tokens.input + tokens.output, cost }],
    )
    const ended = use.ended.map(({ call, result }) => {
      if (!result) return { call, spending: null }
      const took = tookOf(result)
      // Who asked is not known here.
      const mayCount = budgets.some((budget) => isCounted(budget, { agent: null, endpoint: took.endpoint, origin }))
      const isUncovered = (mayCount || use.isCapping) && !this.#held.covers({ ...use, call }, took)
      return { call, spending: { ...took, origin, isUncovered } }
    })
    return {
      costs: asked.map(({ cost }) => cost),
      ended,
      holds,
      wishes: asked.flatMap(({ counted, tokens, cost }) =>
        counted.map((budget) => ({ budget, rootRun: origin.rootRun, wanted: wantedIn(budget, tokens, cost) })),
      ),
    }
  }

  take({ wishes }: KnownUse): readonly HeldCount[] | null {
    return this.#allowances.take(wishes)
  }

  written(use: ModelUse, { ended, holds, wishes }: KnownUse): void {
    this.#allowances.served(wishes)
    for (const { call, spending } of ended) {
      if (spending) this.#measure(spending)
      this.#held.drop({ ...use, call })
    }
    for (const hold of holds) this.#held.put({ ...use, ...hold }, hold)
  }

  outdated(counts: readonly HeldCount[]): void {
    this.#allowances.forget(counts)
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
    const unpriced = asked.filter(({ wish, windows }) => wish.cost === undefined && windows.length > 0)
    const book =
      unpriced.length > 0
        ? await PriceBook.read(
            tx,
            unpriced.map(({ wish }) => wish),
          )
        : null
    const holds: Hold[] = []
    const answers: (null | Refusal)[] = []
    for (const { wish, origin, windows } of asked) {
      const mine = windows.flatMap(({ window }) => ledgers.get(counterKey(window)) ?? [])
      if (mine.length === 0) {
        answers.push(null)
        continue
      }
      const cost = wish.cost === undefined ? (book?.estimate(wish, wish.tokens) ?? null) : wish.cost
      const misfits = mine.flatMap((ledger) => {
        const misfit = misfitOf(ledger.budget.spec, ledger.state, wantedIn(ledger.budget, wish.tokens, cost))
        return misfit ? [{ ...ledger, misfit }] : []
      })
      if (misfits.length > 0) {
        const refusal = await refuse(tx, wish, misfits, now.getTime())
        this.#ctx.metrics.count('orrery_budget_refusals_total', 1, { action: refusal.park ? 'wait' : 'fail' })
        answers.push(refusal)
        continue
      }
      for (const { budget, state } of mine) {
        const wanted = wantedIn(budget, wish.tokens, cost)
        state.heldTokens += wanted.tokens
        state.heldNanos += wanted.nanos ?? 0
      }
      const { runId, node, path, call, agent, endpoint } = wish
      const hold = { agent, endpoint, origin, tokens: wish.tokens.input + wish.tokens.output, cost }
      holds.push({ runId, node, path, call, ...hold })
      this.#held.put(wish, hold)
      answers.push(null)
    }
    await putHolds(tx, holds, LIMITS.holdMs)
    await this.#tell(tx, [...ledgers.values()])
    for (const ledger of ledgers.values()) this.#allowances.note(ledger, ledger)
    return answers
  }

  /** Counts windows under their locks, without what is set aside for the calls themselves, which are asked about anew. */
  async #open(
    tx: Queryable,
    windows: readonly { budget: Budget; window: OpenWindow }[],
    wishes: readonly ReserveWish[],
  ): Promise<Map<string, CountedLedger>> {
    const open = new Map(windows.map((one) => [counterKey(one.window), one]))
    if (open.size === 0) return new Map()
    const asked = [...open.values()].map(({ window }) => window)
    const countIds = await this.#lock(tx, asked, wishes)
    const counts = await countWindows(tx, asked)
    const counted = counts.flatMap((count) => {
      const one = open.get(counterKey(count))
      if (!one) return []
      const countId = countIds.get(counterKey(count))
      assert(countId !== undefined, 'a window was counted without its lock')
      return [{ ...one, count, countId }]
    })
    await foldCounters(
      tx,
      counted
        .filter(({ count }) => count.fold.rows >= FOLD_ROWS)
        .map(({ window, count: { fold } }) => ({ budget: window.budget, key: window.key, from: window.from, fold })),
    )
    return new Map(
      counted.map(({ budget, window, count, countId }) => [
        counterKey(count),
        { budget, window, state: stateOf(count), countId, mark: count.fold.mark },
      ]),
    )
  }

  /** Gives the id of the count that is made under each lock. */
  async #lock(
    tx: Queryable,
    keys: readonly CounterKey[],
    wishes: readonly ReserveWish[],
  ): Promise<Map<string, string>> {
    const unknown = keys.filter((key) => !this.#known.has(counterKey(key)))
    // Before any lock is taken: whoever waits for a row that another transaction is making holds nothing.
    if (unknown.length > 0) await makeCounters(tx, unknown)
    const lock = () => (wishes.length === 0 ? holdCounters(tx, keys) : lockCounters(tx, keys, wishes))
    let locked = await lock()
    if (locked.length < keys.length) {
      // Forgotten meanwhile, as it is when nobody asked for long.
      await makeCounters(tx, keys)
      locked = await lock()
    }
    if (this.#known.size > KNOWN_MAX) this.#known.clear()
    for (const key of locked) this.#known.add(counterKey(key))
    return new Map(locked.map((key) => [counterKey(key), key.countId]))
  }

  #rowOf(one: Spent, origin: Origin, book: PriceBook | null): SpendingRow[] {
    const { runId, node, path, generation, call, agent, endpoint, usage, cost } = one
    if (!usage) return []
    const model = one.model ?? book?.modelOf(one.namespace, endpoint) ?? endpoint
    const took = tookOf({ endpoint, model, usage, cost })
    return [{ runId, node, path, generation, call, agent, origin, ...took, isUncovered: !this.#held.covers(one, took) }]
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
        const isTold = isKnown || this.#noted.has(alertKey(alert))
        if (used < share && isTold && budget.spec.window === '24h') left.push(alert)
      }
    }
    const forgotten = new Set((await forgetAlerts(on, left)).map(alertKey))
    for (const key of left.map(alertKey)) {
      this.#told.delete(key)
      if (forgotten.has(key)) this.#noted.add(key)
      else this.#noted.delete(key)
    }
    const mine = await noteAlerts(
      on,
      fresh.map(({ alert }) => alert),
    )
    const noted = new Set(mine.map(alertKey))
    for (const told of [this.#told, this.#noted]) if (told.size > KNOWN_MAX) told.clear()
    for (const { alert, budget, used } of fresh) {
      const isNew = noted.has(alertKey(alert))
      const told = isNew ? this.#noted : this.#told
      told.add(alertKey(alert))
      if (!isNew) continue
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

const wantedIn = ({ spec }: Budget, tokens: { input: number; output: number }, cost: Money | null): Wanted => ({
  tokens: tokens.input + tokens.output,
  nanos: cost !== null && cost.currency === spec.limits.currency ? cost.nanos : null,
})

const tookOf = ({
  endpoint,
  model,
  usage,
  cost,
}: NonNullable<ModelUse['ended'][number]['result']>): Omit<SpendingDraft, 'origin' | 'isUncovered'> => ({
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
