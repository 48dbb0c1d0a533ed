import { z } from 'zod'
import type { Json, JsonObject } from '../base/json.ts'
import { type FailureCode, isFailureCode } from '../domain/failures.ts'
import { exportsTooLarge, isReservedVariable } from '../domain/exported-env.ts'
import { LIMITS } from '../domain/limits.ts'
import { SECRET_KEY } from '../domain/secrets.ts'
import { isPathBelow } from '../domain/wanted-files.ts'
import { cursor, flag, limit, numberText } from './page-schemas.ts'
import { ParkedOnSchema } from './agent-schemas.ts'
import { FailureRecordSchema } from './failure-schema.ts'
import { isAgoMs, isClock, isCount, isId, isJson, isLabels, isMembers, isSlots } from './hot-messages.ts'

/** Strict schemas of everything that arrives, and of what is answered. OpenAPI is made from them. */

const id = z
  .custom<string>(isId, 'must be 1 to 256 printable ASCII characters without blanks')
  .meta({ type: 'string', pattern: '^[\\x21-\\x7e]{1,256}$' })
const json = z.custom<Json>(isJson, 'must be present').meta({ description: 'Any JSON value.' })
const jsonObject = z.custom<JsonObject>(isMembers, 'must be an object').meta({ type: 'object' })
const labels = z
  .custom<Record<string, string>>(
    isLabels,
    `must be an object of at most ${LIMITS.labelsMax} names with text values of at most ${LIMITS.labelValueChars} characters`,
  )
  .meta({ type: 'object', additionalProperties: { type: 'string' } })
const count = z.custom<number>(isCount, 'must be a whole number from 1').meta({ type: 'integer', minimum: 1 })
const slots = z
  .custom<number>(isSlots, `must be a whole number from 0 to ${LIMITS.capacityMax}`)
  .meta({ type: 'integer', minimum: 0, maximum: LIMITS.capacityMax })
const agoMs = z
  .custom<number>(isAgoMs, 'must be milliseconds, not negative')
  .meta({ type: 'number', minimum: 0, description: 'Milliseconds before this message was sent.' })
const clock = z.custom<number>(isClock, 'must be a number').meta({ type: 'number' })
const code = z
  .custom<FailureCode>((v) => typeof v === 'string' && isFailureCode(v), 'must be a code of the catalogue')
  .meta({ type: 'string', example: 'step.exit_nonzero' })
const text = (max: number) => z.string().max(max)
const time = z.string().meta({ format: 'date-time' })

// Requests

/** `name`, or `name@version`. */
const WORKFLOW_REF = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:@[1-9]\d{0,8})?$/

const source = {
  definition: id.optional().meta({ description: 'Hash of a stored definition.' }),
  workflow: jsonObject.optional().meta({ description: 'A workflow manifest as JSON.' }),
  manifest: z.string().optional().meta({ description: 'A workflow manifest as YAML text.' }),
  workflowRef: z
    .string()
    .regex(WORKFLOW_REF, 'must be the name of a workflow, or name@version such as report@3')
    .optional()
    .meta({ description: 'A stored workflow: `name` takes its latest active version, `name@3` that one.' }),
}
const namespace = text(256).optional().meta({ description: 'Of workflowRef; `default` when it is left out.' })
const given = {
  inputs: jsonObject.optional().describe('Inputs of the run, as the workflow describes them.'),
  labels: labels.optional().describe('Labels of the run; they win over those of a stored workflow.'),
}
const namespaceOfRef = {
  check: (body: Record<string, unknown>) => !Object.hasOwn(body, 'namespace') || Object.hasOwn(body, 'workflowRef'),
  message: 'namespace is for workflowRef only',
}
const countOf = (body: Record<string, unknown>, names: string[]) => names.filter((n) => Object.hasOwn(body, n)).length
const exactlyOne = (names: string[]) => ({
  check: (body: Record<string, unknown>) => countOf(body, names) === 1,
  message: `exactly one of ${names.join(', ')} must be given`,
})
const oneSource = exactlyOne(['definition', 'workflow', 'manifest', 'workflowRef'])
const oneText = exactlyOne(['workflow', 'manifest'])

