import type { Queryable } from '../db.ts'

/** A worker's word that an attempt succeeded. */
export interface Completion {
  runId: string
  node: number
  path: string
  session: string
  fence: number
  /** JSON text. */
  output: string
  startedAgoMs: number
  endedAgoMs: number
}

/** What a reporting session can take on at once. */
export interface SessionRoom {
  session: string
  slots: number
  queues: readonly number[]
}

export interface CompletedRows {
  /** Steps that are recorded now. */
  done: Set<string>
  /** Successors leased to the session that reported; ready to be sent as continuations. */
  leased: LeasedStep[]
  /** Queues that got steps which nobody has yet. */
  queued: number[]
  /** Steps that the pure function must look at. */
  owed: { runId: string; node: number; path: string }[]
  /** Runs that ended, with their last event. */
  ended: { runId: string; state: string }[]
}

export interface LeasedStep {
  runId: string
  node: number
  path: string
  fence: number
  tries: number
  session: string
  definition: string
  /** The run's inputs, when the node's templates read them. */
  inputs: unknown
  item: unknown
}

export const doneKey = (c: { runId: string; node: number; path: string; fence: number }): string =>
  `${c.runId}.${c.node}.${c.path}@${c.fence}`

/**
 * The hot path. One statement: records successes under session and fence, moves the joins of plain dependents and of forEach
 * groups, leases what became ready to the session that reported, counts, writes one event per run, ends runs. Run rows are
 * locked in id order and counters are aggregated before they are added, so that a batch touches a row once. Runs that are being
 * stopped are left to the pure function.
 */
const SQL = `
with r as materialized (
  select run_id, node, path, session, fence, output::jsonb as output, octet_length(output) > $13::int as large,
         -- Whole milliseconds, which record-starts.ts never writes: an equal time further down means that it began with this report.
         date_trunc('milliseconds', (select clock_now()) - started_ago * interval '1 ms') as started_at,
         (select clock_now()) - ended_ago * interval '1 ms' as ended_at
    from unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::int[], $6::text[], $7::int[], $8::int[])
      as u(run_id, node, path, session, fence, output, started_ago, ended_ago)
),
room as materialized (select * from unnest($9::text[], $10::int[]) as u(session, slots)),
serves as materialized (select * from unnest($11::text[], $12::int[]) as u(session, queue_id)),
locked as materialized (
  select id, state = 'pending' as begins from run
   where id = any($1::text[]) and (ended_at is null) is true and stop is null
   order by id for no key update
),
done as (
  update step s
     set state = 'succeeded', due_at = null, started_at = coalesce(s.started_at, r.started_at), ended_at = r.ended_at,
         output = case when r.large then null else r.output end, output_large = r.large
    from r
   where s.run_id = r.run_id and s.node = r.node and s.path = r.path
     -- "is true" leaves the planner one way, the primary key: on tables that are still small it would otherwise scan a partial
     -- index or join every report with every run, and a pinned plan stays.
     and (r.run_id in (select id from locked)) is true
     and (r.session in (select w.id from session w where w.id = any($4::text[]) and w.state = 'live')) is true
     and (s.state = 'running') is true
     and s.session = r.session and s.fence = r.fence -- the fence, not the session alone: one worker may lease a step twice
  returning s.run_id, s.node, s.path, s.fence, s.session, s.started_at, s.ended_at, r.large, r.output,
            (select run.definition from run where run.id = s.run_id) as definition,
            s.started_at is not distinct from r.started_at as began_now
),
large as (
  insert into step_output (run_id, node, path, body)
  select run_id, node, path, output from done where large
  on conflict (run_id, node, path) do update set body = excluded.body
),
hits as materialized (
  select d.run_id, d.definition, e.to_node as node, ''::text as path, max(d.session) as session, count(*)::int as n
    from done d join definition_edge e on e.definition = d.definition and e.from_node = d.node
   where d.path = ''
   group by d.run_id, d.definition, e.to_node
  union all
  select d.run_id, d.definition, d.node, '', null, count(*)::int
    from done d where d.path <> ''
   group by d.run_id, d.definition, d.node
),
aims as materialized (
  select h.*, dn.decided, dn.name, dn.timeout_ms, dn.queue_timeout_ms, dn.uses_inputs,
         serves.session is not null
           and row_number() over (partition by h.session order by h.run_id, h.node) <= coalesce(room.slots, 0) as takes
    from hits h
    join definition_node dn on dn.definition = h.definition and dn.node = h.node
    left join room on room.session = h.session
    left join serves on serves.session = h.session and serves.queue_id = dn.queue_id
),
moved as (
  update step t
     set ok = t.ok + a.n,
         state = case when t.state = 'pending' and t.ok + a.n >= t.need and not a.decided
                      then case when a.takes then 'running' else 'queued' end
                      else t.state end,
         session = case when t.state = 'pending' and t.ok + a.n >= t.need and not a.decided and a.takes then a.session end,
         fence = t.fence + case when t.state = 'pending' and t.ok + a.n >= t.need and not a.decided and a.takes then 1 else 0 end,
         queued_at = case when t.state = 'pending' and t.ok + a.n >= t.need and not a.decided then (select clock_now()) else t.queued_at end,
         leased_at = case when t.state = 'pending' and t.ok + a.n >= t.need and not a.decided and a.takes
                          then (select clock_now()) else t.leased_at end,
         due_at = case
           when t.state = 'waiting' then
             -- A forEach: looked at when it is complete, or when it may let the next one go.
             case when t.ok + t.bad + a.n >= t.total or t.released < t.total then (select clock_now()) else t.due_at end
           when t.ok + a.n < t.need then t.due_at
           when a.decided then (select clock_now())
           when a.takes then (select clock_now()) + a.timeout_ms * interval '1 ms' + $14::int * interval '1 ms'
           else (select clock_now()) + a.queue_timeout_ms * interval '1 ms' end
    from aims a
   where t.run_id = a.run_id and t.node = a.node and t.path = a.path and (t.state in ('pending', 'waiting')) is true
  returning t.run_id, t.node, t.state, t.queue_id, t.fence, t.tries, t.session, t.due_at, a.definition, a.name, a.uses_inputs
),
-- Changes are put together as text: step names need no escaping, and building jsonb costs more than all the rest of a row.
lines as materialized (
  select d.run_id, 1 as rank, d.node, d.path, 1 as n, 0 as q, d.started_at,
         case when d.began_now then
           '{"of":"' || dn.name || case when d.path = '' then '' else '[' || d.path::int || ']' end || '","to":"running","fence":' || d.fence
           || ',"worker":' || (select to_json(w.worker)::text from session w where w.id = d.session) || ',"at":' || to_json(d.started_at)::text || '},'
         else '' end
         || '{"of":"' || dn.name || case when d.path = '' then '' else '[' || d.path::int || ']' end || '","to":"succeeded","fence":' || d.fence
         || ',"at":' || to_json(d.ended_at)::text || '}' as line
    from done d join definition_node dn on dn.definition = d.definition and dn.node = d.node
  union all
  select run_id, 2, node, '', 0, 1, null, '{"of":"' || name || '","to":"queued"}'
    from moved where state in ('queued', 'running')
),
sums as materialized (
  select run_id, sum(n)::int as n, sum(q)::int as q, min(started_at) as began, string_agg(line, ',' order by rank, node, path) as lines
    from lines group by run_id
),
counted as (
  update run
     set open = run.open - s.n, active = run.active - s.n + s.q, event_seq = run.event_seq + 1,
         started_at = coalesce(run.started_at, s.began), moved_at = (select clock_now()),
         state = case when run.open - s.n > 0 then 'running' when run.bad > 0 then 'failed' else 'succeeded' end,
         ended_at = case when run.open - s.n = 0 then (select clock_now()) end
    from sums s
   where run.id = s.run_id
  returning run.id, run.event_seq, run.state, run.ended_at, s.lines, (run.id in (select l.id from locked l where l.begins)) is true as began_now
),
events as (
  insert into event (run_id, seq, at, changes)
  select id, event_seq, (select clock_now()),
         ('[' || case when began_now then '{"of":"run","to":"running"},' else '' end || lines
          || case when ended_at is not null then ',{"of":"run","to":"' || state || '"}' else '' end || ']')::json
    from counted
)
select 'done' as kind, run_id, node, path, fence, null::int as tries, session, null::text as definition, null::int as queue_id, null::text as state, null::jsonb as inputs from done
union all
select case when m.state = 'running' then 'leased' when m.state = 'queued' then 'queued' else 'owed' end,
       m.run_id, m.node, '', m.fence, m.tries, m.session, m.definition, m.queue_id, m.state,
       case when m.uses_inputs and m.state = 'running' then (select run.inputs from run where run.id = m.run_id) end
  from moved m
 where m.state in ('running', 'queued') or m.due_at is not null
union all
select 'ended', id, null, null, null, null, null, null, null, state, null from counted where ended_at is not null`

