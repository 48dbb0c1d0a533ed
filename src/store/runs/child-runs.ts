import { LIMITS } from '../../domain/limits.ts'
import { reachOf } from '../../domain/tenancy.ts'
import type { Queryable } from '../db.ts'

export interface ChildLink {
  runId: string
  parentRun: string
  node: number
  path: string
  fence: number
  depth: number
}

/** Writes who waits for runs that were made in this very transaction. */
export async function linkChildren(tx: Queryable, links: readonly ChildLink[]): Promise<void> {
  await tx.query(
    `update run set parent_run = c.parent, parent_node = c.node, parent_path = c.path, parent_fence = c.fence, depth = c.depth
       from unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::int[], $6::int[]) as c(id, parent, node, path, fence, depth)
      where run.id = c.id`,
    [
      links.map((l) => l.runId),
      links.map((l) => l.parentRun),
      links.map((l) => l.node),
      links.map((l) => l.path),
      links.map((l) => l.fence),
      links.map((l) => l.depth),
    ],
    { name: 'link_children' },
  )
}

export interface EndedChild {
  id: string
  definition: string
  state: 'succeeded' | 'failed' | 'canceled'
  failure: unknown
  parent_run: string
  parent_node: number
  parent_path: string
  parent_fence: number
}

/** Runs below others that have ended and whose parents have not been told. */
export async function findEndedChildren(db: Queryable, limit: number): Promise<EndedChild[]> {
  return db.query<EndedChild>(
    `select id, definition, state, failure, parent_run, parent_node, parent_path, parent_fence from run
      where parent_run is not null and ended_at is not null and not parent_told order by id limit $1`,
    [limit],
    { name: 'find_ended_children' },
  )
}

/** The parents of these runs know how they ended. */
export async function markTold(db: Queryable, ids: readonly string[]): Promise<void> {
  await db.query(`update run set parent_told = true where id = any($1::text[]) and ended_at is not null`, [ids], {
    name: 'mark_told',
  })
}

/** Runs that are to be stopped because nobody waits for them. */
export async function findStops(db: Queryable, limit: number): Promise<string[]> {
  const rows = await db.query<{ run_id: string }>(`select run_id from stop_wish order by run_id limit $1`, [limit], {
    name: 'find_stops',
  })
  return rows.map((r) => r.run_id)
}

export async function forgetStops(db: Queryable, ids: readonly string[]): Promise<void> {
  await db.query(`delete from stop_wish where run_id = any($1::text[])`, [ids], { name: 'forget_stops' })
}

/** Gives runs a time by which they have to end; anew when they have one. */
export async function putDeadlines(
  db: Queryable,
  deadlines: readonly { runId: string; timeoutMs: number }[],
): Promise<void> {
  await db.query(
    `insert into run_deadline (run_id, due_at) select d.id, clock_now() + d.ms * interval '1 ms' from unnest($1::text[], $2::float8[]) as d(id, ms)
     on conflict (run_id) do update set due_at = excluded.due_at`,
    [deadlines.map((d) => d.runId), deadlines.map((d) => d.timeoutMs)],
    { name: 'put_deadlines' },
  )
}

/** Runs whose time is over. */
export async function findOverdue(db: Queryable, limit: number): Promise<string[]> {
  const rows = await db.query<{ run_id: string }>(
    `select run_id from run_deadline where due_at <= (select clock_now()) order by due_at limit $1`,
    [limit],
    { name: 'find_overdue' },
  )
  return rows.map((r) => r.run_id)
}

export async function forgetDeadlines(db: Queryable, ids: readonly string[]): Promise<void> {
  await db.query(`delete from run_deadline where run_id = any($1::text[])`, [ids], { name: 'forget_deadlines' })
}

/** The token that asked for a run, or for the run at the top above it, and what it may see; null when it is not good any more. */
export async function findStarter(
  db: Queryable,
  runId: string,
): Promise<{ name: string; reach: string[] | null } | null> {
  const rows = await db.query<{ name: string; organisation: string; namespaces: string[] | null }>(
    `with recursive above as (
       select id, parent_run, created_by, 0 as up from run where id = $1
       union all
       select r.id, r.parent_run, r.created_by, a.up + 1 from above a join run r on r.id = a.parent_run where a.up <= $2
     )
     select t.name, t.organisation, t.namespaces from above a join token t on t.id = a.created_by
      where a.parent_run is null and t.revoked_at is null and (t.expires_at is null or t.expires_at > clock_now())`,
    [runId, LIMITS.childDepthMax],
    { name: 'find_starter' },
  )
  const [row] = rows
  return row ? { name: row.name, reach: reachOf(row.organisation, row.namespaces) } : null
}
