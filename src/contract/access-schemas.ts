import { z } from 'zod'
import { LIMITS } from '../domain/limits.ts'
import { ROLES } from '../domain/roles.ts'
import { EVERY_ORGANISATION, TENANT_NAME } from '../domain/tenancy.ts'
import { cursor, flag, limit } from './page-schemas.ts'

/** Schemas of tokens, of who may do what, and of the audit log. */

const time = z.string().meta({ format: 'date-time' })
const tenant = z.string().regex(TENANT_NAME, 'must be lower-case letters, digits and hyphens, at most 63')
const printable = (max: number) =>
  z
    .string()
    .regex(/^\P{C}+$/u, 'must be printable and not empty')
    .max(max)
const role = z.enum(ROLES)

export const CreateTokenSchema = z.strictObject({
  name: printable(100).meta({ description: 'What it is for, for people.' }),
  role: role.describe('What it may do.'),
  organisation: z
    .string()
    .refine((text) => text === EVERY_ORGANISATION || TENANT_NAME.test(text), 'must be a name such as acme, or *')
    .refine((text) => text !== '', 'must not be empty')
    .optional()
    .meta({ description: '`*` is every organisation. As with the token that asks when absent.' }),
  namespaces: z
    .array(tenant)
    .min(1)
    .max(LIMITS.tokenNamespacesMax)
    .optional()
    .describe('Namespaces that it reaches; as with the token that asks when they are left out.'),
  expiresInSeconds: z
    .int()
    .min(1)
    .max(LIMITS.tokenLifeSeconds)
    .optional()
    .describe('Seconds until it ends; left out: until it is revoked.'),
})

const whoami = {
  id: z.string(),
  name: z.string(),
  role,
  organisation: z.string().meta({ description: '`*` is every organisation.' }),
  namespaces: z.array(z.string()).nullable().meta({ description: 'Null: all of the organisation.' }),
  expiresAt: time.nullable(),
}
export const WhoamiSchema = z.object(whoami).meta({ id: 'Whoami' })
const token = {
  ...whoami,
  state: z.enum(['good', 'expired', 'revoked']),
  createdAt: time,
  createdBy: z.string().nullable(),
  revokedAt: time.nullable(),
  lastUsedAt: time.nullable().meta({ description: 'To the minute.' }),
}
export const TokenViewSchema = z.object(token).meta({ id: 'TokenView' })
export const TokenCreatedSchema = z.object({ ...token, token: z.string() }).meta({ id: 'TokenCreated' })

export const ListTokensQuerySchema = z.strictObject({
  all: flag.optional().describe('Those too that have expired or were revoked.'),
  cursor: cursor.optional(),
  limit: limit.optional(),
})

const word = z.string().min(1).max(100)
export const CanISchema = z.strictObject({
  verb: word.describe('What is to be done, such as `cancel`.'),
  resource: word.describe('With what, such as `runs`.'),
  namespace: tenant.optional().describe('Where; left out: anywhere that the token reaches.'),
})
export const CanIViewSchema = z
  .object({ allowed: z.boolean(), required: z.enum(['none', 'any', ...ROLES]), role, reason: z.string() })
  .meta({ id: 'CanI' })

export const ListAuditQuerySchema = z.strictObject({
  actor: word.optional().describe('By the token of this id.'),
  action: word.optional().describe('Resource and verb, such as `runs.cancel`.'),
  object: z.string().min(1).max(512).optional().describe('About this one.'),
  outcome: z.enum(['done', 'denied']).optional().describe('With this outcome.'),
  namespace: z.string().max(256).optional().describe('In this namespace.'),
  since: z.iso
    .datetime({ offset: true, error: 'must be a time such as 2026-01-31T12:00:00Z' })
    .optional()
    .meta({ title: 'time', description: 'Not older than this.' }),
  cursor: cursor.optional(),
  limit: limit.optional(),
})
export const AuditViewSchema = z
  .object({
    id: z.string(),
    at: time,
    actor: z.object({ id: z.string(), name: z.string().nullable(), role: z.string().nullable() }),
    organisation: z.string(),
    namespace: z.string().nullable(),
    action: z.string().meta({ description: 'Resource and verb, such as runs.cancel.' }),
    object: z.string().nullable(),
    outcome: z.enum(['done', 'denied']),
    address: z.string().nullable(),
    requestId: z.string().nullable(),
    details: z.record(z.string(), z.json()).nullable(),
  })
  .meta({ id: 'AuditView' })
