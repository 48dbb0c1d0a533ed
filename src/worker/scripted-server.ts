import { createHash } from 'node:crypto'
import type { Json } from '../base/index.ts'
import type { Bound } from '../domain/agents/bound.ts'
import type { JournalEntry, ParkedOn, StoredEntry, WorkerEntry } from '../domain/agents/journal.ts'
import type { ArtifactRule } from '../domain/workflow.ts'
import type {
  AppendRequest,
  AppendResponse,
  JournalRequest,
  JournalResponse,
  AgentContextRequest,
  AgentContextResponse,
  ArtifactsRequest,
  ArtifactsResponse,
  Assignment,
  CancelOrder,
  ChunkRequest,
  ChunkResponse,
  ContentRequest,
  ContentResponse,
  ExchangeLane,
  ExportsRequest,
  ExportsResponse,
  FilesRequest,
  FilesResponse,
  HeartbeatResponse,
  HeldAttempt,
  LogSegment,
  MemoryRequest,
  MemoryResponse,
  Orders,
  PollRequest,
  PollResponse,
  RegisterRequest,
  RegisterResponse,
  Report,
  ReportAck,
  ReportRequest,
  ReportResponse,
} from '../contract/exchange.ts'
import type { AgentContext } from '../domain/agents/context.ts'
import { failureRecord } from '../domain/failure.ts'

export interface ServerStep {
  assignment: Omit<Assignment, 'fence'>
  fence: number
  state: 'queued' | 'leased' | 'ended'
  session: string | null
  end: Report | null
  /** How often an end was recorded; more than once is a fault of the double or of the fence. */
  ends: number
  seqs: Set<number>
  starts: number
  logs: Map<number, LogSegment>
  cancel: CancelOrder['reason'] | null
  journal: (StoredEntry & { n: number })[]
  /** What it waited for; it goes on at once. */
  parks: ParkedOn[]
}

/** What happens to a request: `lose` handles it and loses the answer, `cut` never lets it arrive. */
export type Fate = 'ok' | 'lose' | 'cut' | Error
type Call =
  | 'register'
  | 'poll'
  | 'report'
  | 'heartbeat'
  | 'artifacts'
  | 'chunk'
  | 'exports'
  | 'wantedFiles'
  | 'wantedContent'
  | 'journal'
  | 'append'
  | 'agentContext'
  | 'memory'

/** A server for tests, in memory: keeps strictly to what `contract/exchange.ts` promises, over a link that a script may break. */
export class ScriptedServer implements ExchangeLane {
  readonly steps = new Map<string, ServerStep>()
  readonly requests: { call: Call; request: unknown }[] = []
  readonly sessions = new Map<string, 'live' | 'ended'>()
  fate: (call: Call, n: number) => Fate = () => 'ok'
  /** Awaited before each answer. */
  pause: (call: Call) => Promise<void> | undefined = () => undefined
  /** Steps made ready by the end of another. */
  after = new Map<string, Omit<Assignment, 'fence'>[]>()
  adopts = (_held: HeldAttempt): boolean => true
  stale = 0
  /** What every step of agents uses. */
  context: AgentContext = { version: '1', endpoints: {}, prices: {}, secrets: [], missing: [], rules: {} }
  #parked: (() => void)[] = []
  #calls = 0

  add(...assignments: Omit<Assignment, 'fence'>[]): void {
    for (const assignment of assignments) {
      const fresh = { fence: 0, state: 'queued', session: null, end: null, ends: 0, starts: 0, cancel: null } as const
      this.steps.set(assignment.step, {
        ...fresh,
        assignment,
        seqs: new Set(),
        logs: new Map(),
        journal: [],
        parks: [],
      })
    }
    this.wake()
  }

  step(id: string): ServerStep {
    const step = this.steps.get(id)
    if (!step) throw new Error(`no step ${id}`)
    return step
  }

  cancel(id: string, reason: CancelOrder['reason']): void {
    this.step(id).cancel = reason
    this.wake()
  }

  /** The lease ran out: every step of the session is taken from it. */
  endSession(session: string): void {
    this.sessions.set(session, 'ended')
    for (const step of this.steps.values()) if (step.session === session && step.state === 'leased') requeue(step)
    this.wake()
  }

  wake(): void {
    const parked = this.#parked
    this.#parked = []
    for (const go of parked) go()
  }

