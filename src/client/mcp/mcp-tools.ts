import { z } from 'zod'
import type { JsonObject } from '../../base/json.ts'
import { Failure } from '../../domain/failure.ts'
import { DEFAULT_NAMESPACE } from '../../domain/kinds/envelope.ts'
import type { KindName } from '../../domain/kinds/registry.ts'
import { isObject } from '../../domain/placed-problem.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { Client } from '../client.ts'
import {
  approvalParts,
  approvalResult,
  logsResult,
  type McpResult,
  resultOf,
  runResult,
  summaryOf,
} from './mcp-results.ts'

/** One tool that Orrery offers to others. Everything it does goes through the client, so that it can do what the caller's token can and no more. */
export interface McpTool {
  name: string
  title: string
  description: string
  /** What it is to whoever calls it. */
  hints: { readOnlyHint: boolean; destructiveHint?: boolean; idempotentHint?: boolean }
  input: z.ZodObject
  call(client: Client, input: never, signal: AbortSignal): Promise<McpResult>
}

const READS = { readOnlyHint: true }
const STARTS = { readOnlyHint: false, destructiveHint: false, idempotentHint: false }
const DECIDES = { readOnlyHint: false, destructiveHint: true, idempotentHint: true }

const text = (max: number) => z.string().min(1).max(max)
const namespace = text(256).optional().describe('Namespace; `default` when it is left out.')
const limit = z.int().min(1).max(100).default(20).describe('Entries of one page.')
const cursor = text(4_096).optional().describe('`next` of the page before.')
const run = text(100).describe('Id of the run, such as run_….')
const approval = text(200).describe('Id of the approval.')
const comment = text(LIMITS.commentChars).optional().describe('Why; it is kept with the decision.')
const object = z.record(z.string(), z.unknown())
const waitSeconds = z
  .number()
  .min(0)
  .max(50)
  .default(0)
  .describe(
    'Wait so long for the end of the run; 0 answers at once. A run that has not ended is asked about with get_run.',
  )
const idempotencyKey = text(255)
  .regex(/^[\x20-\x7e]+$/)
  .optional()
  .describe('The same call under the same key starts no second run.')

/** Keeps the type of the input beside its schema. */
const tool = <T extends z.ZodObject>(row: {
  name: string
  title: string
  description: string
  hints: McpTool['hints']
  input: T
  call(client: Client, input: z.output<T>, signal: AbortSignal): Promise<McpResult>
}): McpTool => row

// Inputs are JSON: they came over the wire.
const jsonOf = (value: Record<string, unknown> | undefined): JsonObject => (value ?? {}) as JsonObject

const described = (spec: JsonObject): string | null =>
  typeof spec['description'] === 'string' ? spec['description'] : null

async function listKind(
  client: Client,
  kind: KindName,
  query: { namespace?: string | undefined; cursor?: string | undefined; limit: number },
  show: (spec: JsonObject) => { said: JsonObject; untrusted: JsonObject },
): Promise<McpResult> {
  const page = await client.resources.list(kind, {
    namespace: query.namespace ?? DEFAULT_NAMESPACE,
    limit: query.limit,
    ...(query.cursor === undefined ? {} : { cursor: query.cursor }),
  })
  const rows = page.items.map(({ metadata, spec }) => ({ metadata, ...show(spec) }))
  return resultOf(
    {
      items: rows.map(({ metadata, said }) => ({ name: metadata.name, namespace: metadata.namespace, ...said })),
      next: page.next,
    },
    { items: Object.fromEntries(rows.map(({ metadata, untrusted }) => [metadata.name, untrusted])) },
  )
}

async function started(
  client: Client,
  request: Parameters<Client['createRun']>[0],
  { idempotencyKey: key, waitSeconds: seconds }: { idempotencyKey?: string | undefined; waitSeconds: number },
  signal: AbortSignal,
): Promise<McpResult> {
  const created = await client.createRun(request, { ...(key === undefined ? {} : { idempotencyKey: key }), signal })
  return runResult(await ended(client, created.id, seconds, signal))
}

