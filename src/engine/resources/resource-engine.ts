import type {
  ApplyResponse,
  ResourceEvent,
  ResourcePage,
  ResourceView,
  VersionView,
  VersionWithSpec,
} from '../../contract/resource-types.ts'
import type { Page } from '../../contract/api-types.ts'
import type { ResourceDocument } from '../../domain/kinds/documents.ts'
import type { KindName } from '../../domain/kinds/registry.ts'
import type { LabelTerm } from '../../domain/kinds/selector.ts'
import type { Caller } from '../engine.ts'

export interface Ref {
  kind: KindName
  namespace: string
  name: string
}

export interface ResourceSelection {
  kind: KindName
  /** Null: every one that the caller may see. */
  namespace: string | null
  name: string | null
  terms: LabelTerm[]
}

/** What a write demands of what is stored; the versions are those of an `If-Match`. */
export interface Precondition {
  /** Null: anything. Empty: nothing may match. `*`: anything that exists. */
  match: string[] | null
  /** Nothing may exist yet. */
  absent: boolean
}

/** What a run begins from when it names a workflow. */
export interface WorkflowStart {
  definition: string
  version: number
  /** Labels of the workflow, for its runs. */
  labels: Record<string, string>
  /** What whoever starts it should hear; null: nothing. */
  warning: string | null
}

/** Resources as the api asks for them. Throws Failure. */
export interface ResourceEngine {
  /** All documents in one transaction, or none. */
  apply(
    caller: Caller,
    documents: readonly ResourceDocument[],
    options: { dryRun: boolean; precondition?: Precondition },
  ): Promise<ApplyResponse>
  get(caller: Caller, ref: Ref): Promise<ResourceView>
  list(caller: Caller, which: ResourceSelection, page: { cursor: string | null; limit: number }): Promise<ResourcePage>
  /** Runs go on: they keep what they were started with. Gives what was deleted. */
  remove(caller: Caller, ref: Ref, options: { precondition: Precondition; dryRun: boolean }): Promise<ResourceView>
  /** Fails with `resource.watch_too_old` when what happened after `since` is no longer known. */
  checkWatch(since: number): Promise<void>
  /** Changes after a version as they come; after 0, first everything that there is. Ends with the signal alone. */
  watch(caller: Caller, which: ResourceSelection, since: number, signal: AbortSignal): AsyncIterable<ResourceEvent>
  listVersions(caller: Caller, ref: Ref, page: { cursor: string | null; limit: number }): Promise<Page<VersionView>>
  /** `active`: the one that a run of the bare name starts. */
  getVersion(caller: Caller, ref: Ref, version: number | 'active'): Promise<VersionWithSpec>
  /** The version that runs start from; a version of null is the latest active one. */
  startOf(caller: Caller, which: { namespace: string; name: string; version: number | null }): Promise<WorkflowStart>
}
