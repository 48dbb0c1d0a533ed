import type { ApplyResponse, ResourceEvent } from '../contract/resource-types.ts'
import type { ResourceVerb } from '../contract/route.ts'
import { invalidRequest } from '../contract/check-request.ts'
import { encodeSse, SSE_COMMENT } from '../contract/sse.ts'
import { Failure } from '../domain/failure.ts'
import { parseResources } from '../domain/kinds/documents.ts'
import { type KindName } from '../domain/kinds/registry.ts'
import { parseSelector } from '../domain/kinds/selector.ts'
import { LIMITS } from '../domain/limits.ts'
import { plainNamespace } from '../domain/tenancy.ts'
import type { Precondition, Ref, ResourceSelection } from '../engine/resources/resource-engine.ts'
import type { Answer, Exchange } from './context.ts'
import { entityTags, lastEventId } from './request-headers.ts'
import { streamBody } from './streams.ts'
import { ownDocument, ownNamespace, shown, shownResource } from './tenancy.ts'

// Queries were checked by the schema of their route before a handler sees them: that is the reason for each `as` here.

export async function applyResources(x: Exchange): Promise<Answer> {
  const { dryRun, namespace } = x.query as { dryRun?: string; namespace?: string }
  const documents = parseResources(x.bodyText, { file: 'request', namespace: namespace ?? null })
  const own = documents.map((document) => ownDocument(x.caller, document))
  const answer = await x.deps.engine.resources.apply(x.caller, own, { dryRun: dryRun === 'true' })
  return x.respondJson(200, shownRows(x, answer))
}

const shownRows = (x: Exchange, answer: ApplyResponse): ApplyResponse => ({
  ...answer,
  resources: answer.resources.map((row) => shown(x.caller, row)),
})

type KindHandler = (x: Exchange, kind: KindName) => Promise<Answer>

/** What each verb does, for every kind. */
export const RESOURCE_HANDLERS: Record<ResourceVerb, KindHandler> = {
  list: (x, kind) => listOrWatch(x, kind, x.param('namespace')),
  listAll: (x, kind) => listOrWatch(x, kind, null),

  async get(x, kind) {
    const found = await x.deps.engine.resources.get(x.caller, refOf(x, kind))
    return x.respondJson(200, shownResource(x.caller, found), { etag: `"${found.metadata.resourceVersion}"` })
  },

  async put(x, kind) {
    const ref = refOf(x, kind)
    const dryRun = (x.query as { dryRun?: string }).dryRun === 'true'
    const documents = parseResources(x.bodyText, { file: 'request', namespace: plainNamespace(ref.namespace) })
    const [document] = documents
    if (!document || documents.length > 1)
      throw invalidRequest(`storing ${nameOf(ref)}`, '', `must be one document, not ${documents.length}`)
    if (document.kind !== kind || document.name !== ref.name)
      throw invalidRequest(
        `storing ${nameOf(ref)}`,
        document.kind === kind ? 'metadata.name' : 'kind',
        `the address is that of ${nameOf(ref)}, the document is ${nameOf(document)}`,
      )
    const options = { dryRun, precondition: preconditionOf(x) }
    const own = [{ ...ownDocument(x.caller, document), namespace: ref.namespace }]
    const { resources } = await x.deps.engine.resources.apply(x.caller, own, options)
    const [row] = resources
    if (dryRun) return x.respondJson(200, shownRows(x, { dryRun, resources }))
    const found = await x.deps.engine.resources.get(x.caller, ref)
    const headers = { etag: `"${found.metadata.resourceVersion}"` }
    return x.respondJson(row?.outcome === 'created' ? 201 : 200, shownResource(x.caller, found), headers)
  },

  async delete(x, kind) {
    const dryRun = (x.query as { dryRun?: string }).dryRun === 'true'
    const options = { precondition: preconditionOf(x), dryRun }
    const gone = await x.deps.engine.resources.remove(x.caller, refOf(x, kind), options)
    return x.respondJson(200, shownResource(x.caller, gone))
  },

  async listVersions(x, kind) {
    const q = x.query as { cursor?: string; limit?: number }
    const page = { cursor: q.cursor ?? null, limit: q.limit ?? LIMITS.pageDefault }
    return x.respondJson(200, await x.deps.engine.resources.listVersions(x.caller, refOf(x, kind), page))
  },

  async getVersion(x, kind) {
    const text = x.param('version')
    const version = text === 'active' ? text : /^[1-9]\d{0,8}$/.test(text) ? Number(text) : null
    const ref = refOf(x, kind)
    if (version === null)
      throw new Failure(
        'resource.not_found',
        `looking for version ${JSON.stringify(text.slice(0, 100))} of ${nameOf(ref)}`,
      )
    return x.respondJson(200, await x.deps.engine.resources.getVersion(x.caller, ref, version))
  },
}

