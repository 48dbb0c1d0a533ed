import type { StoredEntry } from '../../domain/agents/journal.ts'
import type {
  AgentCheck,
  ApprovalView,
  ArtifactView,
  DoctorView,
  AuditView,
  CostsView,
  CanIView,
  CreateTokenRequest,
  TokenView,
  WhoamiView,
  LogLine,
  PutSecretRequest,
  RotateSecretsResponse,
  Nudged,
  RunEvent,
  RunSummary,
  RunView,
  SecretDetail,
  SecretView,
  StatusView,
  StepView,
  WorkerView,
} from '../../contract/api-types.ts'
import type { Client } from '../../client/client.ts'
import { type Deferred, deferred } from '../../base/index.ts'
import type { MemoryEntryDetail } from '../../contract/memory-types.ts'
import type { ModelEvent, ModelResult } from '../../domain/model-call.ts'
import type { Failure } from '../../domain/failure.ts'

/** 2026-01-02 12:00:00 UTC: the moment at which every scripted run was created. */
export const T0 = Date.UTC(2026, 0, 2, 12)
/** A time `ms` after it, as the API writes times. */
export const at = (ms: number): string => new Date(T0 + ms).toISOString()
export const RUN_ID = 'run_01k0000000000000000000dem0'

export function runView(over: Partial<RunView> = {}): RunView {
  return {
    id: RUN_ID,
    namespace: 'default',
    workflow: 'demo',
    state: 'pending',
    canceling: false,
    epoch: 1,
    createdAt: at(0),
    startedAt: null,
    endedAt: null,
    labels: {},
    steps: { total: 1, open: 1, bad: 0 },
    failure: null,
    reason: null,
    parent: null,
    waitsOn: [],
    definition: 'hash',
    inputs: {},
    stepList: [],
    ...over,
  }
}

export function stepView(over: Partial<StepView> = {}): StepView {
  return {
    name: 'build',
    id: `${RUN_ID}.0`,
    kind: 'command',
    state: 'pending',
    reason: null,
    needs: [],
    fence: 0,
    tries: 0,
    losses: 0,
    worker: null,
    queuedAt: null,
    startedAt: null,
    endedAt: null,
    output: null,
    failure: null,
    kept: null,
    attempts: [],
    waitsOn: null,
    childRun: null,
    activations: null,
    ...over,
  }
}

export const APPROVAL_ID = 'apr_01k0000000000000000000dem0'

export function approvalView(over: Partial<ApprovalView> = {}): ApprovalView {
  return {
    id: APPROVAL_ID,
    run: RUN_ID,
    step: 'ship',
    namespace: 'default',
    workflow: 'demo',
    state: 'pending',
    message: 'Ship it?',
    approvers: null,
    inputs: null,
    onExpiry: 'deny',
    call: null,
    remark: null,
    createdAt: at(0),
    expiresAt: null,
    decidedAt: null,
    decidedBy: null,
    comment: null,
    given: null,
    ...over,
  }
}

export function tokenView(over: Partial<TokenView> = {}): TokenView {
  return {
    id: 'tok_1',
    name: 'ci',
    role: 'operator',
    organisation: 'default',
    namespaces: null,
    expiresAt: null,
    state: 'good',
    createdAt: at(0),
    createdBy: null,
    revokedAt: null,
    lastUsedAt: null,
    ...over,
  }
}

export function memoryEntry(over: Partial<MemoryEntryDetail> = {}): MemoryEntryDetail {
  return {
    scope: 'shared',
    key: 'customer/4711',
    text: 'likes trains',
    metadata: { of: 'support' },
    bytes: 42,
    writtenBy: 'agent/writer',
    updatedAt: at(0),
    expiresAt: null,
    ...over,
  }
}

