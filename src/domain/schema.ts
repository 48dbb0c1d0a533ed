import { z } from 'zod'
import { parseDuration } from '../base/duration.ts'
import type { Json, JsonObject } from '../base/json.ts'
import { FAILURES } from './failures.ts'
import { envelopeOf } from './kinds/envelope.ts'
import { keysOfSchema } from './kinds/known-keys.ts'
import { LIMITS } from './limits.ts'
import { SECRET_KEY, SECRET_NAME } from './secrets.ts'

/** Longest delay that timers and the store's intervals take. */
const DURATION_MAX_MS = 365 * 24 * 3_600_000

const duration = z
  .string({ error: 'must be a duration such as 30s, 5m or 1h30m' })
  .refine((text) => parseDuration(text) !== null, {
    error: 'is no duration; write for example 500ms, 30s, 5m or 1h30m',
    abort: true,
  })
  .transform((text) => parseDuration(text) ?? 0)
  .refine((ms) => ms <= DURATION_MAX_MS, { error: 'is longer than a year' })

const positiveDuration = duration.refine((ms) => ms > 0, { error: 'must be longer than nothing' })

const stepName = z
  .string()
  .max(63, { error: 'is longer than 63 characters' })
  .regex(/^[A-Za-z][A-Za-z0-9_-]*$/, { error: 'must start with a letter and have letters, digits, _ and - only' })

const moduleName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_-]*$/, { error: 'must be a name of letters, digits, _ and -' })

const json = z.custom<Json>((value) => value !== undefined)
const jsonSchema = z.custom<JsonObject>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  {
    error: 'must be a JSON Schema object',
  },
)
const labels = z.record(z.string().min(1).max(253), z.string().max(253))
const expression = z.preprocess((value) => (typeof value === 'boolean' ? String(value) : value), z.string())

const failureCode = z.enum(Object.keys(FAILURES) as [string, ...string[]]) // the catalogue is not empty

const retryObject = z.strictObject({
  max: z.int().min(0).max(1_000).default(0),
  initial: duration.default(500),
  maxDelay: duration.default(30_000),
  factor: z.number().min(1).max(100).default(2),
  jitter: z.number().min(0).max(1).default(0.2),
  on: z.array(failureCode).min(1).nullable().default(null),
})
const retry = z.preprocess((value) => (typeof value === 'number' ? { max: value } : value), retryObject)

const command = z.preprocess(
  (value) => (typeof value === 'string' ? ['sh', '-c', value] : value),
  z.array(z.string(), { error: 'must be a list of arguments, or one string for the shell' }).min(1),
)

/** Neither from the root nor upwards. */
const isBelow = (pattern: string): boolean =>
  !pattern.startsWith('/') && !pattern.includes('\\') && !pattern.split('/').includes('..')

const artifactObject = z.strictObject({
  path: z
    .string()
    .min(1)
    .max(LIMITS.artifactNameChars)
    .refine(isBelow, { error: 'must be a pattern below the workspace, such as dist/**' }),
  retention: positiveDuration.default(LIMITS.artifactRetentionMs),
  when: z.enum(['success', 'always']).default('success'),
  optional: z.boolean().default(false),
})
const artifact = z.preprocess((value) => (typeof value === 'string' ? { path: value } : value), artifactObject)
const secretRef = z.strictObject(
  {
    secret: z.string().regex(SECRET_NAME, {
      error: 'must be the name of a secret: lower-case letters, digits and hyphens',
    }),
    key: z.string().regex(SECRET_KEY, { error: 'must be a key of letters, digits, _, . and -' }),
  },
  { error: 'must name a secret and one of its keys: { secret: github, key: token }' },
)
const variableName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: 'is no name of a variable' })

