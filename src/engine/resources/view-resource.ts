import type { ResourceStatus, ResourceView, VersionView } from '../../contract/resource-types.ts'
import { API_VERSION } from '../../domain/kinds/envelope.ts'
import { type KindName, kindOf } from '../../domain/kinds/registry.ts'
import type { Lifecycle } from '../../domain/schema.ts'
import type { ResourceRow } from '../../store/resources/resource-rows.ts'
import type { VersionRow } from '../../store/resources/resource-versions.ts'

/** A row as everybody who may see the resource sees it; values of sealed kinds are left out. */
export function viewResource(row: ResourceRow): ResourceView {
  const kind = row.kind as KindName // rows are written from checked documents alone
  return {
    apiVersion: API_VERSION,
    kind,
    metadata: {
      name: row.name,
      namespace: row.namespace,
      uid: row.uid,
      labels: row.labels,
      annotations: row.annotations,
      generation: row.generation,
      resourceVersion: String(row.resource_version),
      createdAt: row.created_at.toISOString(),
      updatedAt: row.updated_at.toISOString(),
    },
    spec: row.deleted_at === null ? kindOf(kind).present(row.spec) : {},
    status: row.status as unknown as ResourceStatus, // as plan-apply.ts made it
  }
}

export const viewVersion = (row: VersionRow): VersionView => ({
  version: row.version,
  lifecycle: row.lifecycle as Lifecycle, // written from a checked spec
  definition: row.definition,
  createdAt: row.created_at.toISOString(),
  createdBy: row.created_by,
})
