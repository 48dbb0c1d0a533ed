import { z } from 'zod'
import { parseDuration } from '../base/duration.ts'
import type { Json, JsonObject } from '../base/json.ts'
import { FAILURES } from './failures.ts'
import { dnsName, envelopeOf } from './kinds/envelope.ts'
import { keysOfSchema } from './kinds/known-keys.ts'
import { isFilePattern } from './file-pattern.ts'
import { LIMITS } from './limits.ts'
import { SECRET_KEY, SECRET_NAME } from './secrets.ts'
import { WORKFLOW_REF } from './workflow-ref.ts'
import { isPathBelow } from './wanted-files.ts'

/** Longest delay that timers and the store's intervals take. */
const DURATION_MAX_MS = 365 * 24 * 3_600_000

export const duration = z
  .string({ error: 'must be a duration such as 30s, 5m or 1h30m' })
  .refine((text) => parseDuration(text) !== null, {
    error: 'is no duration; write for example 500ms, 30s, 5m or 1h30m',
    abort: true,
  })
  .transform((text) => parseDuration(text) ?? 0)
  .refine((ms) => ms <= DURATION_MAX_MS, { error: 'is longer than a year' })
  .meta({ title: 'duration' })

export const positiveDuration = duration
  .refine((ms) => ms > 0, { error: 'must be longer than nothing' })
  .meta({ title: 'duration' })

const stepName = z
  .string()
  .max(63, { error: 'is longer than 63 characters' })
  .regex(/^[A-Za-z][A-Za-z0-9_-]*$/, { error: 'must start with a letter and have letters, digits, _ and - only' })

const moduleName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_-]*$/, { error: 'must be a name of letters, digits, _ and -' })

const json = z.custom<Json>((value) => value !== undefined).meta({ title: 'any JSON' })
const jsonSchema = z
  .custom<JsonObject>((value) => typeof value === 'object' && value !== null && !Array.isArray(value), {
    error: 'must be a JSON Schema object',
  })
  .meta({ title: 'JSON Schema' })
const labels = z.record(z.string().min(1).max(253), z.string().max(253))
const expression = z
  .preprocess((value) => (typeof value === 'boolean' ? String(value) : value), z.string())
  .meta({ title: 'expression' })

const failureCode = z.enum(Object.keys(FAILURES) as [string, ...string[]]).meta({ title: 'failure code' }) // the catalogue is not empty

const retryObject = z.strictObject({
  max: z.int().min(0).max(1_000).default(0).describe('Further tries after the first one failed.'),
  initial: duration.default(500).describe('Delay before the first further try.'),
  maxDelay: duration.default(30_000).describe('Longest delay between two tries.'),
  factor: z.number().min(1).max(100).default(2).describe('By what the delay grows from try to try.'),
  jitter: z
    .number()
    .min(0)
    .max(1)
    .default(0.2)
    .describe('Share of the delay that is left to chance, so that what failed together does not come back together.'),
  on: z
    .array(failureCode)
    .min(1)
    .nullable()
    .default(null)
    .describe('Codes of failures that are tried again; left out: all but those that the catalogue says fail again.'),
})
const retry = z.preprocess((value) => (typeof value === 'number' ? { max: value } : value), retryObject)

const command = z.preprocess(
  (value) => (typeof value === 'string' ? ['sh', '-c', value] : value),
  z.array(z.string(), { error: 'must be a list of arguments, or one string for the shell' }).min(1),
)

/** One command, or several; each as `command` has it. */
const commands = z.preprocess(
  (value) => (typeof value === 'string' ? [value] : value),
  z.array(command, { error: 'must be a command, or a list of commands' }).min(1).max(LIMITS.stageCommandsMax),
)

/** Neither from the root nor upwards. */
const isBelow = (pattern: string): boolean =>
  !pattern.startsWith('/') && !pattern.includes('\\') && !pattern.split('/').includes('..')

