import type { CostGroup } from '../domain/prices.ts'
import type { Json, JsonObject } from '../base/json.ts'
import type {
  ArtifactView,
  ApprovalState,
  ApprovalView,
  AgentCheck,
  AskModelRequest,
  CheckAgentRequest,
  AuditView,
  CostsView,
  CanIRequest,
  CanIView,
  CreateDefinitionRequest,
  CreateRunRequest,
  CreateRunsRequest,
  CreateRunsResponse,
  CreateTokenRequest,
  DefinitionView,
  DoctorView,
  LogLine,
  Nudged,
  Page,
  RunEvent,
  RunState,
  RunSummary,
  PutSecretRequest,
  RotateSecretsResponse,
  RunView,
  StatusView,
  SecretDetail,
  SecretView,
  SentEventView,
  StepJournal,
  StepView,
  TokenCreated,
  TokenView,
  WhoamiView,
  WorkerView,
} from '../contract/api-types.ts'
import type {
  IngestMemoryRequest,
  MemoryCheckView,
  MemoryEntryDetail,
  MemoryEntryView,
  MemoryFoundView,
  MemoryIngestedView,
  MemoryWrittenView,
  PutMemoryEntryRequest,
  SearchMemoryRequest,
} from '../contract/memory-types.ts'
import type { ModelEvent } from '../domain/model-call.ts'
import type { ResourceClient } from './resource-client.ts'
import type { WaitOptions } from './wait.ts'

/** `run` is there when the request waited, or repeated an earlier one under its idempotency key. */
export interface CreatedRun {
  id: string
  run: RunView | null
  /** What whoever started it should hear. */
  warnings: string[]
}

