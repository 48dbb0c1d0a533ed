import type { OperationClass } from '../domain/agents/verdict.ts'
import type { CostGroup } from '../domain/prices.ts'
import type { Json, JsonObject } from '../base/json.ts'
import type { FailureCode } from '../domain/failures.ts'
import type { StoredEntry } from '../domain/agents/journal.ts'
import type { FailureRecord, Problem } from '../domain/failure.ts'
import type { Reason } from '../domain/reasons/reason.ts'

/** Bodies of the public API. Times are RFC 3339 in UTC. */

export type RunState = 'pending' | 'running' | 'waiting' | 'succeeded' | 'failed' | 'canceled'
export type StepState =
  | 'pending'
  | 'queued'
  | 'running'
  | 'waiting'
  | 'succeeded'
  | 'failed'
  | 'skipped'
  | 'blocked'
  | 'canceled'

/** POST /v1/definitions: `{ workflow }` (parsed manifest) or `{ manifest }` (YAML text). Same content, same hash. */
export interface CreateDefinitionRequest {
  workflow?: JsonObject
  manifest?: string
}
export interface DefinitionView {
  hash: string
  namespace: string
  name: string
  nodes: { name: string; kind: string; needs: string[] }[]
}

/** POST /v1/runs. Exactly one of `definition` (hash), `workflow`, `manifest`, `workflowRef`. Header `Idempotency-Key` optional; header `Prefer: wait=SECONDS` answers when the run has ended or the time is over. */
export interface CreateRunRequest {
  definition?: string
  workflow?: JsonObject
  manifest?: string
  /** A stored workflow: `name` takes its latest active version, `name@3` that one. */
  workflowRef?: string
  /** Of `workflowRef`; `default` when it is left out. */
  namespace?: string
  inputs?: JsonObject
  labels?: Record<string, string>
}
/** Answer of POST /v1/runs that does not wait; times by the server's clock. A request that waits, or that repeats an earlier one, gets the RunView. */
export interface RunCreated {
  id: string
  state: 'pending'
  definition: string
  createdAt: string
  /** What whoever started it should hear; the header `Warning` says it as well. */
  warnings?: string[]
}
/** POST /v1/runs:bulk. One definition, many inputs. */
export interface CreateRunsRequest {
  definition?: string
  workflow?: JsonObject
  manifest?: string
  workflowRef?: string
  namespace?: string
  items: { inputs?: JsonObject; labels?: Record<string, string> }[]
}
export interface CreateRunsResponse {
  ids: string[]
}

export interface RunSummary {
  id: string
  namespace: string
  workflow: string
  state: RunState
  /** A cancel was asked for and work is being stopped. */
  canceling: boolean
  /** Counts manual retries, from 1. */
  epoch: number
  createdAt: string
  startedAt: string | null
  endedAt: string | null
  labels: Record<string, string>
  /** Steps by number: all, ended well, ended badly. */
  steps: { total: number; open: number; bad: number }
  failure: FailureRecord | null
  /** The step of another run that waits for this one. */
  parent: { run: string; step: string } | null
}

/** What the attempts of an agent's step wrote down. */
export interface StepJournal {
  items: StoredEntry[]
  /** `from` of the next page; null on the last one. */
  next: number | null
  /** Entries of attempts up to this fence were of tries that failed, and count no more. 0: all of them count. */
  countsFrom: number
}

export interface StepView {
  /** Name with indices: `measure[3]`. */
  name: string
  id: string
  kind: 'function' | 'command' | 'agent' | 'tool' | 'route' | 'wait' | 'approval' | 'workflow'
  state: StepState
  /** Why a step has not ended; null once it has. */
  reason: Reason | null
  needs: string[]
  fence: number
  tries: number
  losses: number
  worker: string | null
  queuedAt: string | null
  startedAt: string | null
  endedAt: string | null
  output: Json
  failure: FailureRecord | null
  /** Kept workspace of a failed command: where, and until when. */
  kept: { worker: string; path: string; until: string } | null
  /** Ended attempts that did not succeed. */
  attempts: AttemptView[]
  /** What it waits for in a row, when it does. */
  waitsOn: WaitsOn | null
  /** The run below that it waits for, or waited for; the first of several. */
  childRun: string | null
  /** Of a forEach, matrix or loop, or of a step that takes turns: its activations by state. */
  activations: { total: number; succeeded: number; failed: number } | null
}

