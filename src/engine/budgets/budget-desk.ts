import type { JsonObject } from '../../base/json.ts'
import type { CostsView } from '../../contract/api-types.ts'
import type { ResourceView } from '../../contract/resource-types.ts'
import { shareOf } from '../../domain/agents/fit.ts'
import type { BudgetFacts } from '../../domain/installation-facts.ts'
import type { Usage } from '../../domain/kinds/kind.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { CostGroup } from '../../domain/prices.ts'
import { shownNamespace } from '../../domain/tenancy.ts'
import type { StepFacts } from '../../domain/reasons/step-reason.ts'
import { findNotedAlerts } from '../../store/budgets/alerts.ts'
import { counterKey, type Count, countWindows, pruneCounters } from '../../store/budgets/counters.ts'
import { sweepHolds } from '../../store/budgets/holds.ts'
import { type LiveBudget, listBudgets } from '../../store/budgets/live-budgets.ts'
import { findOrigins } from '../../store/budgets/origins.ts'
import { pruneSpending, sumCosts } from '../../store/budgets/spending.ts'
import type { Queryable } from '../../store/db.ts'
import { countBudgetWaiters, pruneBudgetWakes } from '../../store/steps/budget-waits.ts'
import { findResources, listResources } from '../../store/resources/read-resources.ts'
import type { EngineContext } from '../context.ts'
import type { Caller } from '../engine.ts'
import { reach, reachWithin } from '../visible.ts'
import type { Accountant } from './accountant.ts'
import { noteAlertsOnBudgets } from './alert-notes.ts'
import { type Budget, budgetName, type OpenWindow, readThose, shownBudget, windowAt } from './budget-windows.ts'
import { PriceBook } from './price-book.ts'

/** A budget with what is in its window at the moment. */
interface Used {
  budget: Budget
  /** Null of one that counts each run by itself: there is no one window to show. */
  window: OpenWindow | null
  count: Count | null
  share: number
  /** Steps that wait for it. */
  waiting: number
}

/** Budgets whose counters one transaction of the upkeep locks. */
const LOCKED_AT_ONCE = 20
const LOOKS_FOR_ALERTS = 5
const HELD_FOR_MS = 3 * 31 * 24 * 3_600_000

/** Budgets and costs as people look at them, and what is owed to them now and then. */
export class BudgetDesk {
  readonly #ctx: EngineContext
  readonly #accountant: Accountant
  /** With so many ticks those who watch budgets may have to be told of an alert, whose transaction was not over when it was noted. */
  #looksForAlerts = 0
  /** There is more to forget than the last tick had time for. */
  #isBehind = false

  constructor(ctx: EngineContext, accountant: Accountant) {
    this.#ctx = ctx
    this.#accountant = accountant
    accountant.onAlert = () => (this.#looksForAlerts = LOOKS_FOR_ALERTS)
  }

  /** Sums of what was spent. Of namespaces that the caller may not see there is nothing. */
  async costs(
    caller: Caller,
    asked: { by: CostGroup; namespace: string | null; since: string | null; until: string | null; limit: number },
  ): Promise<CostsView> {
    const { by, namespace, since, until } = asked
    const limit = Math.min(asked.limit, LIMITS.pageMax)
    const sums = await sumCosts(this.#ctx.db, {
      by,
      namespaces: reachWithin(caller, namespace),
      since: since === null ? null : new Date(since),
      until: until === null ? null : new Date(until),
      limit: limit + 1,
    })
    return {
      by,
      items: sums.slice(0, limit).map(({ namespace: stored, of, money, ...sum }) => {
        const shown = shownNamespace(caller.organisation, stored)
        return {
          namespace: shown,
          name: by === 'namespace' ? shown : of,
          ...sum,
          costs: money.map(({ currency, nanos }) => ({ currency, amount: nanos / 1e9 })),
        }
      }),
      more: sums.length > limit,
    }
  }

