import type { JsonObject } from '../../base/json.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { Queryable } from '../db.ts'

export interface StoredRule {
  kind: 'Policy' | 'Role'
  namespace: string
  name: string
  uid: string
  resource_version: number
  /** Null where the caller has it: it named the version. */
  spec: JsonObject | null
}

/** The policies and roles of namespaces as they are now, in one statement; one more than rules are made of shows that there are too many. */
export async function listRules(
  on: Queryable,
  namespaces: readonly string[],
  known: readonly number[],
): Promise<StoredRule[]> {
  return on.query<StoredRule>(
    `select kind, namespace, name, uid, resource_version, case when resource_version = any($2::bigint[]) then null else spec end as spec
       from resource
      where kind in ('Policy', 'Role') and namespace = any($1::text[]) and deleted_at is null
      limit $3`,
    [namespaces, known, LIMITS.rulesReadMax * namespaces.length + 1],
    { name: 'list_rules' },
  )
}

export interface RunFactsRow {
  id: string
  depth: number
  runs_below: number
  /** Of the runs from the top down to this one. */
  workflows: string[]
  /** Those of the run and of the one at the top; its own go before. */
  labels: Record<string, string>
}

/** What rules look at of runs, by id. One that is not there is left out. */
export async function readRunFacts(on: Queryable, runIds: readonly string[]): Promise<Map<string, RunFactsRow>> {
  const rows = await on.query<RunFactsRow>(
    `with recursive chain as (
       select r.id as of, r.id, r.parent_run, r.depth, r.workflow, r.labels, 0 as up from run r where r.id = any($1::text[])
       union all
       select c.of, r.id, r.parent_run, r.depth, r.workflow, r.labels, c.up + 1 from chain c join run r on r.id = c.parent_run
     )
     select of as id, max(depth) as depth, (select count(*)::int from run b where b.parent_run = chain.of) as runs_below,
            array_agg(workflow order by up desc) as workflows,
            (array_agg(labels order by up desc))[1] || (array_agg(labels order by up))[1] as labels
       from chain group by of`,
    [[...new Set(runIds)]],
    { name: 'read_run_facts' },
  )
  return new Map(rows.map((row) => [row.id, row]))
}