export const CreateDefinitionSchema = z
  .strictObject({ workflow: source.workflow, manifest: source.manifest })
  .refine(oneText.check, oneText.message)

export const CreateRunSchema = z
  .strictObject({ ...source, namespace, ...given })
  .refine(oneSource.check, oneSource.message)
  .refine(namespaceOfRef.check, namespaceOfRef.message)

export const CreateRunsSchema = z
  .strictObject({
    ...source,
    namespace,
    items: z.array(z.strictObject(given)).min(1).max(LIMITS.bulkRunsMax).describe('One run each.'),
  })
  .refine(oneSource.check, oneSource.message)
  .refine(namespaceOfRef.check, namespaceOfRef.message)

export const SkipStepSchema = z.strictObject({ output: json })
export const SendEventSchema = z.strictObject({ payload: json.optional() })
const comment = z.string().max(LIMITS.commentChars).optional().describe('Why; kept with the decision.')
export const ApproveSchema = z.strictObject({
  comment,
  inputs: jsonObject.optional().meta({ description: 'What the approval asks for along with it.' }),
  input: jsonObject
    .optional()
    .meta({ description: 'Of a call of a tool: other arguments than those that were asked.' }),
  output: json.optional().meta({
    description: 'Of a call whose outcome is not known: what it gave. Left out, the call is made again.',
  }),
})
export const DenySchema = z.strictObject({ comment })

const stateNames = ['pending', 'running', 'waiting', 'succeeded', 'failed', 'canceled'] as const

export const ListRunsQuerySchema = z.strictObject({
  namespace: text(256).optional().describe('Of this namespace alone.'),
  workflow: text(256).optional().describe('Of the workflow of this name.'),
  state: z.array(z.enum(stateNames)).optional().describe('In one of these states.'),
  labelSelector: z.string().optional().meta({
    description: '`key=value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`, `key`, `!key`; a comma joins them.',
  }),
  since: z.iso
    .datetime({ offset: true, error: 'must be a time such as 2026-01-31T12:00:00Z' })
    .optional()
    .meta({ title: 'time', description: 'Created from then on.' }),
  cursor: cursor.optional(),
  limit: limit.optional(),
})
const approvalStates = ['pending', 'approved', 'denied', 'expired', 'canceled'] as const
export const ListApprovalsQuerySchema = z.strictObject({
  namespace: text(256).optional().describe('Of this namespace alone.'),
  run: text(256).optional().describe('Of this run.'),
  step: text(512).optional().describe('Of the step of this name.'),
  state: z.array(z.enum(approvalStates)).optional().describe('In one of these states.'),
  cursor: cursor.optional(),
  limit: limit.optional(),
})
export const PageQuerySchema = z.strictObject({ cursor: cursor.optional(), limit: limit.optional() })
export const EventsQuerySchema = z.strictObject({
  after: numberText(0, Number.MAX_SAFE_INTEGER).optional().describe('Events with a larger `seq` alone.'),
})
export const LogsQuerySchema = z.strictObject({
  step: text(512)
    .optional()
    .describe('Of this step, with all of its activations, or of the activation that is named with its index.'),
  cursor: cursor.optional().describe('`cursor` of the last NDJSON line that was read.'),
  follow: flag.optional().describe('Go on with what is written from now on, until the run has ended.'),
})

// Secrets

const secretKey = z.string().regex(SECRET_KEY, 'must be a key of letters, digits, _, . and -')
const secretValue = z
  .string()
  .min(1, 'must not be empty')
  .refine((value) => Buffer.byteLength(value) <= LIMITS.secretValueBytes, {
    error: `is larger than ${LIMITS.secretValueBytes} bytes`,
  })

