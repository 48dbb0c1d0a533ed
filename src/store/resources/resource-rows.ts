import type { Json, JsonObject } from '../../base/json.ts'

/** Which resource. */
export interface ResourceRef {
  kind: string
  namespace: string
  name: string
}

/** A resource as it is stored; `deleted_at` says that it is a tombstone. */
export interface ResourceRow extends ResourceRef {
  uid: string
  generation: number
  resource_version: number
  first_version: number
  labels: Record<string, string>
  annotations: Record<string, string>
  spec: JsonObject
  status: Json
  created_at: Date
  updated_at: Date
  deleted_at: Date | null
}

export const RESOURCE_COLUMNS = `kind, namespace, name, uid, generation, resource_version, first_version, labels, annotations, spec, status,
       created_at, updated_at, deleted_at`
