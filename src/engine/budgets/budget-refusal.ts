import type { JsonObject } from '../../base/json.ts'
import type { Misfit } from '../../domain/agents/fit.ts'
import { freedAt, ROLLING_MS } from '../../domain/agents/windows.ts'
import { failureRecord } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import { plainNamespace } from '../../domain/tenancy.ts'
import { listWindow } from '../../store/budgets/counters.ts'
import type { Queryable } from '../../store/db.ts'
import { budgetName, type Ledger, shownBudget } from './budget-windows.ts'
import type { Refusal, ReserveWish } from './budgets.ts'

type Found = Ledger & { misfit: Misfit }
type Timed = Found & { retryAt: number | null }

/** What is said of a call that does not fit into some budgets, and what it may wait for. */
export async function refuse(
  tx: Queryable,
  wish: ReserveWish,
  misfits: readonly Found[],
  now: number,
): Promise<Refusal> {
  const doing = `asking ${wish.endpoint}${wish.agent === '' ? '' : ` for agent ${wish.agent}`}`
  const capped = misfits.find(({ budget }) => budget.rule !== undefined)
  if (capped) return refuseCapped(wish, capped, doing)
  const unpriced = misfits.find(({ misfit }) => misfit.of === 'price')
  if (unpriced) {
    const evidence = {
      budget: shownBudget(unpriced.budget),
      currency: unpriced.budget.spec.limits.currency ?? null,
      endpoint: wish.endpoint,
      namespace: plainNamespace(wish.namespace),
    }
    return { failure: failureRecord('budget.price_unknown', doing, { evidence }), park: null }
  }
  const found: Timed[] = []
  for (const one of misfits) found.push({ ...one, retryAt: await retryAt(tx, one, now) })
  // It goes on when all of them let it.
  const at = found.some((one) => one.retryAt === null) ? null : Math.max(...found.map((one) => one.retryAt ?? now))
  const failing = wish.isLone ? found[0] : found.find(({ budget }) => budget.spec.action === 'fail')
  const [first] = failing ? [failing] : found
  const failure = failureRecord('budget.exceeded', `${doing}: ${first ? sentenceOf(first) : ''}`, {
    evidence: {
      budgets: found.map(evidenceOf),
      agent: wish.agent === '' ? null : wish.agent,
      endpoint: wish.endpoint,
      resumesAt: at === null ? null : iso(at),
    },
    remediation: remedyOf(found, at, failing !== undefined),
  })
  if (failing) return { failure, park: null }
  const budgets = found.map(({ budget }) => budgetName(budget))
  return {
    failure,
    park: { type: 'budget', budgets, retryAfterMs: at === null ? null : Math.max(0, at - now), failure },
  }
}

/** A policy is not waited for: what a run used does not become free again. */
function refuseCapped({ agent, endpoint }: ReserveWish, { budget, misfit }: Found, doing: string): Refusal {
  const rule = budget.rule ?? budget.name
  const figures =
    misfit.of === 'price' ? {} : { limit: misfit.limit, spent: misfit.spent, held: misfit.held, wanted: misfit.wanted }
  const failure = failureRecord('policy.denied', `${doing}, for which ${rule} leaves the run no tokens`, {
    evidence: {
      rule,
      part: 'maxTokens',
      reason: `${rule} lets a run and those below it use ${budget.spec.limits.tokens ?? 0} tokens`,
      ...figures,
      agent,
      endpoint,
    },
    remediation: `Raise spec.maxTokens of ${rule}, or let the run do less: shorter instructions, fewer turns, smaller answers.`,
  })
  return { failure, park: null }
}

/** When a refused call may fit (ms); null when nothing but another limit helps. */
async function retryAt(tx: Queryable, { window, misfit }: Found, now: number): Promise<number | null> {
  if (misfit.of === 'price' || misfit.until === 'larger') return null
  if (misfit.until === 'held') return now + LIMITS.holdRetryMs
  if (window.until !== null) return window.until
  if (window.from === null) return null
  const { namespace, selector, currency, from } = window
  const rows = await listWindow(tx, { namespace, selector, currency, from }, LIMITS.freedRowsMax)
  const spent = rows.map(({ at, tokens, nanos }) => ({
    at: at.getTime(),
    amount: misfit.of === 'tokens' ? tokens : nanos,
  }))
  const needed = misfit.spent + misfit.wanted - misfit.limit
  // More rows than are looked through: by the last of them it is asked again.
  const last = spent.at(-1)?.at ?? now
  // What was spent a millisecond less than a day ago is still inside.
  return (freedAt(spent, needed) ?? last + ROLLING_MS) + 1
}

const WINDOW_TEXT = { run: 'run', '24h': 'last 24 hours', day: 'day', week: 'week', month: 'month' } as const

const amountOf = (misfit: Exclude<Misfit, { of: 'price' }>, of: 'limit' | 'spent' | 'held' | 'wanted'): number =>
  misfit.of === 'money' ? misfit[of] / 1e9 : misfit[of]

function sentenceOf({ budget, misfit }: Found): string {
  if (misfit.of === 'price') return ''
  const unit = misfit.of === 'money' ? (budget.spec.limits.currency ?? '') : 'tokens'
  const held = misfit.held > 0 ? ` and ${amountOf(misfit, 'held')} set aside for calls under way` : ''
  return `of the ${amountOf(misfit, 'limit')} ${unit} that budget ${shownBudget(budget)} allows in the ${WINDOW_TEXT[budget.spec.window]}, ${amountOf(misfit, 'spent')} are spent${held}; this call may take ${amountOf(misfit, 'wanted')}`
}

function evidenceOf({ budget, misfit, retryAt: at }: Timed): JsonObject {
  const shown = { budget: shownBudget(budget), window: budget.spec.window, of: misfit.of }
  if (misfit.of === 'price') return shown
  return {
    ...shown,
    ...(misfit.of === 'money' ? { currency: budget.spec.limits.currency ?? null } : {}),
    limit: amountOf(misfit, 'limit'),
    spent: amountOf(misfit, 'spent'),
    held: amountOf(misfit, 'held'),
    wanted: amountOf(misfit, 'wanted'),
    resumesAt: at === null ? null : new Date(at).toISOString(),
  }
}

function remedyOf(found: readonly Found[], at: number | null, fails: boolean): string {
  const names = found.map(({ budget, misfit }) => `limits.${misfit.of} of Budget ${shownBudget(budget)}`).join(' and ')
  const change = `raise ${names} (orrery edit budget ${found[0]?.budget.name ?? 'NAME'}), or delete the budget`
  if (fails) return at === null ? `${capital(change)}.` : `Run it again after ${iso(at)}, or ${change}.`
  if (at === null) {
    const isLarger = found.some(({ misfit }) => misfit.of !== 'price' && misfit.until === 'larger')
    const never = isLarger
      ? 'No waiting helps: this call may take more than a whole limit'
      : 'Nothing of it becomes free by itself'
    return `${never}: ${change}; the step then goes on at once.`
  }
  return `It goes on by itself at ${iso(at)} or before. To go on at once, ${change}.`
}

const iso = (at: number): string => new Date(at).toISOString()
const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)