export const PutSecretSchema = z.strictObject({
  values: z
    .record(secretKey, secretValue)
    .refine((values) => Object.keys(values).length > 0, { error: 'must have at least one key' })
    .describe('Values by key.'),
  replace: z.boolean().optional().meta({ description: 'Removes the keys that are not named.' }),
})
export const RotateSecretsSchema = z.strictObject({
  newKey: z.boolean().optional().meta({ description: 'Makes a new active key first, where the server keeps its own.' }),
})
export const SecretKeysQuerySchema = z.strictObject({
  key: z
    .array(secretKey)
    .max(LIMITS.secretKeysMax)
    .optional()
    .describe('Keys that are meant; all of them when it is left out.'),
})

// The worker exchange

const held = z.array(z.strictObject({ step: id, fence: count })).max(LIMITS.capacityMax)

export const RegisterSchema = z.strictObject({
  worker: id,
  version: id,
  host: id,
  pid: z
    .int()
    .min(0)
    .max(2 ** 31 - 1),
  pidStart: id.nullable(),
  clock,
  capacity: z.int().min(1).max(LIMITS.capacityMax),
  labels,
  namespaces: z.array(id).max(1000).nullable(),
  backends: z.array(z.enum(['function', 'process', 'agent'])).max(3),
  modules: z.array(id).max(1000),
  features: z.array(id).max(100).optional(),
  replaces: id.nullable(),
  held,
})

export const PollSchema = z.strictObject({ session: id, free: slots, held, draining: z.boolean() })
export const HeartbeatSchema = z.strictObject({ session: id, clock })

const common = {
  step: id,
  fence: count,
  seq: count,
  startedAgoMs: agoMs.nullable(),
  endedAgoMs: agoMs.nullable(),
}
const stream = z.enum(['stdout', 'stderr', 'system', 'agent'])
const segment = z.strictObject({ index: count, stream, agoMs, text: text(LIMITS.logSegmentBytes) })

export const ReportSchema = z.strictObject({
  session: id,
  free: slots,
  draining: z.boolean(),
  reports: z
    .array(
      z.discriminatedUnion('kind', [
        z.strictObject({ ...common, kind: z.literal('started') }),
        z.strictObject({ ...common, kind: z.literal('log'), segments: z.array(segment).max(LIMITS.reportsMax) }),
        z.strictObject({ ...common, kind: z.literal('succeeded'), output: json }),
        z.strictObject({ ...common, kind: z.literal('failed'), failure: FailureRecordSchema }),
        z.strictObject({ ...common, kind: z.literal('canceled') }),
        z.strictObject({ ...common, kind: z.literal('returned') }),
        z.strictObject({ ...common, kind: z.literal('parked'), on: ParkedOnSchema }),
      ]),
    )
    .max(LIMITS.reportsMax),
})

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'must be a SHA-256 in hex')
const artifactName = z
  .string()
  .min(1)
  .max(LIMITS.artifactNameChars)
  .refine(isPathBelow, 'must be a relative path with forward slashes')

export const ArtifactsSchema = z.strictObject({
  session: id,
  step: id,
  fence: count,
  files: z
    .array(
      z.strictObject({
        name: artifactName,
        bytes: z.int().min(0).max(LIMITS.artifactBytes),
        sha256,
        retentionMs: z.int().min(0).max(LIMITS.artifactRetentionMaxMs),
      }),
    )
    .min(1)
    .max(LIMITS.artifactsPerStepMax),
  sent: z.boolean(),
})
export const ChunkSchema = z.strictObject({
  session: id,
  step: id,
  fence: count,
  sha256,
  index: z
    .int()
    .min(0)
    .max(LIMITS.artifactBytes / LIMITS.artifactChunkBytes),
  base64: z
    .string()
    .min(1)
    .max(Math.ceil(LIMITS.artifactChunkBytes / 3) * 4)
    .regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/, 'must be base64'),
})
export const FilesSchema = z.strictObject({ session: id, step: id, fence: count })
export const AgentContextRequestSchema = z.strictObject({ session: id, step: id, fence: count })
export const ContentSchema = z.strictObject({
  session: id,
  step: id,
  fence: count,
  sha256,
  index: z
    .int()
    .min(0)
    .max(LIMITS.artifactBytes / LIMITS.artifactChunkBytes),
})
export const ExportsSchema = z.strictObject({
  session: id,
  step: id,
  fence: count,
  env: z
    .record(
      z
        .string()
        .regex(/^[A-Za-z_][A-Za-z0-9_]*$/)
        .refine((name) => !isReservedVariable(name), 'is a reserved name'),
      // What the database cannot keep as text.
      z.string().refine((value) => value.isWellFormed() && !value.includes('\0'), 'must be text'),
    )
    .refine((env) => exportsTooLarge(env) === null, 'are too many variables, or too large'),
})
export const DownloadQuerySchema = z.strictObject({
  step: text(512).describe('Name of the step, with indices.'),
  name: text(LIMITS.artifactNameChars).describe('Path of the file, as the list of artifacts gives it.'),
})