const artifactObject = z.strictObject({
  path: z
    .string()
    .min(1)
    .max(LIMITS.artifactNameChars)
    .refine(isBelow, { error: 'must be a pattern below the workspace, such as dist/**' })
    .describe('Pattern of files below the workspace; `**` goes through folders. Links are not followed.'),
  retention: positiveDuration.default(LIMITS.artifactRetentionMs).describe('How long the files are kept.'),
  when: z.enum(['success', 'always']).default('success').describe('`always`: also when the command failed.'),
  optional: z
    .boolean()
    .default(false)
    .describe('Nothing fits and it is no failure; else the step fails with `artifact.none_found`.'),
})
const artifact = z.preprocess((value) => (typeof value === 'string' ? { path: value } : value), artifactObject)
const fileWant = z.strictObject({
  from: z.string().describe('Step that left the files; it has to be upstream.'),
  path: z
    .string()
    .min(1)
    .max(LIMITS.artifactNameChars)
    .refine(isBelow, { error: 'must be a pattern over the names of files, such as dist/**' })
    .refine(isFilePattern, {
      error:
        'knows *, ? and ** only: no braces, no brackets and no groups; ? stands for any one character, also for one of those',
    })
    .default('**')
    .describe('Pattern of `*`, `?` and `**` over the names that the files were left under.'),
  to: z
    .string()
    .max(LIMITS.artifactNameChars)
    .refine(isBelow, { error: 'must be a folder below the workspace, such as in/', abort: true })
    .transform((path) => path.replace(/\/+$/, ''))
    .refine((path) => path === '' || isPathBelow(path), {
      error: 'must be a folder below the workspace, such as in/',
    })
    .default('')
    .describe('Folder below the workspace that they are put into, under their own names.'),
  optional: z
    .boolean()
    .default(false)
    .describe('Nothing fits and it is no failure; else the step fails with `files.none_found`.'),
})
const outputFile = z.strictObject({
  file: z
    .string()
    .min(1)
    .max(LIMITS.artifactNameChars)
    .refine(isBelow, { error: 'must be a path below the workspace, such as out/report.json' })
    .describe('Path of the file below the workspace.'),
  as: z.enum(['json', 'text']).default('json').describe('What the file holds.'),
})
const output = z.union([z.enum(['json', 'text', 'files']), outputFile], {
  error: 'must be json, text, files or { file: PATH }',
})
export const secretRef = z.strictObject(
  {
    secret: z
      .string()
      .regex(SECRET_NAME, {
        error: 'must be the name of a secret: lower-case letters, digits and hyphens',
      })
      .describe('Name of a secret in the namespace of the workflow.'),
    key: z
      .string()
      .regex(SECRET_KEY, { error: 'must be a key of letters, digits, _, . and -' })
      .describe('One of its keys.'),
  },
  { error: 'must name a secret and one of its keys: { secret: github, key: token }' },
)
const variableName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: 'is no name of a variable' })
const template = z.string().min(1, { error: 'is empty' })
const hasTemplate = (text: string): boolean => text.includes('${{')
const durationOrTemplate = z.string().refine((text) => hasTemplate(text) || parseDuration(text) !== null, {
  error: 'is no duration; write for example 30s, 5m or 1h30m, or one ${{ }} that gives such a text',
})
/** A time with its zone: without one it would mean something else on each machine. */
export const RFC_3339 = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/
const timeOrTemplate = z
  .string()
  .refine((text) => hasTemplate(text) || (RFC_3339.test(text) && !Number.isNaN(Date.parse(text))), {
    error: 'is no time such as 2026-01-31T08:00:00Z',
  })

const waitObject = z.strictObject({
  duration: durationOrTemplate.optional().describe('A time that goes by, such as 30s, or a template that gives one.'),
  until: timeOrTemplate
    .optional()
    .describe('A moment with its zone, such as 2026-01-31T08:00:00Z, or a template that gives one.'),
  event: template
    .max(256, { error: 'is longer than 256 characters' })
    .optional()
    .describe('Name of an event that is sent to the run.'),
  match: expression
    .optional()
    .describe('Which such event: an expression over `event`. One that lacks what is read does not match.'),
  timeout: positiveDuration.optional().describe('Without an event in time the step fails with `wait.timed_out`.'),
})
const wait = z.preprocess((value) => (typeof value === 'string' ? { duration: value } : value), waitObject)

const approvalObject = z.strictObject({
  message: template
    .max(LIMITS.approvalMessageChars, { error: 'is too long for a question' })
    .describe('What is asked; a template.'),
  approvers: z
    .array(z.string().min(1).max(253))
    .min(1, { error: 'names nobody; leave it out to let anybody decide' })
    .optional()
    .describe('Names of tokens, or roles, that may decide; left out: whoever may decide approvals.'),
  expires: positiveDuration.optional().describe('When nobody has decided by then, `default` counts.'),
  default: z.enum(['approve', 'deny']).optional().describe('What counts after `expires`; `deny` when it is left out.'),
  inputs: jsonSchema.optional().describe('What is given along with an approval; JSON Schema with defaults.'),
})
const approval = z.preprocess((value) => (typeof value === 'string' ? { message: value } : value), approvalObject)