const stepSchema = z.strictObject({
  name: stepName,
  function: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_-]*\.[A-Za-z_$][A-Za-z0-9_$]*$/, {
      error: 'must be module.function, such as report.languages',
    })
    .optional(),
  with: json.optional(),
  command: command.optional(),
  env: z
    .record(
      variableName,
      z.union([z.string({ error: 'must be a string; quote it' }), secretRef], { error: 'must be a string; quote it' }),
    )
    .optional(),
  secrets: z.record(variableName, secretRef).optional(),
  stdin: z.string().optional(),
  workdir: z.string().min(1).optional(),
  keepOnFailure: duration.optional(),
  artifacts: z.array(artifact).min(1).max(LIMITS.artifactRulesMax).optional(),
  needs: z.array(z.string()).max(LIMITS.needsMax).default([]),
  if: expression.optional(),
  forEach: z
    .union([z.string(), z.array(json)], { error: 'must be a list, or an expression that gives one' })
    .optional(),
  maxParallel: z.int().min(1).max(LIMITS.forEachItemsMax).optional(),
  retry: retry.default({ max: 0, initial: 500, maxDelay: 30_000, factor: 2, jitter: 0.2, on: null }),
  timeout: positiveDuration.optional(),
  queueTimeout: positiveDuration.optional(),
  outputSchema: jsonSchema.optional(),
  onFailure: z.enum(['fail', 'continue']).default('fail'),
  repeatable: z.boolean().default(true),
  runsOn: labels.default({}),
})

const FUNCTION_ONLY = ['with', 'secrets'] as const
const COMMAND_ONLY = ['env', 'stdin', 'workdir', 'keepOnFailure', 'artifacts'] as const

/** What is wrong between the keys of a step, whatever else is wrong with it. `key` is null when it is the step as a whole. */
export function conflictsOf(step: Record<string, unknown>): { key: string | null; message: string }[] {
  const has = (key: string): boolean => step[key] !== undefined
  const conflicts: { key: string | null; message: string }[] = []
  if (!has('function') && !has('command')) conflicts.push({ key: null, message: 'needs one of function and command' })
  if (has('function') && has('command'))
    conflicts.push({ key: 'command', message: 'stands beside function; keep one of them' })
  if (!has('command'))
    for (const key of COMMAND_ONLY) if (has(key)) conflicts.push({ key, message: 'is for steps with a command only' })
  if (!has('function'))
    for (const key of FUNCTION_ONLY) if (has(key)) conflicts.push({ key, message: 'is for steps with a function only' })
  const named = Object.values({ ...membersOf(step['env']), ...membersOf(step['secrets']) })
  const count = named.filter((value) => typeof value === 'object').length
  if (count > LIMITS.secretKeysMax)
    conflicts.push({ key: null, message: `names ${count} secrets; the limit is ${LIMITS.secretKeysMax}` })
  if (has('maxParallel') && !has('forEach'))
    conflicts.push({ key: 'maxParallel', message: 'is for steps with forEach only' })
  return conflicts
}

/** Which workflows start: `active` ones, `deprecated` ones with a warning; no run starts from a `draft` or an `archived` one. */
export const LIFECYCLES = ['draft', 'active', 'deprecated', 'archived'] as const
export type Lifecycle = (typeof LIFECYCLES)[number]

const membersOf = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? { ...value } : {}

export const workflowSpecSchema = z.strictObject({
  lifecycle: z.enum(LIFECYCLES).default('active'),
  modules: z.record(moduleName, z.string().min(1)).optional(),
  inputs: jsonSchema.optional(),
  failFast: z.boolean().default(false),
  steps: z.array(stepSchema, { error: 'must be a list of steps' }).min(1, { error: 'has no steps' }),
})

/** The manifest of a workflow. Strict: an unknown key is an error. */
export const workflowSchema = envelopeOf('Workflow', workflowSpecSchema)

export type WorkflowManifest = z.output<typeof workflowSchema>
export type StepManifest = z.output<typeof stepSchema>

/** The keys that belong at a place of the manifest; what an unknown one was probably meant to be is among them. */
export const knownKeysAt = (path: readonly PropertyKey[]): string[] => keysOfSchema(workflowSchema, path)
