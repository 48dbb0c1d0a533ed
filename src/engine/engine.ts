import type { CostGroup } from '../domain/prices.ts'
import type { CostsView } from '../contract/api-types.ts'
import type { JsonObject, Json } from '../base/json.ts'
import type {
  AgentContextRequest,
  AgentContextResponse,
  ArtifactsRequest,
  ArtifactsResponse,
  ChunkRequest,
  ChunkResponse,
  ContentRequest,
  ContentResponse,
  ExportsRequest,
  ExportsResponse,
  FilesRequest,
  FilesResponse,
  AppendRequest,
  AppendResponse,
  JournalRequest,
  JournalResponse,
  HeartbeatRequest,
  HeartbeatResponse,
  MemoryRequest,
  MemoryResponse,
  PollRequest,
  PollResponse,
  RegisterRequest,
  RegisterResponse,
  ReportRequest,
  ReportResponse,
} from '../contract/exchange.ts'
import type {
  ArtifactView,
  ApprovalState,
  AgentCheck,
  AskModelRequest,
  CheckAgentRequest,
  ApprovalView,
  LogLine,
  Nudged,
  SentEventView,
  Page,
  RunEvent,
  RunSummary,
  RunView,
  StatusView,
  StepView,
  StepJournal,
  RotateSecretsResponse,
  SecretDetail,
  SecretView,
  WorkerView,
  DefinitionView,
  RunState,
} from '../contract/api-types.ts'
import type { LabelTerm } from '../domain/kinds/selector.ts'
import type { ModelEvent } from '../domain/model-call.ts'
import type { ServerFacts } from '../domain/installation-facts.ts'
import type { Role } from '../domain/roles.ts'
import type { Definition } from '../domain/workflow.ts'
import type { ResourceEngine } from './resources/resource-engine.ts'
import type { DecisionWish } from './approvals.ts'
import type { EventToSend } from './send-event.ts'
import type { Access } from './access.ts'
import type { Memories } from './memory/memories.ts'

export type { MemoryRef } from './memory/memories.ts'

/** Who asks. Every call carries it; what a caller may not see looks absent. */
export interface Caller {
  /** Token id or `embedded`. */
  actor: string
  role: Role
  /** In which the caller names namespaces; `*` is all of them. */
  organisation: string
  /** What the caller may see, in stored names (domain/tenancy.ts); null is everything. Asked through visible.ts. */
  namespaces: string[] | null
  requestId: string
  /** Where the request came from; null when it came from the same process. */
  address?: string | null
}

/** What people do with memories. */
export type MemoryUse = Pick<Memories, 'list' | 'get' | 'put' | 'search' | 'ingest' | 'delete' | 'check'>

/** Names a secret. */
export interface SecretAddress {
  namespace: string
  secret: string
}

export interface NewRun {
  definition: string
  inputs: JsonObject
  labels: Record<string, string>
  /** From `Idempotency-Key`; unique per caller's token. */
  idempotencyKey: string | null
  /** Hash of the whole request; another one under the same key is refused. */
  fingerprint: string | null
  /** Stands in the run's first event: what whoever looks at it should know of how it began. */
  note?: string | null
}

export type CreateOutcome =
  /** `definition` is what the run holds: with all that its steps of agents refer to. */
  | { kind: 'created'; runId: string; definition: string; remarks: readonly string[] }
  /** The key was used by the same request before. */
  | { kind: 'existing'; runId: string }
  | { kind: 'key_reused'; runId: string }