/** The public API, typed. Every method throws a `Failure` with the code that the server gave, or `client.*` when it could not be asked. */
export interface Client {
  /** Where it talks to, for messages. */
  readonly address: string
  readonly resources: ResourceClient
  putDefinition(request: CreateDefinitionRequest): Promise<DefinitionView>
  getDefinition(hash: string): Promise<DefinitionView>
  /** `waitMs`: answer when the run has ended or the time is over; the server waits LIMITS.waitMaxMs at most. */
  createRun(
    request: CreateRunRequest,
    options?: { idempotencyKey?: string; waitMs?: number; signal?: AbortSignal },
  ): Promise<CreatedRun>
  createRuns(request: CreateRunsRequest, options?: { idempotencyKey?: string }): Promise<CreateRunsResponse>
  getRun(runId: string): Promise<RunView>
  /**
   * Resolves when the run has ended, however long that takes. Lost connections and restarts of the server are waited out, `absenceMs`
   * at a time (five minutes when absent). Throws `client.wait_timed_out` after `timeoutMs`; the run goes on.
   */
  waitForRun(runId: string, options?: WaitOptions): Promise<RunView>
  listRuns(query?: {
    namespace?: string
    workflow?: string
    states?: RunState[]
    /** What their labels must meet, such as `team=core,tier!=web`. */
    labelSelector?: string
    /** RFC 3339; runs that were created from then on. */
    since?: string
    cursor?: string
    limit?: number
  }): Promise<Page<RunSummary>>
  listSteps(runId: string, query?: { cursor?: string; limit?: number }): Promise<Page<StepView>>
  cancelRun(runId: string): Promise<RunSummary>
  retryRun(runId: string): Promise<RunSummary>
  /** One failed step, such as `build` or `measure[3]`, and what was blocked or stopped because of it. */
  retryStep(runId: string, step: string): Promise<RunSummary>
  skipStep(runId: string, step: string, output: Json): Promise<RunSummary>
  /** Events after `afterSeq` that are there now, in order. */
  listEvents(runId: string, options?: { afterSeq?: number }): Promise<(RunEvent & { terminal: boolean })[]>
  nudgeRun(runId: string): Promise<Nudged>
  sendEvent(
    runId: string,
    event: { name: string; payload?: Json },
    options?: { idempotencyKey?: string },
  ): Promise<SentEventView>
  listApprovals(query?: {
    namespace?: string
    run?: string
    step?: string
    states?: ApprovalState[]
    cursor?: string
    limit?: number
  }): Promise<Page<ApprovalView>>
  getApproval(id: string): Promise<ApprovalView>
  /** Of a call of a tool: `input` changes its arguments, `output` says what a call gave whose outcome is not known. */
  approve(
    id: string,
    decision?: { comment?: string; inputs?: JsonObject; input?: JsonObject; output?: Json },
  ): Promise<ApprovalView>
  deny(id: string, decision?: { comment?: string }): Promise<ApprovalView>
  /** Follows events from `afterSeq`; reconnects with `Last-Event-ID`; ends after the terminal event. */
  followEvents(
    runId: string,
    options?: { afterSeq?: number; signal?: AbortSignal },
  ): AsyncIterable<RunEvent & { terminal: boolean }>
  /** Entries that are there now, up to a number of them and of their characters; `next` goes on behind the last one, also later. */
  readLogs(
    runId: string,
    options: { lines: number; chars: number; step?: string; cursor?: string; signal?: AbortSignal },
  ): Promise<{ lines: LogLine[]; next: string | null; isMore: boolean }>
  followLogs(runId: string, options?: { step?: string; follow?: boolean; signal?: AbortSignal }): AsyncIterable<LogLine>
  /** What the attempts of an agent's step wrote down, from a `seq` on. */
  showJournal(runId: string, step: string, query?: { from?: number; limit?: number }): Promise<StepJournal>
  listArtifacts(runId: string, query?: { cursor?: string; limit?: number }): Promise<Page<ArtifactView>>
  /** The bytes of one file as they come. */
  openArtifact(
    runId: string,
    file: { step: string; name: string },
    options?: { signal?: AbortSignal },
  ): Promise<AsyncIterable<Uint8Array>>
  /** Asks a model; the last event is `finished`. Throws the failure that the server told. Asked once: an answer costs. */
  askModel(
    namespace: string,
    name: string,
    request: AskModelRequest,
    options?: { signal?: AbortSignal },
  ): AsyncIterable<ModelEvent>
  /** What the rules say of a call that an agent might make; nothing is called. */
  checkAgent(namespace: string, name: string, request: CheckAgentRequest): Promise<AgentCheck>
  /** Entries of a memory; a scope is `agent/NAME` or `run/ID`, left out where entries are shared. */
  listMemoryEntries(
    namespace: string,
    memory: string,
    query?: { scope?: string; prefix?: string; cursor?: string; limit?: number },
  ): Promise<Page<MemoryEntryView>>
  getMemoryEntry(namespace: string, memory: string, entry: { key: string; scope?: string }): Promise<MemoryEntryDetail>
  putMemoryEntry(
    namespace: string,
    memory: string,
    entry: { key: string; scope?: string },
    request: PutMemoryEntryRequest,
  ): Promise<MemoryWrittenView>
  searchMemory(
    namespace: string,
    memory: string,
    request: SearchMemoryRequest,
    of?: { scope?: string },
  ): Promise<MemoryFoundView>
  ingestMemory(
    namespace: string,
    memory: string,
    request: IngestMemoryRequest,
    of?: { scope?: string },
  ): Promise<MemoryIngestedView>
  /** Exactly one of `keys`, `prefix` and `all`. */
  deleteMemoryEntries(
    namespace: string,
    memory: string,
    which: { keys?: string[]; prefix?: string; all?: boolean; scope?: string },
  ): Promise<{ deleted: number }>
  /** Whether its service and its model of embeddings answer. */
  checkMemory(namespace: string, memory: string): Promise<MemoryCheckView>
  listWorkers(): Promise<WorkerView[]>
  getStatus(): Promise<StatusView>
  /** What the server finds when it looks at itself; for administrators. */
  getDoctor(): Promise<DoctorView>
  /** Sets keys of a secret; the others stay unless `replace` is true. */
  putSecret(namespace: string, name: string, request: PutSecretRequest): Promise<SecretView>
  listSecrets(namespace: string, query?: { cursor?: string; limit?: number }): Promise<Page<SecretView>>
  /** With the places where each key is looked for; `keys` are shown also when they are not stored. */
  getSecret(namespace: string, name: string, query?: { keys?: string[] }): Promise<SecretDetail>
  deleteSecret(namespace: string, name: string, query?: { keys?: string[] }): Promise<{ deleted: string[] }>
  /** Encrypts one batch anew. */
  rotateSecrets(request?: { newKey?: boolean }): Promise<RotateSecretsResponse>
  getHealth(): Promise<JsonObject>
  /** Throws `storage.unreachable` and the like while the server cannot work. */
  getReadiness(): Promise<JsonObject>
  /** The server's metrics, in the format of Prometheus. */
  getMetrics(): Promise<string>
  /** The server's own description of its API, OpenAPI 3.1. */
  getOpenApi(): Promise<JsonObject>
  whoami(): Promise<WhoamiView>
  /** The answer is the only time that the token is told. */
  createToken(request: CreateTokenRequest): Promise<TokenCreated>
  listTokens(query?: { all?: boolean; cursor?: string; limit?: number }): Promise<Page<TokenView>>
  revokeToken(id: string): Promise<TokenView>
  canI(request: CanIRequest): Promise<CanIView>
  /** What calls of models took, those with the most tokens first. Times are RFC 3339. */
  listCosts(query?: {
    by?: CostGroup
    namespace?: string
    since?: string
    until?: string
    limit?: number
  }): Promise<CostsView>
  listAudit(query?: {
    actor?: string
    action?: string
    object?: string
    outcome?: 'done' | 'denied'
    namespace?: string
    since?: string
    cursor?: string
    limit?: number
  }): Promise<Page<AuditView>>
  /** Frees kept connections. What is under way goes on. */
  close(): void
}
