import type { Queryable } from '../db.ts'
import { type ResourceRef, type ResourceRow } from './resource-rows.ts'

/** A resource to be written, and the version that it replaces; 0: there is none, or only a tombstone. */
export type ResourceWrite = Omit<ResourceRow, 'created_at' | 'updated_at' | 'deleted_at'> & { replaces: number }

export type WriteOutcome = ResourceRef & { created_at: Date; updated_at: Date }

/**
 * Writes resources. One whose stored version is not the one that is replaced is left as it is, and is not among what comes back:
 * somebody else was first.
 */
export async function putResources(tx: Queryable, writes: readonly ResourceWrite[]): Promise<WriteOutcome[]> {
  return tx.query<WriteOutcome>(
    `insert into resource as r (kind, namespace, name, uid, generation, resource_version, first_version, labels, annotations, spec, status, created_at, updated_at)
     select w.kind, w.namespace, w.name, w.uid, w.generation, w.resource_version, w.first_version, w.labels::jsonb, w.annotations::jsonb, w.spec::json,
            w.status::jsonb, (select clock_now()), (select clock_now())
       from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[])
         as w(kind, namespace, name, uid, generation, resource_version, first_version, labels, annotations, spec, status)
     on conflict (kind, namespace, name) do update
        set uid = excluded.uid, generation = excluded.generation, resource_version = excluded.resource_version, first_version = excluded.first_version,
            labels = excluded.labels, annotations = excluded.annotations, spec = excluded.spec, status = excluded.status,
            created_at = case when r.uid = excluded.uid then r.created_at else excluded.created_at end,
            updated_at = excluded.updated_at, deleted_at = null
      where r.resource_version = any ($12::bigint[]) or r.deleted_at is not null
     returning kind, namespace, name, created_at, updated_at`,
    [
      writes.map((w) => w.kind),
      writes.map((w) => w.namespace),
      writes.map((w) => w.name),
      writes.map((w) => w.uid),
      writes.map((w) => w.generation),
      writes.map((w) => w.resource_version),
      writes.map((w) => w.first_version),
      writes.map((w) => JSON.stringify(w.labels)),
      writes.map((w) => JSON.stringify(w.annotations)),
      writes.map((w) => JSON.stringify(w.spec)),
      writes.map((w) => JSON.stringify(w.status)),
      // Versions are of one clock: no other resource has the version that one of these replaces.
      writes.map((w) => w.replaces),
    ],
  )
}

/** Writes what is known of resources, which changes neither them nor when they were changed. Under the lock of the clock. Gives how many are there. */
export async function putStatuses(
  tx: Queryable,
  noted: readonly Pick<ResourceRow, 'uid' | 'resource_version' | 'status'>[],
): Promise<number> {
  const rows = await tx.query(
    `update resource r set status = n.status::jsonb, resource_version = n.version from unnest($1::text[], $2::bigint[], $3::text[]) as n(uid, version, status)
      where r.uid = n.uid and r.deleted_at is null returning 1 as one`,
    [noted.map((n) => n.uid), noted.map((n) => n.resource_version), noted.map((n) => JSON.stringify(n.status))],
  )
  return rows.length
}

/** Makes tombstones of resources that still have the version that was read. Returns those that it made. */
export async function deleteResources(
  tx: Queryable,
  deletions: readonly (ResourceRef & { replaces: number; resource_version: number })[],
): Promise<ResourceRef[]> {
  return tx.query<ResourceRef>(
    `update resource r set deleted_at = (select clock_now()), updated_at = (select clock_now()), resource_version = d.resource_version, spec = '{}'
       from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) as d(kind, namespace, name, replaces, resource_version)
      where r.kind = d.kind and r.namespace = d.namespace and r.name = d.name and r.resource_version = d.replaces and r.deleted_at is null
      returning r.kind, r.namespace, r.name`,
    [
      deletions.map((d) => d.kind),
      deletions.map((d) => d.namespace),
      deletions.map((d) => d.name),
      deletions.map((d) => d.replaces),
      deletions.map((d) => d.resource_version),
    ],
  )
}
