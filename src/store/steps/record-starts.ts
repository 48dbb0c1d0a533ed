import type { Queryable } from '../db.ts'
import { heldKey } from './held-key.ts'

export interface Start {
  runId: string
  node: number
  path: string
  session: string
  fence: number
  startedAgoMs: number
}

/**
 * Records that attempts began, for those that run long enough to be worth telling. One event per run; twice is safe. Gives the
 * keys (`heldKey`) of those that are held under their session and fence, recorded now or before.
 */
export async function recordStarts(db: Queryable, starts: readonly Start[]): Promise<Set<string>> {
  const rows = await db.query<{ runId: string; node: number; path: string; fence: number; session: string }>(
    `with r as materialized (
       select run_id, node, path, session, fence,
              -- A microsecond past the millisecond, so that complete-steps.ts can tell that it was told already.
              date_trunc('milliseconds', (select clock_now()) - ago * interval '1 ms') + interval '1 microsecond' as at
         from unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::int[], $6::int[]) as u(run_id, node, path, session, fence, ago)
     ),
     locked as materialized (
       select id, state = 'pending' as begins from run where id = any($1::text[]) and ended_at is null order by id for no key update
     ),
     held as materialized (
       select s.run_id as "runId", s.node, s.path, s.fence, s.session from r
         join step s on s.run_id = r.run_id and s.node = r.node and s.path = r.path
        where (s.state = 'running') is true and s.session = r.session and s.fence = r.fence
     ),
     begun as (
       update step s set started_at = r.at
         from r
        where s.run_id = r.run_id and s.node = r.node and s.path = r.path
          and (r.run_id in (select id from locked)) is true
          and (r.session in (select w.id from session w where w.id = any($4::text[]) and w.state = 'live')) is true
          and (s.state = 'running') is true and s.session = r.session and s.fence = r.fence and s.started_at is null
       returning s.run_id, s.node, s.path, s.fence, s.started_at, (select w.worker from session w where w.id = s.session) as worker,
                 (select run.definition from run where run.id = s.run_id) as definition
     ),
     sums as materialized (
       select b.run_id, min(b.started_at) as began,
              jsonb_agg(jsonb_build_object('of', dn.name || case when b.path = '' then '' else '[' || b.path::int || ']' end, 'to', 'running',
                                           'fence', b.fence, 'worker', b.worker, 'at', b.started_at) order by b.node, b.path) as changes
         from begun b join definition_node dn on dn.definition = b.definition and dn.node = b.node group by b.run_id
     ),
     moved as (
       update run set event_seq = event_seq + 1, started_at = coalesce(run.started_at, s.began), state = 'running', moved_at = (select clock_now())
         from sums s where run.id = s.run_id
       returning run.id, run.event_seq, s.changes, (run.id in (select l.id from locked l where l.begins)) is true as began_now
     ),
     events as (
       insert into event (run_id, seq, at, changes)
       select id, event_seq, (select clock_now()), (case when began_now then '[{"of":"run","to":"running"}]'::jsonb else '[]'::jsonb end || changes)::json from moved
     )
     select * from held`,
    [
      starts.map((s) => s.runId),
      starts.map((s) => s.node),
      starts.map((s) => s.path),
      starts.map((s) => s.session),
      starts.map((s) => s.fence),
      starts.map((s) => s.startedAgoMs),
    ],
    { name: 'record_starts' },
  )
  return new Set(rows.map(heldKey))
}