const join = z.union(
  [
    z.enum(['all', 'any']),
    z.strictObject({ count: z.int().min(1).max(LIMITS.needsMax).describe('So many needs must have ended well.') }),
    z.strictObject({
      percent: z.number().gt(0).max(100).describe('So large a share of the needs must have ended well.'),
    }),
  ],
  { error: 'must be all, any, { count: 2 } or { percent: 50 }' },
)

const list = z.union([z.string(), z.array(json)], { error: 'must be a list, or an expression that gives one' })
const matrix = z
  .looseObject({
    include: list.optional().describe('Combinations that are added.'),
    exclude: list.optional().describe('Combinations that are left out.'),
  })
  .refine((value) => Object.entries(value).every(([key, axis]) => isListed(key, axis)), {
    error: 'each axis must be a list, or one ${{ }} that gives one',
  })
  .refine((value) => Object.keys(value).every((key) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(key)), {
    error: 'the name of an axis has letters, digits and _',
  })
const isListed = (key: string, axis: unknown): boolean =>
  key === 'include' || key === 'exclude' || Array.isArray(axis) || typeof axis === 'string'

const loopObject = z.strictObject({
  until: expression.describe(
    'Ends the loop when it holds; `turn.output` is what this turn gave, `turn.index` counts from 0.',
  ),
  max: z
    .int()
    .min(1)
    .max(LIMITS.loopTurnsMax)
    .describe('Turns at most; after that the step fails with `loop.limit_reached`.'),
})

const way = z.union(
  [
    z.string(),
    z.strictObject({
      step: z.string().describe('Name of the step.'),
      if: expression.optional().describe('It follows when this holds; `steps` and `turn` are as the turn left them.'),
    }),
  ],
  { error: 'must be the name of a step, or { step, if }' },
)
const next = z.preprocess(
  (value) => (typeof value === 'string' ? [value] : value),
  z
    .array(way, { error: 'must be the name of a step, or a list of names and of { step, if }' })
    .min(1, { error: 'names no step; leave it out' })
    .max(LIMITS.ringStepsMax),
)
const maxTurns = z.int().min(1).max(LIMITS.turnsMax)

const routeObject = z.strictObject({
  model: dnsName.describe('Name of a ModelEndpoint of the same namespace.'),
  question: template
    .max(LIMITS.promptChars, { error: 'is too long for a question' })
    .describe('What is to be sent the right way; a template.'),
  to: z
    .record(stepName, z.string().min(1, { error: 'says nothing: what is the step for?' }).max(2_000))
    .refine((to) => Object.keys(to).length > 0, { error: 'names no step' })
    .refine((to) => Object.keys(to).length <= LIMITS.routesMax, {
      error: `names more than ${LIMITS.routesMax} steps`,
    })
    .describe(
      'Steps to choose from, each with what it is for. They need this one; those that are not chosen are skipped.',
    ),
  fallback: stepName
    .optional()
    .describe('Step that is taken when the model names none of them; left out: the step fails.'),
})