// Answers. They are described, not checked: the types hold them.

const attempt = z.object({ step: z.string(), fence: z.int() })
const assignment = z.object({
  step: z.string(),
  fence: z.int(),
  runId: z.string(),
  name: z.string(),
  workflow: z.string(),
  namespace: z.string(),
  tries: z.int(),
  timeoutMs: z.number().nullable(),
  repeatable: z.boolean(),
  path: z.array(z.int()),
  outputSchema: jsonObject.nullable(),
  work: z.union([
    z.object({ kind: z.literal('function'), function: z.string(), input: json }),
    z.object({
      kind: z.literal('command'),
      command: z.array(z.string()),
      env: labels,
      stdin: z.string().nullable(),
      workdir: z.string().nullable(),
      keepOnFailureMs: z.number().nullable(),
      artifacts: z
        .array(z.object({ path: z.string(), retentionMs: z.number(), always: z.boolean(), optional: z.boolean() }))
        .optional(),
    }),
    z.object({ kind: z.literal('agent'), agent: z.string(), input: json, bound: jsonObject }),
    z.object({ kind: z.literal('tool'), tool: z.string(), input: jsonObject, bound: jsonObject }),
    z.object({
      kind: z.literal('route'),
      model: z.string(),
      question: z.string(),
      options: z.array(z.object({ step: z.string(), when: z.string() })),
      fallback: z.string().nullable(),
    }),
  ]),
  secrets: z
    .record(z.string(), z.string())
    .optional()
    .meta({ description: 'Values of the secrets that the step asked for.' }),
})
const orders = {
  sessionState: z.enum(['live', 'ended']),
  assignments: z.array(assignment),
  cancels: z.array(
    z.object({ step: z.string(), fence: z.int(), reason: z.enum(['run.canceled', 'attempt.stale_lease']) }),
  ),
  drain: z.boolean(),
}

export const RegisterResponseSchema = z.object({
  session: z.string(),
  leaseMs: z.number(),
  heartbeatMs: z.number(),
  pollMs: z.number(),
  serverVersion: z.string(),
  adopted: z.array(attempt),
})
export const PollResponseSchema = z.object(orders)
export const ReportResponseSchema = z.object({
  ...orders,
  acks: z.array(
    z.object({
      step: z.string(),
      fence: z.int(),
      seq: z.int(),
      outcome: z.enum(['recorded', 'duplicate', 'stale', 'rejected']),
      failure: FailureRecordSchema.optional(),
    }),
  ),
})
export const HeartbeatResponseSchema = z.object({ sessionState: z.enum(['live', 'ended']), leaseMs: z.number() })

export const DefinitionViewSchema = z
  .object({
    hash: z.string(),
    namespace: z.string(),
    name: z.string(),
    nodes: z.array(z.object({ name: z.string(), kind: z.string(), needs: z.array(z.string()) })),
  })
  .meta({ id: 'DefinitionView' })

