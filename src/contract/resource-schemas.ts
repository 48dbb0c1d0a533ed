import { z } from 'zod'
import { KINDS } from '../domain/kinds/registry.ts'
import { LIFECYCLES } from '../domain/schema.ts'
import { cursor, flag, limit } from './page-schemas.ts'

/** Strict schemas of what arrives for resources, and of what is answered. */

export const ApplyQuerySchema = z.strictObject({
  dryRun: flag.optional().meta({ description: 'Check and compare, and store nothing.' }),
  namespace: z
    .string()
    .max(256)
    .optional()
    .meta({ description: 'Where documents go that name no namespace; one that names another is refused.' }),
})
export const DeleteQuerySchema = z.strictObject({
  dryRun: flag.optional().meta({ description: 'Check alone, and change nothing.' }),
})
export const ListResourcesQuerySchema = z.strictObject({
  labelSelector: z.string().optional().meta({
    description: '`key=value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`, `key`, `!key`; a comma joins them.',
  }),
  fieldSelector: z.string().optional().meta({ description: '`metadata.name=NAME`.' }),
  limit: limit.optional(),
  cursor: cursor.optional(),
  watch: flag.optional().meta({ description: 'Follow changes as server-sent events.' }),
  resourceVersion: z
    .string()
    .regex(/^\d{1,15}$/, 'must be a resourceVersion that the server gave')
    .transform(Number)
    .optional()
    .meta({
      description: 'With `watch=true`: follow from here. Without it the watch begins with everything that there is.',
    }),
})

const kind = z.enum(KINDS.map((row) => row.kind))
const time = z.string().meta({ format: 'date-time' })
const texts = z.record(z.string(), z.string())
const spec = z.record(z.string(), z.unknown())

export const ResourceViewSchema = z
  .object({
    apiVersion: z.string(),
    kind,
    metadata: z.object({
      name: z.string(),
      namespace: z.string(),
      uid: z.string(),
      labels: texts,
      annotations: texts,
      generation: z.int().meta({ description: 'Rises with the spec; the version of a workflow.' }),
      resourceVersion: z.string().meta({ description: 'Rises with every write; also the ETag.' }),
      createdAt: time,
      updatedAt: time,
    }),
    spec: spec.meta({ description: 'As it was written. Values of secrets are never given.' }),
    status: z.object({
      phase: z.string(),
      conditions: z.array(
        z.object({
          type: z.string(),
          status: z.enum(['true', 'false', 'unknown']),
          reason: z.string(),
          message: z.string(),
          since: time,
        }),
      ),
      observedGeneration: z.int(),
      usage: z
        .object({
          tokens: z.number(),
          heldTokens: z.number().meta({ description: 'Set aside for calls that are not answered yet.' }),
          money: z.number().nullable(),
          heldMoney: z.number().nullable(),
          share: z.number().meta({ description: 'What is spent of the limit that is used most, from 0.' }),
          waiting: z.int().meta({ description: 'Steps that wait for it.' }),
          from: time,
          until: time.nullable().meta({ description: 'Null: a rolling window, which moves all the time.' }),
        })
        .optional()
        .meta({ description: 'Of a Budget: how much of its window is used.' }),
    }),
  })
  .meta({ id: 'Resource' })

export const ResourcePageSchema = z.object({
  apiVersion: z.string(),
  kind: z.literal('List'),
  items: z.array(ResourceViewSchema),
  next: z.string().nullable().meta({ description: 'Cursor of the next page.' }),
  resourceVersion: z.string().meta({ description: 'Watch from here.' }),
})

export const ApplyResponseSchema = z.object({
  dryRun: z.boolean(),
  resources: z.array(
    z.object({
      kind,
      namespace: z.string(),
      name: z.string(),
      outcome: z.enum(['created', 'configured', 'unchanged']),
      generation: z.int(),
      resourceVersion: z.string().nullable(),
    }),
  ),
  warnings: z
    .array(z.string())
    .optional()
    .describe('What they name and is not there: no run starts before it is stored.'),
})

const version = {
  version: z.int(),
  lifecycle: z.enum(LIFECYCLES),
  definition: z.string().meta({ description: 'Hash of the compiled definition.' }),
  createdAt: time,
  createdBy: z.string(),
}
export const VersionWithSpecSchema = z.object({ ...version, spec }).meta({ id: 'WorkflowVersion' })
export const VersionPageSchema = z.object({ items: z.array(z.object(version)), next: z.string().nullable() })
