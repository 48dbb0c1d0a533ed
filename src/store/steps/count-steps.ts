import type { Queryable } from '../db.ts'

export interface StepCount {
  state: 'queued' | 'running' | 'waiting'
  count: number
  /** Seconds since the one that has been longest in this state came into it, as far as that is known; 0 when there is none. */
  oldestSeconds: number
}

/** Steps in the states that an operator looks at, each counted up to `max`: through the partial indexes, never through all steps. */
export async function countSteps(db: Queryable, max: number): Promise<StepCount[]> {
  const age = (column: string) =>
    `coalesce(extract(epoch from (select clock_now()) - min(${column})), 0)::float8 as "oldestSeconds"`
  return db.query(
    `select 'queued' as state, count(*)::int as count, ${age('at')}
       from (select queued_at as at from step where state = 'queued' limit $1) q
     union all
     select 'running', count(*)::int, ${age('at')}
       from (select leased_at as at from step where state = 'running' limit $1) r
     union all
     select 'waiting', count(*)::int, ${age('at')}
       from (select queued_at as at from step where due_at is not null and state = 'waiting' limit $1) w`,
    [max],
    { name: 'count_steps' },
  )
}
