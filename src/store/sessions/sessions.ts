import type { Queryable } from '../db.ts'

export interface NewSession {
  id: string
  worker: string
  tokenId: string
  host: string
  pid: number
  pidStart: string | null
  version: string
  capacity: number
  labels: Record<string, string>
  namespaces: string[] | null
  backends: string[]
  modules: string[]
  features?: readonly string[]
  clockSkewMs: number
}

/** Opens a worker's session; its lease begins now. */
export async function openSession(db: Queryable, s: NewSession, leaseMs: number): Promise<void> {
  await db.query(
    `insert into session (id, worker, token_id, host, pid, pid_start, version, capacity, labels, namespaces, backends, modules, clock_skew_ms,
                          features, state, started_at, seen_at, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10::text[], $11::text[], $12::text[], $13, $15::text[], 'live', clock_now(), clock_now(),
             clock_now() + $14::int * interval '1 ms')`,
    [
      s.id,
      s.worker,
      s.tokenId,
      s.host,
      s.pid,
      s.pidStart,
      s.version,
      s.capacity,
      JSON.stringify(s.labels),
      s.namespaces,
      s.backends,
      s.modules,
      s.clockSkewMs,
      leaseMs,
      s.features ?? [],
    ],
    { name: 'open_session' },
  )
}

/** Ends sessions. What they hold is requeued by the sweep. Gives those that this call ended. */
export async function endSessions(
  db: Queryable,
  ids: readonly string[],
  code: 'worker.lost' | 'worker.restarted' | 'worker.left',
): Promise<string[]> {
  const rows = await db.query<{ id: string }>(
    `update session set state = 'ended', ended_at = clock_now(), ended_code = $2 where id = any($1::text[]) and state = 'live' returning id`,
    [ids, code],
    { name: 'end_sessions' },
  )
  return rows.map((r) => r.id)
}

/**
 * Marks sessions that ended long ago and hold nothing: nobody looks at them again. What was leased to one in the moment it ended has been committed by
 * then, or was given up.
 */
export async function markEmptied(db: Queryable): Promise<void> {
  await db.query(
    `update session w set emptied = true
      where w.state = 'ended' and not w.emptied and w.ended_at < (select clock_now()) - interval '1 hour'
        and not exists (select 1 from step s where s.state = 'running' and s.session = w.id)`,
    [],
    { name: 'mark_emptied' },
  )
}

export interface SessionRow {
  id: string
  worker: string
  token_id: string
  host: string
  pid: number
  pid_start: string | null
  version: string
  capacity: number
  labels: Record<string, string>
  namespaces: string[] | null
  backends: string[]
  modules: string[]
  features: string[]
  draining: boolean
  held: number
  state: 'live' | 'ended'
  ended_code: string | null
  clock_skew_ms: number
  seen_ago_ms: number
  expired: boolean
  expires_at: Date
  lease_left_ms: number
}

const COLUMNS = `id, worker, token_id, host, pid, pid_start, version, capacity, labels, namespaces, backends, modules, features, draining, held, state, ended_code,
  clock_skew_ms, (extract(epoch from clock_now() - seen_at) * 1000)::float8 as seen_ago_ms, expires_at < clock_now() as expired, expires_at,
  (extract(epoch from expires_at - clock_now()) * 1000)::float8 as lease_left_ms`

export async function findSession(db: Queryable, id: string): Promise<SessionRow | null> {
  const rows = await db.query<SessionRow>(`select ${COLUMNS} from session where id = $1`, [id], {
    name: 'find_session',
  })
  return rows[0] ?? null
}

/** Sessions by id; those that are not there are left out. */
export async function findSessions(db: Queryable, ids: readonly string[]): Promise<SessionRow[]> {
  return db.query<SessionRow>(`select ${COLUMNS} from session where id = any($1::text[])`, [ids], {
    name: 'find_sessions',
  })
}

/** The worker's clock as it was last compared; only sessions that are live. */
export async function recordSkew(db: Queryable, params: { session: string; skewMs: number }): Promise<void> {
  await db.query(
    `update session set clock_skew_ms = $2 where id = $1 and state = 'live'`,
    [params.session, params.skewMs],
    { name: 'record_skew' },
  )
}

/** Live sessions, and those that ended in the last ten minutes; newest first. */
export async function listSessions(db: Queryable, limit: number): Promise<SessionRow[]> {
  return db.query<SessionRow>(
    `select ${COLUMNS} from session where state = 'live' or ended_at > clock_now() - interval '10 minutes' order by state desc, id desc limit $1`,
    [limit],
  )
}

export interface Seen {
  session: string
  held: number
  draining: boolean
}

export interface TickRow {
  /** Sessions of ours that are not live any more. */
  gone: string[]
  /** Live sessions of anybody whose lease ran out. */
  expired: string[]
  /** When something is due next, in ms from now; null when nothing is. */
  dueInMs: number | null
  /** When the time of a run is over next, in ms from now. */
  deadlineInMs: number | null
  /** A run below another has ended, and its parent does not know. */
  hasEndedChildren: boolean
  /** A run below another is to be stopped. */
  hasStops: boolean
  /** Of the queues asked about, those that hold something. */
  queued: number[]
  /** Some step runs, under whatever session; null: nobody asked. */
  hasRunning: boolean | null
  /** Some ended session still holds steps. */
  hasOrphans: boolean
  /** Of the hashes asked about, those whose token is not good any more. */
  badTokens: string[]
  /** Live servers, this one included. */
  servers: number
  /** Queues that there are: none is ever removed, so another number means that somebody made one. */
  queues: number
}