/** What a step waits for that holds nothing but a row. */
export interface WaitsOn {
  kind: 'backoff' | 'activations' | 'timer' | 'event' | 'approval' | 'child' | 'budget'
  /** Name of the event, or ids of approvals or of runs below, or names of budgets, with blanks between them. */
  on: string | null
  /** When the wait ends by itself. */
  until: string | null
}

/** POST /v1/runs/{id}/events/{name}:send. */
export interface SentEventView {
  id: string
  run: string
  name: string
  /** `kept`: no step waits for it yet. */
  state: 'taken' | 'kept'
  /** The step that took it. */
  step: string | null
}

export type ApprovalState = 'pending' | 'approved' | 'denied' | 'expired' | 'canceled'
export interface ApprovalView {
  id: string
  run: string
  step: string
  namespace: string
  workflow: string
  state: ApprovalState
  message: string
  /** Names of tokens or roles; null lets anybody decide who may decide approvals. */
  approvers: string[] | null
  /** JSON Schema of what is given along with the approval. */
  inputs: JsonObject | null
  /** What counts when nobody decides in time. */
  onExpiry: 'approve' | 'deny'
  createdAt: string
  expiresAt: string | null
  decidedAt: string | null
  decidedBy: string | null
  comment: string | null
  given: JsonObject | null
  /** What an agent wants to call; null of a step that asks. */
  call: CallView | null
  /** In the answer to a decision: what whoever decided has to know of it; else null. */
  remark: string | null
}

export interface CallView {
  /** May it be made; or was it made, which is not known (tool.outcome_unknown). */
  about: 'call' | 'outcome'
  /** Names the call in the step's journal. */
  id: string
  agent: string | null
  tool: string
  operation: string | null
  /** The arguments, exactly. */
  input: JsonObject
  /** The arguments as whoever decided changed them; null: as they were asked. */
  edited: JsonObject | null
  /** About an outcome: what whoever decided says that it gave. */
  output: Json
  /** Which rule asks, such as `policy/payments`; null about an outcome. */
  rule: string | null
  /** Why, as the rule says it; null where it does not. */
  reason: string | null
}

/** POST /v1/runs/{id}:nudge. */
export interface Nudged {
  run: RunSummary
  /** What moved because of it. */
  changed: { of: string; to: string }[]
  /** What does not go on, and why. */
  waiting: { step: string; state: StepState; reason: StepView['reason'] }[]
}

export interface AttemptView {
  fence: number
  state: 'leased' | 'running' | 'succeeded' | 'failed' | 'lost' | 'parked' | 'canceled'
  worker: string | null
  startedAt: string | null
  endedAt: string | null
  failure: FailureRecord | null
}

export interface RunView extends RunSummary {
  /** Why the run has not ended, told by the step that decides it; null once it has. */
  reason: (Reason & { step: string | null }) | null
  /** Present while nothing has moved for long; each step says why at its `reason`. */
  stalled?: FailureRecord | null
  definition: string
  inputs: JsonObject
  /** The first steps that wait in rows, and for what. */
  waitsOn: (WaitsOn & { step: string })[]
  /** At most one page of steps, activations of a forEach left out; see /v1/runs/{id}/steps. */
  stepList: StepView[]
}

export interface Page<T> {
  items: T[]
  /** Pass as `cursor` for the next page; null on the last one. */
  next: string | null
}

/** One change inside an event. */
export interface Change {
  /** `run` or the step's name with indices. */
  of: string
  to: string
  /** Present on what a worker did. */
  fence?: number
  worker?: string
  code?: string
  at?: string
  note?: string
}
/** GET /v1/runs/{id}/events: SSE; `id:` is `seq`, `event:` is `changes` or, as the last one, `end`. */
export interface RunEvent {
  seq: number
  at: string
  changes: Change[]
}

