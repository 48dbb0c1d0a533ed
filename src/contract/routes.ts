import type { z } from 'zod'
import { LIMITS } from '../domain/limits.ts'
import * as access from './access-schemas.ts'
import {
  AppendResponseSchema,
  AppendSchema,
  JournalResponseSchema,
  JournalSchema,
  StepJournalQuerySchema,
  StepJournalSchema,
} from './agent-schemas.ts'
import { EXCHANGE_PATHS } from './exchange.ts'
import { AgentCheckSchema, CheckAgentSchema } from './rule-schemas.ts'
import { CostsViewSchema, ListCostsQuerySchema } from './cost-schemas.ts'
import { JsonRpcErrorSchema, JsonRpcMessageSchema } from './mcp-schemas.ts'
import { MEMORY_ROUTES, type MemoryRouteId } from './memory-routes.ts'
import { AskModelSchema, ModelResultSchema } from './model-schemas.ts'
import { RESOURCE_ROUTES, type ResourceRouteId } from './resource-routes.ts'
import type { RouteOf } from './route.ts'
import * as s from './schemas.ts'

/** Every route of the server as data: the api answers by it, OpenAPI is made from it. */
export type Route = RouteOf<RouteId>

export type RouteId =
  | ResourceRouteId
  | MemoryRouteId
  | 'createDefinition'
  | 'getDefinition'
  | 'createRun'
  | 'createRuns'
  | 'listRuns'
  | 'getRun'
  | 'listSteps'
  | 'cancelRun'
  | 'retryRun'
  | 'retryStep'
  | 'skipStep'
  | 'nudgeRun'
  | 'sendEvent'
  | 'listApprovals'
  | 'getApproval'
  | 'approveApproval'
  | 'denyApproval'
  | 'followEvents'
  | 'followLogs'
  | 'listArtifacts'
  | 'downloadArtifact'
  | 'artifacts'
  | 'chunk'
  | 'exports'
  | 'files'
  | 'content'
  | 'journal'
  | 'append'
  | 'showJournal'
  | 'agent'
  | 'listWorkers'
  | 'getStatus'
  | 'doctor'
  | 'listCosts'
  | 'askModel'
  | 'checkAgent'
  | 'setSecretValues'
  | 'listSecretValues'
  | 'showSecretValues'
  | 'deleteSecretValues'
  | 'rotateSecrets'
  | 'register'
  | 'poll'
  | 'report'
  | 'heartbeat'
  | 'health'
  | 'ready'
  | 'metrics'
  | 'openapi'
  | 'createToken'
  | 'listTokens'
  | 'revokeToken'
  | 'whoami'
  | 'canI'
  | 'mcp'
  | 'listAudit'

const JSON_TYPE = 'application/json'
const ok = (schema: z.ZodType, description = 'As asked.') => ({ status: 200, description, type: JSON_TYPE, schema })
const created = (schema: z.ZodType, description: string) => ({ status: 201, description, type: JSON_TYPE, schema })

/** What the protocol itself refuses; what is refused before it is asked is a problem, as everywhere. */
const jsonRpcError = (status: number, description: string) => ({
  status,
  description,
  type: JSON_TYPE,
  schema: JsonRpcErrorSchema,
})

const IDEMPOTENCY =
  '1 to 255 printable characters. The same request under the same key is answered with what the first one made.'

const PREFER_WAIT = '`wait=SECONDS` answers with the run when it has ended or the time is over, a minute at most.'

const get = { method: 'GET', auth: 'viewer', bodyBytes: 0 } as const
const post = { method: 'POST', auth: 'operator', bodyBytes: LIMITS.bodyBytes } as const
const exchange = { method: 'POST', auth: 'worker' } as const

