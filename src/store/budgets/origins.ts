import type { Queryable } from '../db.ts'

/** Where a run comes from: what spending in it counts for. */
export interface Origin {
  runId: string
  namespace: string
  /** The run at the top; the run itself when it is below none. */
  rootRun: string
  /** Of the runs from the top down to this one. */
  workflows: string[]
  /** Those of the run and of the one at the top; its own go before. */
  labels: Record<string, string>
}

/** Where runs come from, by id. One that is not there is left out. */
export async function findOrigins(db: Queryable, runIds: readonly string[]): Promise<Map<string, Origin>> {
  const rows = await db.query<Origin>(
    `with recursive chain as (
       select r.id as of, r.id, r.parent_run, r.namespace, r.workflow, r.labels, 0 as up from run r where r.id = any($1::text[])
       union all
       select c.of, r.id, r.parent_run, r.namespace, r.workflow, r.labels, c.up + 1 from chain c join run r on r.id = c.parent_run
     )
     select of as "runId", (array_agg(namespace order by up))[1] as namespace, (array_agg(id order by up desc))[1] as "rootRun",
            array_agg(workflow order by up desc) as workflows,
            (array_agg(labels order by up desc))[1] || (array_agg(labels order by up))[1] as labels
       from chain group by of`,
    [[...new Set(runIds)]],
    { name: 'find_spending_origins' },
  )
  return new Map(rows.map((row) => [row.runId, row]))
}
