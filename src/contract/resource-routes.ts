import { z } from 'zod'
import { type Kind } from '../domain/kinds/kind.ts'
import { type KindName, KINDS } from '../domain/kinds/registry.ts'
import { LIMITS } from '../domain/limits.ts'
import {
  ApplyQuerySchema,
  ApplyResponseSchema,
  DeleteQuerySchema,
  ListResourcesQuerySchema,
  ResourcePageSchema,
  ResourceViewSchema,
  VersionPageSchema,
  VersionWithSpecSchema,
} from './resource-schemas.ts'
import type { ResourceVerb, RouteOf } from './route.ts'
import { PageQuerySchema } from './schemas.ts'

/** Least roles: who may read resources, and who may change them. */
const READS = 'viewer'
const WRITES = 'admin'

const JSON_TYPE = 'application/json'
const ok = (schema: z.ZodType, description: string) => ({ status: 200, description, type: JSON_TYPE, schema })

const IF_MATCH = 'Only when the resource has this ETag; `*`: only when it exists.'
const IF_NONE_MATCH = '`*`: only when the resource does not exist yet.'
const LAST_EVENT = 'With `watch=true`: go on after this event; stronger than `resourceVersion`.'

export type ResourceRouteId = `${ResourceVerb}${KindName}` | 'applyResources'

const apply: RouteOf<ResourceRouteId> = {
  id: 'applyResources',
  method: 'POST',
  path: '/v1/apply',
  auth: WRITES,
  summary:
    'Store the resources of a YAML or JSON text of one or several documents: all of them, or none. With `dryRun=true` nothing is stored and the answer says what would be.',
  manifest: z.array(z.union(KINDS.map((row) => row.schema))),
  query: ApplyQuerySchema,
  bodyBytes: LIMITS.bodyBytes,
  responses: [ok(ApplyResponseSchema, 'One row a document, in their order.')],
}

/** All routes of resources, made from the rows of their kinds. */
export const RESOURCE_ROUTES: readonly RouteOf<ResourceRouteId>[] = [
  apply,
  ...KINDS.flatMap((row: Kind<KindName>) => routesOf(row)),
]

function routesOf({ kind, plural, schema, isVersioned }: Kind<KindName>): RouteOf<ResourceRouteId>[] {
  const inNamespace = `/v1/namespaces/{namespace}/${plural}`
  const one = `${inNamespace}/{name}`
  const read = { method: 'GET', auth: READS, bodyBytes: 0 } as const
  const view = ResourceViewSchema
  const list = {
    query: ListResourcesQuerySchema,
    headers: { 'Last-Event-ID': LAST_EVENT },
    responses: [
      ok(ResourcePageSchema, 'A page, by namespace and name.'),
      {
        status: 200,
        description:
          'With `watch=true`: `event` is added, modified, deleted or bookmark, `id` the resourceVersion to go on from.',
        type: 'text/event-stream',
      },
    ],
  }
  const of = (verb: ResourceVerb): Pick<RouteOf<ResourceRouteId>, 'id' | 'resource'> => ({
    id: `${verb}${kind}`,
    resource: { verb, kind },
  })
  return [
    {
      ...read,
      ...list,
      ...of('list'),
      path: inNamespace,
      summary: `The ${plural} of a namespace, or what changes among them.`,
    },
    {
      ...read,
      ...list,
      ...of('listAll'),
      path: `/v1/${plural}`,
      summary: `The ${plural} of all namespaces that the token may see.`,
    },
    {
      ...read,
      ...of('get'),
      path: one,
      summary: `One of the ${plural}. The ETag is its resourceVersion.`,
      responses: [ok(view, 'As it is.')],
    },
    {
      ...of('put'),
      method: 'PUT',
      path: one,
      auth: WRITES,
      summary: `Store one of the ${plural}, in YAML or JSON.`,
      manifest: schema,
      query: DeleteQuerySchema,
      bodyBytes: LIMITS.bodyBytes,
      headers: { 'If-Match': IF_MATCH, 'If-None-Match': IF_NONE_MATCH },
      responses: [
        ok(view.or(ApplyResponseSchema), 'As it is now; with `dryRun=true` the row of apply.'),
        { status: 201, description: 'Created.', type: JSON_TYPE, schema: view },
      ],
    },
    {
      ...of('delete'),
      method: 'DELETE',
      path: one,
      auth: WRITES,
      summary: `Delete one of the ${plural}. Runs go on.`,
      query: DeleteQuerySchema,
      bodyBytes: 0,
      headers: { 'If-Match': IF_MATCH },
      responses: [ok(view, 'What was deleted.')],
    },
    ...(isVersioned
      ? [
          {
            ...read,
            ...of('listVersions'),
            path: `${one}/versions`,
            query: PageQuerySchema,
            summary: `The versions of one of the ${plural}, the newest first.`,
            responses: [ok(VersionPageSchema, 'A page.')],
          },
          {
            ...read,
            ...of('getVersion'),
            path: `${one}/versions/{version}`,
            summary: 'One version with its spec; `active` is the one that a run of the bare name starts.',
            responses: [ok(VersionWithSpecSchema, 'As it was applied.')],
          },
        ]
      : []),
  ]
}
