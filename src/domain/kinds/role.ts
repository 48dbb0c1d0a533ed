import { z } from 'zod'
import type { JsonObject } from '../../base/json.ts'
import { OPERATION_CLASSES } from '../agents/verdict.ts'
import { LIMITS } from '../limits.ts'
import { isObject, type Placed, placedProblem } from '../placed-problem.ts'
import { positiveDuration } from '../schema.ts'
import { defineKind, READY } from './kind.ts'

/** Names, or patterns in which `*` is any text. */
export const namePatterns = z.array(z.string().min(1).max(256)).min(1).max(LIMITS.rulesMax)

/** Which calls a rule is about. */
export const callsOfRule = {
  tools: namePatterns.describe(
    'Tools as agents call them, `SERVER.TOOL` for those of MCP servers; `*` in a name is any text.',
  ),
  operations: z
    .array(z.enum(OPERATION_CLASSES))
    .min(1)
    .max(OPERATION_CLASSES.length)
    .optional()
    .describe('Only calls of these classes; left out, of all.'),
}

export const reasonOfRule = z.string().min(1).max(500).optional().describe('Why; shown to the model and to people.')

/** Who decides about calls that wait for a person, and how long there is time. */
export const approvalOfRule = {
  approvers: z
    .array(z.string().min(1).max(253))
    .min(1)
    .max(64)
    .optional()
    .describe('For `approval`: names of tokens or roles that may decide; left out, all who may decide approvals.'),
  expires: positiveDuration.optional().describe('For `approval`: after this an undecided call counts as denied.'),
}

export const roleSpecSchema = z.strictObject({
  description: z.string().min(1).max(2_000).optional().describe('What it is for.'),
  permissions: z
    .array(
      z.strictObject({
        tools: callsOfRule.tools,
        operations: z.array(z.enum(OPERATION_CLASSES)).min(1).max(OPERATION_CLASSES.length).describe('These classes.'),
      }),
    )
    .min(1)
    .max(LIMITS.rulesMax)
    .optional()
    .describe('Calls that an agent of this role may make. What no role of it permits or allows is denied.'),
  rules: z
    .array(
      z.strictObject({
        ...callsOfRule,
        verdict: z
          .enum(['allow', 'deny', 'approval'])
          .describe('`approval`: a person decides about each call. Deny beats approval, and approval beats allow.'),
        ...approvalOfRule,
        reason: reasonOfRule,
      }),
    )
    .min(1)
    .max(LIMITS.rulesMax)
    .optional()
    .describe('What is said of some calls besides.'),
})

/** A spec as rules use it: durations in milliseconds. */
export type RoleSpec = z.infer<typeof roleSpecSchema>

/** Of a spec that was checked when it was stored. Throws when a later build no longer takes it. */
export const readRole = (spec: JsonObject): RoleSpec => roleSpecSchema.parse(spec)

const problem = (message: string, ...path: (string | number)[]): Placed =>
  placedProblem('manifest.invalid', message, ['spec', ...path])

/** What the schema cannot say: which fields go together. */
function crossCheck(spec: JsonObject): Placed[] {
  if (spec['permissions'] === undefined && spec['rules'] === undefined)
    return [problem('permits nothing and says nothing: name permissions or rules')]
  const rules = Array.isArray(spec['rules']) ? spec['rules'] : []
  return rules.flatMap((rule, i) => {
    if (!isObject(rule)) return []
    const found: Placed[] = []
    if (rule['verdict'] !== 'approval')
      for (const key of ['approvers', 'expires'])
        if (rule[key] !== undefined)
          found.push({ ...problem('is for the verdict approval', 'rules', i, key), at: 'key' })
    // To deny all classes by leaving them out is careful; to allow them is not.
    if (rule['verdict'] === 'allow' && rule['operations'] === undefined)
      found.push(problem('is required where calls are allowed: name the classes', 'rules', i, 'operations'))
    return found
  })
}

const countOf = (value: unknown): string => String(Array.isArray(value) ? value.length : 0)

export const roleKind = defineKind({
  kind: 'Role',
  plural: 'roles',
  shortNames: [],
  summary: 'What agents of this role may call: permissions by tool and class of operation, and rules beside them.',
  spec: roleSpecSchema,
  crossCheck,
  columns: [
    { title: 'PERMISSIONS', align: 'right', text: ({ spec }) => countOf(spec['permissions']) },
    { title: 'RULES', align: 'right', text: ({ spec }) => countOf(spec['rules']) },
  ],
  statusOf: () => ({ phase: 'ready', conditions: [READY] }),
})