const stepSchema = z.strictObject({
  name: stepName.describe('How the step is called; unique in the workflow.'),
  function: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_-]*\.[A-Za-z_$][A-Za-z0-9_$]*$/, {
      error: 'must be module.function, such as report.languages',
    })
    .optional()
    .describe('Calls an exported function of a module: `module.function`.'),
  with: json
    .optional()
    .describe('Input of the function, of the agent, of the tool or of the run below; templates are filled in.'),
  agent: dnsName
    .optional()
    .describe(
      "Runs the turns of an agent of the same namespace. Its output is the value of the agent's `outputSchema`, else `{ text }`.",
    ),
  tool: dnsName.optional().describe('Calls a tool of the same namespace once, with `with` as its input.'),
  route: routeObject
    .optional()
    .describe('A model picks one of several steps, and the others are skipped. Its output is `{ route, reason }`.'),
  command: command
    .optional()
    .describe(
      'A list of arguments, or one line for the shell. Runs in a workspace of its own; JSON left in the file `$ORRERY_OUTPUT` is its output, else `{ exitCode: 0 }`.',
    ),
  env: z
    .record(
      variableName,
      z.union([z.string({ error: 'must be a string; quote it' }), secretRef], { error: 'must be a string; quote it' }),
    )
    .optional()
    .describe('Variables of the command: a text, or one key of a secret.'),
  secrets: z
    .record(variableName, secretRef)
    .optional()
    .describe('Keys of secrets that the function gets as `context.secrets`.'),
  stdin: z.string().optional().describe('What the command reads from standard input.'),
  workdir: z.string().min(1).optional().describe('Directory that the command runs in, in place of its own workspace.'),
  keepOnFailure: duration.optional().describe('How long the workspace of a failed command is kept.'),
  artifacts: z
    .array(artifact)
    .min(1)
    .max(LIMITS.artifactRulesMax)
    .optional()
    .describe('Files below the workspace that the command leaves; a pattern alone is `path`.'),
  files: z
    .array(fileWant)
    .min(1)
    .max(LIMITS.artifactRulesMax)
    .optional()
    .describe(
      'Files of earlier steps: in the workspace of a command before it runs, in `context.files` of a function.',
    ),
  setUp: commands
    .optional()
    .describe('Commands before it, in the same workspace; one, or a list. The first that fails fails the step.'),
  tearDown: commands.optional().describe('Commands after it, whatever happened; they change no outcome.'),
  tearDownTimeout: positiveDuration
    .refine((ms) => ms <= LIMITS.tearDownMaxMs, { error: 'is longer than a day' })
    .optional()
    .describe(`How long all of the tear-down together may take; ${LIMITS.tearDownMs / 1000} s when left out.`),
  output: output
    .optional()
    .describe(
      'What becomes the output: what is printed (`json`, `text`), a file, or the list of its artifacts (`files`). Left out: the JSON written to `$ORRERY_OUTPUT`.',
    ),
  exportEnv: z
    .boolean()
    .default(false)
    .describe('What is written to `$ORRERY_ENV` becomes variables of the commands behind it.'),
  wait: wait.optional().describe('Waits for a time or an event and holds no worker; a text alone is `duration`.'),
  approval: approval.optional().describe('Asks a person; a text alone is `message`.'),
  workflow: z
    .string()
    .regex(WORKFLOW_REF, { error: 'must be the name of a workflow, such as deploy, deploy@2 or ops/deploy' })
    .optional()
    .describe(
      'Runs a stored workflow below this run: its latest active version, `NAME@2` that version, `NAMESPACE/NAME` of another namespace.',
    ),
  definition: z
    .string()
    .regex(/^[A-Za-z0-9_-]{43}$/, { error: 'must be the hash of a stored definition' })
    .optional()
    .describe('Runs a stored definition below this run, by its hash.'),
  needs: z.array(z.string()).max(LIMITS.needsMax).default([]).describe('Steps that must end well before.'),
  join: join.default('all').describe('How many of its needs are enough: `all`, `any`, `{ count }` or `{ percent }`.'),
  rest: z
    .enum(['finish', 'cancel'])
    .optional()
    .describe('What becomes of needs that are open when a join of some fires: they end, or are canceled.'),
  if: expression.optional().describe('A condition; when it is false the step is skipped.'),
  matrix: matrix.optional().describe('One activation for each combination of the lists of its axes.'),
  loop: loopObject.optional().describe('Takes turns until a condition holds.'),
  next: next
    .optional()
    .describe('Steps that take a turn after each turn of this one, all whose condition holds; a way may lead back.'),
  maxTurns: maxTurns.optional().describe('Turns that it may take, instead of what the workflow says.'),
  forEach: z
    .union([z.string(), z.array(json)], { error: 'must be a list, or an expression that gives one' })
    .optional()
    .describe('One activation for each item; the output is the list of their outputs in order.'),
  maxParallel: z
    .int()
    .min(1)
    .max(LIMITS.forEachItemsMax)
    .optional()
    .describe('Activations at once; left out: as many as workers take.'),
  retry: retry
    .default({ max: 0, initial: 500, maxDelay: 30_000, factor: 2, jitter: 0.2, on: null })
    .describe('How often and when a failed try is repeated; a number alone is `max`.'),
  timeout: positiveDuration
    .optional()
    .describe(
      'How long one try may run; then it fails with `step.timed_out`. Of an agent, a tool or a route: how long all attempts of the try may work together, so that a worker that is lost gives it no time anew; what it waits is not counted.',
    ),
  queueTimeout: positiveDuration
    .optional()
    .describe('How long a try may wait for a worker; then it fails with `dispatch.expired`.'),
  outputSchema: jsonSchema
    .optional()
    .describe('What the output must fit, else the step fails with `output.schema_violation`.'),
  onFailure: z
    .enum(['fail', 'continue'])
    .default('fail')
    .describe('`continue`: its failure counts as success for what follows.'),
  repeatable: z
    .boolean()
    .default(true)
    .describe(
      '`false`: its effects must not be repeated lightly; the result goes to the disk of the worker before it is sent.',
    ),
  runsOn: labels.default({}).describe('Labels that a worker must have; `worker` names one worker.'),
})

