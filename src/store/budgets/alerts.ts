import type { Json, JsonObject } from '../../base/json.ts'
import type { Queryable } from '../db.ts'
import type { CounterKey } from './counters.ts'

export interface Alert extends CounterKey {
  share: number
}

/** Notes shares that were reached. Gives those that nobody noted before in that window: exactly one caller is told to tell of each. */
export async function noteAlerts(db: Queryable, alerts: readonly Alert[]): Promise<Alert[]> {
  if (alerts.length === 0) return []
  return db.query<Alert>(
    `insert into budget_alert (budget, key, share, at)
     select a.budget, a.key, a.share, (select clock_now()) from unnest($1::text[], $2::text[], $3::float8[]) as a(budget, key, share)
      order by a.budget, a.key, a.share
     on conflict do nothing returning budget, key, share`,
    [alerts.map((a) => a.budget), alerts.map((a) => a.key), alerts.map((a) => a.share)],
    { name: 'note_alerts' },
  )
}

/** The highest share that was told of in each window, with when. */
export async function findNotedAlerts(
  db: Queryable,
  windows: readonly CounterKey[],
): Promise<(CounterKey & { share: number; at: Date })[]> {
  return db.query(
    `select distinct on (budget, key) budget, key, share, at from budget_alert
      where (budget, key) in (select * from unnest($1::text[], $2::text[])) order by budget, key, share desc`,
    [windows.map((w) => w.budget), windows.map((w) => w.key)],
    { name: 'find_noted_alerts' },
  )
}

/** Forgets that shares were told of: a rolling window has come below them. Gives those that were noted. */
export async function forgetAlerts(db: Queryable, alerts: readonly Alert[]): Promise<Alert[]> {
  if (alerts.length === 0) return []
  return db.query<Alert>(
    `delete from budget_alert where (budget, key, share) in (select * from unnest($1::text[], $2::text[], $3::float8[]))
     returning budget, key, share`,
    [alerts.map((a) => a.budget), alerts.map((a) => a.key), alerts.map((a) => a.share)],
    { name: 'forget_alerts' },
  )
}

/** The last share that a budget told of, with the budget as it is. */
export interface AlertOfBudget extends Alert {
  at: Date
  spec: JsonObject
  status: Json
}

/** The last share that each budget told of, not longer ago and not before it was last changed; of those at once the highest. */
export async function listLatestAlerts(on: Queryable, withinMs: number): Promise<AlertOfBudget[]> {
  return on.query<AlertOfBudget>(
    `select distinct on (a.budget) a.budget, a.key, a.share, a.at, r.spec, r.status from budget_alert a
       join resource r on r.kind = 'Budget' and r.uid = a.budget and r.deleted_at is null and r.updated_at <= a.at
      where a.at > (select clock_now()) - $1::float8 * interval '1 ms'
      order by a.budget, a.at desc, a.share desc, a.key`,
    [withinMs],
    { name: 'list_latest_alerts' },
  )
}
