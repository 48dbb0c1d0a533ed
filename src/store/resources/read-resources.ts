import type { LabelTerm } from '../../domain/kinds/selector.ts'
import type { Queryable } from '../db.ts'
import { meetsTerms, termParams } from '../label-terms.ts'
import { RESOURCE_COLUMNS, type ResourceRef, type ResourceRow } from './resource-rows.ts'

/** The resources that exist of those named, tombstones left out. */
export async function findResources(
  db: Queryable,
  refs: readonly ResourceRef[],
  options: { name: string } = { name: 'find_resources' },
): Promise<ResourceRow[]> {
  return db.query<ResourceRow>(
    `select ${RESOURCE_COLUMNS} from resource
      where (kind, namespace, name) in (select * from unnest($1::text[], $2::text[], $3::text[])) and deleted_at is null`,
    [refs.map((r) => r.kind), refs.map((r) => r.namespace), refs.map((r) => r.name)],
    options,
  )
}

/** The versions of those that exist. */
export async function findResourceVersions(
  db: Queryable,
  refs: readonly ResourceRef[],
): Promise<(ResourceRef & { version: number })[]> {
  return db.query(
    `select kind, namespace, name, resource_version as version from resource
      where (kind, namespace, name) in (select * from unnest($1::text[], $2::text[], $3::text[])) and deleted_at is null`,
    [refs.map((r) => r.kind), refs.map((r) => r.namespace), refs.map((r) => r.name)],
    { name: 'find_resource_versions' },
  )
}

/** Which resources; `namespaces` is a reach. */
export interface ResourceFilter {
  kind: string
  namespaces: readonly string[] | null
  name: string | null
  terms: readonly LabelTerm[]
}

const MEETS = meetsTerms(4, 5)

const filterParams = ({ kind, namespaces, name, terms }: ResourceFilter): unknown[] => [
  kind,
  namespaces,
  name,
  ...termParams(terms),
]

/** A page of resources by namespace and name, after a place. */
export async function listResources(
  db: Queryable,
  filter: ResourceFilter,
  page: { after: { namespace: string; name: string } | null; limit: number },
): Promise<ResourceRow[]> {
  return db.query<ResourceRow>(
    `select ${RESOURCE_COLUMNS} from resource
      where kind = $1 and in_reach(namespace, $2::text[]) and ($3::text is null or name = $3) and deleted_at is null
        and (namespace, name) > ($6, $7) and ${MEETS}
      order by namespace, name limit $8`,
    [...filterParams(filter), page.after?.namespace ?? '', page.after?.name ?? '', page.limit],
  )
}

/** What changed after a version, in the order of versions: each resource as it is now, tombstones included. Labels are looked at by the caller. */
export async function listChanges(
  db: Queryable,
  filter: Omit<ResourceFilter, 'terms'>,
  page: { after: number; limit: number },
): Promise<ResourceRow[]> {
  return db.query<ResourceRow>(
    `select ${RESOURCE_COLUMNS} from resource
      where resource_version > $4 and kind = $1 and in_reach(namespace, $2::text[]) and ($3::text is null or name = $3)
      order by resource_version limit $5`,
    [filter.kind, filter.namespaces, filter.name, page.after, page.limit],
    { name: 'list_resource_changes' },
  )
}

/** Names of a kind, for telling what was probably meant. */
export async function listNames(
  db: Queryable,
  filter: { kind: string; namespace: string },
  limit: number,
): Promise<string[]> {
  const rows = await db.query<{ name: string }>(
    `select name from resource where kind = $1 and namespace = $2 and deleted_at is null order by name limit $3`,
    [filter.kind, filter.namespace, limit],
  )
  return rows.map((r) => r.name)
}