const refOf = (x: Exchange, kind: KindName): Ref => ({
  kind,
  namespace: ownNamespace(x.caller, x.param('namespace')),
  name: x.param('name'),
})
const nameOf = (ref: Ref): string => `${ref.kind} ${plainNamespace(ref.namespace)}/${ref.name}`

function preconditionOf(x: Exchange): Precondition {
  const noneMatch = x.header('if-none-match')
  if (noneMatch !== null && noneMatch.trim() !== '*')
    throw invalidRequest('reading If-None-Match', 'header If-None-Match', 'must be *')
  return { match: entityTags(x.header('if-match')), absent: noneMatch !== null }
}

interface ListQuery {
  labelSelector?: string
  fieldSelector?: string
  limit?: number
  cursor?: string
  watch?: 'true' | 'false'
  resourceVersion?: number
}

async function listOrWatch(x: Exchange, kind: KindName, namespace: string | null): Promise<Answer> {
  const q = x.query as ListQuery
  const stored = namespace === null ? null : ownNamespace(x.caller, namespace)
  const which = { kind, namespace: stored, ...selectionOf(q) }
  if (q.watch === 'true') return watch(x, which, q)
  if (q.resourceVersion !== undefined)
    throw invalidRequest('reading the query', 'resourceVersion', 'is for a watch; add watch=true')
  const page = { cursor: q.cursor ?? null, limit: q.limit ?? LIMITS.pageDefault }
  const found = await x.deps.engine.resources.list(x.caller, which, page)
  return x.respondJson(200, { ...found, items: found.items.map((one) => shownResource(x.caller, one)) })
}

function selectionOf(q: ListQuery): Pick<ResourceSelection, 'terms' | 'name'> {
  const labels = q.labelSelector ? parseSelector(q.labelSelector) : { kind: 'parsed' as const, terms: [] }
  if (labels.kind === 'wrong') throw invalidRequest('reading the query', 'labelSelector', labels.message)
  const field = /^(?:metadata\.)?name==?([a-z0-9-]{1,63})$/.exec(q.fieldSelector ?? '')
  if (q.fieldSelector && !field)
    throw invalidRequest(
      'reading the query',
      'fieldSelector',
      'must be metadata.name=NAME; other fields are not looked at',
    )
  return { terms: labels.terms, name: field?.[1] ?? null }
}

async function watch(x: Exchange, which: ResourceSelection, q: ListQuery): Promise<Answer> {
  for (const key of ['cursor', 'limit'] as const)
    if (q[key] !== undefined) throw invalidRequest('reading the query', key, 'is for a list; a watch has no pages')
  const { resources } = x.deps.engine
  const since = lastEventId(x.header('last-event-id')) ?? q.resourceVersion ?? 0
  // Before the stream begins: after its first byte there is no status any more.
  await resources.checkWatch(since)
  const body = streamBody<ResourceEvent>(
    (signal) => resources.watch(x.caller, which, since, signal),
    {
      item: ({ type, resourceVersion, resource }) =>
        encodeSse({
          id: resourceVersion,
          event: type,
          data: JSON.stringify(resource && shownResource(x.caller, resource)),
        }),
      heartbeat: SSE_COMMENT,
      heartbeatMs: LIMITS.sseHeartbeatMs,
      end: () => '',
      failed: (error) => encodeSse({ event: 'failure', data: JSON.stringify(x.recordFailure(error)) }),
    },
    { clock: x.deps.clock, signal: x.signal },
  )
  return x.respond(200, body, { 'content-type': 'text/event-stream; charset=utf-8', 'x-accel-buffering': 'no' })
}