export const ROUTES: readonly Route[] = [
  {
    ...post,
    id: 'createDefinition',
    path: '/v1/definitions',
    summary: 'Store a workflow. The same content gives the same hash.',
    body: s.CreateDefinitionSchema,
    responses: [created(s.DefinitionViewSchema, 'Stored, or there already.')],
  },
  {
    ...get,
    id: 'getDefinition',
    path: '/v1/definitions/{hash}',
    summary: 'A stored definition.',
    responses: [ok(s.DefinitionViewSchema)],
  },
  {
    ...post,
    id: 'createRun',
    path: '/v1/runs',
    summary: 'Start a run of a stored definition or of a workflow that comes with the request.',
    body: s.CreateRunSchema,
    hot: true,
    headers: {
      'Idempotency-Key': IDEMPOTENCY,
      Prefer: PREFER_WAIT,
    },
    responses: [
      created(s.RunCreatedSchema.or(s.RunViewSchema), 'Started. The whole run when the request waited.'),
      ok(s.RunViewSchema, 'The run that the same request under the same Idempotency-Key started before.'),
    ],
  },
  {
    ...post,
    id: 'createRuns',
    path: '/v1/runs:bulk',
    summary: 'Start many runs of one definition.',
    body: s.CreateRunsSchema,
    bodyBytes: LIMITS.bulkBodyBytes,
    headers: { 'Idempotency-Key': IDEMPOTENCY },
    responses: [created(s.CreateRunsResponseSchema, 'Ids in the order of the items.')],
  },
  {
    ...get,
    id: 'listRuns',
    path: '/v1/runs',
    summary: 'Runs, the newest first. `state` may be given several times.',
    query: s.ListRunsQuerySchema,
    lists: ['state'],
    responses: [ok(s.pageOf(s.RunSummarySchema))],
  },
  {
    ...get,
    id: 'getRun',
    path: '/v1/runs/{id}',
    summary: 'A run with its first steps.',
    headers: { Prefer: PREFER_WAIT },
    responses: [ok(s.RunViewSchema)],
  },
  {
    ...get,
    id: 'listSteps',
    path: '/v1/runs/{id}/steps',
    summary: 'All steps of a run, activations of forEach included.',
    query: s.PageQuerySchema,
    responses: [ok(s.pageOf(s.StepViewSchema))],
  },
  {
    ...post,
    id: 'cancelRun',
    path: '/v1/runs/{id}:cancel',
    summary: 'Stop a run. Running steps stop when their workers confirm.',
    responses: [ok(s.RunSummarySchema)],
  },
  {
    ...post,
    id: 'retryRun',
    path: '/v1/runs/{id}:retry',
    summary: 'Run the failed part of a failed or canceled run again.',
    responses: [ok(s.RunSummarySchema)],
  },
  {
    ...post,
    id: 'retryStep',
    path: '/v1/runs/{id}/steps/{name}:retry',
    summary: 'Run one failed step again, and what was blocked or stopped because of it; what else failed stays.',
    responses: [ok(s.RunSummarySchema)],
  },
  {
    ...post,
    id: 'skipStep',
    path: '/v1/runs/{id}/steps/{name}:skip',
    summary: 'Skip a step with a replacement output; what depends on it may run.',
    body: s.SkipStepSchema,
    responses: [ok(s.RunSummarySchema)],
  },
  {
    ...post,
    id: 'nudgeRun',
    path: '/v1/runs/{id}:nudge',
    summary: 'Look again at a live run that seems stuck. Says what moved, and what the run waits for. Harmless.',
    responses: [ok(s.NudgedSchema)],
  },
  {
    ...post,
    id: 'sendEvent',
    path: '/v1/runs/{id}/events/{event}:send',
    summary:
      'Send an event to a run. A step that waits for it goes on with the payload; else the run keeps it until one does.',
    body: s.SendEventSchema,
    headers: { 'Idempotency-Key': IDEMPOTENCY },
    responses: [ok(s.SentEventSchema)],
  },
  {
    ...get,
    id: 'listApprovals',
    path: '/v1/approvals',
    summary: 'Approvals, the newest first. `state` may be given several times.',
    query: s.ListApprovalsQuerySchema,
    lists: ['state'],
    responses: [ok(s.pageOf(s.ApprovalViewSchema))],
  },
  {
    ...get,
    id: 'getApproval',
    path: '/v1/approvals/{approval}',
    summary: 'An approval: what is asked, of whom, and how it was decided.',
    responses: [ok(s.ApprovalViewSchema)],
  },
  {
    ...post,
    id: 'approveApproval',
    path: '/v1/approvals/{approval}:approve',
    summary: 'Approve. Exactly one decision counts.',
    body: s.ApproveSchema,
    responses: [ok(s.ApprovalViewSchema)],
  },
  {
    ...post,
    id: 'denyApproval',
    path: '/v1/approvals/{approval}:deny',
    summary: 'Deny. Exactly one decision counts.',
    body: s.DenySchema,
    responses: [ok(s.ApprovalViewSchema)],
  },
  {
    ...get,
    id: 'followEvents',
    path: '/v1/runs/{id}/events',
    summary:
      'Events of a run as they come: `id` is seq, `event` is `changes` or, as the last one, `end`. With `Accept: application/json` the events so far as a list.',
    query: s.EventsQuerySchema,
    headers: { 'Last-Event-ID': 'Go on after this event; stronger than `after`.' },
    responses: [
      { status: 200, description: 'Until the run has ended.', type: 'text/event-stream' },
      { status: 200, description: 'The events so far.', type: JSON_TYPE, schema: s.RunEventSchema.array() },
    ],
  },
  {
    ...get,
    id: 'followLogs',
    path: '/v1/runs/{id}/logs',
    summary:
      'Log of a run as text, or as NDJSON with `Accept: application/x-ndjson`; the last NDJSON line is `{"end":true}`, so that a cut is seen.',
    query: s.LogsQuerySchema,
    responses: [
      { status: 200, description: 'Lines.', type: 'text/plain' },
      { status: 200, description: 'One object a line.', type: 'application/x-ndjson', schema: s.LogLineSchema },
    ],
  },
  {
    ...get,
    id: 'showJournal',
    path: '/v1/runs/{id}/steps/{step}/journal',
    summary: "What the attempts of an agent's step wrote down: calls of models and tools with their answers, in order.",
    query: StepJournalQuerySchema,
    responses: [ok(StepJournalSchema)],
  },
  {
    ...get,
    id: 'listArtifacts',
    path: '/v1/runs/{id}/artifacts',
    summary: 'Files that the steps of a run left.',
    query: s.PageQuerySchema,
    responses: [ok(s.pageOf(s.ArtifactViewSchema))],
  },
  {
    ...get,
    id: 'downloadArtifact',
    path: '/v1/runs/{id}/artifacts/content',
    summary: 'The bytes of one file. The `ETag` is its SHA-256; `If-None-Match` is honoured.',
    query: s.DownloadQuerySchema,
    headers: { 'If-None-Match': 'Answered with 304 when the file is still the same.' },
    responses: [
      { status: 200, description: 'The file.', type: 'application/octet-stream' },
      { status: 304, description: 'As it was.' },
    ],
  },
  {
    ...get,
    id: 'listWorkers',
    path: '/v1/workers',
    summary: 'Workers and what they hold.',
    responses: [ok(s.WorkersResponseSchema)],
  },
  {
    ...get,
    id: 'getStatus',
    path: '/v1/status',
    summary: 'What is under way: live runs by state, queues with those who serve them, workers.',
    responses: [ok(s.StatusViewSchema)],
  },
  {
    ...get,
    id: 'doctor',
    path: '/v1/doctor',
    summary:
      'What the server finds when it looks at itself: store, migrations, clocks, disks, workers, models, versions.',
    responses: [ok(s.DoctorViewSchema)],
  },
  {
    ...post,
    id: 'askModel',
    path: '/v1/namespaces/{namespace}/modelendpoints/{model}:ask',
    summary:
      'Ask a model. Events as they come: `text`, `tool-call`, `retrying`, `usage` and, as the last one, `finished` with the result or `failure`. With `Accept: application/json` the result alone.',
    body: AskModelSchema,
    responses: [
      { status: 200, description: 'The answer as it comes.', type: 'text/event-stream' },
      { status: 200, description: 'The whole answer.', type: JSON_TYPE, schema: ModelResultSchema },
    ],
  },
  {
    ...post,
    auth: 'viewer',
    id: 'checkAgent',
    path: '/v1/namespaces/{namespace}/agents/{agent}:check',
    summary:
      'Say whether an agent may call a tool: the verdict, the rule that decided, and every rule that was looked at. Nothing is called.',
    body: CheckAgentSchema,
    responses: [ok(AgentCheckSchema, 'What the rules say now.')],
  },
  {
    ...get,
    id: 'listSecretValues',
    path: '/v1/namespaces/{ns}/secret-values',
    summary: 'Names of the stored secrets of a namespace and of their keys. Values are never answered.',
    query: s.PageQuerySchema,
    responses: [ok(s.pageOf(s.SecretViewSchema))],
  },
  {
    ...post,
    method: 'PUT',
    auth: 'admin',
    id: 'setSecretValues',
    path: '/v1/namespaces/{ns}/secret-values/{name}',
    summary: 'Set keys of a secret. Keys that are not named stay, unless `replace` is true.',
    body: s.PutSecretSchema,
    responses: [ok(s.SecretViewSchema)],
  },
  {
    ...get,
    id: 'showSecretValues',
    path: '/v1/namespaces/{ns}/secret-values/{name}',
    summary:
      'Keys of a secret, and in which places each is looked for. `key` shows one that is not stored too and may be given several times.',
    query: s.SecretKeysQuerySchema,
    lists: ['key'],
    responses: [ok(s.SecretDetailSchema)],
  },
  {
    ...get,
    method: 'DELETE',
    auth: 'admin',
    id: 'deleteSecretValues',
    path: '/v1/namespaces/{ns}/secret-values/{name}',
    summary: 'Remove a secret, or the keys of it that `key` names.',
    query: s.SecretKeysQuerySchema,
    lists: ['key'],
    responses: [ok(s.DeletedSecretSchema)],
  },
  {
    ...post,
    auth: 'admin',
    id: 'rotateSecrets',
    path: '/v1/secrets:rotate',
    summary: 'Encrypt the next values anew that are not encrypted by the active key. Call it until nothing remains.',
    body: s.RotateSecretsSchema,
    responses: [ok(s.RotateSecretsResponseSchema)],
  },
  {
    ...exchange,
    id: 'register',
    path: EXCHANGE_PATHS.register,
    summary: 'Open a worker session.',
    body: s.RegisterSchema,
    bodyBytes: LIMITS.bodyBytes,
    responses: [ok(s.RegisterResponseSchema)],
  },
  {
    ...exchange,
    id: 'poll',
    path: EXCHANGE_PATHS.poll,
    summary: 'Ask for work; parked until there is some.',
    body: s.PollSchema,
    bodyBytes: LIMITS.bodyBytes,
    hot: true,
    responses: [ok(s.PollResponseSchema)],
  },
  {
    ...exchange,
    id: 'report',
    path: EXCHANGE_PATHS.report,
    summary: 'Report on attempts; never parked. The same report twice is safe.',
    body: s.ReportSchema,
    bodyBytes: LIMITS.bulkBodyBytes,
    hot: true,
    responses: [ok(s.ReportResponseSchema)],
  },
  {
    ...exchange,
    id: 'heartbeat',
    path: EXCHANGE_PATHS.heartbeat,
    summary: 'Keep the lease of a session.',
    body: s.HeartbeatSchema,
    bodyBytes: LIMITS.bodyBytes,
    hot: true,
    responses: [ok(s.HeartbeatResponseSchema)],
  },
  ...RESOURCE_ROUTES,
  ...MEMORY_ROUTES,
  {
    ...exchange,
    id: 'artifacts',
    path: EXCHANGE_PATHS.artifacts,
    summary: 'Record files of an attempt; says which contents are to be sent first.',
    body: s.ArtifactsSchema,
    bodyBytes: LIMITS.bodyBytes,
    responses: [ok(s.ArtifactsResponseSchema)],
  },
  {
    ...exchange,
    id: 'chunk',
    path: EXCHANGE_PATHS.chunk,
    summary: 'Send one piece of a content.',
    body: s.ChunkSchema,
    bodyBytes: LIMITS.bodyBytes,
    responses: [ok(s.ChunkResponseSchema)],
  },
  {
    ...exchange,
    id: 'exports',
    path: EXCHANGE_PATHS.exports,
    summary: 'Record the variables that an attempt hands on.',
    body: s.ExportsSchema,
    bodyBytes: LIMITS.bodyBytes,
    responses: [ok(s.ExportsResponseSchema)],
  },
  {
    ...exchange,
    id: 'files',
    path: EXCHANGE_PATHS.files,
    summary: 'Say which files of earlier steps an attempt is given.',
    body: s.FilesSchema,
    bodyBytes: LIMITS.bodyBytes,
    responses: [ok(s.FilesResponseSchema)],
  },
  {
    ...exchange,
    id: 'content',
    path: EXCHANGE_PATHS.content,
    summary: 'Give one piece of the content of such a file.',
    body: s.ContentSchema,
    bodyBytes: LIMITS.bodyBytes,
    responses: [ok(s.ContentResponseSchema)],
  },
  {
    ...exchange,
    id: 'journal',
    path: EXCHANGE_PATHS.journal,
    summary: 'Give what the activation of an attempt has journaled, by page.',
    body: JournalSchema,
    bodyBytes: LIMITS.bodyBytes,
    responses: [ok(JournalResponseSchema)],
  },
  {
    ...exchange,
    id: 'append',
    path: EXCHANGE_PATHS.append,
    summary: 'Journal what an attempt is about to do or has done; the rules answer for the calls.',
    body: AppendSchema,
    bodyBytes: LIMITS.bulkBodyBytes,
    responses: [ok(AppendResponseSchema)],
  },
  {
    ...exchange,
    id: 'agent',
    path: EXCHANGE_PATHS.agent,
    summary: 'Give what a step of agents uses as it is now: model endpoints, prices, values of secrets, data rules.',
    body: s.AgentContextRequestSchema,
    bodyBytes: LIMITS.bodyBytes,
    responses: [ok(s.AgentContextResponseSchema)],
  },
  {
    ...get,
    auth: 'none',
    id: 'health',
    path: '/healthz',
    summary: 'The process answers.',
    responses: [ok(s.HealthSchema)],
  },
  {
    ...get,
    auth: 'none',
    id: 'ready',
    path: '/readyz',
    summary: 'The server can work: its database answers.',
    responses: [ok(s.HealthSchema)],
  },
  {
    ...get,
    auth: 'none',
    id: 'metrics',
    path: '/metrics',
    summary: 'Metrics in the format of Prometheus.',
    responses: [{ status: 200, description: 'Metrics.', type: 'text/plain' }],
  },
  {
    ...get,
    auth: 'none',
    id: 'openapi',
    path: '/openapi.json',
    summary: 'This description.',
    responses: [{ status: 200, description: 'OpenAPI 3.1.', type: JSON_TYPE }],
  },
  {
    ...post,
    auth: 'admin',
    id: 'createToken',
    path: '/v1/tokens',
    summary: 'Make a token. It is shown in this answer and never again; it reaches no further than the one that asks.',
    body: access.CreateTokenSchema,
    responses: [created(access.TokenCreatedSchema, 'Made.')],
  },
  {
    ...get,
    auth: 'admin',
    id: 'listTokens',
    path: '/v1/tokens',
    summary: 'Tokens, the newest first. `all=true` gives those too that have expired or were revoked.',
    query: access.ListTokensQuerySchema,
    responses: [ok(s.pageOf(access.TokenViewSchema))],
  },
  {
    ...post,
    auth: 'admin',
    id: 'revokeToken',
    path: '/v1/tokens/{token}:revoke',
    summary: 'End a token. It stops working within a second on every server. Twice is safe.',
    responses: [ok(access.TokenViewSchema)],
  },
  {
    ...get,
    auth: 'any',
    id: 'whoami',
    path: '/v1/whoami',
    summary: 'Whose token this is, and what it reaches.',
    responses: [ok(access.WhoamiSchema)],
  },
  {
    ...get,
    id: 'listCosts',
    path: '/v1/costs',
    summary: 'What calls of models took, in tokens and money, by who made them.',
    query: ListCostsQuerySchema,
    responses: [ok(CostsViewSchema)],
  },
  {
    ...post,
    auth: 'any',
    id: 'canI',
    path: '/v1/can-i',
    summary: 'Whether this token may do something: a verb and a resource, such as `cancel` and `runs`.',
    body: access.CanISchema,
    responses: [ok(access.CanIViewSchema)],
  },
  {
    ...post,
    auth: 'any',
    id: 'mcp',
    path: '/mcp',
    summary:
      'Orrery as an MCP server (streamable HTTP, revisions 2026-07-28 and 2025-11-25): JSON-RPC messages. Each tool does what the token may do.',
    headers: { 'MCP-Protocol-Version': 'Revision of the protocol that the message is of.' },
    message: JsonRpcMessageSchema,
    responses: [
      { status: 200, description: 'The answer.', type: JSON_TYPE },
      { status: 200, description: 'The answer as it comes.', type: 'text/event-stream' },
      { status: 202, description: 'Taken; there is nothing to answer.' },
      jsonRpcError(400, 'The message is none of the protocol, or not of the revision that its headers name.'),
      jsonRpcError(404, 'The protocol has no such method.'),
      jsonRpcError(406, 'The header Accept has to take both application/json and text/event-stream.'),
      jsonRpcError(413, 'The message is too large.'),
      jsonRpcError(415, 'The body has to be application/json.'),
    ],
  },
  {
    ...get,
    auth: 'admin',
    id: 'listAudit',
    path: '/v1/audit',
    summary: 'The audit log: changes, refusals and uses of secrets, the newest first.',
    query: access.ListAuditQuerySchema,
    responses: [ok(s.pageOf(access.AuditViewSchema))],
  },
]
