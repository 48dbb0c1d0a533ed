import { createHash } from 'node:crypto'
import type { WindowState } from '../../domain/agents/fit.ts'
import type { TokenCap } from '../../domain/agents/rules/worker-rules.ts'
import type { RuleName } from '../../domain/agents/verdict.ts'
import { calendarSpan, isCalendarWindow, ROLLING_MS } from '../../domain/agents/windows.ts'
import { type BudgetSpec, readBudget } from '../../domain/kinds/budget.ts'
import { plainNamespace } from '../../domain/tenancy.ts'
import type { CountedWindow } from '../../store/budgets/counters.ts'
import type { LiveBudget } from '../../store/budgets/live-budgets.ts'
import type { Origin } from '../../store/budgets/origins.ts'
import { canonicalJson } from '../../store/definitions/put-definition.ts'

/** A budget as it is now, read. */
export interface Budget extends Pick<LiveBudget, 'uid' | 'namespace' | 'name' | 'version'> {
  spec: BudgetSpec
  /** Of what decides which spending counts: another selector is another sum. Other limits are not. */
  fingerprint: string
  /** Of what is no budget but a cap that a rule puts on each run: the rule. */
  rule?: RuleName
}

/** A cap on the tokens of a run is counted as a budget of the window of the run, whoever asks which model in it. */
export const capBudget = ({ rule, uid, version, tokens }: TokenCap, namespace: string): Budget => ({
  uid,
  namespace,
  name: rule,
  version,
  spec: { selector: {}, window: 'run', limits: { tokens }, alerts: [], action: 'fail' },
  fingerprint: 'cap',
  rule,
})

export interface OpenWindow extends CountedWindow {
  budget: string
  /** When the window is over and another one begins (ms); null of a rolling one and of that of a run. */
  until: number | null
}

/** One window of a budget with what is in it, as far as a transaction got. */
export interface Ledger {
  budget: Budget
  window: OpenWindow
  state: WindowState
}

/** As messages and parked steps name it. */
export const budgetName = ({ namespace, name }: Pick<Budget, 'namespace' | 'name'>): string => `${namespace}/${name}`
export const shownBudget = ({ namespace, name }: Pick<Budget, 'namespace' | 'name'>): string =>
  `${plainNamespace(namespace)}/${name}`

const READ_MAX = 2_000
const read = new Map<string, { spec: BudgetSpec; fingerprint: string }>()

/** A spec never changes under its version, so that it is read once. */
export function readLive({ uid, namespace, name, version, spec }: LiveBudget): Budget {
  const key = `${uid} ${version}`
  let known = read.get(key)
  if (!known) {
    const parsed = readBudget(spec)
    const { selector, window, timeZone = null, limits } = parsed
    const counted = canonicalJson({ selector, window, timeZone, currency: limits.currency ?? null })
    known = { spec: parsed, fingerprint: createHash('sha256').update(counted).digest('hex').slice(0, 16) }
    if (read.size >= READ_MAX) read.clear()
    read.set(key, known)
  }
  return { uid, namespace, name, version, ...known }
}

/** Those of which this build can make something; `unread` of one that a later build wrote. Whoever lets calls pass reads them one by one, and fails. */
export const readThose = (
  live: readonly LiveBudget[],
  unread: (budget: LiveBudget, error: unknown) => void,
): Budget[] =>
  live.flatMap((one) => {
    try {
      return [readLive(one)]
    } catch (error) {
      unread(one, error)
      return []
    }
  })

/** Pure: the window of a budget at a moment; of a run's window the one of that run. Null: of no run, where it needs one. */
export function windowAt(budget: Budget, now: number, rootRun: string | null): OpenWindow | null {
  const { uid, namespace, spec, fingerprint } = budget
  const { selector, limits, window, timeZone = 'UTC' } = spec
  const of = { budget: uid, namespace, selector, currency: limits.currency ?? null }
  if (isCalendarWindow(window)) {
    const { from, until } = calendarSpan(window, timeZone, now)
    return { ...of, key: `${fingerprint}:${new Date(from).toISOString()}`, from: new Date(from), rootRun: null, until }
  }
  if (window === '24h')
    return { ...of, key: `${fingerprint}:24h`, from: new Date(now - ROLLING_MS), rootRun: null, until: null }
  return rootRun === null ? null : { ...of, key: `${fingerprint}:${rootRun}`, from: null, rootRun, until: null }
}

/** Pure: whether a call counts in a budget; of an agent that is not known (null) whether it may. The SQL function `budget_covers` says the same. */
export function isCounted(
  { namespace, spec: { selector } }: Budget,
  call: { origin: Origin; agent: string | null; endpoint: string },
): boolean {
  const { workflows, agents, endpoints, labels } = selector
  return (
    namespace === call.origin.namespace &&
    (workflows === undefined || workflows.some((name) => call.origin.workflows.includes(name))) &&
    (agents === undefined || call.agent === null || agents.includes(call.agent)) &&
    (endpoints === undefined || endpoints.includes(call.endpoint)) &&
    (labels === undefined || Object.entries(labels).every(([key, value]) => call.origin.labels[key] === value))
  )
}
