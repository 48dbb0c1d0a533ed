import type { JsonObject } from '../../base/json.ts'
import type { Queryable } from '../db.ts'

export interface LiveBudget {
  uid: string
  namespace: string
  name: string
  generation: number
  version: number
  spec: JsonObject
}

/** A page of the budgets of namespaces (null: of all) as they are now, by namespace and name, with the time of the database. */
export async function listBudgets(
  on: Queryable,
  namespaces: readonly string[] | null,
  page: { after: { namespace: string; name: string } | null; limit: number },
): Promise<{ now: Date; budgets: LiveBudget[] }> {
  const rows = await on.query<LiveBudget & { now: Date }>(
    `select uid, namespace, name, generation, resource_version as version, spec, clock_now() as now from resource
      where kind = 'Budget' and ($1::text[] is null or namespace = any($1::text[])) and deleted_at is null
        and (namespace, name) > ($2, $3)
      order by namespace, name limit $4`,
    [namespaces, page.after?.namespace ?? '', page.after?.name ?? '', page.limit],
    { name: 'list_budgets' },
  )
  return { now: rows[0]?.now ?? new Date(0), budgets: rows }
}