export function modelResult(over: Partial<ModelResult> = {}): ModelResult {
  return {
    endpoint: 'gpt',
    provider: 'openai',
    model: 'gpt-5-mini',
    text: 'Good day.',
    toolCalls: [],
    output: null,
    finish: 'stop',
    usage: {
      inputTokens: 12,
      outputTokens: 3,
      cachedInputTokens: 4,
      cacheWriteTokens: 0,
      reasoningTokens: 0,
      isEstimated: false,
    },
    cost: { currency: 'USD', amount: 0.0012 },
    warnings: ['unsupported: seed'],
    tried: [],
    firstPartMs: 12.4,
    totalMs: 20,
    ...over,
  }
}

export type ScriptedEvent = RunEvent & { terminal: boolean }

/** A client that answers from what a test put in, and keeps what it was asked. */
export class ScriptedClient implements Client {
  readonly address = 'http://127.0.0.1:7780'
  /** Tests of resources put a real one here. */
  resources = {} as Client['resources']
  readonly calls: [string, ...unknown[]][] = []
  /** Answers of getRun, the last one again and again. */
  runs: RunView[] = [runView()]
  list: RunSummary[] = []
  steps: StepView[] = []
  logs: LogLine[] = []
  workers: WorkerView[] = []
  artifacts: ArtifactView[] = []
  status: StatusView = {
    server: { id: 'srv_1', version: '1.2.3', store: 'postgres', servers: 1 },
    runs: { pending: 0, running: 0, waiting: 0 },
    queues: [],
    workers: { live: 0, draining: 0, lost: 0, capacity: 0, held: 0 },
  }
  secrets: SecretView[] = []
  secret: SecretDetail = { namespace: 'default', name: 'github', keys: [] }
  /** Answers of rotateSecrets, one after the other. */
  rotations: RotateSecretsResponse[] = []
  approvals: ApprovalView[] = []
  nudged: Nudged = { run: runView({ state: 'running' }), changed: [], waiting: [] }
  /** Makes a method fail. */
  failures = new Map<keyof Client, Failure>()
  #events: ScriptedEvent[] = []
  #more: Deferred<void> = deferred()

  /** Gives an event to whoever follows, now or later. */
  emit(ms: number, changes: RunEvent['changes'], options: { terminal: boolean } = { terminal: false }): void {
    this.#events.push({ seq: this.#events.length + 1, at: at(ms), changes, terminal: options.terminal })
    this.#more.resolve()
    this.#more = deferred()
  }