/**
 * The one statement a second: renews the leases of the sessions that this server heard of since the last one, tells which of
 * them are gone and whose lease ran out, whether anything is due or queued, which tokens have ended, how many
 * queues there are, and says that this server is alive.
 */
export async function tickSessions(
  db: Queryable,
  params: {
    server: string
    version: string
    address: string | null
    seen: readonly Seen[]
    known: readonly string[]
    /** Hashes of tokens that this server takes for good. */
    tokens: readonly string[]
    leaseMs: number
    /** For how long this server has not heard the others; null while it does. */
    deafMs: number | null
    /** Queues that are asked about, each from a run on: what was claimed before it leaves dead entries that an old snapshot keeps. */
    lookouts: ReadonlyMap<number, string>
    /** Whether anything runs is looked for: a walk over the dead entries of all that ran. */
    asksRunning: boolean
  },
): Promise<TickRow> {
  const rows = await db.query<{
    gone: string[]
    expired: string[]
    due_in_ms: number | null
    deadline_in_ms: number | null
    has_told: boolean
    has_stops: boolean
    queued: number[]
    has_running: boolean | null
    has_orphans: boolean
    bad_tokens: string[]
    servers: number
    queues: number
  }>(
    `with me as (
       insert into server (id, version, address, started_at, seen_at, deaf_since)
       values ($1, $2, $3, clock_now(), clock_now(), clock_now() - $10::float8 * interval '1 ms')
       on conflict (id) do update set seen_at = excluded.seen_at, deaf_since = excluded.deaf_since
     ),
     renewed as (
       update session s set expires_at = (select clock_now()) + $8::int * interval '1 ms', seen_at = (select clock_now()), held = u.held, draining = u.draining
         from unnest($4::text[], $5::int[], $6::boolean[]) as u(id, held, draining)
        where s.id = u.id and s.state = 'live'
       returning s.id
     )
     select coalesce((select array_agg(k) from unnest($7::text[]) as k where not exists (select 1 from session s where s.id = k and s.state = 'live')), '{}') as gone,
            coalesce((select array_agg(id order by id) from session where state = 'live' and expires_at < (select clock_now()) and not id = any($4::text[])), '{}') as expired,
            (select (extract(epoch from min(due_at) - (select clock_now())) * 1000)::float8 from step where due_at is not null) as due_in_ms,
            (select (extract(epoch from min(due_at) - (select clock_now())) * 1000)::float8 from run_deadline) as deadline_in_ms,
            exists (select 1 from run where parent_run is not null and ended_at is not null and not parent_told) as has_told,
            exists (select 1 from stop_wish) as has_stops,
            coalesce((select array_agg(l.queue) from unnest($11::int[], $12::text[]) as l(queue, mark) where exists (
              select 1 from step s where s.state = 'queued' and s.queue_id = l.queue and s.run_id >= l.mark)), '{}') as queued,
            case when $13 then exists (select 1 from step where state = 'running') end as has_running,
            coalesce((select array_agg(h) from unnest($9::text[]) as h where not exists (
              select 1 from token t where t.hash = h and t.revoked_at is null and (t.expires_at is null or t.expires_at > (select clock_now())))), '{}') as bad_tokens,
            exists (select 1 from session w where w.state = 'ended' and not w.emptied and exists (select 1 from step s where s.state = 'running' and s.session = w.id)) as has_orphans,
            (select count(*)::int from server where seen_at > (select clock_now()) - interval '5 seconds' and id <> $1) + 1 as servers,
            (select count(*)::int from queue) as queues`,
    [
      params.server,
      params.version,
      params.address,
      params.seen.map((s) => s.session),
      params.seen.map((s) => s.held),
      params.seen.map((s) => s.draining),
      params.known,
      params.leaseMs,
      params.tokens,
      params.deafMs,
      [...params.lookouts.keys()],
      [...params.lookouts.values()],
      params.asksRunning,
    ],
    { name: 'tick_sessions' },
  )
  const row = rows[0]
  return {
    gone: row?.gone ?? [],
    expired: row?.expired ?? [],
    dueInMs: row?.due_in_ms ?? null,
    deadlineInMs: row?.deadline_in_ms ?? null,
    hasEndedChildren: row?.has_told ?? false,
    hasStops: row?.has_stops ?? false,
    queued: row?.queued ?? [],
    hasRunning: row?.has_running ?? null,
    hasOrphans: row?.has_orphans ?? false,
    badTokens: row?.bad_tokens ?? [],
    servers: row?.servers ?? 1,
    queues: row?.queues ?? 0,
  }
}

/** Sessions whose lease is over, ended now. Guarded: one that was renewed meanwhile stays. */
export async function sweepSessions(db: Queryable, ids: readonly string[]): Promise<string[]> {
  const rows = await db.query<{ id: string }>(
    `update session set state = 'ended', ended_at = (select clock_now()), ended_code = 'worker.lost'
      where id = any($1::text[]) and state = 'live' and expires_at < (select clock_now()) returning id`,
    [ids],
    { name: 'sweep_sessions' },
  )
  return rows.map((r) => r.id)
}

/** Whether these sessions are live; the heartbeat's answer when this server has not heard of them. */
export async function areLive(db: Queryable, ids: readonly string[]): Promise<Set<string>> {
  const rows = await db.query<{ id: string }>(
    `select id from session where id = any($1::text[]) and state = 'live'`,
    [ids],
    { name: 'are_live' },
  )
  return new Set(rows.map((r) => r.id))
}

/** Live sessions of one host, with the process that each belongs to. */
export async function findLiveOnHost(
  db: Queryable,
  host: string,
): Promise<{ id: string; pid: number; pid_start: string | null }[]> {
  return db.query(`select id, pid, pid_start from session where state = 'live' and host = $1`, [host])
}
