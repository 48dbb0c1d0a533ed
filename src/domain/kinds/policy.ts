import { z } from 'zod'
import type { JsonObject } from '../../base/json.ts'
import { DATA_KIND_NAMES } from '../agents/data-kinds.ts'
import { DATA_ACTIONS, DATA_PLACES } from '../agents/data-rules.ts'
import { compilePattern } from '../agents/linear-pattern.ts'
import { LIMITS } from '../limits.ts'
import { isObject, type Placed, placedProblem } from '../placed-problem.ts'
import { DEFAULT_NAMESPACE } from './envelope.ts'
import { defineKind, READY } from './kind.ts'
import { approvalOfRule, callsOfRule, namePatterns, reasonOfRule } from './role.ts'
import { parseSelector } from './selector.ts'

const rules = <T extends z.ZodType>(of: T) => z.array(of).min(1).max(LIMITS.rulesMax)

const appliesTo = z.strictObject({
  namespaces: namePatterns
    .optional()
    .describe(
      'Only for a policy of the namespace `default`: the namespaces that it holds in, `*` is any text. Left out, its own.',
    ),
  workflows: namePatterns.optional().describe('Only runs of these workflows; `*` is any text.'),
  agents: namePatterns.optional().describe('Only these agents; `*` is any text.'),
  labels: z
    .string()
    .min(1)
    .max(LIMITS.selectorChars)
    .optional()
    .describe('Only runs with these labels, such as `tier=prod,env in (eu, us)`.'),
})

const models = z.strictObject({
  allowed: namePatterns
    .optional()
    .describe('Only these: names of endpoints, or `PROVIDER/MODEL` with a slash in it; `*` is any text.'),
  denied: namePatterns.optional().describe('None of these; written as `allowed`.'),
  localOnly: z
    .boolean()
    .default(false)
    .describe('No prompt leaves: only endpoints with `local: true`, and the scripted `mock`, are asked.'),
})

const tools = z.strictObject({
  allowed: rules(z.strictObject(callsOfRule))
    .optional()
    .describe('Only these calls. It gives no permission: what roles and defaults say counts besides.'),
  denied: rules(z.strictObject({ ...callsOfRule, reason: reasonOfRule }))
    .optional()
    .describe('None of these calls.'),
  approval: rules(z.strictObject({ ...callsOfRule, ...approvalOfRule, reason: reasonOfRule }))
    .optional()
    .describe('A person decides about each of these calls.'),
  requireRoles: z
    .boolean()
    .default(false)
    .describe('Agents without a role call no tools at all; else the defaults of the tools count for them.'),
})

const delegation = z.strictObject({
  to: namePatterns
    .optional()
    .describe('Agents and workflows that may be given work or be handed the conversation; `*` is any text.'),
  maxDepth: z
    .int()
    .min(0)
    .max(LIMITS.childDepthMax)
    .optional()
    .describe('How deep runs below runs may go; 0: no work is given away.'),
  maxRuns: z
    .int()
    .min(0)
    .max(10_000)
    .optional()
    .describe('Runs that one run may have right below itself; what would be one more is refused.'),
})

