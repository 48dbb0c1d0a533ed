import type { Queryable } from '../db.ts'

export interface NewArtifact {
  runId: string
  node: number
  path: string
  session: string
  fence: number
  name: string
  namespace: string
  /** In hex. */
  sha256: string
  bytes: number
  retentionMs: number
}

/**
 * Records files of attempts that hold their step. A later attempt's file of the same name takes the place of an earlier one's. Gives the names
 * that were recorded; one that is missing has no whole content, or its attempt does not hold the step.
 */
export async function recordArtifacts(db: Queryable, artifacts: readonly NewArtifact[]): Promise<Set<string>> {
  const rows = await db.query<{ key: string }>(
    `with u as materialized (
       select * from unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::int[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::float8[])
         as u(run_id, node, path, session, fence, name, namespace, sha256, bytes, retention)
     ),
     held as materialized (
       select u.* from u
         join step s on s.run_id = u.run_id and s.node = u.node and s.path = u.path
         join session w on w.id = u.session and w.state = 'live'
         join blob b on b.namespace = u.namespace and b.sha256 = u.sha256 and b.bytes = u.bytes and b.verified_at is not null
        where (s.state = 'running') is true and s.session = u.session and s.fence = u.fence
     )
     insert into artifact (run_id, node, path, name, fence, namespace, sha256, bytes, created_at, expires_at)
     select run_id, node, path, name, fence, namespace, sha256, bytes, (select clock_now()), (select clock_now()) + retention * interval '1 ms' from held
      order by run_id, node, path, name
     on conflict (run_id, node, path, name) do update
       set fence = excluded.fence, sha256 = excluded.sha256, bytes = excluded.bytes, created_at = excluded.created_at, expires_at = excluded.expires_at
     where artifact.fence <= excluded.fence
     returning run_id || '.' || node || '.' || path || '/' || name as key`,
    [
      artifacts.map((a) => a.runId),
      artifacts.map((a) => a.node),
      artifacts.map((a) => a.path),
      artifacts.map((a) => a.session),
      artifacts.map((a) => a.fence),
      artifacts.map((a) => a.name),
      artifacts.map((a) => a.namespace),
      artifacts.map((a) => a.sha256),
      artifacts.map((a) => a.bytes),
      artifacts.map((a) => a.retentionMs),
    ],
    { name: 'record_artifacts' },
  )
  return new Set(rows.map((r) => r.key))
}

export const artifactKey = (a: Pick<NewArtifact, 'runId' | 'node' | 'path' | 'name'>): string =>
  `${a.runId}.${a.node}.${a.path}/${a.name}`

export interface ArtifactRow {
  node: number
  path: string
  name: string
  fence: number
  namespace: string
  sha256: string
  bytes: number
  created_at: Date
  expires_at: Date
}

export interface ArtifactPlace {
  node: number
  path: string
  name: string
}

const COLUMNS = 'node, path, name, fence, namespace, sha256, bytes, created_at, expires_at'

/** Files of a run behind a place, in order, a page. What has expired is not there any more, pruned or not. */
export async function listArtifacts(
  db: Queryable,
  params: { runId: string; after: ArtifactPlace | null; limit: number },
): Promise<ArtifactRow[]> {
  return db.query(
    `select ${COLUMNS} from artifact
      where run_id = $1 and expires_at > (select clock_now()) and ($2::int is null or (node, path, name) > ($2::int, $3::text, $4::text))
      order by node, path, name limit $5`,
    [params.runId, params.after?.node ?? null, params.after?.path ?? '', params.after?.name ?? '', params.limit],
    { name: 'list_artifacts' },
  )
}

/** Files that one step left, with all its activations and each by its last attempt, behind a place, in order, a page. */
export async function listArtifactsOf(
  db: Queryable,
  params: { runId: string; node: number; after: { path: string; name: string }; limit: number },
): Promise<ArtifactRow[]> {
  return db.query(
    `select a.node, a.path, a.name, a.fence, a.namespace, a.sha256, a.bytes, a.created_at, a.expires_at
       from artifact a join step s on s.run_id = a.run_id and s.node = a.node and s.path = a.path and s.fence = a.fence
      where a.run_id = $1 and a.node = $2 and (a.path, a.name) > ($3::text, $4::text) and a.expires_at > (select clock_now())
      order by a.path, a.name limit $5`,
    [params.runId, params.node, params.after.path, params.after.name, params.limit],
    { name: 'list_artifacts_of' },
  )
}

/** One file of a run; null when there is none, or none any more. */
export async function findArtifact(
  db: Queryable,
  params: ArtifactPlace & { runId: string },
): Promise<ArtifactRow | null> {
  const rows = await db.query<ArtifactRow>(
    `select ${COLUMNS} from artifact where run_id = $1 and node = $2 and path = $3 and name = $4 and expires_at > (select clock_now())`,
    [params.runId, params.node, params.path, params.name],
    { name: 'find_artifact' },
  )
  return rows[0] ?? null
}

/** Removes files whose time is over. Gives how many. */
export async function pruneArtifacts(db: Queryable, limit: number): Promise<number> {
  const rows = await db.query<{ count: number }>(
    `with old as materialized (
       select run_id, node, path, name from artifact where expires_at <= (select clock_now()) order by expires_at limit $1 for update skip locked),
     gone as (
       delete from artifact a using old o where a.run_id = o.run_id and a.node = o.node and a.path = o.path and a.name = o.name returning 1)
     select count(*)::int as count from gone`,
    [limit],
    { name: 'prune_artifacts' },
  )
  return rows[0]?.count ?? 0
}
