import type { JsonObject } from '../../base/json.ts'
import type { Queryable } from '../db.ts'

export interface VersionRow {
  uid: string
  version: number
  definition: string
  lifecycle: string
  spec: JsonObject
  created_at: Date
  created_by: string
}

/** Keeps versions. Twice is safe: a version never changes. */
export async function putVersions(tx: Queryable, versions: readonly Omit<VersionRow, 'created_at'>[]): Promise<void> {
  await tx.query(
    `insert into resource_version (uid, version, definition, lifecycle, spec, created_by, created_at)
     select u.uid, u.version, u.definition, u.lifecycle, u.spec::json, u.created_by, (select clock_now())
       from unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[]) as u(uid, version, definition, lifecycle, spec, created_by)
     on conflict do nothing`,
    [
      versions.map((v) => v.uid),
      versions.map((v) => v.version),
      versions.map((v) => v.definition),
      versions.map((v) => v.lifecycle),
      versions.map((v) => JSON.stringify(v.spec)),
      versions.map((v) => v.created_by),
    ],
  )
}

/** A page of versions, the newest first, below a version. */
export async function listVersions(
  db: Queryable,
  uid: string,
  page: { below: number; limit: number },
): Promise<VersionRow[]> {
  return db.query<VersionRow>(
    `select uid, version, definition, lifecycle, spec, created_at, created_by from resource_version
      where uid = $1 and version < $2 order by version desc limit $3`,
    [uid, page.below, page.limit],
  )
}

/** The newest version that is no draft, or null. */
export async function findPublished(db: Queryable, uid: string): Promise<VersionRow | null> {
  const rows = await db.query<VersionRow>(
    `select uid, version, definition, lifecycle, spec, created_at, created_by from resource_version
      where uid = $1 and lifecycle <> 'draft' order by version desc limit 1`,
    [uid],
    { name: 'find_published_version' },
  )
  return rows[0] ?? null
}

export async function findVersion(db: Queryable, uid: string, version: number): Promise<VersionRow | null> {
  const rows = await db.query<VersionRow>(
    `select uid, version, definition, lifecycle, spec, created_at, created_by from resource_version where uid = $1 and version = $2`,
    [uid, version],
  )
  return rows[0] ?? null
}

/** Forgets the versions of deleted workflows. */
export async function deleteVersions(tx: Queryable, uids: readonly string[]): Promise<void> {
  await tx.query(`delete from resource_version where uid = any($1::text[])`, [uids])
}
