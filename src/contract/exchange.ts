import type { ArtifactRule, OutputRule } from '../domain/workflow.ts'
import type { WantedFile } from '../domain/wanted-files.ts'
import type { FailureRecord } from '../domain/failure.ts'
import type { Json, JsonObject } from '../base/json.ts'
import type { AgentContext } from '../domain/agents/context.ts'
import type { Bound } from '../domain/agents/bound.ts'
import type { ParkedOn, StoredEntry, WorkerEntry } from '../domain/agents/journal.ts'
import type { ToolResult } from '../domain/agents/tool-envelope.ts'
import type { Verdict } from '../domain/agents/verdict.ts'
import type { MemoryGrant } from '../domain/kinds/agent.ts'

/**
 * The worker exchange: POSTs under /v1/exchange, all sent by the worker. `register` opens a session; `poll` is parked by
 * the server until there is something to say; `report` is never parked; `heartbeat` keeps the session's lease from a thread
 * of its own. Reports are idempotent by (step, fence, seq). What a step leaves (`artifacts`, `chunk`, `exports`) is sent before its end is reported; what it is
 * given of others (`files`, `content`) is fetched before it begins. An agent's attempt reads what its activation has journaled (`journal`), and writes
 * down what it is about to do before it does it (`append`); what it looks up anew is had with `agent`.
 */
export const EXCHANGE_PATHS = {
  register: '/v1/exchange/register',
  poll: '/v1/exchange/poll',
  report: '/v1/exchange/report',
  heartbeat: '/v1/exchange/heartbeat',
  artifacts: '/v1/exchange/artifacts',
  chunk: '/v1/exchange/chunk',
  exports: '/v1/exchange/exports',
  files: '/v1/exchange/files',
  content: '/v1/exchange/content',
  journal: '/v1/exchange/journal',
  append: '/v1/exchange/append',
  agent: '/v1/exchange/agent',
  memory: '/v1/exchange/memory',
} as const

/** `<run id>.<node>` or `<run id>.<node>.<index>[.<index>…]`: the identity of one activation. */
export type StepId = string

export interface HeldAttempt {
  step: StepId
  fence: number
}

export interface RegisterRequest {
  /** Name that a person gave, unique among live workers by convention only. */
  worker: string
  version: string
  /** Names the machine and its boot; a server on the same host may then see that the process is gone. */
  host: string
  pid: number
  /** Start time of the process in clock ticks since boot (/proc/PID/stat, field 22): a pid alone may be used again. */
  pidStart: string | null
  /** Milliseconds since the epoch by the worker's clock; shows skew. */
  clock: number
  capacity: number
  labels: Record<string, string>
  /** Null: whatever the token allows. */
  namespaces: string[] | null
  backends: ('function' | 'process' | 'agent')[]
  modules: string[]
  /** What it knows of beyond what every worker ever released does; see FEATURES in domain/workflow.ts. Those that a server does not know mean nothing to it. */
  features?: string[]
  /** The session that this worker had before it restarted; ended in the same breath. */
  replaces: string | null
  /** Attempts of the former session that are still alive here (adopted commands). */
  held: HeldAttempt[]
}

export interface RegisterResponse {
  session: string
  /** How long the session lives after its last heartbeat, as a duration from receipt. */
  leaseMs: number
  heartbeatMs: number
  pollMs: number
  serverVersion: string
  /** Those of `held` that the new session owns now; everything else must be stopped. */
  adopted: HeldAttempt[]
}

export interface PollRequest {
  session: string
  /** Free slots now. The server never assigns more than this. */
  free: number
  /** Every attempt that the worker holds, assignments just received included. */
  held: HeldAttempt[]
  /** Drain: finish what runs, take nothing new. */
  draining: boolean
}

export interface Assignment {
  step: StepId
  fence: number
  runId: string
  /** The step's name with its indices: `measure[3]`. For logs and people. */
  name: string
  workflow: string
  namespace: string
  /** Failed tries before this one. */
  tries: number
  timeoutMs: number | null
  repeatable: boolean
  /** Index path of a forEach activation; empty for plain steps. */
  path: number[]
  outputSchema: { [key: string]: Json } | null
  /**
   * The run's span, as W3C Trace Context has it. Absent when the run's trace is its own and sampled: then it is made of the run's
   * id, and costs nothing on the wire.
   */
  traceparent?: string
  work:
    | {
        kind: 'function'
        function: string
        input: Json
        /** Files of earlier steps that it may read. Absent when there are none. */
        files?: FileWanted[]
      }
    | {
        kind: 'command'
        command: string[]
        env: Record<string, string>
        stdin: string | null
        workdir: string | null
        keepOnFailureMs: number | null
        /** Files that are given to the server before the end is told. */
        artifacts?: ArtifactRule[]
        /** Files of earlier steps that lie in its workspace before anything runs. */
        files?: FileWanted[]
        /** Each of these is absent where it is not used. */
        setUp?: string[][]
        tearDown?: { commands: string[][]; timeoutMs: number }
        output?: OutputRule
        /** The variables that it leaves are given to the server before the end is told. */
        exportEnv?: true
      }
    /** The turns of an agent of `bound`, with what the step gives it. */
    | { kind: 'agent'; agent: string; input: Json; bound: Bound }
    /** One call of a tool of `bound`. */
    | { kind: 'tool'; tool: string; input: JsonObject; bound: Bound }
    /** A model picks one of the options; `fallback` when it names none, null: then the step fails. */
    | {
        kind: 'route'
        /** Name of a model endpoint. */
        model: string
        question: string
        options: { step: string; when: string }[]
        fallback: string | null
      }
  /**
   * Values of the secrets that the step asked for, by variable of a command or by alias of a function. They are nowhere but in this
   * message: no store, outbox or note ever holds them. Absent when it asked for none.
   */
  secrets?: Record<string, string>
}