const summary = {
  id: z.string(),
  namespace: z.string(),
  workflow: z.string(),
  state: z.enum(stateNames),
  canceling: z.boolean().meta({ description: 'A cancel was asked for and work is being stopped.' }),
  epoch: z.int().meta({ description: 'Counts manual retries, from 1.' }),
  createdAt: time,
  startedAt: time.nullable(),
  endedAt: time.nullable(),
  labels,
  steps: z.object({ total: z.int(), open: z.int(), bad: z.int() }),
  failure: FailureRecordSchema.nullable(),
  parent: z
    .object({ run: z.string(), step: z.string() })
    .nullable()
    .meta({ description: 'The step of another run that waits for this one.' }),
}
export const RunSummarySchema = z.object(summary).meta({ id: 'RunSummary' })
export const RunCreatedSchema = z
  .object({
    id: z.string(),
    state: z.literal('pending'),
    definition: z.string(),
    createdAt: time,
    warnings: z.array(z.string()).optional().meta({ description: 'What the header Warning says as well.' }),
  })
  .meta({ id: 'RunCreated' })

const view = {
  worker: z.string().nullable(),
  startedAt: time.nullable(),
  endedAt: time.nullable(),
  failure: FailureRecordSchema.nullable(),
}
const ReasonSchema = z
  .object({
    code: z
      .string()
      .meta({ description: 'A failure code when someone has to act, else a word such as dependency or running.' }),
    message: z.string(),
    evidence: jsonObject,
    remediation: z.string(),
    retryable: z.boolean(),
    since: time.nullable(),
    until: time.optional().meta({ description: 'When it ends at the latest, where that is known.' }),
  })
  .meta({ id: 'Reason' })
const waitsOn = {
  kind: z.enum(['backoff', 'activations', 'timer', 'event', 'approval', 'child', 'budget']),
  on: z.string().nullable().meta({
    description:
      'Name of the event, or ids of approvals or of runs below, or names of budgets, with blanks between them.',
  }),
  until: time.nullable().meta({ description: 'When the wait ends by itself.' }),
}
export const StepViewSchema = z
  .object({
    ...view,
    name: z.string().meta({ description: 'Name with indices: measure[3].' }),
    id: z.string(),
    kind: z.enum(['function', 'command', 'agent', 'tool', 'route', 'wait', 'approval', 'workflow']),
    state: z.enum(['pending', 'queued', 'running', 'waiting', 'succeeded', 'failed', 'skipped', 'blocked', 'canceled']),
    reason: ReasonSchema.nullable().meta({ description: 'Why a step has not ended; null once it has.' }),
    needs: z.array(z.string()),
    fence: z.int(),
    tries: z.int(),
    losses: z.int(),
    queuedAt: time.nullable(),
    output: json,
    kept: z.object({ worker: z.string(), path: z.string(), until: time }).nullable(),
    attempts: z.array(
      z.object({
        ...view,
        fence: z.int(),
        state: z.enum(['leased', 'running', 'succeeded', 'failed', 'lost', 'parked', 'canceled']),
      }),
    ),
    waitsOn: z.object(waitsOn).nullable().meta({ description: 'What it waits for in a row, when it does.' }),
    childRun: z
      .string()
      .nullable()
      .meta({ description: 'The run below that it waits for, or waited for; the first of several.' }),
    activations: z.object({ total: z.int(), succeeded: z.int(), failed: z.int() }).nullable(),
  })
  .meta({ id: 'StepView' })
export const RunViewSchema = z
  .object({
    ...summary,
    reason: ReasonSchema.extend({ step: z.string().nullable() })
      .nullable()
      .meta({ description: 'Why the run has not ended, told by the step that decides it.' }),
    stalled: FailureRecordSchema.nullable()
      .optional()
      .meta({ description: 'Present while nothing has moved for long; each step says why at its `reason`.' }),
    definition: z.string(),
    inputs: jsonObject,
    waitsOn: z.array(z.object({ step: z.string(), ...waitsOn })),
    stepList: z.array(StepViewSchema),
  })
  .meta({ id: 'RunView' })

export const DoctorViewSchema = z
  .object({
    version: z.string(),
    now: time.meta({ description: "The server's clock." }),
    rows: z.array(
      z.object({
        check: z.string().meta({ description: 'Such as store, disk or workers.' }),
        subject: z.string(),
        status: z.enum(['pass', 'warn', 'fail']),
        code: code.nullable(),
        message: z.string(),
        evidence: jsonObject,
        remedy: z.string().nullable(),
      }),
    ),
  })
  .meta({ id: 'DoctorView' })

