import type { BudgetFacts } from '../domain/installation-facts.ts'
import { type DoctorRow, pass, warn } from './doctor-row.ts'

/** Whether a budget is nearly used up, can count anything, and knows what its calls cost. */
export function checkBudget(b: BudgetFacts): DoctorRow[] {
  const used = `${Math.floor(b.share * 100)}% of the window ${b.window} is used`
  const until = b.until === null ? {} : { until: b.until }
  const rows = [
    ...(b.share >= b.alert
      ? [
          warn('budgets', b.budget, {
            code: 'budget.exceeded',
            message: b.share >= 1 ? `${used}: its calls wait or fail` : used,
            evidence: { used: b.share, alert: b.alert, ...until },
          }),
        ]
      : []),
    ...(b.dangling.length > 0
      ? [
          warn('budgets', b.budget, {
            code: 'resource.not_found',
            message: `${b.isIdle ? 'counts nothing: ' : ''}its selector names ${b.dangling.map(({ field, name }) => `${name} of ${field}`).join(', ')}, which is not there`,
            evidence: { dangling: b.dangling.map(({ field, name }) => ({ field, name })) },
            remedy: `Apply what is missing in the same namespace, or take it out of spec.selector.`,
          }),
        ]
      : []),
    ...(b.unpriced.length > 0
      ? [
          warn('budgets', b.budget, {
            code: 'budget.price_unknown',
            message: `calls of ${b.unpriced.join(', ')} are refused: their price in ${b.currency ?? ''} is not known`,
            evidence: { endpoints: [...b.unpriced], currency: b.currency },
          }),
        ]
      : []),
  ]
  return rows.length > 0 ? rows : [pass('budgets', b.budget, { message: used })]
}
