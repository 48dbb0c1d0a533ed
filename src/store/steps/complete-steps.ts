import { displayName } from '../../domain/step.ts'
import type { Db, Queryable } from '../db.ts'
import { heldKey } from './held-key.ts'
import type { Dependent, NodeFacts } from './node-facts.ts'

/** A worker's word that an attempt succeeded, with what its definition says: the statement reads no definitions. */
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
  /** Name of the worker whose session it is. */
  worker: string
  /** Hash of the run's definition. */
  definition: string
  /** As kept with the run. */
  trace?: string | null
  facts: NodeFacts
}

/** What a reporting session can take on at once. */
export interface SessionRoom {
  session: string
  slots: number
  queues: readonly number[]
}

export interface CompletedRows {
  /** What is recorded now, by `heldKey`. */
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
  /** The `traceparent` that the run came with; none when its trace is its own. */
  trace?: string | null
  /** The run's inputs; undefined when they were not read, null when no template of the node reads them. */
  inputs: unknown
  item: unknown
}

/** Part of the statement below: the joins of plain dependents and of forEach groups, and who goes on with what became ready. */
const MOVED = `moved as (
  update step t
     set ok = t.ok + a.n,
         state = case when t.state = 'pending' and t.ok + a.n >= t.need and not a.decided
                      then case when a.session is null then 'queued'::step_state else 'running' end
                      else t.state end,
         session = case when t.state = 'pending' and t.ok + a.n >= t.need and not a.decided then a.session end,
         fence = t.fence + case when t.state = 'pending' and t.ok + a.n >= t.need and not a.decided and a.session is not null then 1 else 0 end,
         queued_at = case when t.state = 'pending' and t.ok + a.n >= t.need and not a.decided then a.now else t.queued_at end,
         leased_at = case when t.state = 'pending' and t.ok + a.n >= t.need and not a.decided and a.session is not null
                          then a.now else t.leased_at end,
         due_at = case
           when t.state = 'waiting' then
             -- A forEach: looked at when it is complete, or when it may let the next one go.
             case when t.ok + t.bad + a.n >= t.total or t.released < t.total then a.now else t.due_at end
           when t.ok + a.n < t.need then t.due_at
           when a.decided then a.now
           else a.now + case when a.session is null then a.queue_ms else a.lease_ms end * interval '1 ms' end
    from (select a.run_id, a.node, a.decided, a.lease_ms, a.queue_ms, a.line, c.now, max(a.session) as session, count(*)::int as n
            from (select clock_now() as now offset 0) c,
                 unnest($13::int[], $14::text[], $15::int[], $16::text[], $17::boolean[], $18::float8[], $19::float8[], $20::text[])
                   as a(i, run_id, node, session, decided, lease_ms, queue_ms, line)
           where (a.i in (select i from done)) is true
           group by 1, 2, 3, 4, 5, 6, 7) a
   where t.run_id = a.run_id and t.node = a.node and t.path = ''
     -- What ends moves the joins that have not fired, and an activation (without a line) its own group.
     and (t.state = case when a.line is null then 'waiting'::step_state else 'pending' end) is true
  returning t.run_id, t.node, t.state, t.fence, t.tries, t.session, t.due_at, a.now, a.line || '"queued"}' as line
),`

/**
 * The hot path. One statement: records successes under session and fence, moves the joins of plain dependents and of forEach
 * groups, leases what became ready to the session that reported, counts, writes one event per run, ends runs. Run rows are
 * locked in id order and counters are aggregated before they are added, so that a batch touches a row once. Runs that are being
 * stopped are left to the pure function.
 *
 * It costs what its plan costs to set up more than what its rows cost: hence no look into definitions, and one reading of the clock.
 */
