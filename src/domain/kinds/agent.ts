import { z } from 'zod'
import type { Json, JsonObject } from '../../base/json.ts'
import { nearest } from '../../base/nearest.ts'
import { schemaProblems } from '../json-schema.ts'
import { LIMITS } from '../limits.ts'
import { isObject, type Placed, placedProblem } from '../placed-problem.ts'
import { positiveDuration } from '../schema.ts'
import { dnsName } from './envelope.ts'
import { defineKind, type KindStatus, READY } from './kind.ts'

/** What an agent may do with a memory. */
export const MEMORY_GRANTS = ['read', 'write', 'search', 'list', 'ingest'] as const
export type MemoryGrant = (typeof MEMORY_GRANTS)[number]

const jsonSchema = z
  .custom<JsonObject>(isObject, { error: 'must be a JSON Schema object' })
  .meta({ title: 'JSON Schema' })

const names = z.array(dnsName).min(1).max(LIMITS.agentNamesMax)

const instruction = z.union(
  [
    z.strictObject({ text: z.string().min(1).describe('Written here.') }),
    z.strictObject({ ref: dnsName.describe('Name of an Instructions resource of the same namespace.') }),
  ],
  { error: 'must be { text } or { ref: NAME }' },
)

const limits = z.strictObject({
  maxTurns: z
    .int()
    .min(1)
    .max(1_000)
    .default(10)
    .describe('Model calls that may ask for tools; one more ends it with `agent.turn_limit`.'),
  timeout: positiveDuration.optional().describe('All turns together, waiting for people and runs below not counted.'),
  maxTokens: z.int().min(1).optional().describe('Tokens of all requests and answers together.'),
  maxCost: z
    .number()
    .gt(0)
    .optional()
    .describe(
      'Money of all calls together, in the currency of the price table; a call without a known price is refused.',
    ),
  maxToolCalls: z.int().min(1).max(10_000).optional().describe('Calls of tools of all turns together.'),
  maxRepeats: z
    .int()
    .min(1)
    .max(100)
    .default(3)
    .describe(
      'How often the same call with the same arguments may follow itself before it ends with `agent.loop_detected`.',
    ),
  toolOutputBytes: z
    .int()
    .min(256)
    .max(1_048_576)
    .default(65_536)
    .describe('How much of the output of a tool the model is shown; the rest is cut off, and it is told so.'),
})

const execution = z.strictObject({
  profile: z
    .enum(['dynamic', 'contract'])
    .default('dynamic')
    .describe('`contract`: what is below has to hold at the end.'),
  mustSucceed: z
    .array(z.string().min(1))
    .min(1)
    .max(64)
    .optional()
    .describe('For `contract`: tools of which each has to succeed once.'),
  outputMarkers: z
    .array(z.string().min(1))
    .min(1)
    .max(64)
    .optional()
    .describe('For `contract`: texts that the answer has to have in it.'),
  onViolation: z.enum(['fail', 'observe']).default('fail').describe('For `contract`: `observe` only tells of it.'),
  duplicateCalls: z
    .enum(['allow', 'replay', 'deny'])
    .default('allow')
    .describe('The same tool with the same arguments once more: make the call, give its former output, or refuse it.'),
  stopAfterTool: z.boolean().default(false).describe('The output of the first tool that succeeds is the answer.'),
})