/** What the api (and nothing else) calls. Throws Failure. */
export interface Engine {
  readonly resources: ResourceEngine
  /** What is in memories, for people. */
  readonly memories: MemoryUse
  putDefinition(caller: Caller, definition: Definition): Promise<{ hash: string }>
  getDefinition(caller: Caller, hash: string): Promise<DefinitionView & { definition: Definition }>
  /**
   * Inputs are checked against the definition's schema: `input.invalid`. What steps of agents name is looked up: `agent.not_found`,
   * `resource.not_found`.
   */
  createRuns(caller: Caller, runs: NewRun[]): Promise<CreateOutcome[]>
  getRun(caller: Caller, runId: string): Promise<RunView>
  listRuns(
    caller: Caller,
    filter: {
      namespace: string | null
      workflow: string | null
      states: RunState[]
      /** What their labels must meet. */
      terms?: readonly LabelTerm[]
      /** RFC 3339; runs that were created from then on. */
      since?: string | null
      cursor: string | null
      limit: number
    },
  ): Promise<Page<RunSummary>>
  listSteps(caller: Caller, runId: string, filter: { cursor: string | null; limit: number }): Promise<Page<StepView>>
  cancelRun(caller: Caller, runId: string): Promise<RunSummary>
  retryRun(caller: Caller, runId: string): Promise<RunSummary>
  /** One failed step, and what was blocked or stopped because of it. */
  retryStep(caller: Caller, runId: string, step: string): Promise<RunSummary>
  /** Manual skip with a replacement output; dependents may run. */
  skipStep(caller: Caller, runId: string, step: string, output: Json): Promise<RunSummary>
  /** Events after `afterSeq` that are there now, at most `limit`. */
  listEvents(
    caller: Caller,
    runId: string,
    afterSeq: number,
    limit: number,
  ): Promise<(RunEvent & { terminal: boolean })[]>
  /** Looks again at a live run that seems stuck: what moved, and what it waits for. */
  nudgeRun(caller: Caller, runId: string): Promise<Nudged>
  /** Gives a run an event; a step that waits for it goes on, else it is kept. */
  sendEvent(caller: Caller, runId: string, event: EventToSend): Promise<SentEventView>
  listApprovals(
    caller: Caller,
    filter: {
      namespace: string | null
      states: ApprovalState[]
      runId: string | null
      step: string | null
      cursor: string | null
      limit: number
    },
  ): Promise<Page<ApprovalView>>
  getApproval(caller: Caller, id: string): Promise<ApprovalView>
  /** Exactly one decision counts; a later one is refused with `approval.already_decided`. */
  decideApproval(caller: Caller, id: string, wish: DecisionWish): Promise<ApprovalView>
  /** Events after `afterSeq`, as they come; ends after the run's terminal event. */
  followEvents(
    caller: Caller,
    runId: string,
    afterSeq: number,
    signal: AbortSignal,
  ): AsyncIterable<RunEvent & { terminal: boolean }>
  /** Resolves with the run when it has ended, or as it is when the time is over. */
  waitForRun(caller: Caller, runId: string, waitMs: number, signal: AbortSignal): Promise<RunView>
  /** Log lines of a run after a cursor; `follow` keeps going until the run has ended and everything was given out. */
  followLogs(
    caller: Caller,
    runId: string,
    filter: { step: string | null; cursor: string | null; follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<LogLine & { cursor: string }>
  /** What the attempts of an agent's step wrote down, by `seq`. */
  showJournal(
    caller: Caller,
    at: { runId: string; step: string },
    page: { from: number; limit: number },
  ): Promise<StepJournal>
  listArtifacts(
    caller: Caller,
    runId: string,
    page: { cursor: string | null; limit: number },
  ): Promise<Page<ArtifactView>>
  /** A file with its bytes, read as they are asked for. */
  openArtifact(
    caller: Caller,
    runId: string,
    file: { step: string; name: string },
  ): Promise<{ view: ArtifactView; read(): AsyncIterable<Uint8Array> }>
  /** Asks a model. Fails at once when there is no such endpoint; what goes wrong later comes with the events, the last of which is `finished`. */
  askModel(
    caller: Caller,
    at: { namespace: string; name: string },
    ask: AskModelRequest,
    signal: AbortSignal,
  ): Promise<AsyncIterable<ModelEvent>>
  /** What the rules say of a call that an agent might make. `resource.not_found`, or `request.invalid` for a tool whose class nobody says. */
  checkAgent(caller: Caller, at: { namespace: string; name: string }, ask: CheckAgentRequest): Promise<AgentCheck>
  listWorkers(caller: Caller): Promise<WorkerView[]>
  /** What is under way, of what the caller may see. */
  getStatus(caller: Caller): Promise<StatusView>
  /** What calls of models took, of what the caller may see. Times are RFC 3339; null: all that is remembered. */
  listCosts(
    caller: Caller,
    asked: { by: CostGroup; namespace: string | null; since: string | null; until: string | null; limit: number },
  ): Promise<CostsView>
  /** What this server knows of the installation, for its doctor. A store that does not answer is a fact, not a failure. */
  examine(caller: Caller): Promise<ServerFacts>

  /** Values go in here and never come out. `replace` removes the keys that are not named. */
  putSecret(
    caller: Caller,
    at: SecretAddress,
    body: { values: Record<string, string>; replace: boolean },
  ): Promise<SecretView>
  listSecrets(
    caller: Caller,
    filter: { namespace: string; cursor: string | null; limit: number },
  ): Promise<Page<SecretView>>
  /** With the places where each key is looked for; `asked` are shown also when they are not stored. */
  getSecret(caller: Caller, at: SecretAddress, options: { asked: string[] }): Promise<SecretDetail>
  /** Null removes all keys. */
  deleteSecret(caller: Caller, at: SecretAddress, options: { keys: string[] | null }): Promise<{ deleted: string[] }>
  /** One batch; to be called until nothing remains. */
  rotateSecrets(caller: Caller, options: { newKey: boolean }): Promise<RotateSecretsResponse>

  register(caller: Caller, request: RegisterRequest): Promise<RegisterResponse>
  poll(caller: Caller, request: PollRequest, signal: AbortSignal): Promise<PollResponse>
  report(caller: Caller, request: ReportRequest): Promise<ReportResponse>
  heartbeat(caller: Caller, request: HeartbeatRequest): Promise<HeartbeatResponse>
  takeArtifacts(caller: Caller, request: ArtifactsRequest): Promise<ArtifactsResponse>
  takeChunk(caller: Caller, request: ChunkRequest): Promise<ChunkResponse>
  takeExports(caller: Caller, request: ExportsRequest): Promise<ExportsResponse>
  listWanted(caller: Caller, request: FilesRequest): Promise<FilesResponse>
  readWanted(caller: Caller, request: ContentRequest): Promise<ContentResponse>
  readJournal(caller: Caller, request: JournalRequest): Promise<JournalResponse>
  append(caller: Caller, request: AppendRequest): Promise<AppendResponse>
  /** For the session that holds the step alone. Throws `request.invalid` for a step that is no agent's. */
  readAgentContext(caller: Caller, request: AgentContextRequest): Promise<AgentContextResponse>
  useMemory(caller: Caller, request: MemoryRequest): Promise<MemoryResponse>

  /** Tokens and the audit log. */
  readonly access: Access
  /** Answers for a token: who it is, or null. Cached for seconds. */
  authenticate(token: string): Promise<Omit<Caller, 'requestId' | 'address'> | null>
  /** Throws `storage.unreachable` and the like when the server cannot work. */
  checkReady(): Promise<void>
}