const sqlFor = (moves: boolean): string => `
with locked as materialized (
  -- Each run once, however many of its steps end: one that is updated often is found by walking over its former versions.
  select id, state = 'pending' as begins from run
   where id = any($12::text[]) and (ended_at is null) is true and stop is null
   order by id for no key update
),
r as materialized (
  select u.*, c.now,
         -- Whole milliseconds, which record-starts.ts never writes: an equal time further down means that it began with this report.
         date_trunc('milliseconds', c.now - u.started_ago * interval '1 ms') as started_at,
         c.now - u.ended_ago * interval '1 ms' as ended_at
    from (select clock_now() as now offset 0) c,
         unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::int[], $6::text[], $7::boolean[], $8::int[], $9::int[], $10::text[], $11::text[])
           with ordinality as u(run_id, node, path, session, fence, output, large, started_ago, ended_ago, line, worker, i)
   -- "is true", here and below, leaves the planner one way, the primary key: on tables that are still small it would otherwise scan a
   -- partial index or join every report with every row, and a pinned plan stays.
   where (u.run_id in (select id from locked)) is true
     and (u.session in (select w.id from session w where w.id = any($4::text[]) and w.state = 'live')) is true
),
done as (
  update step s
     set state = 'succeeded', due_at = null, started_at = coalesce(s.started_at, r.started_at), ended_at = r.ended_at,
         output = r.output::jsonb, output_large = r.large
    from r
   where s.run_id = r.run_id and s.node = r.node and s.path = r.path and (s.state = 'running') is true
     and s.session = r.session and s.fence = r.fence -- the fence, not the session alone: one worker may lease a step twice
  returning r.i::int as i, s.run_id, s.node, s.path, s.started_at, r.now,
            -- Changes are put together as text: building jsonb costs more than all the rest of a row.
            case when s.started_at is not distinct from r.started_at
                 then r.line || '"running","fence":' || r.fence || ',"worker":' || r.worker || ',"at":' || to_json(s.started_at)::text || '},'
                 else '' end
            || r.line || '"succeeded","fence":' || r.fence || ',"at":' || to_json(r.ended_at)::text || '}' as line
),
${moves ? MOVED : ''}
counted as (
  update run
     set open = run.open - s.n, active = run.active - s.n + s.q, event_seq = run.event_seq + 1,
         started_at = coalesce(run.started_at, s.began), moved_at = s.now,
         state = case when run.open - s.n > 0 then 'running'::run_state when run.bad > 0 then 'failed' else 'succeeded' end,
         ended_at = case when run.open - s.n = 0 then s.now end
    from (select run_id, sum(n)::int as n, sum(q)::int as q, min(started_at) as began, max(now) as now,
                 string_agg(line, ',') as lines
            from (select run_id, node, path, 1 as n, 0 as q, started_at, now, line from done
                  ${moves ? `union all select run_id, node, '', 0, 1, null, now, line from moved where state in ('queued', 'running')` : ''}
                  -- Sorted once here: an order inside the aggregate is a sort of its own for each run.
                  order by 1, 4 desc, 2, 3) l
           group by run_id) s
   where run.id = s.run_id
  returning run.id, run.event_seq, run.state, run.ended_at, s.lines, s.now, (run.id in (select l.id from locked l where l.begins)) is true as begins
),
events as (
  insert into event (run_id, seq, at, changes)
  select id, event_seq, now,
         ('[' || case when begins then '{"of":"run","to":"running"},' else '' end || lines
          || case when ended_at is not null then ',{"of":"run","to":"' || state || '"}' else '' end || ']')::json
    from counted
)
select i, null::text as run_id, null::int as node, null::int as fence, null::int as tries, null::text as session, null::text as state from done
${
  moves
    ? `union all
select null, run_id, node, fence, tries, session, state::text from moved where state in ('running', 'queued') or due_at is not null`
    : ''
}
union all
select null, id, null, null, null, null, state::text from counted where ended_at is not null`

/** Setting up the part that moves dependents costs a fifth of a short batch: steps that nothing needs go without it. */
const LEAVES_SQL = sqlFor(false)
const SQL = sqlFor(true)

/** A row tells of a completion (`i`), else of a dependent (`node`), else of a run that ended. */
interface Row {
  i: number | null
  run_id: string
  node: number | null
  fence: number
  tries: number
  session: string
  state: string
}

export interface CompleteOptions {
  inlineOutputBytes: number
  /** Added to a step's time-out before the server itself ends the attempt. */
  graceMs: number
}

/**
 * Records successes. What is not in `done` was not recorded: another attempt holds the step, it has ended, or its run is being stopped.
 * Outputs too large for the step's row go beside it in the same transaction; inside one, pass its handle.
 */
export async function completeSteps(
  db: Db | Queryable,
  completions: readonly Completion[],
  rooms: readonly SessionRoom[],
  options: CompleteOptions,
): Promise<CompletedRows> {
  const isLarge = (c: Completion) =>
    c.output.length * 3 > options.inlineOutputBytes && Buffer.byteLength(c.output) > options.inlineOutputBytes
  if (!completions.some(isLarge)) return record(db, completions, rooms, options, () => false)
  const all = async (tx: Queryable): Promise<CompletedRows> => {
    const rows = await record(tx, completions, rooms, options, isLarge)
    const outputs = completions.filter((c) => isLarge(c) && rows.done.has(heldKey(c)))
    await tx.query(
      `insert into step_output (run_id, node, path, body) select run_id, node, path, body::jsonb
         from unnest($1::text[], $2::int[], $3::text[], $4::text[]) as o(run_id, node, path, body)
       on conflict (run_id, node, path) do update set body = excluded.body`,
      [
        outputs.map((c) => c.runId),
        outputs.map((c) => c.node),
        outputs.map((c) => c.path),
        outputs.map((c) => c.output),
      ],
      { name: 'insert_outputs' },
    )
    return rows
  }
  return 'transaction' in db ? db.transaction(all) : all(db)
}