  #answer<T>(method: keyof Client, args: unknown[], value: T): Promise<T> {
    this.calls.push([method, ...args])
    const failure = this.failures.get(method)
    return failure ? Promise.reject(failure) : Promise.resolve(value)
  }

  #run(): RunView {
    return (this.runs.length > 1 ? this.runs.shift() : this.runs[0]) ?? runView()
  }

  putDefinition = (...args: unknown[]) =>
    this.#answer('putDefinition', args, { hash: 'hash', namespace: 'default', name: 'demo', nodes: [] })
  createRun = (...args: unknown[]) => this.#answer('createRun', args, { id: RUN_ID, run: null, warnings: [] })
  createRuns = (...args: unknown[]) => this.#answer('createRuns', args, { ids: [] })
  getRun = (runId: string) => this.#answer('getRun', [runId], this.#run())
  /** Where the page of runs was cut. */
  nextRuns: string | null = null
  listRuns = (...args: unknown[]) => this.#answer('listRuns', args, { items: this.list, next: this.nextRuns })
  listSteps = (...args: unknown[]) => this.#answer('listSteps', args, { items: this.steps, next: null })
  cancelRun = (runId: string) =>
    this.#answer('cancelRun', [runId], { ...(this.runs[0] ?? runView()), canceling: true } as RunSummary)
  retryRun = (runId: string) =>
    this.#answer('retryRun', [runId], { ...runView(), epoch: 2, state: 'running' } as RunSummary)
  retryStep = (runId: string, step: string) =>
    this.#answer('retryStep', [runId, step], { ...runView(), epoch: 2, state: 'running' } as RunSummary)
  skipStep = (...args: unknown[]) => this.#answer('skipStep', args, { ...runView(), state: 'running' } as RunSummary)
  /** Given a page at a time, two entries each. */
  journal: StoredEntry[] = []
  countsFrom = 0
  showJournal = (...args: [string, string, { from?: number }?]) => {
    const items = this.journal.filter(({ seq }) => seq >= (args[2]?.from ?? 1)).slice(0, 2)
    const last = items.at(-1)
    return this.#answer('showJournal', args, { items, next: last ? last.seq + 1 : null, countsFrom: this.countsFrom })
  }
  listArtifacts = (runId: string, query: object = {}) =>
    this.#answer('listArtifacts', [runId, query], { items: this.artifacts, next: null })
  openArtifact = (runId: string, file: { step: string; name: string }) => {
    async function* read(): AsyncIterable<Uint8Array> {
      yield Buffer.from(`content of ${file.name}`)
    }
    return this.#answer('openArtifact', [runId, file], read())
  }
  readLogs = (runId: string, options: object) =>
    this.#answer('readLogs', [runId, options], { lines: this.logs, next: null, isMore: false })
  nudgeRun = (runId: string) => this.#answer('nudgeRun', [runId], this.nudged)
  sendEvent = (runId: string, event: { name: string }, ...rest: unknown[]) =>
    this.#answer('sendEvent', [runId, event, ...rest], {
      id: 'evt_1',
      run: runId,
      name: event.name,
      state: 'taken' as const,
      step: 'paid',
    })
  listApprovals = (...args: unknown[]) => this.#answer('listApprovals', args, { items: this.approvals, next: null })
  getApproval = (id: string) =>
    this.#answer('getApproval', [id], this.approvals.find((a) => a.id === id) ?? approvalView({ id }))
  approve = (id: string, ...rest: unknown[]) =>
    this.#answer(
      'approve',
      [id, ...rest],
      approvalView({ ...this.approvals[0], id, state: 'approved', decidedBy: 'ann' }),
    )
  deny = (id: string, ...rest: unknown[]) =>
    this.#answer('deny', [id, ...rest], approvalView({ id, state: 'denied', decidedBy: 'ann' }))
  /** What is in memories. */
  entries: MemoryEntryDetail[] = []
  /** What a search tells beside what it finds. */
  memoryWarnings: string[] = []
  listMemoryEntries = (...args: unknown[]) =>
    this.#answer('listMemoryEntries', args, {
      items: this.entries.map(({ text, ...entry }) => ({ ...entry, excerpt: text })),
      next: null,
    })
  getMemoryEntry = (...args: unknown[]) => this.#answer('getMemoryEntry', args, this.entries[0] ?? memoryEntry())
  putMemoryEntry = (namespace: string, memory: string, entry: { key: string }, ...rest: unknown[]) =>
    this.#answer('putMemoryEntry', [namespace, memory, entry, ...rest], { key: entry.key, replaced: false })
  searchMemory = (...args: unknown[]) =>
    this.#answer('searchMemory', args, {
      items: this.entries.map((entry) => ({ ...entry, score: 0.5 })),
      warnings: this.memoryWarnings,
    })
  ingestMemory = (namespace: string, memory: string, request: { source: string }, ...rest: unknown[]) =>
    this.#answer('ingestMemory', [namespace, memory, request, ...rest], {
      source: request.source,
      chunks: 3,
      removed: 1,
    })
  deleteMemoryEntries = (...args: unknown[]) => this.#answer('deleteMemoryEntries', args, { deleted: 2 })
  checkMemory = (...args: unknown[]) => this.#answer('checkMemory', args, { provider: 'store' as const, numbers: 64 })
  /** What askModel gives, one after the other. */
  modelEvents: ModelEvent[] = []
  askModel = (...args: unknown[]): AsyncIterable<ModelEvent> => {
    const begun = this.#answer('askModel', args, this.modelEvents)
    async function* read(): AsyncIterable<ModelEvent> {
      yield* await begun
    }
    return read()
  }
  check: AgentCheck = {
    agent: 'writer',
    tool: 'slack',
    operation: 'write',
    verdict: 'allow',
    rule: 'role/reporter',
    code: null,
    reason: null,
    remediation: null,
    approvers: null,
    expiresMs: null,
    looked: [{ rule: 'role/reporter', part: 'permissions[0]', says: 'allow', why: 'it permits the call' }],
    model: null,
  }
  checkAgent = (...args: unknown[]) => this.#answer('checkAgent', args, this.check)
  listWorkers = () => this.#answer('listWorkers', [], this.workers)
  listEvents = (runId: string, { afterSeq = 0 } = {}) =>
    this.#answer('listEvents', [runId, afterSeq], this.#events.slice(afterSeq))
  getStatus = () => this.#answer('getStatus', [], this.status)
  doctor: DoctorView = { version: '1.2.3', now: at(0), rows: [] }
  getDoctor = () => this.#answer('getDoctor', [], this.doctor)
  putSecret = (namespace: string, name: string, request: PutSecretRequest) =>
    this.#answer('putSecret', [namespace, name, request], {
      namespace,
      name,
      keys: Object.keys(request.values),
      sealedBy: ['k1'],
      updatedAt: at(0),
    })
  listSecrets = (...args: unknown[]) => this.#answer('listSecrets', args, { items: this.secrets, next: null })
  getSecret = (...args: unknown[]) => this.#answer('getSecret', args, this.secret)
  deleteSecret = (...args: unknown[]) => this.#answer('deleteSecret', args, { deleted: ['token'] })
  rotateSecrets = (...args: unknown[]) =>
    this.#answer(
      'rotateSecrets',
      args,
      this.rotations.shift() ?? { activeKey: 'k1', olderKeys: [], resealed: 0, remaining: 0, unreadable: [] },
    )
  getHealth = () => this.#answer('getHealth', [], {})
  getReadiness = () => this.#answer('getReadiness', [], {})
  getMetrics = () => this.#answer('getMetrics', [], '')
  getOpenApi = () => this.#answer('getOpenApi', [], {})
  getDefinition = (hash: string) =>
    this.#answer('getDefinition', [hash], { hash, namespace: 'default', name: 'demo', nodes: [] })
  close = () => {}
  async waitForRun(runId: string, options: { signal?: AbortSignal } = {}): Promise<RunView> {
    for await (const event of this.followEvents(runId, options)) if (event.terminal) break
    return this.getRun(runId)
  }
  who: WhoamiView = { id: 'tok_me', name: 'me', role: 'admin', organisation: '*', namespaces: null, expiresAt: null }
  tokens: TokenView[] = []
  may: CanIView = { allowed: true, required: 'operator', role: 'admin', reason: 'the token has the role admin' }
  audit: AuditView[] = []
  whoami = () => this.#answer('whoami', [], this.who)
  createToken = (request: CreateTokenRequest) =>
    this.#answer('createToken', [request], {
      ...tokenView({ name: request.name, role: request.role }),
      token: 'orr_once',
    })
  listTokens = (...args: unknown[]) => this.#answer('listTokens', args, { items: this.tokens, next: null })
  revokeToken = (id: string) => this.#answer('revokeToken', [id], tokenView({ id, state: 'revoked' }))
  canI = (...args: unknown[]) => this.#answer('canI', args, this.may)
  costs: CostsView = { by: 'agent', items: [], more: false }
  listCosts = (...args: unknown[]) => this.#answer('listCosts', args, this.costs)
  listAudit = (...args: unknown[]) => this.#answer('listAudit', args, { items: this.audit, next: null })

  async *followEvents(runId: string, options: { signal?: AbortSignal } = {}): AsyncIterable<ScriptedEvent> {
    await this.#answer('followEvents', [runId], null)
    const aborted = deferred<void>()
    options.signal?.addEventListener('abort', () => aborted.resolve())
    for (let next = 0; ;) {
      const event = this.#events[next]
      if (event) {
        next++
        yield event
        if (event.terminal) return
      } else await Promise.race([this.#more.promise, aborted.promise])
      options.signal?.throwIfAborted()
    }
  }

  async *followLogs(runId: string, options: object = {}): AsyncIterable<LogLine> {
    await this.#answer('followLogs', [runId, options], null)
    yield* this.logs
  }
}