/** What a step wants of an earlier one, for whoever has to say that it is not there. */
export interface FileWanted {
  /** Name of the step. */
  from: string
  path: string
  optional: boolean
}

export interface CancelOrder {
  step: StepId
  fence: number
  /** `run.canceled`: stop and report. `attempt.stale_lease`: stop, the step is no longer yours; report nothing. */
  reason: 'run.canceled' | 'attempt.stale_lease'
}

/** What comes back on both lanes. */
export interface Orders {
  assignments: Assignment[]
  cancels: CancelOrder[]
  /** The server wants the worker to drain. */
  drain: boolean
}

export interface PollResponse extends Orders {
  /** `ended`: the session was swept; stop everything and register anew. */
  sessionState: 'live' | 'ended'
}

interface ReportCommon {
  step: StepId
  fence: number
  /** Counts the reports of one attempt from 1. */
  seq: number
  /** How long ago the attempt began, in ms before this report is sent; null when it never began. */
  startedAgoMs: number | null
  /** How long ago it ended; null while it runs. */
  endedAgoMs: number | null
}

export interface LogSegment {
  /** Counts the segments of one attempt from 1. */
  index: number
  /** `agent`: what an agent does, a JSON object a line. */
  stream: 'stdout' | 'stderr' | 'system' | 'agent'
  /** ms before the report is sent that the segment's first byte was read. */
  agoMs: number
  text: string
}

export type Report = ReportCommon &
  (
    | { kind: 'started' }
    | { kind: 'log'; segments: LogSegment[] }
    | { kind: 'succeeded'; output: Json }
    | { kind: 'failed'; failure: FailureRecord }
    /** The attempt was stopped by a cancel order. */
    | { kind: 'canceled' }
    /** The worker gives the step back without a result (drain); it does not count as a try. */
    | { kind: 'returned' }
    /** The attempt of an agent's step ended because the step has to wait; it does not count as a try. */
    | { kind: 'parked'; on: ParkedOn }
  )

export interface ReportRequest {
  session: string
  /** Free slots after these reports are taken into account. */
  free: number
  draining: boolean
  reports: Report[]
}

export interface ReportAck {
  step: StepId
  fence: number
  seq: number
  /**
   * `recorded`: it is in the store. `duplicate`: it was there already. `stale`: another attempt holds the step or it has
   * ended; stop that work and write nothing more. `rejected`: the report cannot be recorded; `failure` says why.
   */
  outcome: 'recorded' | 'duplicate' | 'stale' | 'rejected'
  failure?: FailureRecord
}

export interface ReportResponse extends Orders {
  sessionState: 'live' | 'ended'
  acks: ReportAck[]
}

export interface HeartbeatRequest {
  session: string
  clock: number
}

export interface HeartbeatResponse {
  sessionState: 'live' | 'ended'
  leaseMs: number
}

/** A file that an attempt leaves. */
export interface NewArtifactFile {
  /** Relative path in the workspace, with forward slashes. */
  name: string
  bytes: number
  /** Of its content, in hex. */
  sha256: string
  retentionMs: number
}

/** Records files of an attempt that holds its step; twice is safe. */
export interface ArtifactsRequest {
  session: string
  step: StepId
  fence: number
  files: NewArtifactFile[]
  /** Everything that was missing has been sent: look whether it is right. */
  sent: boolean
}
export interface ArtifactsResponse {
  /** `open`: contents are missing; send them and ask again. `stale`: the attempt does not hold its step. */
  state: 'recorded' | 'open' | 'stale'
  /** Checksums of the contents to be sent. */
  missing: string[]
}

/** One piece of a content: every piece but the last has LIMITS.artifactChunkBytes. Twice is safe. */
export interface ChunkRequest {
  session: string
  step: StepId
  fence: number
  sha256: string
  index: number
  base64: string
}
export interface ChunkResponse {
  /** False: nobody asked for it, or not any more. */
  kept: boolean
}

