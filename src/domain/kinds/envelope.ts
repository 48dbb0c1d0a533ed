import { z } from 'zod'
import { LIMITS } from '../limits.ts'

/** What every resource has around its spec. */
export const API_VERSION = 'orrery.dev/v1'
export const DEFAULT_NAMESPACE = 'default'

export const dnsName = z
  .string()
  .max(63, { error: 'is longer than 63 characters' })
  .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/, {
    error: 'must be lower-case letters, digits and hyphens, such as repo-report',
  })

/** Both in a form that a selector can name. */
const labels = z
  .record(
    z
      .string()
      .max(253, { error: 'is longer than 253 characters' })
      .regex(/^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$/, {
        error: 'is no name of a label: letters, digits, . _ / and -, such as team or example.com/tier',
      }),
    z
      .string({ error: 'must be a string; quote it' })
      .max(LIMITS.labelValueChars, { error: `is longer than ${LIMITS.labelValueChars} characters` })
      .regex(/^[A-Za-z0-9._/:@+-]*$/, {
        error: 'must have letters, digits and . _ / : @ + - only; annotations take any text',
      }),
  )
  .refine((all) => Object.keys(all).length <= LIMITS.labelsMax, { error: `has more than ${LIMITS.labelsMax} labels` })

const annotations = z
  .record(z.string().min(1).max(253), z.string({ error: 'must be a string; quote it' }))
  .refine((all) => Buffer.byteLength(JSON.stringify(all)) <= LIMITS.annotationBytes, {
    error: `has more than ${LIMITS.annotationBytes} bytes`,
  })

/**
 * `uid` and `resourceVersion` say which state the writer knew: another one is refused. What else the server sets is taken
 * and has no effect, so that what `get` printed can be applied.
 */
export const metadataSchema = z.strictObject({
  name: dnsName.describe('Unique among the resources of its kind in the namespace.'),
  namespace: dnsName.default(DEFAULT_NAMESPACE).describe('Where it belongs.'),
  labels: labels.default({}).describe('What selectors find it by.'),
  annotations: annotations.default({}).describe('Texts for people and programs; nothing selects by them.'),
  uid: z.string().optional().describe('As the server gave it: another resource of the same name is refused.'),
  resourceVersion: z
    .string({ error: 'must be the text that the server gave; quote it' })
    .regex(/^[1-9]\d{0,14}$/, { error: 'must be the number that the server gave, as a text' })
    .optional()
    .describe('As the server gave it: a resource that was changed since is refused.'),
  generation: z
    .int()
    .min(1)
    .optional()
    .describe('Set by the server; taken and without effect, so that what `get` printed can be applied.'),
  createdAt: z.string().optional().describe('Set by the server; taken and without effect.'),
  updatedAt: z.string().optional().describe('Set by the server; taken and without effect.'),
})

/** Set by the server; see `metadataSchema`. */
export const statusSchema = z.record(z.string(), z.unknown()).optional()

/** The schema of a whole document of a kind. */
export const envelopeOf = <K extends string, S extends z.ZodType>(kind: K, spec: S) =>
  z.strictObject({
    apiVersion: z.literal(API_VERSION).describe('Version of the envelope.'),
    kind: z.literal(kind).describe('What it is.'),
    metadata: metadataSchema.describe('What it is called, and what is said about it.'),
    spec: spec.meta({ ...spec.meta(), description: 'What is wanted.' }),
    status: statusSchema.describe('Set by the server; taken and without effect.'),
  })