/** What a step does: it has exactly one of these. */
const KINDS = ['function', 'command', 'agent', 'tool', 'route', 'wait', 'approval', 'workflow', 'definition'] as const
/** Keys that only some kinds take. */
const KINDS_OF: Record<string, readonly (typeof KINDS)[number][]> = {
  with: ['function', 'agent', 'tool', 'workflow', 'definition'],
  env: ['command'],
  secrets: ['function'],
  stdin: ['command'],
  workdir: ['command'],
  keepOnFailure: ['command'],
  artifacts: ['command'],
  files: ['function', 'command'],
  setUp: ['command'],
  tearDown: ['command'],
  tearDownTimeout: ['command'],
  output: ['command'],
  exportEnv: ['command'],
  retry: ['function', 'command', 'agent', 'tool', 'route', 'workflow', 'definition'],
  timeout: ['function', 'command', 'agent', 'tool', 'route', 'workflow', 'definition'],
  queueTimeout: ['function', 'command', 'agent', 'tool', 'route'],
  repeatable: ['function', 'command'],
  runsOn: ['function', 'command', 'agent', 'tool', 'route'],
  outputSchema: ['function', 'command', 'agent', 'tool', 'workflow', 'definition'],
}
const SPREADS = ['forEach', 'matrix', 'loop'] as const

interface Conflict {
  /** Null when it is the step as a whole. */
  key: string | null
  message: string
}

/** What is wrong between the keys of a step, whatever else is wrong with it. */
export function conflictsOf(step: Record<string, unknown>): Conflict[] {
  const has = (key: string): boolean => step[key] !== undefined
  const conflicts: Conflict[] = []
  const kinds = KINDS.filter(has)
  const [kind] = kinds
  if (kind === undefined)
    conflicts.push({ key: null, message: `needs one of ${KINDS.slice(0, -1).join(', ')} and ${KINDS.at(-1) ?? ''}` })
  for (const other of kinds.slice(1))
    conflicts.push({ key: other, message: `stands beside ${kind ?? ''}; keep one of them` })
  for (const [key, allowed] of Object.entries(KINDS_OF))
    if (has(key) && !kinds.some((k) => allowed.includes(k)))
      conflicts.push({ key, message: `is for steps with ${anyOf(allowed)} only` })
  const [spread, ...others] = SPREADS.filter(has)
  for (const other of others)
    conflicts.push({ key: other, message: `stands beside ${spread ?? ''}; keep one of forEach, matrix and loop` })
  if (has('maxParallel') && !has('forEach') && !has('matrix'))
    conflicts.push({ key: 'maxParallel', message: 'is for steps with forEach or matrix only' })
  if (has('tearDownTimeout') && !has('tearDown'))
    conflicts.push({ key: 'tearDownTimeout', message: 'is for steps with a tearDown only' })
  if (step['output'] === 'files' && !has('artifacts'))
    conflicts.push({ key: 'output', message: 'lists what artifacts names, which is missing' })
  if (step['exportEnv'] === true && spread !== undefined)
    conflicts.push({
      key: 'exportEnv',
      message: `stands beside ${spread}: several of one step cannot hand on the same variables`,
    })
  const named = Object.values({ ...membersOf(step['env']), ...membersOf(step['secrets']) })
  const count = named.filter((value) => typeof value === 'object').length
  if (count > LIMITS.secretKeysMax)
    conflicts.push({ key: null, message: `names ${count} secrets; the limit is ${LIMITS.secretKeysMax}` })
  return [
    ...conflicts,
    ...agentConflicts(step),
    ...joinConflicts(step),
    ...waitConflicts(step['wait']),
    ...approvalConflicts(step['approval']),
  ]
}

/** Such as `a function or a command`. */
const anyOf = (kinds: readonly string[]): string => {
  const all = kinds.map((kind) => (kind === 'agent' || kind === 'approval' ? `an ${kind}` : `a ${kind}`))
  return [all.slice(0, -1).join(', '), ...all.slice(-1)].filter((text) => text !== '').join(' or ')
}