/** Records the variables that an attempt hands on; twice is safe. */
export interface ExportsRequest {
  session: string
  step: StepId
  fence: number
  env: Record<string, string>
}
export interface ExportsResponse {
  /** `stale`: the attempt does not hold its step. */
  state: 'recorded' | 'stale'
}

/** Asks which files of earlier steps an attempt is given. */
export interface FilesRequest {
  session: string
  step: StepId
  fence: number
}
export interface FilesResponse {
  /** `stale`: the attempt does not hold its step. */
  state: 'held' | 'stale'
  /** Not more than one more than a step may be given. */
  files: WantedFile[]
}

/** Asks for one piece of a content of these files. */
export interface ContentRequest {
  session: string
  step: StepId
  fence: number
  sha256: string
  index: number
}
export interface ContentResponse {
  /** Null behind the last piece, when no file that it is given has this content any more, and when the attempt does not hold its step. */
  base64: string | null
}

/** Asks for what the activation of an attempt has journaled: all entries that still count, by page. */
export interface JournalRequest {
  session: string
  step: StepId
  fence: number
  /** The first `seq` that is wanted; 1 from the beginning. */
  from: number
}
export interface JournalResponse {
  /** `stale`: the attempt does not hold its step. */
  state: 'held' | 'stale'
  /** In the order of `seq`. */
  entries: StoredEntry[]
  /** `from` of the next page; null on the last one. */
  next: number | null
}

/** Journals what an attempt is about to do, or has done. Twice is safe. */
export interface AppendRequest {
  session: string
  step: StepId
  fence: number
  /** Counts the appends of this attempt from 1; the same again is answered again, not written again. */
  n: number
  entries: WorkerEntry[]
}
export interface AppendResponse {
  /** `stale`: the attempt does not hold its step, and nothing was written. */
  state: 'recorded' | 'stale'
  /** The rules' word on each call that was asked, by call; the approval that it waits for, when it waits for one. */
  verdicts: Record<string, { verdict: Verdict; approval: string | null }>
  /** Why the model may not be asked; its entry was not written, and those before it were. With `park` it is to be waited for. */
  refused: { failure: FailureRecord; park: ParkedOn | null } | null
  /** Another one than before: what `agent` gives has changed. */
  contextVersion: string
}

/** Asks what a step of agents uses as it is now: endpoints, prices, values of secrets, data rules. */
export interface AgentContextRequest {
  session: string
  step: StepId
  fence: number
}
export interface AgentContextResponse {
  /** `stale`: the attempt does not hold its step. */
  state: 'held' | 'stale'
  /** Null when it is stale. */
  context: AgentContext | null
}

/** A call of one of the tools by which an agent uses a memory. The same `call` again is answered as it was, and writes nothing twice. */
export interface MemoryRequest {
  session: string
  step: StepId
  fence: number
  /** The agent that asks: of the step, or one that the conversation was handed over to. */
  agent: string
  memory: string
  operation: MemoryGrant
  /** As the model gave it; checked against the schema of the tool (domain/agents/memory-tools.ts). */
  input: JsonObject
  /** Names the call within the activation. */
  call: string
}
export interface MemoryResponse {
  /** `stale`: the attempt does not hold its step. */
  state: 'held' | 'stale'
  /** Null when it is stale. */
  result: ToolResult | null
}

/** How a worker reaches a server: over HTTP from a process of its own, or handed the server's handler in one process. */
export interface ExchangeLane {
  register(request: RegisterRequest, signal?: AbortSignal): Promise<RegisterResponse>
  poll(request: PollRequest, signal?: AbortSignal): Promise<PollResponse>
  report(request: ReportRequest, signal?: AbortSignal): Promise<ReportResponse>
  heartbeat(request: HeartbeatRequest, signal?: AbortSignal): Promise<HeartbeatResponse>
  artifacts(request: ArtifactsRequest, signal?: AbortSignal): Promise<ArtifactsResponse>
  chunk(request: ChunkRequest, signal?: AbortSignal): Promise<ChunkResponse>
  exports(request: ExportsRequest, signal?: AbortSignal): Promise<ExportsResponse>
  wantedFiles(request: FilesRequest, signal?: AbortSignal): Promise<FilesResponse>
  wantedContent(request: ContentRequest, signal?: AbortSignal): Promise<ContentResponse>
  journal(request: JournalRequest, signal?: AbortSignal): Promise<JournalResponse>
  append(request: AppendRequest, signal?: AbortSignal): Promise<AppendResponse>
  agentContext(request: AgentContextRequest, signal?: AbortSignal): Promise<AgentContextResponse>
  memory(request: MemoryRequest, signal?: AbortSignal): Promise<MemoryResponse>
}