  get allEnded(): boolean {
    return [...this.steps.values()].every((step) => step.state === 'ended')
  }

  requestsOf(call: 'report'): ReportRequest[]
  requestsOf(call: 'register'): RegisterRequest[]
  requestsOf(call: 'poll'): PollRequest[]
  requestsOf(call: Call): unknown[] {
    return this.requests.filter((entry) => entry.call === call).map((entry) => entry.request)
  }

  register(request: RegisterRequest): Promise<RegisterResponse> {
    return this.#answer('register', request, async () => {
      const session = `ses_${this.sessions.size + 1}`
      this.sessions.set(session, 'live')
      const adopted: HeldAttempt[] = []
      for (const step of this.steps.values()) {
        if (step.state !== 'leased' || step.session !== request.replaces) continue
        const held = request.held.find((h) => h.step === step.assignment.step && h.fence === step.fence)
        if (held && this.adopts(held)) {
          step.session = session
          adopted.push(held)
        } else requeue(step)
      }
      if (request.replaces) this.sessions.set(request.replaces, 'ended')
      return { session, leaseMs: 8_000, heartbeatMs: 2_000, pollMs: 20_000, serverVersion: '0.1.0', adopted }
    })
  }

  poll(request: PollRequest, signal?: AbortSignal): Promise<PollResponse> {
    return this.#answer('poll', request, async () => {
      for (;;) {
        const sessionState = this.sessions.get(request.session) ?? 'ended'
        if (sessionState === 'ended') return { sessionState, assignments: [], cancels: [], drain: false }
        const orders = this.#orders(request.session, request.draining ? 0 : request.free, request.held)
        if (orders.assignments.length + orders.cancels.length > 0) return { sessionState, ...orders }
        await new Promise<void>((resolve, reject) => {
          this.#parked.push(resolve)
          signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
        })
      }
    })
  }

  report(request: ReportRequest): Promise<ReportResponse> {
    return this.#answer('report', request, async () => {
      const sessionState = this.sessions.get(request.session) ?? 'ended'
      // Last first: a request promises no order.
      const acks = request.reports.toReversed().map((report) => this.#record(report, request.session))
      if (this.#calls % 2) acks.reverse()
      const free = sessionState === 'live' && !request.draining ? request.free : 0
      const orders =
        free > 0 ? this.#orders(request.session, free, null) : { assignments: [], cancels: [], drain: false }
      return { sessionState, acks, ...orders }
    })
  }

  /** Contents that were sent, by their checksum. */
  readonly contents = new Map<string, Buffer[]>()
  readonly files = new Map<string, ArtifactsRequest['files']>()

  artifacts(request: ArtifactsRequest): Promise<ArtifactsResponse> {
    return this.#answer('artifacts', request, async () => {
      const step = this.steps.get(request.step)
      if (step?.state !== 'leased' || step.session !== request.session || step.fence !== request.fence)
        return { state: 'stale', missing: [] }
      const missing = [...new Set(request.files.map((file) => file.sha256))].filter((sha256) => {
        const content = Buffer.concat(this.contents.get(sha256) ?? [])
        const isRight = createHash('sha256').update(content).digest('hex') === sha256
        if (!isRight) this.contents.delete(sha256)
        return !isRight
      })
      if (missing.length > 0) return { state: 'open', missing }
      this.files.set(request.step, request.files)
      return { state: 'recorded', missing: [] }
    })
  }

  chunk(request: ChunkRequest): Promise<ChunkResponse> {
    return this.#answer('chunk', request, async () => {
      const pieces = this.contents.get(request.sha256) ?? []
      pieces[request.index] = Buffer.from(request.base64, 'base64')
      this.contents.set(request.sha256, pieces)
      return { kept: true }
    })
  }

  /** What steps handed on. */
  readonly exported = new Map<string, ExportsRequest['env']>()

  exports(request: ExportsRequest): Promise<ExportsResponse> {
    return this.#answer('exports', request, async () => {
      const step = this.steps.get(request.step)
      if (step?.state !== 'leased' || step.session !== request.session || step.fence !== request.fence)
        return { state: 'stale' }
      this.exported.set(request.step, request.env)
      return { state: 'recorded' }
    })
  }

  /** Files that steps are given. */
  readonly given = new Map<string, FilesResponse['files']>()

  wantedFiles(request: FilesRequest): Promise<FilesResponse> {
    return this.#answer('wantedFiles', request, async () => ({
      state: 'held',
      files: this.given.get(request.step) ?? [],
    }))
  }

  wantedContent(request: ContentRequest): Promise<ContentResponse> {
    return this.#answer('wantedContent', request, async () => {
      const piece = this.contents.get(request.sha256)?.[request.index]
      return { base64: piece?.toString('base64') ?? null }
    })
  }

  /** Entries of one page of a journal. */
  journalPage = 100
  /** The word on calls of tools, and why a model may not be asked. */
  verdictOf: (entry: Extract<WorkerEntry, { kind: 'tool_asked' }>) => AppendResponse['verdicts'][string] = () => ({
    verdict: { verdict: 'allow', rule: 'default' },
    approval: null,
  })
  refuses: (entry: Extract<WorkerEntry, { kind: 'model_asked' }>) => AppendResponse['refused'] = () => null

  journal(request: JournalRequest): Promise<JournalResponse> {
    return this.#answer('journal', request, async () => {
      const step = this.#held(request)
      if (!step) return { state: 'stale', entries: [], next: null }
      const left = step.journal.filter((e) => e.seq >= request.from)
      const entries = left.slice(0, this.journalPage).map(({ seq, fence, at, entry }) => ({ seq, fence, at, entry }))
      const next = left[this.journalPage]?.seq ?? null
      return { state: 'held', entries, next }
    })
  }

  append(request: AppendRequest): Promise<AppendResponse> {
    return this.#answer('append', request, async () => {
      const step = this.#held(request)
      if (!step) return { state: 'stale', verdicts: {}, refused: null, contextVersion: '' }
      const { fence, n } = request
      const write = (entry: JournalEntry) =>
        step.journal.push({ seq: step.journal.length + 1, fence, n, at: '2026-01-01T00:00:00.000Z', entry })
      let refused: AppendResponse['refused'] = null
      const isThere = step.journal.some((e) => e.fence === fence && e.n === n)
      for (const entry of isThere ? [] : request.entries) {
        refused = entry.kind === 'model_asked' ? this.refuses(entry) : null
        if (refused === null) write(entry)
        if (entry.kind === 'tool_asked') write({ kind: 'verdict', call: entry.call, ...this.verdictOf(entry) })
      }
      const written = step.journal.filter((e) => e.fence === fence && e.n === n)
      const verdicts = Object.fromEntries(
        written.flatMap(({ entry }) =>
          entry.kind === 'verdict' ? [[entry.call, { verdict: entry.verdict, approval: entry.approval }]] : [],
        ),
      )
      return { state: 'recorded', verdicts, refused, contextVersion: '1' }
    })
  }

  #held({ session, step: id, fence }: { session: string; step: string; fence: number }): ServerStep | null {
    const step = this.steps.get(id)
    return step?.state === 'leased' && step.session === session && step.fence === fence ? step : null
  }

  agentContext(request: AgentContextRequest): Promise<AgentContextResponse> {
    return this.#answer('agentContext', request, async () => {
      return this.#held(request) ? { state: 'held', context: this.context } : { state: 'stale', context: null }
    })
  }

  /** What memories answer, by `MEMORY.OPERATION`. */
  readonly remembered = new Map<string, MemoryResponse['result']>()

  memory(request: MemoryRequest): Promise<MemoryResponse> {
    return this.#answer('memory', request, async () => {
      const result = this.remembered.get(`${request.memory}.${request.operation}`) ?? null
      return { state: result === null ? 'stale' : 'held', result }
    })
  }

  heartbeat(request: { session: string }): Promise<HeartbeatResponse> {
    return this.#answer('heartbeat', request, async () => ({
      sessionState: this.sessions.get(request.session) ?? 'ended',
      leaseMs: 8_000,
    }))
  }

  async #answer<T>(call: Call, request: unknown, handle: () => Promise<T>): Promise<T> {
    // As over a wire: nobody changes it afterwards.
    this.requests.push({ call, request: structuredClone(request) })
    const fate = this.fate(call, ++this.#calls)
    if (fate instanceof Error) throw fate
    await Promise.resolve()
    if (fate === 'cut') throw new Error('ECONNREFUSED')
    const reply = structuredClone(await handle())
    await this.pause(call)
    if (fate === 'lose') throw new Error('ECONNRESET')
    return reply
  }

  /** `held` null: a report, which does not say what is held. */
  #orders(session: string, free: number, held: readonly HeldAttempt[] | null): Orders {
    const assignments: Assignment[] = []
    const cancels: CancelOrder[] = []
    const heldKeys = held && new Set(held.map((h) => `${h.step}@${h.fence}`))
    let left = free
    for (const step of this.steps.values()) {
      const id = step.assignment.step
      if (step.state === 'leased' && step.session === session) {
        if (step.cancel) cancels.push({ step: id, fence: step.fence, reason: step.cancel })
        // Its answer was lost: it is assigned again under the same fence.
        else if (heldKeys && !heldKeys.has(`${id}@${step.fence}`)) assignments.push(assignmentOf(step))
        if (step.cancel === 'attempt.stale_lease') requeue(step)
        step.cancel = null
      } else if (step.state === 'queued' && left > 0) {
        step.state = 'leased'
        step.session = session
        step.fence++
        left--
        assignments.push(assignmentOf(step))
      }
    }
    return { assignments, cancels, drain: false }
  }

  #record(report: Report, session: string): ReportAck {
    const { step: id, fence, seq } = report
    const ack = (outcome: ReportAck['outcome']): ReportAck => ({ step: id, fence, seq, outcome })
    const step = this.step(id)
    if (step.fence === fence && step.seqs.has(seq)) return ack('duplicate')
    if (step.state !== 'leased' || step.fence !== fence || step.session !== session) {
      this.stale++
      return ack('stale')
    }
    if (report.kind === 'succeeded' && report.output === 'reject me') {
      return { ...ack('rejected'), failure: failureRecord('output.too_large', `recording ${id}`) }
    }
    step.seqs.add(seq)
    if (report.kind === 'started') step.starts++
    else if (report.kind === 'log') for (const segment of report.segments) step.logs.set(segment.index, segment)
    else if (report.kind === 'returned' || report.kind === 'parked') {
      if (report.kind === 'parked') step.parks.push(report.on)
      requeue(step)
    } else {
      step.state = 'ended'
      step.end = report
      step.ends++
      this.add(...(this.after.get(id) ?? []))
    }
    return ack('recorded')
  }
}

