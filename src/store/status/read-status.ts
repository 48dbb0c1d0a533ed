import type { Queryable } from '../db.ts'

/** Live runs by the state that is shown. */
export async function countLiveRuns(
  db: Queryable,
  namespaces: readonly string[] | null,
): Promise<{ state: 'pending' | 'running' | 'waiting'; count: number }[]> {
  return db.query(
    `select case when state = 'running' and active = 0 then 'waiting' else state::text end as state, count(*)::int as count
       from run where ended_at is null and in_reach(namespace, $1::text[]) group by 1`,
    [namespaces],
    { name: 'count_live_runs' },
  )
}

/** Queues that hold steps: how many, and how long the oldest has waited. */
export async function countQueued(db: Queryable): Promise<{ queueId: number; queued: number; oldestMs: number }[]> {
  return db.query(
    `select queue_id as "queueId", count(*)::int as queued,
            greatest(0, extract(epoch from clock_now() - min(queued_at)) * 1000)::float8 as "oldestMs"
       from step where state = 'queued' group by queue_id order by queue_id`,
    [],
    { name: 'count_queued' },
  )
}

/** Servers that were heard of in the last seconds. */
export async function countServers(db: Queryable): Promise<number> {
  const rows = await db.query<{ count: number }>(
    `select count(*)::int as count from server where seen_at > (select clock_now()) - interval '5 seconds'`,
  )
  return rows[0]?.count ?? 0
}