export const pageOf = <T extends z.ZodType>(item: T) =>
  z.object({ items: z.array(item), next: z.string().nullable().meta({ description: 'Cursor of the next page.' }) })

export const NudgedSchema = z
  .object({
    run: RunSummarySchema,
    changed: z.array(z.object({ of: z.string(), to: z.string() })).meta({ description: 'What moved because of it.' }),
    waiting: z.array(z.object({ step: z.string(), state: z.string(), reason: ReasonSchema.nullable() })),
  })
  .meta({ id: 'Nudged' })
export const SentEventSchema = z
  .object({
    id: z.string(),
    run: z.string(),
    name: z.string(),
    state: z.enum(['taken', 'kept']).meta({ description: '`kept`: no step waits for it yet.' }),
    step: z.string().nullable(),
  })
  .meta({ id: 'SentEvent' })
export const ApprovalViewSchema = z
  .object({
    id: z.string(),
    run: z.string(),
    step: z.string(),
    namespace: z.string(),
    workflow: z.string(),
    state: z.enum(approvalStates),
    message: z.string(),
    approvers: z.array(z.string()).nullable(),
    inputs: jsonObject.nullable().meta({ description: 'JSON Schema of what is given along with the approval.' }),
    onExpiry: z.enum(['approve', 'deny']),
    createdAt: time,
    expiresAt: time.nullable(),
    decidedAt: time.nullable(),
    decidedBy: z.string().nullable(),
    comment: z.string().nullable(),
    given: jsonObject.nullable(),
    call: z
      .object({
        about: z.enum(['call', 'outcome']).meta({
          description: 'May the call be made; or was it made, which is not known (tool.outcome_unknown).',
        }),
        id: z.string(),
        agent: z.string().nullable(),
        tool: z.string(),
        operation: z.string().nullable(),
        input: jsonObject.meta({ description: 'The arguments, exactly.' }),
        edited: jsonObject.nullable().meta({ description: 'The arguments as whoever decided changed them.' }),
        output: json.meta({ description: 'About an outcome: what whoever decided says that it gave.' }),
        rule: z
          .string()
          .nullable()
          .meta({ description: 'Which rule asks, such as `policy/payments`; null about an outcome.' }),
        reason: z.string().nullable().meta({ description: 'Why, as the rule says it.' }),
      })
      .nullable()
      .meta({ description: 'What an agent wants to call; null of a step that asks.' }),
    remark: z.string().nullable().meta({
      description:
        'In the answer to a decision: what whoever decided has to know of it, such as that other arguments could not be checked yet.',
    }),
  })
  .meta({ id: 'Approval' })

const change = z.object({
  of: z.string(),
  to: z.string(),
  fence: z.int().optional(),
  worker: z.string().optional(),
  code: z.string().optional(),
  at: time.optional(),
  note: z.string().optional(),
})
export const RunEventSchema = z
  .object({ seq: z.int(), at: time, changes: z.array(change), terminal: z.boolean() })
  .meta({ id: 'RunEvent' })
export const LogLineSchema = z
  .object({ step: z.string(), fence: z.int(), index: z.int(), stream, at: time, text: z.string(), cursor: z.string() })
  .meta({ id: 'LogLine' })
export const WorkerViewSchema = z
  .object({
    worker: z.string(),
    session: z.string(),
    state: z.enum(['live', 'draining', 'lost', 'ended']),
    capacity: z.int(),
    held: z.int(),
    labels,
    modules: z.array(z.string()),
    backends: z.array(z.string()),
    version: z.string(),
    heartbeatAgoMs: z.number(),
    clockSkewMs: z.number(),
    problems: FailureRecordSchema.array(),
  })
  .meta({ id: 'WorkerView' })

export const SecretViewSchema = z
  .object({
    namespace: z.string(),
    name: z.string(),
    keys: z.array(z.string()),
    sealedBy: z.array(z.string()).meta({ description: 'Ids of the keys by which its values are encrypted.' }),
    updatedAt: time,
  })
  .meta({ id: 'SecretView' })
