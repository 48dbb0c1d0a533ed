import type { KindName } from '../../domain/kinds/registry.ts'
import { LIMITS } from '../../domain/limits.ts'
import { listBudgets } from '../../store/budgets/live-budgets.ts'
import type { Queryable } from '../../store/db.ts'
import { wakeBudgetWaiters } from '../../store/steps/budget-waits.ts'
import { budgetName } from '../budgets/budget-windows.ts'

/** What calls cost depends on them, so that one which did not fit may fit now. */
const PRICING: readonly KindName[] = ['ModelEndpoint', 'PriceTable']

/**
 * Lets steps look again that wait for budgets which were changed or deleted, or whose calls have other prices now. In the transaction of the change: it
 * cannot be forgotten; and once more after it: who was leased and refused while it was open would else wait for what is there already. Whether they may go on is decided when they ask. Gives how many wait.
 */
export async function wakeForChanges(
  tx: Queryable,
  changed: readonly { kind: KindName; namespace: string; name: string }[],
): Promise<number> {
  const names = changed.filter(({ kind }) => kind === 'Budget').map(budgetName)
  const priced = new Set(changed.filter(({ kind }) => PRICING.includes(kind)).map(({ namespace }) => namespace))
  if (priced.size > 0) {
    const page = { after: null, limit: LIMITS.budgetsMax * priced.size }
    names.push(...(await listBudgets(tx, [...priced], page)).budgets.map(budgetName))
  }
  return wakeBudgetWaiters(tx, names)
}
