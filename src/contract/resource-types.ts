import type { JsonObject } from '../base/json.ts'
import type { KindName } from '../domain/kinds/registry.ts'
import type { Usage } from '../domain/kinds/kind.ts'
import type { Lifecycle } from '../domain/schema.ts'

/** Bodies of the resource API. Times are RFC 3339 in UTC. */

export interface ResourceView {
  apiVersion: string
  kind: KindName
  metadata: {
    name: string
    namespace: string
    uid: string
    labels: Record<string, string>
    annotations: Record<string, string>
    /** Rises with the spec; the version of a workflow. */
    generation: number
    /** Rises with every write; also the ETag. */
    resourceVersion: string
    createdAt: string
    updatedAt: string
  }
  spec: JsonObject
  status: ResourceStatus
}

export interface ResourceStatus {
  phase: string
  conditions: { type: string; status: 'true' | 'false' | 'unknown'; reason: string; message: string; since: string }[]
  observedGeneration: number
  /** Of a Budget: how much of its window is used; absent of one that counts each run by itself. */
  usage?: Usage
}

export interface ResourcePage {
  apiVersion: string
  kind: 'List'
  items: ResourceView[]
  /** Pass as `cursor` for the next page; null on the last one. */
  next: string | null
  /** Watch from here to see what changes after this page was read. */
  resourceVersion: string
}

export type ApplyOutcome = 'created' | 'configured' | 'unchanged'

/** POST /v1/apply: one row a document, in the order of the documents. */
export interface ApplyResponse {
  dryRun: boolean
  resources: {
    kind: KindName
    namespace: string
    name: string
    outcome: ApplyOutcome
    generation: number
    /** Null of what a dry run would have created. */
    resourceVersion: string | null
  }[]
  /** What they name and is not there: no run starts before it is stored. Absent when there is nothing to say. */
  warnings?: string[]
}

/** A frame of a watch: `id` is the resourceVersion to go on from, `event` is the type. */
export interface ResourceEvent {
  /** `bookmark`: nothing changed that fits, up to here. */
  type: 'added' | 'modified' | 'deleted' | 'bookmark'
  resourceVersion: string
  /** Null of a bookmark. */
  resource: ResourceView | null
}

export interface VersionView {
  version: number
  lifecycle: Lifecycle
  /** Hash of the compiled definition. */
  definition: string
  createdAt: string
  createdBy: string
}
export type VersionWithSpec = VersionView & { spec: JsonObject }

/** Which resources of a kind. */
export interface ResourceQuery {
  /** Absent: all that the token may see. */
  namespace?: string
  labelSelector?: string
  fieldSelector?: string
}