export const agentSpecSchema = z.strictObject({
  description: z
    .string()
    .min(1)
    .max(2_000)
    .optional()
    .describe('What it is good at: what other agents and `route` steps choose by.'),
  model: dnsName.describe('Name of a ModelEndpoint of the same namespace.'),
  fallbackModels: names
    .optional()
    .describe(
      'Endpoints that are asked, in their order, when it does not answer; before those of the endpoint itself.',
    ),
  instructions: z
    .preprocess((value) => (typeof value === 'string' ? [{ text: value }] : value), z.array(instruction).min(1).max(64))
    .describe(
      'What the model is told before anything else: a text, or a list of texts and of references to shared ones.',
    ),
  tools: names.optional().describe('Tools that it is offered.'),
  mcpServers: z
    .array(
      z.strictObject({
        name: dnsName.describe('Name of an McpServer of the same namespace.'),
        tools: z.array(z.string().min(1)).min(1).optional().describe('Only these of its tools; `*` is any text.'),
        optional: z.boolean().default(false).describe('Go on without it when it cannot be reached.'),
      }),
    )
    .min(1)
    .max(LIMITS.agentNamesMax)
    .optional()
    .describe('Servers whose tools it is offered, as `SERVER.TOOL`.'),
  delegates: names
    .optional()
    .describe('Agents that it may give work to: each runs below this run, and this one waits for its answer.'),
  handoffs: names.optional().describe('Agents that it may hand the conversation over to.'),
  memories: z
    .array(
      z.strictObject({
        name: dnsName.describe('Name of a Memory of the same namespace.'),
        allow: z.array(z.enum(MEMORY_GRANTS)).min(1).describe('What it may do with it.'),
      }),
    )
    .min(1)
    .max(LIMITS.agentNamesMax)
    .optional()
    .describe('Memories, each as tools `NAME.read` and so on.'),
  roles: names
    .optional()
    .describe('Roles that say what its tools may do. Without one the defaults of the tools count.'),
  approval: z
    .enum(['by-rule', 'always'])
    .default('by-rule')
    .describe('`always`: every call of a tool waits for a person.'),
  approvers: z
    .array(z.string().min(1))
    .min(1)
    .max(64)
    .optional()
    .describe('For `always`: names of tokens or roles that may decide.'),
  approvalExpires: positiveDuration.optional().describe('For `always`: after this an undecided call counts as denied.'),
  outputSchema: jsonSchema.optional().describe('The answer is JSON of this schema; the step gives that value.'),
  repairs: z
    .int()
    .min(0)
    .max(10)
    .default(2)
    .describe('Turns that an answer may take to be put right when it is empty, no JSON, or breaks the schema.'),
  check: z
    .strictObject({
      model: dnsName.optional().describe('Endpoint that judges; left out, that of the agent.'),
      criteria: z.string().min(1).max(20_000).describe('What a good answer has.'),
      retries: z
        .int()
        .min(0)
        .max(5)
        .default(1)
        .describe('Further answers when the judge says no; then it ends with `output.check_failed`.'),
    })
    .optional()
    .describe('A model looks whether the answer is what was wanted.'),
  limits: limits.default(limits.parse({})).describe('What ends it as a failure.'),
  context: z
    .strictObject({
      maxTokens: z
        .int()
        .min(256)
        .optional()
        .describe('Former turns are left out, the oldest first, so that a request has no more.'),
      keepTurns: z.int().min(1).max(100).default(4).describe('The newest turns that are never left out.'),
    })
    .default({ keepTurns: 4 })
    .describe('What of a long conversation the model is shown.'),
  execution: execution
    .default(execution.parse({}))
    .describe('What has to hold at its end, and how calls of tools are treated.'),
  temperature: z.number().min(0).max(2).optional().describe('How much is left to chance.'),
  maxAnswerTokens: z.int().min(1).max(10_000_000).optional().describe('Largest answer of one turn.'),
})

/** A spec as runs use it: defaults filled in, durations in milliseconds. */
export type AgentSpec = z.infer<typeof agentSpecSchema>

/** Of a spec that was checked when it was stored. */
export const readAgent = (spec: JsonObject): AgentSpec => agentSpecSchema.parse(spec)

const problem = (message: string, ...path: (string | number)[]): Placed =>
  placedProblem('manifest.invalid', message, ['spec', ...path])

/** What the schema cannot say: which fields go together. */
function crossCheck(spec: JsonObject, name: string | null): Placed[] {
  return [
    ...contractProblems(spec),
    ...approvalProblems(spec),
    ...nameProblems(spec, name),
    ...schemaOfOutput(spec),
    ...sizeProblems(spec),
  ]
}

function contractProblems(spec: JsonObject): Placed[] {
  const execution = isObject(spec['execution']) ? spec['execution'] : {}
  const { profile, mustSucceed, outputMarkers } = execution
  if (profile !== 'contract')
    return ['mustSucceed', 'outputMarkers', 'onViolation']
      .filter((key) => execution[key] !== undefined)
      .map((key) => ({ ...problem('is for the profile contract', 'execution', key), at: 'key' }))
  if (mustSucceed === undefined && outputMarkers === undefined)
    return [problem('asks for nothing: name mustSucceed or outputMarkers', 'execution', 'profile')]
  const offered = new Set<unknown>(listIn(spec, 'tools'))
  // Which tools a server or a memory has is known only when it is asked.
  const owners = new Set([...namesIn(spec, 'mcpServers'), ...namesIn(spec, 'memories')])
  return listIn(execution, 'mustSucceed').flatMap((tool, i) => {
    const owner = typeof tool === 'string' ? tool.slice(0, tool.lastIndexOf('.')) : ''
    if (typeof tool !== 'string' || offered.has(tool) || owners.has(owner)) return []
    return [
      placedProblem(
        'manifest.invalid',
        `${JSON.stringify(tool)} is no tool that it is offered`,
        ['spec', 'execution', 'mustSucceed', i],
        () => nearest(tool, [...offered].map(String)),
      ),
    ]
  })
}