export interface LogLine {
  step: string
  fence: number
  index: number
  stream: 'stdout' | 'stderr' | 'system' | 'agent'
  at: string
  text: string
}

export interface WorkerView {
  worker: string
  session: string
  state: 'live' | 'draining' | 'lost' | 'ended'
  capacity: number
  held: number
  labels: Record<string, string>
  modules: string[]
  backends: string[]
  version: string
  heartbeatAgoMs: number
  /** How far its clock is ahead of the server's; negative when behind. */
  clockSkewMs: number
  /** What is wrong with it though it works: its clock, its version. */
  problems: FailureRecord[]
}

/** What one check of an installation found. A row that does not pass has a code and a remedy. */
export interface DoctorRow {
  check:
    | 'config'
    | 'server'
    | 'store'
    | 'migrations'
    | 'clock'
    | 'disk'
    | 'ports'
    | 'bus'
    | 'workers'
    | 'approvals'
    | 'secrets'
    | 'models'
    | 'budgets'
    | 'versions'
    | 'telemetry'
  /** What was looked at: a path, a port, a worker. */
  subject: string
  status: 'pass' | 'warn' | 'fail'
  code: FailureCode | null
  message: string
  evidence: JsonObject
  remedy: string | null
}
/** GET /v1/doctor: what the server found when it looked at itself. */
export interface DoctorView {
  version: string
  /** The server's clock. */
  now: string
  rows: DoctorRow[]
}

/** GET /v1/costs: what calls of models took, those with the most tokens first. */
export interface CostsView {
  by: CostGroup
  items: {
    namespace: string
    /** Of the agent, the workflow and so on. */
    name: string
    calls: number
    inputTokens: number
    outputTokens: number
    /** Part of the input. */
    cachedInputTokens: number
    costs: { currency: string; amount: number }[]
    /** Calls whose price is not known. */
    unpriced: number
  }[]
  /** There are more than were asked for. */
  more: boolean
}

/** A file that a step left. GET /v1/runs/{id}/artifacts; its bytes at /v1/runs/{id}/artifacts/content?step=…&name=…. */
export interface ArtifactView {
  /** Name with indices. */
  step: string
  /** Relative path, with forward slashes. */
  name: string
  bytes: number
  /** Of the content, in hex. */
  sha256: string
  createdAt: string
  /** From then on it is gone. */
  expiresAt: string
}

/** GET /v1/status: what is under way, of what the caller may see. */
export interface StatusView {
  /** `servers`: how many share the store, this one included. */
  server: { id: string; version: string; store: 'embedded' | 'postgres'; servers: number }
  /** Runs that have not ended. */
  runs: { pending: number; running: number; waiting: number }
  /** Queues that hold steps, by what a worker must offer to take them. `workers`: how many live ones do. */
  queues: {
    namespace: string
    backend: string
    module: string | null
    labels: Record<string, string>
    queued: number
    /** How long the oldest step has waited. */
    oldestMs: number
    workers: number
  }[]
  workers: { live: number; draining: number; lost: number; capacity: number; held: number }
}

/** A secret without its values. */
export interface SecretView {
  namespace: string
  name: string
  keys: string[]
  /** Ids of the keys by which its values are encrypted. */
  sealedBy: string[]
  updatedAt: string
}

export interface PutSecretRequest {
  values: Record<string, string>
  /** Removes the keys that are not named. */
  replace?: boolean
}

/** The keys of a secret and, in order, the places where each is looked for. */
export interface SecretDetail {
  namespace: string
  name: string
  keys: {
    key: string
    stored: { sealedBy: string; updatedAt: string } | null
    places: { from: 'store' | 'environment' | 'file'; name: string; found: boolean; note: string | null }[]
  }[]
}

export interface RotateSecretsResponse {
  activeKey: string
  olderKeys: string[]
  /** Values that this call encrypted anew. */
  resealed: number
  /** Values that are still to be done. */
  remaining: number
  /** Values sealed by keys that the server does not have. */
  unreadable: { keyId: string; values: number }[]
}

