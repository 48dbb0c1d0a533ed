import type { Page } from '../contract/api-types.ts'
import { errorOfRecord } from '../contract/problem.ts'
import type {
  ApplyResponse,
  ResourceEvent,
  ResourcePage,
  ResourceQuery,
  ResourceView,
  VersionView,
  VersionWithSpec,
} from '../contract/resource-types.ts'
import { SseParser } from '../contract/sse.ts'
import { Failure, type FailureRecord } from '../domain/failure.ts'
import { type KindName, kindOf } from '../domain/kinds/registry.ts'
import { Absence } from './absence.ts'
import { type FollowDeps, type Part, reconnecting } from './follow.ts'
import { STREAM_SILENCE_MS } from './http-transport.ts'
import { queryText } from './query-text.ts'

export interface ResourceRef {
  kind: KindName
  namespace: string
  name: string
}

/** One change of a resource; or all that there are, when the reader may have missed some: whatever else it knew is gone. */
export type ResourceChange =
  | { type: 'added' | 'modified' | 'deleted'; resourceVersion: string; resource: ResourceView }
  | { type: 'listed'; resourceVersion: string; resources: ResourceView[] }

/** The API of resources, typed; part of `Client`. */
export interface ResourceClient {
  /** All resources of a YAML or JSON text, or none. */
  apply(text: string, options?: { dryRun?: boolean; namespace?: string }): Promise<ApplyResponse>
  get(ref: ResourceRef): Promise<ResourceView>
  list(kind: KindName, query?: ResourceQuery & { cursor?: string; limit?: number }): Promise<ResourcePage>
  /** With `ifMatch` only when the resource still has this resourceVersion, with `isNew` only when there is none of this name. */
  put(ref: ResourceRef, text: string, options?: { ifMatch?: string; isNew?: boolean }): Promise<ResourceView>
  remove(ref: ResourceRef, options?: { dryRun?: boolean; ifMatch?: string }): Promise<ResourceView>
  /**
   * What there is and then what changes, or what changes after `since`; goes on where it was cut. When that lies further back than
   * the server remembers, `listed` tells everything anew and the watch goes on from there. Ends with the signal alone.
   */
  watch(kind: KindName, query?: ResourceQuery & { since?: string; signal?: AbortSignal }): AsyncIterable<ResourceChange>
  listVersions(ref: ResourceRef, query?: { cursor?: string; limit?: number }): Promise<Page<VersionView>>
  /** `active`: the one that a run of the bare name starts. */
  getVersion(ref: ResourceRef, version: number | 'active'): Promise<VersionWithSpec>
}

// Answers are the contract's types on the word of the server: that is the reason for each `as` below.

const MANIFEST = 'application/yaml'

const pathOf = ({ kind, namespace, name }: ResourceRef): string =>
  `/v1/namespaces/${encodeURIComponent(namespace)}/${kindOf(kind).plural}/${encodeURIComponent(name)}`

const listPath = (kind: KindName, namespace: string | undefined): string =>
  namespace === undefined
    ? `/v1/${kindOf(kind).plural}`
    : `/v1/namespaces/${encodeURIComponent(namespace)}/${kindOf(kind).plural}`

export function createResourceClient(deps: FollowDeps): ResourceClient {
  const { asker } = deps
  const get = (path: string) => asker.ask('GET', path) as Promise<never>
  const dry = (dryRun: boolean | undefined) => (dryRun ? 'true' : undefined)
  const matching = (version: string | undefined): Record<string, string> =>
    version === undefined ? {} : { 'if-match': `"${version}"` }
  return {
    apply: (content, { dryRun, namespace } = {}) =>
      asker.ask('POST', `/v1/apply${queryText({ dryRun: dry(dryRun), namespace })}`, {
        text: { type: MANIFEST, content },
      }) as Promise<never>,
    get: (ref) => get(pathOf(ref)),
    list: (kind, { namespace, ...query } = {}) => get(`${listPath(kind, namespace)}${queryText(query)}`),
    put: (ref, content, { ifMatch, isNew } = {}) =>
      asker.ask('PUT', pathOf(ref), {
        text: { type: MANIFEST, content },
        headers: { ...matching(ifMatch), ...(isNew ? { 'if-none-match': '*' } : {}) },
      }) as Promise<never>,
    remove: (ref, { dryRun, ifMatch } = {}) =>
      asker.ask('DELETE', `${pathOf(ref)}${queryText({ dryRun: dry(dryRun) })}`, {
        headers: matching(ifMatch),
      }) as Promise<never>,
    watch: (kind, query = {}) => watchResources(deps, kind, query),
    listVersions: (ref, query = {}) => get(`${pathOf(ref)}/versions${queryText(query)}`),
    getVersion: (ref, version) => get(`${pathOf(ref)}/versions/${version}`),
  }
}

async function* watchResources(
  deps: FollowDeps,
  kind: KindName,
  query: ResourceQuery & { since?: string; signal?: AbortSignal },
): AsyncIterable<ResourceChange> {
  const { namespace, since, signal, ...filter } = query
  let last = since ?? '0'
  async function* read(body: AsyncIterable<string>): AsyncIterable<Part<ResourceChange>> {
    const parser = new SseParser()
    for await (const chunk of body) {
      for (const frame of parser.push(chunk)) {
        if (frame.event === 'failure') throw errorOfRecord(JSON.parse(frame.data) as FailureRecord)
        const resource = JSON.parse(frame.data) as ResourceView | null
        const type = frame.event as ResourceEvent['type']
        last = frame.id ?? last
        // A bookmark only moves the place to go on from.
        if (resource !== null && type !== 'bookmark')
          yield { kind: 'item', item: { type, resourceVersion: last, resource } }
      }
    }
  }
  const connect = async () => {
    const headers = { accept: 'text/event-stream', 'last-event-id': last }
    const path = `${listPath(kind, namespace)}${queryText({ ...filter, watch: 'true' })}`
    return read((await deps.asker.open(path, { headers, silenceMs: STREAM_SILENCE_MS, signal })).body)
  }
  for (let hasAnswered = false; ; hasAnswered = true) {
    try {
      yield* reconnecting(deps, connect, signal, { hasAnswered })
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'resource.watch_too_old') throw error
      const listed = await listAll(deps, kind, query, signal)
      last = listed.resourceVersion
      yield { type: 'listed', ...listed }
    }
  }
}

/** Every page, and the version of the first one: what changed while the others were read is told again by the watch. */
async function listAll(
  { asker, ...deps }: FollowDeps,
  kind: KindName,
  { namespace, labelSelector, fieldSelector }: ResourceQuery,
  signal: AbortSignal | undefined,
): Promise<{ resources: ResourceView[]; resourceVersion: string }> {
  const absence = new Absence(deps)
  const resources: ResourceView[] = []
  let resourceVersion: string | null = null
  let cursor: string | undefined
  for (;;) {
    try {
      const path = `${listPath(kind, namespace)}${queryText({ labelSelector, fieldSelector, cursor })}`
      const page = (await asker.ask('GET', path, { signal })) as ResourcePage
      absence.brought()
      resourceVersion ??= page.resourceVersion
      resources.push(...page.items)
      if (page.next === null) return { resources, resourceVersion }
      cursor = page.next
    } catch (error) {
      await absence.outlast(error, signal)
    }
  }
}
