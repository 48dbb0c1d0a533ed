import type { Queryable } from '../db.ts'
import type { LeasedStep } from './complete-steps.ts'

export interface Claim {
  session: string
  /** Queues that the session serves, in the order in which they are looked at. */
  queues: readonly number[]
  limit: number
  /** Nothing older than this run id is looked at: what was claimed leaves dead entries that an old snapshot keeps from being cleaned. */
  from: string
  graceMs: number
}

const SQL = `
with picked as materialized (
  select p.place, p.run_id, p.node
    from unnest($2::int[]) as q(id)
    cross join lateral (
      select s.ctid as place, s.run_id, s.node from step s
       where s.state = 'queued' and s.queue_id = q.id and s.run_id >= $4
       order by s.queue_id, s.run_id, s.node, s.path
       limit $3 for update skip locked) p
   where exists (select 1 from session w where w.id = $1 and w.state = 'live')
   limit $3
),
chosen as materialized (
  select p.place, run.definition, run.trace, dn.timeout_ms, case when dn.uses_inputs then run.inputs end as inputs
    from picked p
    join run on run.id = p.run_id
    join definition_node dn on dn.definition = run.definition and dn.node = p.node
),
leased as (
  update step s
     set state = 'running', session = $1, fence = s.fence + 1, leased_at = (select clock_now()),
         due_at = (select clock_now()) + c.timeout_ms * interval '1 ms' + $5::int * interval '1 ms'
    from chosen c
   -- By its place in the table, which stands while the row is locked: half the cost of the key. What was moved just before waits for the next claim.
   where s.ctid = c.place and (s.state = 'queued') is true
  returning s.run_id, s.node, s.path, s.fence, s.tries, s.item, c.definition, c.trace, c.inputs
)
select * from leased order by run_id, node, path`

/** Takes queued steps for a session, oldest run first. Never waits for another claim; empty when the session is no longer live. */
export async function claimSteps(db: Queryable, claim: Claim): Promise<LeasedStep[]> {
  const rows = await db.query<Omit<LeasedStep, 'session' | 'runId'> & { run_id: string }>(
    SQL,
    [claim.session, claim.queues, claim.limit, claim.from, claim.graceMs],
    { name: 'claim_steps' },
  )
  return rows.map(({ run_id: runId, ...rest }) => ({ runId, session: claim.session, ...rest }))
}