function agentConflicts(step: Record<string, unknown>): Conflict[] {
  const conflicts: Conflict[] = []
  if (step['agent'] !== undefined && step['with'] === undefined)
    conflicts.push({ key: 'agent', message: 'stands without with: what is it asked?' })
  const given = step['with']
  const isText = typeof given === 'string' && given.includes('${{')
  const isMap = typeof given === 'object' && given !== null && !Array.isArray(given)
  if (step['tool'] !== undefined && given !== undefined && !isText && !isMap)
    conflicts.push({ key: 'with', message: 'must be a map: the input of a tool has names' })
  if (step['route'] === undefined) return conflicts
  for (const spread of SPREADS)
    if (step[spread] !== undefined)
      conflicts.push({ key: spread, message: 'stands beside route, which picks one way for all' })
  return conflicts
}

function joinConflicts(step: Record<string, unknown>): Conflict[] {
  const { join: given, needs, rest } = step
  const count = Array.isArray(needs) ? new Set(needs).size : 0
  const isAll = given === undefined || given === 'all'
  if (rest !== undefined && isAll)
    return [{ key: 'rest', message: 'is for a join of any, a count or a percentage: a join of all has no rest' }]
  if (isAll) return []
  if (count === 0) return [{ key: 'join', message: 'is for steps that need others' }]
  const wanted = typeof given === 'object' && given !== null && 'count' in given ? given.count : null
  if (typeof wanted === 'number' && wanted > count)
    return [{ key: 'join', message: `wants ${wanted} of ${count} needs, which can never be` }]
  return []
}

function waitConflicts(given: unknown): Conflict[] {
  if (typeof given !== 'object' || given === null) return []
  const kinds = (['duration', 'until', 'event'] as const).filter((key) => Object.hasOwn(given, key))
  const conflicts: Conflict[] = []
  if (kinds.length !== 1) conflicts.push({ key: 'wait', message: 'needs exactly one of duration, until and event' })
  for (const key of ['match', 'timeout'] as const)
    if (Object.hasOwn(given, key) && !kinds.includes('event'))
      conflicts.push({ key: 'wait', message: `${key} is for waiting for an event only` })
  return conflicts
}

function approvalConflicts(given: unknown): Conflict[] {
  if (typeof given !== 'object' || given === null) return []
  if (!Object.hasOwn(given, 'default') || Object.hasOwn(given, 'expires')) return []
  return [{ key: 'approval', message: 'default is what counts after expires, which is missing' }]
}

/** Which workflows start: `active` ones, `deprecated` ones with a warning; no run starts from a `draft` or an `archived` one. */
export const LIFECYCLES = ['draft', 'active', 'deprecated', 'archived'] as const
export type Lifecycle = (typeof LIFECYCLES)[number]

const membersOf = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? { ...value } : {}

export const workflowSpecSchema = z.strictObject({
  lifecycle: z
    .enum(LIFECYCLES)
    .default('active')
    .describe('`active` and, with a warning, `deprecated` workflows start; `draft` and `archived` ones do not.'),
  modules: z
    .record(moduleName, z.string().min(1))
    .optional()
    .describe(
      'Modules of functions by name: paths beside the manifest, for `orrery run`; workers load their own by `--module`.',
    ),
  inputs: jsonSchema.optional().describe('JSON Schema of the inputs of a run, with defaults.'),
  failFast: z
    .boolean()
    .default(false)
    .describe('A failed step cancels what else is under way; otherwise other branches go on to their end.'),
  timeout: positiveDuration.optional().describe('Bounds the whole run, from its creation.'),
  maxTurns: maxTurns
    .optional()
    .describe('Turns that each step may take that `next` joins to others; beyond, the run fails with `turns.used_up`.'),
  steps: z
    .array(stepSchema, { error: 'must be a list of steps' })
    .min(1, { error: 'has no steps' })
    .describe('The steps, in any order; `needs` says what comes first.'),
})

/** The manifest of a workflow. Strict: an unknown key is an error. */
export const workflowSchema = envelopeOf('Workflow', workflowSpecSchema)

export type WorkflowManifest = z.output<typeof workflowSchema>
export type StepManifest = z.output<typeof stepSchema>

/** The keys that belong at a place of the manifest; what an unknown one was probably meant to be is among them. */
export const knownKeysAt = (path: readonly PropertyKey[]): string[] => keysOfSchema(workflowSchema, path)
