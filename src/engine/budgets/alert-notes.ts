import type { JsonObject } from '../../base/json.ts'
import type { ResourceStatus } from '../../contract/resource-types.ts'
import type { Db } from '../../store/db.ts'
import { type AlertOfBudget, listLatestAlerts } from '../../store/budgets/alerts.ts'
import { putStatuses } from '../../store/resources/put-resources.ts'
import { advanceResourceClock, lockResourceClock } from '../../store/resources/resource-clock.ts'
import { readBudget } from '../../domain/kinds/budget.ts'

/** An alert that nobody told those who watch of for so long is left to the log. */
const TOLD_WITHIN_MS = 3_600_000

const statusOf = ({ status }: AlertOfBudget): ResourceStatus => status as unknown as ResourceStatus // as plan-apply.ts made it

const conditionOf = ({ key, share, at, spec }: AlertOfBudget): ResourceStatus['conditions'][number] => {
  const { window } = readBudget(spec)
  const whose = window === 'run' ? ` by ${key.slice(key.indexOf(':') + 1)} and the runs below it` : ''
  return {
    type: 'alerted',
    status: 'true',
    reason: share >= 1 ? 'budget.exceeded' : 'near',
    message: `${Math.round(share * 1000) / 10}% of it were used${whose}`,
    since: at.toISOString(),
  }
}

/**
 * Writes the last share that each budget told of into its status, so that whoever watches budgets hears of it as of every other change. Safe twice and from
 * several servers at once: what the status says already is not written again. Gives how many it wrote.
 */
export async function noteAlertsOnBudgets(db: Db): Promise<number> {
  if ((await findUntold(db)).length === 0) return 0
  return db.transaction(async (tx) => {
    const { version } = await lockResourceClock(tx)
    const untold = await findUntold(tx)
    const written = await putStatuses(
      tx,
      untold.map((alert, i) => {
        const { conditions, ...status } = statusOf(alert)
        const others = conditions.filter(({ type }) => type !== 'alerted')
        const noted: ResourceStatus = { ...status, conditions: [...others, conditionOf(alert)] }
        return {
          uid: alert.budget,
          resource_version: version + i + 1,
          status: noted as unknown as JsonObject, // interfaces have no index signature, JSON objects do
        }
      }),
    )
    await advanceResourceClock(tx, version + untold.length)
    return written
  })
}

async function findUntold(on: Pick<Db, 'query'>): Promise<AlertOfBudget[]> {
  const latest = await listLatestAlerts(on, TOLD_WITHIN_MS)
  return latest.filter(
    (alert) =>
      !statusOf(alert).conditions.some(({ type, since }) => type === 'alerted' && since === alert.at.toISOString()),
  )
}