const host = z
  .string()
  .max(253)
  .regex(/^(?:(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[?[0-9A-Fa-f]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]?)$/, {
    error: 'must be a host such as api.example.com, or *.example.com for all below it; ports are not told apart',
  })

const data = z.strictObject({
  name: z
    .string()
    .max(63)
    .regex(/^[a-z][a-z0-9-]*$/, { error: 'must be lower-case letters, digits and hyphens' })
    .describe('What the data is called where it is told of, and in what stands for it.'),
  kind: z.enum(DATA_KIND_NAMES).optional().describe('Data that is known; or write a `pattern`.'),
  pattern: z
    .string()
    .min(1)
    .max(LIMITS.dataPatternChars)
    .optional()
    .describe('A regular expression without back references and looking around: it is matched in one pass.'),
  ignoreCase: z.boolean().default(false).describe('For `pattern`: letters of either case.'),
  action: z
    .enum(DATA_ACTIONS)
    .describe(
      '`redact`: a mark stands in its place. `pseudonymise`: a name that means nothing, and the original again in what comes back. `block`: nothing goes on.',
    ),
  on: z
    .array(z.enum(DATA_PLACES))
    .min(1)
    .max(DATA_PLACES.length)
    .default(['prompts'])
    .describe('Where: all that a model is sent, what it answers, what tools are called with.'),
})

export const policySpecSchema = z.strictObject({
  description: z.string().min(1).max(2_000).optional().describe('What it is for.'),
  appliesTo: appliesTo.optional().describe('Whom it holds for; left out, all agents and tool steps of its namespace.'),
  models: models.optional().describe('Which models may be asked.'),
  tools: tools.optional().describe('Which calls of tools may be made.'),
  maxTokens: z
    .int()
    .min(1)
    .optional()
    .describe(
      'Tokens of all requests and answers of one run and those below it together; what would go beyond is refused beforehand.',
    ),
  delegation: delegation.optional().describe('Who may be given work.'),
  egress: z
    .strictObject({
      hosts: z.array(host).max(LIMITS.rulesMax).describe('Hosts that tools may call; `*.` before one is all below it.'),
      unconfined: z
        .enum(['deny', 'allow'])
        .default('deny')
        .describe(
          'What becomes of calls of programs that make connections of their own, which nobody looks at: commands with `isolation: none`, MCP servers over stdio outside a sandbox.',
        ),
    })
    .optional()
    .describe('Where tools may call; models are called where their endpoints are.'),
  data: rules(data).optional().describe('Data that does not go on as it is.'),
})

/** A spec as rules use it: defaults filled in, durations in milliseconds. */
export type PolicySpec = z.infer<typeof policySpecSchema>

/** Of a spec that was checked when it was stored. Throws when a later build no longer takes it. */
export const readPolicy = (spec: JsonObject): PolicySpec => policySpecSchema.parse(spec)

const problem = (message: string, ...path: (string | number)[]): Placed =>
  placedProblem('manifest.invalid', message, ['spec', ...path])

const PARTS = ['models', 'tools', 'maxTokens', 'delegation', 'egress', 'data'] as const

/** What the schema cannot say: which fields go together, and what cannot be meant. */
function crossCheck(spec: JsonObject, _: string | null, namespace: string | null): Placed[] {
  const found: Placed[] = []
  if (PARTS.every((part) => spec[part] === undefined))
    found.push(problem(`says nothing: name ${PARTS.slice(0, -1).join(', ')} or ${PARTS.at(-1)}`))
  for (const part of ['models', 'tools', 'delegation', 'appliesTo'] as const) {
    const value = spec[part]
    if (isObject(value) && Object.keys(value).length === 0) found.push(problem('says nothing', part))
  }
  const selector = isObject(spec['appliesTo']) ? spec['appliesTo'] : {}
  if (selector['namespaces'] !== undefined && namespace !== null && namespace !== DEFAULT_NAMESPACE)
    found.push({
      ...problem(
        `is for a policy of the namespace ${DEFAULT_NAMESPACE}; this one holds in ${namespace}`,
        'appliesTo',
        'namespaces',
      ),
      at: 'key',
    })
  if (typeof selector['labels'] === 'string') {
    const parsed = parseSelector(selector['labels'])
    if (parsed.kind === 'wrong') found.push(problem(parsed.message, 'appliesTo', 'labels'))
  }
  found.push(...dataProblems(spec['data']))
  return found
}

function dataProblems(data: unknown): Placed[] {
  if (!Array.isArray(data)) return []
  const names = data.map((one: unknown) => (isObject(one as JsonObject) ? (one as JsonObject)['name'] : null))
  return data.flatMap((one: unknown, i) => {
    const rule = one as JsonObject
    if (!isObject(rule)) return []
    const found: Placed[] = []
    const { kind, pattern, name } = rule
    if (typeof name === 'string' && names.indexOf(name) < i) found.push(problem('is there twice', 'data', i, 'name'))
    if (kind === undefined && pattern === undefined)
      found.push(problem('finds nothing: name a kind or a pattern', 'data', i))
    if (kind !== undefined && pattern !== undefined)
      found.push(problem('cannot stand beside kind', 'data', i, 'pattern'))
    if (kind !== undefined && rule['ignoreCase'] !== undefined)
      found.push({ ...problem('is for a pattern', 'data', i, 'ignoreCase'), at: 'key' })
    if (typeof pattern === 'string') {
      const compiled = compilePattern(pattern, { ignoreCase: rule['ignoreCase'] === true })
      if (compiled.kind === 'wrong') found.push(problem(compiled.message, 'data', i, 'pattern'))
    }
    if (rule['action'] === 'pseudonymise' && Array.isArray(rule['on']) && rule['on'].some((on) => on !== 'prompts'))
      found.push(problem('must be prompts alone: what is pseudonymised comes back from a model', 'data', i, 'on'))
    return found
  })
}

export const policyKind = defineKind({
  kind: 'Policy',
  plural: 'policies',
  shortNames: ['pol'],
  summary: 'What agents may not do, whatever their roles say: models, tools, tokens, delegation, egress and data.',
  spec: policySpecSchema,
  crossCheck,
  columns: [
    { title: 'GOVERNS', text: ({ spec }) => PARTS.filter((part) => spec[part] !== undefined).join(',') },
    { title: 'APPLIES TO', text: ({ spec }) => appliesText(spec['appliesTo']) },
  ],
  statusOf: () => ({ phase: 'ready', conditions: [READY] }),
})

const appliesText = (selector: unknown): string =>
  isObject(selector as JsonObject)
    ? Object.entries(selector as JsonObject)
        .map(([key, value]) => `${key}: ${Array.isArray(value) ? value.join(',') : String(value)}`)
        .join('; ')
    : 'all'