function requeue(step: ServerStep): void {
  step.state = 'queued'
  step.session = null
  step.seqs = new Set()
}

const assignmentOf = (step: ServerStep): Assignment => ({ ...step.assignment, fence: step.fence })

const COMMON = {
  workflow: 'w',
  namespace: 'default',
  tries: 0,
  timeoutMs: null,
  repeatable: true,
  path: [],
  outputSchema: null,
}

export function functionStep(
  name: string,
  fn: string,
  more: Partial<Assignment> & Partial<Pick<Extract<Assignment['work'], { kind: 'function' }>, 'input' | 'files'>> = {},
): Omit<Assignment, 'fence'> {
  const { input = null, files, ...rest } = more
  const work = { kind: 'function' as const, function: fn, input, ...(files ? { files } : {}) }
  return { ...COMMON, step: `run_1.${name}`, runId: 'run_1', name, work, ...rest }
}

export function agentStep(
  name: string,
  more: Partial<Omit<Assignment, 'work'>> & { agent?: string; input?: Json; bound?: Bound } = {},
): Omit<Assignment, 'fence'> {
  const nothing = { agents: {}, tools: {}, mcpServers: {}, memories: {}, workflows: {} }
  const { agent = 'writer', input = null, bound = nothing, ...rest } = more
  return {
    ...COMMON,
    step: `run_1.${name}`,
    runId: 'run_1',
    name,
    work: { kind: 'agent', agent, input, bound },
    ...rest,
  }
}

export function commandStep(
  name: string,
  command: string[],
  more: Partial<Assignment> & {
    keepOnFailureMs?: number
    artifacts?: ArtifactRule[]
    extras?: Partial<Extract<Assignment['work'], { kind: 'command' }>>
  } = {},
): Omit<Assignment, 'fence'> {
  const { keepOnFailureMs = null, artifacts = [], extras = {}, ...rest } = more
  const work = {
    kind: 'command',
    command,
    env: { STEP_ENV: 'yes' },
    stdin: null,
    workdir: null,
    keepOnFailureMs,
    ...(artifacts.length > 0 ? { artifacts } : {}),
    ...extras,
  } as const
  return { ...COMMON, step: `run_1.${name}`, runId: 'run_1', name, work, ...rest }
}