interface Row {
  kind: 'done' | 'leased' | 'queued' | 'owed' | 'ended'
  run_id: string
  node: number
  path: string
  fence: number
  tries: number
  session: string
  definition: string
  queue_id: number
  state: string
  inputs: unknown
}

export interface CompleteOptions {
  inlineOutputBytes: number
  /** Added to a step's time-out before the server itself ends the attempt. */
  graceMs: number
}

/** Records successes. What is not in `done` was not recorded: another attempt holds the step, it has ended, or its run is being stopped. */
export async function completeSteps(
  db: Queryable,
  completions: readonly Completion[],
  rooms: readonly SessionRoom[],
  options: CompleteOptions,
): Promise<CompletedRows> {
  const serves = rooms.flatMap((r) => r.queues.map((queue) => ({ session: r.session, queue })))
  const rows = await db.query<Row>(
    SQL,
    [
      completions.map((c) => c.runId),
      completions.map((c) => c.node),
      completions.map((c) => c.path),
      completions.map((c) => c.session),
      completions.map((c) => c.fence),
      completions.map((c) => c.output),
      completions.map((c) => c.startedAgoMs),
      completions.map((c) => c.endedAgoMs),
      rooms.map((r) => r.session),
      rooms.map((r) => r.slots),
      serves.map((s) => s.session),
      serves.map((s) => s.queue),
      options.inlineOutputBytes,
      options.graceMs,
    ],
    { name: 'complete_steps' },
  )
  const out: CompletedRows = { done: new Set(), leased: [], queued: [], owed: [], ended: [] }
  for (const row of rows) {
    const { run_id: runId, node, path, fence, tries, session, definition, inputs } = row
    if (row.kind === 'done') out.done.add(doneKey({ runId, node, path, fence }))
    else if (row.kind === 'leased')
      out.leased.push({ runId, node, path, fence, tries, session, definition, inputs, item: null })
    else if (row.kind === 'queued') out.queued.push(row.queue_id)
    else if (row.kind === 'owed') out.owed.push({ runId, node, path })
    else out.ended.push({ runId, state: row.state })
  }
  return out
}