/** Who a token is, to its holder. */
export interface WhoamiView {
  id: string
  name: string
  role: 'viewer' | 'operator' | 'admin' | 'worker'
  /** `*` is every organisation. */
  organisation: string
  /** Null: all of the organisation. */
  namespaces: string[] | null
  expiresAt: string | null
}

/** POST /v1/tokens. What is left out is as it is with the token that asks. */
export interface CreateTokenRequest {
  name: string
  role: 'viewer' | 'operator' | 'admin' | 'worker'
  organisation?: string
  namespaces?: string[]
  /** Absent: until it is revoked. */
  expiresInSeconds?: number
}
export interface TokenView extends WhoamiView {
  state: 'good' | 'expired' | 'revoked'
  createdAt: string
  /** Id of the token that made it; null when the server made it for itself. */
  createdBy: string | null
  revokedAt: string | null
  /** To the minute; null when it was not used yet. */
  lastUsedAt: string | null
}
/** The only time that the token itself is told. */
export interface TokenCreated extends TokenView {
  token: string
}

/** POST /v1/can-i: may the caller do VERB with RESOURCE, there? */
export interface CanIRequest {
  verb: string
  resource: string
  namespace?: string
}
export interface CanIView {
  allowed: boolean
  /** The least role that may. */
  required: 'any' | 'viewer' | 'operator' | 'admin' | 'worker' | 'none'
  role: 'viewer' | 'operator' | 'admin' | 'worker'
  /** Why, in a sentence. */
  reason: string
}

/** One change, refusal or use of a secret. */
export interface AuditView {
  id: string
  at: string
  actor: { id: string; name: string | null; role: string | null }
  organisation: string
  /** Null: it was about a whole organisation. */
  namespace: string | null
  /** Resource and verb, such as `runs.cancel`. */
  action: string
  object: string | null
  outcome: 'done' | 'denied'
  address: string | null
  requestId: string | null
  details: JsonObject | null
}

/** application/problem+json (RFC 9457) with our own members. */
export interface ProblemDetails {
  type: string
  title: string
  status: number
  detail: string
  instance: string
  code: string
  remediation: string
  retryable: boolean
  requestId: string
  cause?: FailureRecord | { message: string }
  evidence?: JsonObject
  problems?: Problem[]
}

/** POST /v1/namespaces/{namespace}/modelendpoints/{model}:ask */
export interface AskModelRequest {
  prompt: string
  /** Instructions before the prompt. */
  system?: string | undefined
  maxTokens?: number | undefined
  temperature?: number | undefined
  /** False: this endpoint alone is asked, whatever happens. */
  useFallbacks?: boolean | undefined
}

/** POST /v1/namespaces/{namespace}/agents/{agent}:check */
export interface CheckAgentRequest {
  /** As the agent calls it. */
  tool: string
  /** Left out: the class that the Tool of this name says. */
  operation?: OperationClass | undefined
  input?: JsonObject | undefined
  /** In a run of this workflow, with these labels. */
  workflow?: string | undefined
  labels?: Record<string, string> | undefined
  /** May it ask this endpoint, besides? */
  model?: string | undefined
}

/** A rule that was looked at, with what it says. */
export interface LookedAtRule {
  rule: string
  /** Which part of it speaks; null: none does. */
  part: string | null
  says: 'allow' | 'deny' | 'approval' | 'nothing' | 'not_applied'
  why: string
}

export interface AgentCheck {
  agent: string
  tool: string
  operation: OperationClass
  verdict: 'allow' | 'deny' | 'approval'
  /** The one that decided. */
  rule: string
  /** Of the failure that a denied call ends with. */
  code: string | null
  reason: string | null
  /** What would let it pass. */
  remediation: string | null
  /** Who may decide; null: all who may decide approvals. */
  approvers: string[] | null
  expiresMs: number | null
  /** In the order of precedence. */
  looked: LookedAtRule[]
  /** Null: no model was asked about. */
  model: {
    endpoint: string
    allowed: boolean
    rule: string | null
    reason: string | null
    remediation: string | null
    looked: LookedAtRule[]
  } | null
}