export const SecretDetailSchema = z
  .object({
    namespace: z.string(),
    name: z.string(),
    keys: z.array(
      z.object({
        key: z.string(),
        stored: z.object({ sealedBy: z.string(), updatedAt: time }).nullable(),
        places: z
          .array(
            z.object({
              from: z.enum(['store', 'environment', 'file']),
              name: z.string(),
              found: z.boolean(),
              note: z.string().nullable(),
            }),
          )
          .meta({ description: 'In the order in which they are looked at; the first that is found gives the value.' }),
      }),
    ),
  })
  .meta({ id: 'SecretDetail' })
export const DeletedSecretSchema = z.object({ deleted: z.array(z.string()) })
export const RotateSecretsResponseSchema = z.object({
  activeKey: z.string(),
  olderKeys: z.array(z.string()),
  resealed: z.int(),
  remaining: z.int(),
  unreadable: z.array(z.object({ keyId: z.string(), values: z.int() })),
})

export const CreateRunsResponseSchema = z.object({ ids: z.array(z.string()) })
export const WorkersResponseSchema = z.object({ items: z.array(WorkerViewSchema) })
export const ArtifactsResponseSchema = z.object({
  state: z.enum(['recorded', 'open', 'stale']),
  missing: z.array(z.string()),
})
export const ExportsResponseSchema = z.object({ state: z.enum(['recorded', 'stale']) })
export const FilesResponseSchema = z.object({
  state: z.enum(['held', 'stale']),
  files: z.array(z.object({ want: z.int(), at: z.string(), bytes: z.int(), sha256: z.string() })),
})
export const ContentResponseSchema = z.object({ base64: z.string().nullable() })
export const AgentContextResponseSchema = z.object({
  state: z.enum(['held', 'stale']),
  context: z
    .object({
      version: z.string(),
      endpoints: z.record(z.string(), jsonObject),
      prices: z.record(z.string(), jsonObject),
      secrets: z.array(z.object({ secret: z.string(), key: z.string(), value: z.string() })),
      missing: z.array(z.object({ secret: z.string(), key: z.string(), failure: FailureRecordSchema })),
      rules: z.record(z.string(), jsonObject),
    })
    .nullable(),
})
export const ChunkResponseSchema = z.object({ kept: z.boolean() })
export const ArtifactViewSchema = z
  .object({
    step: z.string(),
    name: z.string(),
    bytes: z.int(),
    sha256: z.string(),
    createdAt: time,
    expiresAt: time,
  })
  .meta({ id: 'ArtifactView' })
export const StatusViewSchema = z
  .object({
    server: z.object({
      id: z.string(),
      version: z.string(),
      store: z.enum(['embedded', 'postgres']),
      servers: z.int(),
    }),
    runs: z.object({ pending: z.int(), running: z.int(), waiting: z.int() }),
    queues: z.array(
      z.object({
        namespace: z.string(),
        backend: z.string(),
        module: z.string().nullable(),
        labels,
        queued: z.int(),
        oldestMs: z.number(),
        workers: z.int(),
      }),
    ),
    workers: z.object({
      live: z.int(),
      draining: z.int(),
      lost: z.int(),
      capacity: z.int(),
      held: z.int(),
    }),
  })
  .meta({ id: 'StatusView' })
export const HealthSchema = z.object({ status: z.literal('ok'), version: z.string() })
export const ProblemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    instance: z.string(),
    code: z.string(),
    remediation: z.string(),
    retryable: z.boolean(),
    requestId: z.string(),
    cause: z.union([FailureRecordSchema, z.object({ message: z.string() })]).optional(),
    evidence: jsonObject.optional(),
    problems: z
      .array(
        z.object({
          code: z.string(),
          message: z.string(),
          path: z.string(),
          file: z.string().optional(),
          document: z.int().optional(),
          line: z.int().optional(),
          column: z.int().optional(),
          nearest: z.string().optional(),
        }),
      )
      .optional(),
  })
  .meta({ id: 'ProblemDetails' })