async function record(
  db: Queryable,
  completions: readonly Completion[],
  rooms: readonly SessionRoom[],
  options: CompleteOptions,
  isLarge: (c: Completion) => boolean,
): Promise<CompletedRows> {
  const aims = aimsOf(completions, rooms)
  const rows = await db.query<Row>(
    aims.length > 0 ? SQL : LEAVES_SQL,
    [
      completions.map((c) => c.runId),
      completions.map((c) => c.node),
      completions.map((c) => c.path),
      completions.map((c) => c.session),
      completions.map((c) => c.fence),
      completions.map((c) => (isLarge(c) ? null : c.output)),
      completions.map(isLarge),
      completions.map((c) => c.startedAgoMs),
      completions.map((c) => c.endedAgoMs),
      completions.map((c) => lineOf(displayName(c.facts.name, c.path))),
      completions.map((c) => JSON.stringify(c.worker)),
      [...new Set(completions.map((c) => c.runId))],
      ...(aims.length > 0 ? paramsOf(aims, options.graceMs) : []),
    ],
    { name: aims.length > 0 ? 'complete_steps' : 'complete_leaves' },
  )
  return outcomeOf(rows, completions, aims)
}

/** A dependent of a completion, and the session that may go on with it. */
interface Aim {
  /** Place of the completion. */
  from: number
  completion: Completion
  to: Dependent
  /** The completion is an activation, and `to` its own group. */
  isGroup: boolean
  session: string | null
}

/** What the completions move: their dependents, or the forEach that they are activations of. */
function aimsOf(completions: readonly Completion[], rooms: readonly SessionRoom[]): Aim[] {
  const left = new Map(rooms.map((room) => [room.session, { ...room, aims: new Set<string>() }]))
  const aims: Aim[] = []
  for (const [from, completion] of completions.entries()) {
    const { facts, node, path, runId } = completion
    const group = { node, name: '', queueId: 0, decided: true, timeoutMs: null, queueTimeoutMs: null }
    for (const to of path === '' ? facts.dependents : [group]) {
      const room = left.get(completion.session)
      const aim = `${runId}.${to.node}`
      const isTaken = room !== undefined && !to.decided && room.queues.includes(to.queueId)
      const takes = isTaken && (room.aims.has(aim) || room.aims.size < room.slots)
      if (takes) room.aims.add(aim)
      aims.push({ from, completion, to, isGroup: path !== '', session: takes ? completion.session : null })
    }
  }
  return aims
}

const paramsOf = (aims: readonly Aim[], graceMs: number): unknown[] => [
  aims.map((a) => a.from + 1),
  aims.map((a) => a.completion.runId),
  aims.map((a) => a.to.node),
  aims.map((a) => a.session),
  aims.map((a) => a.to.decided),
  aims.map((a) => (a.to.timeoutMs === null ? null : a.to.timeoutMs + graceMs)),
  aims.map((a) => a.to.queueTimeoutMs),
  aims.map((a) => (a.isGroup ? null : lineOf(a.to.name))),
]

function outcomeOf(rows: readonly Row[], completions: readonly Completion[], aims: readonly Aim[]): CompletedRows {
  const out: CompletedRows = { done: new Set(), leased: [], queued: [], owed: [], ended: [] }
  let aimed: Map<string, Aim> | null = null
  for (const { i, run_id: runId, node, fence, tries, session, state } of rows) {
    if (i !== null) {
      const completion = completions[i - 1]
      if (completion) out.done.add(heldKey(completion))
    } else if (node === null) {
      out.ended.push({ runId, state })
    } else if (state === 'running' || state === 'queued') {
      aimed ??= new Map(aims.map((a) => [`${a.completion.runId}.${a.to.node}`, a]))
      const aim = aimed.get(`${runId}.${node}`)
      if (!aim) continue // the statement moves nothing but what it was told
      if (state === 'queued') out.queued.push(aim.to.queueId)
      else {
        const { definition, trace = null } = aim.completion
        out.leased.push({
          runId,
          node,
          path: '',
          fence,
          tries,
          session,
          definition,
          trace,
          inputs: undefined,
          item: null,
        })
      }
    } else {
      out.owed.push({ runId, node, path: '' })
    }
  }
  return out
}

/** The beginning of a change, up to its state. */
const lineOf = (name: string): string => `{"of":${JSON.stringify(name)},"to":`