  /**
   * Once a minute or so: counts the windows of all budgets forward, tells of shares that were reached by what was spent last, gives back what
   * is set aside for calls that nobody will tell of, and forgets what is too old.
   */
  async look(): Promise<void> {
    const { db, metrics } = this.#ctx
    const states = { within: 0, near: 0, used_up: 0 }
    let most = 0
    for (let after: { namespace: string; name: string } | null = null; ;) {
      const { now, budgets: live } = await listBudgets(db, null, { after, limit: LOCKED_AT_ONCE })
      const windows = this.#read(live).flatMap((budget) => {
        const window = windowAt(budget, now.getTime(), null)
        return window ? [{ budget, window }] : []
      })
      const ledgers = await db.transaction((tx) => this.#accountant.look(tx, windows))
      for (const { budget, state } of ledgers) {
        const share = shareOf(budget.spec, state)
        most = Math.max(most, share)
        states[stateOf(budget, share)]++
      }
      const last = live.at(-1)
      if (!last || live.length < LOCKED_AT_ONCE) break
      after = { namespace: last.namespace, name: last.name }
    }
    for (const [state, count] of Object.entries(states)) metrics.gauge('orrery_budgets', count, { state })
    metrics.gauge('orrery_budget_used_ratio', most)
    this.#isBehind = true
    this.#looksForAlerts = 1
    await this.rest()
  }

  /** What a tick does for budgets when there is something to do: tells those who watch them of alerts, and forgets. */
  async rest(): Promise<void> {
    if (this.#looksForAlerts > 0) {
      this.#looksForAlerts--
      if ((await noteAlertsOnBudgets(this.#ctx.db)) > 0) this.#looksForAlerts = 0
    }
    await this.#prune()
  }

  /**
   * Gives back and forgets what is too old: at once as much as the tick that does it has time for, the rest with the ticks that follow. What is
   * added in the meantime, however much, is not more than they take.
   */
  async #prune(): Promise<void> {
    if (!this.#isBehind) return
    const { db } = this.#ctx
    let left: readonly ((limit: number) => Promise<number>)[] = [
      (limit) => sweepHolds(db, limit),
      (limit) => pruneCounters(db, HELD_FOR_MS, limit),
      (limit) => pruneBudgetWakes(db, LIMITS.budgetWakeMs, limit),
      (limit) => pruneSpending(db, LIMITS.spendingMs, limit),
    ]
    for (let batch = 0; batch < LIMITS.pruneBatchesMax && left.length > 0; batch++) {
      const gone = await Promise.all(left.map((work) => work(LIMITS.tickItemsMax)))
      left = left.filter((_, i) => gone[i] === LIMITS.tickItemsMax)
    }
    this.#isBehind = left.length > 0
  }

  /** Resources as they are, with what budgets say of them: how much of a Budget is used, and whether one holds an Agent up. */
  async withUse(views: ResourceView[]): Promise<ResourceView[]> {
    const asked = views.filter(({ kind }) => kind === 'Budget' || kind === 'Agent')
    if (asked.length === 0) return views
    const used = await this.#used(this.#ctx.db, [...new Set(asked.map(({ metadata }) => metadata.namespace))])
    if (used.length === 0) return views
    const alerts = await findNotedAlerts(
      this.#ctx.db,
      used.flatMap(({ window }) => window ?? []),
    )
    const notedAt = new Map(alerts.map((alert) => [counterKey(alert), alert.at]))
    return views.map((view) => {
      if (view.kind === 'Budget') {
        const mine = used.find(({ budget }) => budget.uid === view.metadata.uid)
        return mine?.window ? withUsage(view, mine, notedAt.get(counterKey(mine.window)) ?? null) : view
      }
      return view.kind === 'Agent' ? withHolders(view, used, notedAt) : view
    })
  }

  /** How the budgets stand that steps of a run wait for; those that are gone are left out. */
  async holding(runId: string, names: readonly string[]): Promise<Map<string, StepFacts['budgets'][number]>> {
    if (names.length === 0) return new Map()
    const { db } = this.#ctx
    const namespaces = [...new Set(names.map((name) => name.slice(0, name.lastIndexOf('/'))))]
    const origin = (await findOrigins(db, [runId])).get(runId)
    const used = await this.#used(db, namespaces, origin?.rootRun ?? runId)
    return new Map(
      used
        .filter(({ budget }) => names.includes(budgetName(budget)))
        .map((one) => [
          budgetName(one.budget),
          { budget: shownBudget(one.budget), text: standText(one), figures: figuresOf(one) },
        ]),
    )
  }

  /** What is looked at does not end with one that cannot be read. */
  #read(live: readonly LiveBudget[]): Budget[] {
    return readThose(live, (budget, error) =>
      this.#ctx.log.warn('budget cannot be read', { budget: shownBudget(budget), error: String(error).slice(0, 500) }),
    )
  }

  async #used(on: Queryable, namespaces: readonly string[] | null, rootRun: string | null = null): Promise<Used[]> {
    const { now, budgets: live } = await listBudgets(on, namespaces, { after: null, limit: LIMITS.budgetsMax })
    const budgets = this.#read(live).map((budget) => ({ budget, window: windowAt(budget, now.getTime(), rootRun) }))
    const waiting = budgets.length === 0 ? new Map<string, number>() : await countBudgetWaiters(on)
    const counts = new Map(
      (
        await countWindows(
          on,
          budgets.flatMap(({ window }) => window ?? []),
        )
      ).map((count) => [counterKey(count), count]),
    )
    return budgets.map(({ budget, window }) => {
      const count = (window && counts.get(counterKey(window))) ?? null
      const share = count ? shareOf(budget.spec, count) : 0
      return { budget, window, count, share, waiting: waiting.get(budgetName(budget)) ?? 0 }
    })
  }

  /** What the doctor judges budgets by, of those that the caller may see. */
  async examine(caller: Caller): Promise<BudgetFacts[]> {
    const { db } = this.#ctx
    const filter = { kind: 'Budget', namespaces: reach(caller), name: null, terms: [] }
    const rows = await listResources(db, filter, { after: null, limit: LIMITS.budgetsMax })
    if (rows.length === 0) return []
    const seen = new Set(rows.map((row) => row.uid))
    const namespaces = [...new Set(rows.map((row) => row.namespace))]
    const used = (await this.#used(db, namespaces)).filter(({ budget }) => seen.has(budget.uid))
    const named = used.flatMap(({ budget: { namespace, spec } }) => [
      ...(spec.selector.agents ?? []).map((name) => ({ kind: 'Agent', namespace, name })),
      ...(spec.selector.endpoints ?? []).map((name) => ({ kind: 'ModelEndpoint', namespace, name })),
    ])
    const there = new Set((await findResources(db, named)).map((row) => `${row.kind} ${row.namespace} ${row.name}`))
    const endpoints = (
      await Promise.all(
        namespaces.map((namespace) =>
          listResources(
            db,
            { kind: 'ModelEndpoint', namespaces: [namespace], name: null, terms: [] },
            { after: null, limit: LIMITS.modelsExaminedMax },
          ),
        ),
      )
    ).flat()
    const book = await PriceBook.read(
      db,
      endpoints.map((row) => ({ namespace: row.namespace, endpoint: row.name })),
    )
    return used.map(({ budget, window, share }) => {
      const { namespace, spec } = budget
      const missing = (kind: string, names: readonly string[] = []) =>
        names.filter((name) => !there.has(`${kind} ${namespace} ${name}`))
      return {
        budget: `${shownNamespace(caller.organisation, namespace)}/${budget.name}`,
        window: spec.window,
        share,
        alert: Math.min(1, ...spec.alerts),
        until: window?.until ? new Date(window.until).toISOString() : null,
        dangling: [
          ...missing('Agent', spec.selector.agents).map((name) => ({ field: 'agents' as const, name })),
          ...missing('ModelEndpoint', spec.selector.endpoints).map((name) => ({ field: 'endpoints' as const, name })),
        ],
        isIdle:
          isAllMissing(spec.selector.agents, missing('Agent', spec.selector.agents)) ||
          isAllMissing(spec.selector.endpoints, missing('ModelEndpoint', spec.selector.endpoints)),
        unpriced:
          spec.limits.money === undefined || spec.unknownPrice === 'allow'
            ? []
            : endpoints
                .filter((row) => row.namespace === namespace && (spec.selector.endpoints?.includes(row.name) ?? true))
                .filter((row) => {
                  const cost = book.estimate({ namespace, endpoint: row.name }, { input: 1, output: 1 })
                  return cost?.currency !== spec.limits.currency
                })
                .map((row) => row.name),
        currency: spec.limits.currency ?? null,
      }
    })
  }
}

const WINDOW_TEXT = {
  run: 'this run',
  '24h': 'the last 24 hours',
  day: 'the day',
  week: 'the week',
  month: 'the month',
}

/** `budget default/team: 95 of 100 tokens of the day are spent, 3 set aside`. */
function standText({ budget, count }: Used): string {
  const { limits, window } = budget.spec
  const parts = [
    ...(limits.tokens === undefined
      ? []
      : [[count?.tokens ?? 0, limits.tokens, 'tokens', count?.heldTokens ?? 0] as const]),
    ...(limits.money === undefined
      ? []
      : [[(count?.nanos ?? 0) / 1e9, limits.money, limits.currency ?? '', (count?.heldNanos ?? 0) / 1e9] as const]),
  ].map(
    ([spent, limit, unit, held]) =>
      `${spent} of ${limit} ${unit} of ${WINDOW_TEXT[window]} are spent${held > 0 ? `, ${held} set aside` : ''}`,
  )
  return `budget ${shownBudget(budget)}: ${parts.join(', ')}`
}

const figuresOf = ({ budget, window, count, share }: Used): JsonObject => ({
  budget: shownBudget(budget),
  window: budget.spec.window,
  ...(budget.spec.limits.tokens === undefined
    ? {}
    : { tokens: count?.tokens ?? 0, heldTokens: count?.heldTokens ?? 0, limit: budget.spec.limits.tokens }),
  ...(budget.spec.limits.money === undefined
    ? {}
    : {
        money: (count?.nanos ?? 0) / 1e9,
        heldMoney: (count?.heldNanos ?? 0) / 1e9,
        moneyLimit: budget.spec.limits.money,
        currency: budget.spec.limits.currency ?? null,
      }),
  share,
  until: window?.until ? iso(window.until) : null,
})

const isAllMissing = (names: readonly string[] | undefined, missing: readonly string[]): boolean =>
  names !== undefined && missing.length === names.length

const stateOf = ({ spec }: Budget, share: number): 'within' | 'near' | 'used_up' =>
  share >= 1 ? 'used_up' : spec.alerts.some((alert) => share >= alert) ? 'near' : 'within'

const percent = (share: number): string => `${Math.floor(share * 100)}%`
const iso = (ms: number): string => new Date(ms).toISOString()

/** When a rolling or calendar window lets something go. */
const resetText = ({ window }: Used): string =>
  window?.until ? `until ${iso(window.until)}` : 'until what was spent 24 hours ago leaves the window'

function withUsage(view: ResourceView, used: Used, notedAt: Date | null): ResourceView {
  const { budget, window, count, share } = used
  if (!window || !count) return view
  const { limits } = budget.spec
  const state = stateOf(budget, share)
  const usage: Usage = {
    tokens: count.tokens,
    heldTokens: count.heldTokens,
    money: limits.currency === undefined ? null : count.nanos / 1e9,
    heldMoney: limits.currency === undefined ? null : count.heldNanos / 1e9,
    share,
    waiting: used.waiting,
    from: window.from?.toISOString() ?? view.metadata.createdAt,
    until: window.until === null ? null : iso(window.until),
  }
  const texts = {
    within: `${percent(share)} of it is used`,
    near: `${percent(share)} of it is used, ${resetText(used)}`,
    used_up: `it is used up, ${resetText(used)}`,
  }
  return {
    ...view,
    status: {
      ...view.status,
      phase: state === 'within' ? view.status.phase : state === 'near' ? 'near' : 'exceeded',
      usage,
      conditions: [
        ...view.status.conditions,
        {
          type: 'withinLimit',
          status: state === 'used_up' ? 'false' : 'true',
          reason: state === 'within' ? 'within' : state === 'near' ? 'near' : 'budget.exceeded',
          message: texts[state],
          since: (state === 'within' ? null : notedAt)?.toISOString() ?? usage.from,
        },
      ],
    },
  }
}

/** An agent whose calls count in a budget that is used up is held up by it. */
function withHolders(view: ResourceView, used: readonly Used[], notedAt: ReadonlyMap<string, Date>): ResourceView {
  const model = view.spec['model']
  const holding = used.filter(
    ({ budget: { namespace, spec }, share, waiting }) =>
      (share >= 1 || waiting > 0) &&
      namespace === view.metadata.namespace &&
      (spec.selector.agents?.includes(view.metadata.name) ?? true) &&
      (spec.selector.endpoints === undefined || (typeof model === 'string' && spec.selector.endpoints.includes(model))),
  )
  if (holding.length === 0) return view
  const texts = holding.map((one) => {
    const { workflows, labels } = one.budget.spec.selector
    const narrow = [
      ...(workflows ? [`runs of ${workflows.join(', ')}`] : []),
      ...(labels
        ? [
            `runs with ${Object.entries(labels)
              .map(([k, v]) => `${k}=${v}`)
              .join(', ')}`,
          ]
        : []),
    ]
    const which = narrow.length > 0 ? ` for ${narrow.join(' and ')}` : ''
    return one.share >= 1
      ? `budget ${shownBudget(one.budget)} is used up${which}, ${resetText(one)}`
      : `${one.waiting} step${one.waiting === 1 ? '' : 's'} wait${one.waiting === 1 ? 's' : ''} for budget ${shownBudget(one.budget)}${which}`
  })
  const times = holding.flatMap(({ window }) => (window && notedAt.get(counterKey(window))) ?? [])
  const since = times.toSorted((a, b) => a.getTime() - b.getTime())[0]
  return {
    ...view,
    status: {
      ...view.status,
      conditions: [
        ...view.status.conditions,
        {
          type: 'withinBudget',
          status: 'false',
          reason: 'budget.exceeded',
          message: texts.join('; '),
          since: (since ?? new Date(view.metadata.updatedAt)).toISOString(),
        },
      ],
    },
  }
}