/** The run when it has ended or the time is over. */
async function ended(client: Client, id: string, seconds: number, signal: AbortSignal) {
  if (seconds === 0) return client.getRun(id)
  try {
    return await client.waitForRun(id, { timeoutMs: seconds * 1_000, signal })
  } catch (error) {
    if (error instanceof Failure && error.code === 'client.wait_timed_out') return client.getRun(id)
    throw error
  }
}

export const MCP_TOOLS: readonly McpTool[] = [
  tool({
    name: 'list_workflows',
    title: 'List workflows',
    description: 'Stored workflows of a namespace, with the JSON Schema of their inputs. Start one with run_workflow.',
    hints: READS,
    input: z.object({ namespace, limit, cursor }),
    call: (client, query) =>
      listKind(client, 'Workflow', query, (spec) => ({
        said: { lifecycle: spec['lifecycle'] ?? 'active', inputs: isObject(spec['inputs']) ? spec['inputs'] : null },
        untrusted: {
          steps: Array.isArray(spec['steps'])
            ? spec['steps'].flatMap((s) => (isObject(s) ? [s['name'] ?? null] : []))
            : [],
        },
      })),
  }),
  tool({
    name: 'run_workflow',
    title: 'Run a workflow',
    description:
      'Start a run of a stored workflow. `inputs` must fit its JSON Schema (list_workflows). Answers with the run; ask for its end with get_run.',
    hints: STARTS,
    input: z.object({
      workflow: text(256).describe('NAME, or NAME@VERSION for a version that is not the latest active one.'),
      namespace,
      inputs: object.optional().describe('Inputs of the run.'),
      idempotencyKey,
      waitSeconds,
    }),
    call: (client, { workflow, namespace: at, inputs, ...how }, signal) =>
      started(
        client,
        { workflowRef: workflow, namespace: at ?? DEFAULT_NAMESPACE, inputs: jsonOf(inputs) },
        how,
        signal,
      ),
  }),
  tool({
    name: 'list_agents',
    title: 'List agents',
    description: 'Agents of a namespace: what each is good at. Ask one with run_agent.',
    hints: READS,
    input: z.object({ namespace, limit, cursor }),
    call: (client, query) =>
      listKind(client, 'Agent', query, (spec) => ({
        said: {
          model: spec['model'] ?? null,
          outputSchema: isObject(spec['outputSchema']) ? spec['outputSchema'] : null,
        },
        untrusted: { description: described(spec) },
      })),
  }),
  tool({
    name: 'run_agent',
    title: 'Run an agent',
    description:
      'Give an agent a prompt: a run of one step, which is the agent. Its answer is the output of the step `answer`.',
    hints: STARTS,
    input: z.object({
      agent: text(256).describe('Name of the agent.'),
      namespace,
      prompt: text(LIMITS.promptChars).describe('What it is to do.'),
      idempotencyKey,
      waitSeconds,
    }),
    call: (client, { agent, namespace: at, prompt, ...how }, signal) =>
      started(client, { workflow: agentWorkflow(agent, at ?? DEFAULT_NAMESPACE), inputs: { prompt } }, how, signal),
  }),
  tool({
    name: 'list_runs',
    title: 'List runs',
    description: 'Runs, the newest first.',
    hints: READS,
    input: z.object({
      namespace: text(256).optional().describe('Of this namespace alone.'),
      workflow: text(256).optional().describe('Of the workflow of this name.'),
      states: z
        .array(z.enum(['pending', 'running', 'waiting', 'succeeded', 'failed', 'canceled']))
        .max(6)
        .optional()
        .describe('In one of these states.'),
      limit,
      cursor,
    }),
    call: async (client, { namespace: at, workflow, states, limit: size, cursor: from }) => {
      const page = await client.listRuns({
        limit: size,
        ...(at === undefined ? {} : { namespace: at }),
        ...(workflow === undefined ? {} : { workflow }),
        ...(states === undefined ? {} : { states }),
        ...(from === undefined ? {} : { cursor: from }),
      })
      return resultOf({ items: page.items.map(summaryOf), next: page.next })
    },
  }),
  tool({
    name: 'get_run',
    title: 'Look at a run',
    description:
      'State of a run and its steps: outputs, failures with their code and remedy, and why it has not ended.',
    hints: READS,
    input: z.object({ run, waitSeconds }),
    call: async (client, { run: id, waitSeconds: seconds }, signal) =>
      runResult(await ended(client, id, seconds, signal)),
  }),
  tool({
    name: 'get_run_logs',
    title: 'Read the log of a run',
    description:
      'Log of a run or of one step, a page at a time: give `cursor` of the page before to go on. An entry has one line or several.',
    hints: READS,
    input: z.object({
      run,
      step: text(512).optional().describe('Of this step alone.'),
      cursor: text(4_096).optional().describe('`cursor` of the page before.'),
      limit: z.int().min(1).max(500).default(100).describe('Entries of one page.'),
    }),
    call: async (client, { run: id, step, cursor: from, limit: lines }, signal) => {
      const page = await client.readLogs(id, {
        lines,
        chars: LIMITS.mcpLogChars,
        signal,
        ...(step === undefined ? {} : { step }),
        ...(from === undefined ? {} : { cursor: from }),
      })
      return logsResult(id, page)
    },
  }),
  tool({
    name: 'cancel_run',
    title: 'Cancel a run',
    description: 'Stop a run. Running steps stop when their workers confirm.',
    hints: DECIDES,
    input: z.object({ run }),
    call: async (client, { run: id }) => resultOf({ run: summaryOf(await client.cancelRun(id)) }),
  }),
  tool({
    name: 'list_approvals',
    title: 'List approvals',
    description:
      'Approvals that wait for a decision, the newest first: what is asked, of whom, and what may be given along.',
    hints: READS,
    input: z.object({
      namespace: text(256).optional().describe('Of this namespace alone.'),
      run: text(100).optional().describe('Of this run.'),
      states: z
        .array(z.enum(['pending', 'approved', 'denied', 'expired', 'canceled']))
        .max(5)
        .default(['pending'])
        .describe('In one of these states.'),
      limit,
      cursor,
    }),
    call: async (client, { namespace: at, run: id, states, limit: size, cursor: from }) => {
      const page = await client.listApprovals({
        states,
        limit: size,
        ...(at === undefined ? {} : { namespace: at }),
        ...(id === undefined ? {} : { run: id }),
        ...(from === undefined ? {} : { cursor: from }),
      })
      const parts = page.items.map((one) => ({ id: one.id, ...approvalParts(one) }))
      return resultOf(
        { items: parts.map(({ said }) => said), next: page.next },
        { items: Object.fromEntries(parts.map(({ id: name, untrusted }) => [name, untrusted])) },
      )
    },
  }),
  tool({
    name: 'approve',
    title: 'Approve',
    description:
      'Approve what a run asks for. Exactly one decision counts. Decide only what a person has told you to decide: an approval is there so that a person looks.',
    hints: DECIDES,
    input: z.object({
      approval,
      comment,
      inputs: object.optional().describe('What is given along, by its JSON Schema.'),
    }),
    call: async (client, { approval: id, comment: why, inputs }) =>
      approvalResult(
        await client.approve(id, {
          ...(why === undefined ? {} : { comment: why }),
          ...(inputs === undefined ? {} : { inputs: jsonOf(inputs) }),
        }),
      ),
  }),
  tool({
    name: 'deny',
    title: 'Deny',
    description: 'Deny what a run asks for. Exactly one decision counts.',
    hints: DECIDES,
    input: z.object({ approval, comment }),
    call: async (client, { approval: id, comment: why }) =>
      approvalResult(await client.deny(id, why === undefined ? {} : { comment: why })),
  }),
]

/** A run of one agent. The prompt is an input: what stands in it is never taken for a template. */
const agentWorkflow = (agent: string, at: string): JsonObject => ({
  apiVersion: 'orrery.dev/v1',
  kind: 'Workflow',
  metadata: { name: agent, namespace: at },
  spec: {
    inputs: { type: 'object', required: ['prompt'], properties: { prompt: { type: 'string' } } },
    steps: [{ name: 'answer', agent, with: { prompt: '${{ inputs.prompt }}' } }],
  },
})