const approvalProblems = (spec: JsonObject): Placed[] =>
  spec['approval'] === 'always'
    ? []
    : ['approvers', 'approvalExpires']
        .filter((key) => spec[key] !== undefined)
        .map((key) => ({ ...problem('is for approval: always', key), at: 'key' }))

function nameProblems(spec: JsonObject, name: string | null): Placed[] {
  const lists = ['tools', 'delegates', 'handoffs', 'roles', 'fallbackModels'].flatMap((key) => {
    const list = listIn(spec, key)
    return list.flatMap((other, i) => {
      if (list.indexOf(other) < i) return [problem('is there twice', key, i)]
      if (key === 'handoffs' && other === name && name !== null) return [problem('is this agent itself', key, i)]
      if (key === 'fallbackModels' && other === spec['model']) return [problem('is spec.model itself', key, i)]
      return []
    })
  })
  const objects = ['mcpServers', 'memories'].flatMap((key) => {
    const list = namesIn(spec, key)
    return list.flatMap((other, i) =>
      typeof other === 'string' && list.indexOf(other) < i ? [problem('is there twice', key, i, 'name')] : [],
    )
  })
  return [...lists, ...objects]
}

function schemaOfOutput({ outputSchema }: JsonObject): Placed[] {
  if (!isObject(outputSchema)) return []
  return schemaProblems(outputSchema).map((found) =>
    problem(`is no valid JSON Schema: ${found.message}`, 'outputSchema', ...found.path),
  )
}

function sizeProblems(spec: JsonObject): Placed[] {
  const chars = charsWritten(spec)
  return chars > LIMITS.instructionsChars
    ? [problem(`are ${chars} characters; the limit is ${LIMITS.instructionsChars}`, 'instructions')]
    : []
}

/** Of what is written in the agent itself; shared texts come on top when a run is created. */
function charsWritten({ instructions }: JsonObject): number {
  if (typeof instructions === 'string') return instructions.length
  if (!Array.isArray(instructions)) return 0
  const texts = instructions.map((part) => (isObject(part) ? textOf(part['text']) : ''))
  return texts.join(BETWEEN_INSTRUCTIONS).length
}

const listIn = (spec: JsonObject, key: string): Json[] => (Array.isArray(spec[key]) ? spec[key] : [])
const namesIn = (spec: JsonObject, key: string): Json[] =>
  listIn(spec, key).map((entry) => (isObject(entry) ? (entry['name'] ?? null) : null))

/** What stands between two parts of the instructions of an agent. */
export const BETWEEN_INSTRUCTIONS = '\n\n'

/** What is to be said of instructions of this size; null: nothing. Above the limit they are refused. */
export const sizeRemark = (chars: number): string | null =>
  chars > LIMITS.instructionsChars / 2
    ? `its instructions have ${chars} characters, which every turn is asked with; the limit is ${LIMITS.instructionsChars}`
    : null

function statusOf(spec: JsonObject): KindStatus {
  const remark = sizeRemark(charsWritten(spec))
  return { phase: 'ready', conditions: [remark === null ? READY : { ...READY, reason: 'long', message: remark }] }
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')
const namesOf = (value: unknown): string => (Array.isArray(value) ? value.map(textOf).join(',') : '')

export const agentKind = defineKind({
  kind: 'Agent',
  plural: 'agents',
  shortNames: ['ag'],
  summary: 'A model with instructions, tools and limits; it runs a loop of turns.',
  spec: agentSpecSchema,
  crossCheck,
  columns: [
    { title: 'MODEL', text: ({ spec }) => textOf(spec['model']) },
    { title: 'TOOLS', text: ({ spec }) => namesOf(spec['tools']) },
    { title: 'DELEGATES', wide: true, text: ({ spec }) => namesOf(spec['delegates']) },
  ],
  statusOf,
})
