import type { Queryable } from '../db.ts'

export interface NewExport {
  runId: string
  node: number
  session: string
  fence: number
  env: Record<string, string>
}

/**
 * Records what an attempt that holds its step hands on; what an earlier attempt handed on is gone. False when the attempt does not hold the step. Twice
 * is safe.
 */
export async function recordExport(db: Queryable, exported: NewExport): Promise<boolean> {
  const { runId, node, session, fence, env } = exported
  const rows = await db.query(
    `insert into exported_env (run_id, node, fence, env, created_at)
     select s.run_id, s.node, $4::int, $5::text::jsonb, clock_now()
       from step s join session w on w.id = $3 and w.state = 'live'
      where s.run_id = $1 and s.node = $2 and s.path = '' and (s.state = 'running') is true and s.session = $3 and s.fence = $4
     on conflict (run_id, node) do update set fence = excluded.fence, env = excluded.env, created_at = excluded.created_at
      where exported_env.fence <= excluded.fence
     returning 1 as one`,
    [runId, node, session, fence, JSON.stringify(env)],
    { name: 'record_export' },
  )
  return rows.length > 0
}

export interface ExportRow {
  run_id: string
  node: number
  env: Record<string, string>
}

/** What steps that ended well handed on by the attempt that did; those that handed on nothing are not there. */
export async function loadExports(
  db: Queryable,
  wanted: readonly { runId: string; node: number }[],
): Promise<ExportRow[]> {
  return db.query<ExportRow>(
    `select e.run_id, e.node, e.env from unnest($1::text[], $2::int[]) as u(run_id, node)
       join exported_env e on e.run_id = u.run_id and e.node = u.node
       join step s on s.run_id = e.run_id and s.node = e.node and s.path = '' and s.fence = e.fence
      where (s.state = 'succeeded') is true`,
    [wanted.map((w) => w.runId), wanted.map((w) => w.node)],
    { name: 'load_exports' },
  )
}
