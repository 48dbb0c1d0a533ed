import type {
  ApprovalView,
  ArtifactView,
  RunEvent,
  RunSummary,
  RunView,
  StepView,
  TokenView,
  WhoamiView,
} from '../contract/api-types.ts'
import type { PollResponse } from '../contract/exchange.ts'
import { Failure } from '../domain/failure.ts'
import type { Definition } from '../domain/workflow.ts'
import type { ServerFacts } from '../domain/installation-facts.ts'
import type { Access } from '../engine/access.ts'
import type { Engine, NewRun } from '../engine/engine.ts'

/** Stands in for the engine in tests of the api: a handful of runs in memory, events and log lines on demand. */
export const RUN_ID = 'run_00000000000000000000000001'
export const ADMIN_TOKEN = 'admin-token'
export const WORKER_TOKEN = 'worker-token'
const NOW = '2026-01-01T00:00:00.000Z'

export function summaryOf(id: string): RunSummary {
  return {
    id,
    namespace: 'default',
    workflow: 'demo',
    state: 'running',
    canceling: false,
    epoch: 1,
    createdAt: NOW,
    startedAt: null,
    endedAt: null,
    labels: {},
    steps: { total: 1, open: 1, bad: 0 },
    failure: null,
    parent: null,
  }
}

export const APPROVAL_ID = 'apr_00000000000000000000000001'
function approvalOf(id: string): ApprovalView {
  return {
    id,
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
    createdAt: NOW,
    expiresAt: null,
    decidedAt: null,
    decidedBy: null,
    comment: null,
    given: null,
  }
}

const absent = () => Promise.reject(new Failure('resource.not_found', 'looking for a resource'))
const noResources: Engine['resources'] = {
  apply: (_, documents, { dryRun }) =>
    Promise.resolve({
      dryRun,
      resources: documents.map(({ kind, namespace, name }) => ({
        kind,
        namespace,
        name,
        outcome: 'created',
        generation: 1,
        resourceVersion: '1',
      })),
    }),
  get: absent,
  list: () =>
    Promise.resolve({ apiVersion: 'orrery.dev/v1', kind: 'List', items: [], next: null, resourceVersion: '0' }),
  remove: absent,
  checkWatch: () => Promise.resolve(),
  async *watch() {},
  listVersions: absent,
  getVersion: absent,
  startOf: absent,
}
const noMemories: Engine['memories'] = {
  list: absent,
  get: absent,
  put: absent,
  search: absent,
  ingest: absent,
  delete: absent,
  check: absent,
}
const whoamiOf = (role: WhoamiView['role']): WhoamiView => ({
  id: `tok_${role}`,
  name: role,
  role,
  organisation: '*',
  namespaces: null,
  expiresAt: null,
})

const tokenOf = (id: string): TokenView => ({
  ...whoamiOf('admin'),
  id,
  state: 'good',
  createdAt: NOW,
  createdBy: null,
  revokedAt: null,
  lastUsedAt: null,
})

export class ScriptedEngine implements Engine {
  /** Holds no resources; tests of them ask the real engine. */
  readonly resources: Engine['resources'] = noResources
  /** Holds none either. */
  readonly memories: Engine['memories'] = noMemories
  definitions = new Map<string, Definition>()
  runs = new Set<string>([RUN_ID])
  created: NewRun[] = []
  keys = new Map<string, { runId: string; fingerprint: string | null }>()
  calls: { name: string; args: unknown[] }[] = []
  /** Events of RUN_ID; the last one is terminal once `ended`. */
  events: RunEvent[] = []
  ended = false
  lines: string[] = []
  artifacts: { view: ArtifactView; chunks: Uint8Array[] }[] = []
  wake: (() => void)[] = []
  followers = 0
  parked = 0
  /** Thrown by every call when set. */
  broken: Error | null = null

  #note(name: string, ...args: unknown[]): void {
    this.calls.push({ name, args })
    if (this.broken) throw this.broken
  }

  #requireRun(runId: string): void {
    if (!this.runs.has(runId)) throw new Failure('run.not_found', `finding run ${runId}`)
  }

  push(to: string, terminal = false): void {
    this.events.push({ seq: this.events.length + 1, at: NOW, changes: [{ of: 'run', to }] })
    this.ended ||= terminal
    for (const wake of this.wake.splice(0)) wake()
  }

  write(text: string): void {
    this.lines.push(text)
    for (const wake of this.wake.splice(0)) wake()
  }

  async putDefinition(...[caller, definition]: Parameters<Engine['putDefinition']>) {
    this.#note('putDefinition', caller, definition)
    const hash = `sha256:${definition.name}`
    this.definitions.set(hash, definition)
    return { hash }
  }

  async getDefinition(...[caller, hash]: Parameters<Engine['getDefinition']>) {
    this.#note('getDefinition', caller, hash)
    const definition = this.definitions.get(hash)
    if (!definition) throw new Failure('definition.not_found', `finding definition ${hash}`)
    return { hash, namespace: definition.namespace, name: definition.name, nodes: [], definition }
  }

  async createRuns(...[caller, runs]: Parameters<Engine['createRuns']>) {
    this.#note('createRuns', caller, runs)
    return runs.map((run) => {
      const former = run.idempotencyKey === null ? undefined : this.keys.get(run.idempotencyKey)
      if (former)
        return {
          kind: former.fingerprint === run.fingerprint ? ('existing' as const) : ('key_reused' as const),
          runId: former.runId,
        }
      this.created.push(run)
      const runId = `run_1${String(this.created.length).padStart(25, '0')}`
      this.runs.add(runId)
      if (run.idempotencyKey !== null) this.keys.set(run.idempotencyKey, { runId, fingerprint: run.fingerprint })
      return { kind: 'created' as const, runId, definition: run.definition, remarks: [] }
    })
  }

  async getRun(...[caller, runId]: Parameters<Engine['getRun']>): Promise<RunView> {
    this.#note('getRun', caller, runId)
    this.#requireRun(runId)
    return { ...summaryOf(runId), definition: 'sha256:demo', inputs: {}, reason: null, waitsOn: [], stepList: [] }
  }

  async listRuns(...args: Parameters<Engine['listRuns']>) {
    this.#note('listRuns', ...args)
    return { items: [...this.runs].map(summaryOf), next: null }
  }

  async listSteps(...[caller, runId, filter]: Parameters<Engine['listSteps']>) {
    this.#note('listSteps', caller, runId, filter)
    this.#requireRun(runId)
    return { items: [] as StepView[], next: null }
  }

  async cancelRun(...[caller, runId]: Parameters<Engine['cancelRun']>) {
    this.#note('cancelRun', caller, runId)
    this.#requireRun(runId)
    return { ...summaryOf(runId), canceling: true }
  }

  async retryRun(...[caller, runId]: Parameters<Engine['retryRun']>): Promise<RunSummary> {
    this.#note('retryRun', caller, runId)
    this.#requireRun(runId)
    throw new Failure('run.not_recoverable', `retrying run ${runId}`, {
      evidence: { state: 'running', allowed: ['cancel'] },
    })
  }

  async retryStep(...[caller, runId, step]: Parameters<Engine['retryStep']>) {
    this.#note('retryStep', caller, runId, step)
    this.#requireRun(runId)
    return summaryOf(runId)
  }

  async skipStep(...[caller, runId, step, output]: Parameters<Engine['skipStep']>) {
    this.#note('skipStep', caller, runId, step, output)
    this.#requireRun(runId)
    return summaryOf(runId)
  }

  async listEvents(...[caller, runId, afterSeq, limit]: Parameters<Engine['listEvents']>) {
    this.#note('listEvents', caller, runId, afterSeq, limit)
    this.#requireRun(runId)
    const page = this.events.slice(afterSeq, afterSeq + limit)
    return page.map((event) => ({ ...event, terminal: this.ended && event === this.events.at(-1) }))
  }

  async getStatus(caller: Parameters<Engine['getStatus']>[0]): ReturnType<Engine['getStatus']> {
    this.#note('getStatus', caller)
    return {
      server: { id: 'server', version: '1.2.3', store: 'embedded', servers: 1 },
      runs: { pending: 0, running: this.runs.size, waiting: 0 },
      queues: [],
      workers: { live: 0, draining: 0, lost: 0, capacity: 0, held: 0 },
    }
  }

  async listCosts(...args: Parameters<Engine['listCosts']>): ReturnType<Engine['listCosts']> {
    this.#note('listCosts', ...args)
    return { by: args[1].by, items: [], more: false }
  }

  async listArtifacts(...args: Parameters<Engine['listArtifacts']>): ReturnType<Engine['listArtifacts']> {
    this.#note('listArtifacts', ...args)
    this.#requireRun(args[1])
    return { items: this.artifacts.map(({ view }) => view), next: null }
  }

  async openArtifact(...args: Parameters<Engine['openArtifact']>): ReturnType<Engine['openArtifact']> {
    this.#note('openArtifact', ...args)
    this.#requireRun(args[1])
    const found = this.artifacts.find(({ view }) => view.name === args[2].name)
    if (!found) throw new Failure('artifact.not_found', `finding ${args[2].name}`)
    async function* read(chunks: Uint8Array[]): AsyncIterable<Uint8Array> {
      yield* chunks
    }
    return { view: found.view, read: () => read(found.chunks) }
  }

  async takeArtifacts(...args: Parameters<Engine['takeArtifacts']>): ReturnType<Engine['takeArtifacts']> {
    this.#note('takeArtifacts', ...args)
    return { state: 'stale', missing: [] }
  }

  async takeChunk(...args: Parameters<Engine['takeChunk']>): ReturnType<Engine['takeChunk']> {
    this.#note('takeChunk', ...args)
    return { kept: false }
  }

  async takeExports(...args: Parameters<Engine['takeExports']>): ReturnType<Engine['takeExports']> {
    this.#note('takeExports', ...args)
    return { state: 'stale' }
  }

  async listWanted(...args: Parameters<Engine['listWanted']>): ReturnType<Engine['listWanted']> {
    this.#note('listWanted', ...args)
    return { state: 'stale', files: [] }
  }

  async readJournal(...args: Parameters<Engine['readJournal']>): ReturnType<Engine['readJournal']> {
    this.#note('readJournal', ...args)
    return { state: 'stale', entries: [], next: null }
  }

  async append(...args: Parameters<Engine['append']>): ReturnType<Engine['append']> {
    this.#note('append', ...args)
    return { state: 'stale', verdicts: {}, refused: null, contextVersion: '' }
  }

  async showJournal(...args: Parameters<Engine['showJournal']>): ReturnType<Engine['showJournal']> {
    this.#note('showJournal', ...args)
    this.#requireRun(args[1].runId)
    return { items: [], next: null, countsFrom: 0 }
  }

  async readWanted(...args: Parameters<Engine['readWanted']>): ReturnType<Engine['readWanted']> {
    this.#note('readWanted', ...args)
    return { base64: null }
  }

  async readAgentContext(...args: Parameters<Engine['readAgentContext']>): ReturnType<Engine['readAgentContext']> {
    this.#note('readAgentContext', ...args)
    return { state: 'stale', context: null }
  }

  async *followEvents(...[caller, runId, afterSeq, signal]: Parameters<Engine['followEvents']>) {
    this.#note('followEvents', caller, runId, afterSeq)
    this.#requireRun(runId)
    this.followers++
    try {
      for (let at = afterSeq; ;) {
        const event = this.events[at]
        if (event) {
          at++
          const terminal = this.ended && at === this.events.length
          yield { ...event, terminal }
          if (terminal) return
        } else if (this.ended) return
        else await this.#change(signal)
      }
    } finally {
      this.followers--
    }
  }

  async nudgeRun(...[caller, runId]: Parameters<Engine['nudgeRun']>) {
    this.#note('nudgeRun', caller, runId)
    this.#requireRun(runId)
    return { run: summaryOf(runId), changed: [], waiting: [] }
  }

  async sendEvent(...[caller, runId, event]: Parameters<Engine['sendEvent']>) {
    this.#note('sendEvent', caller, runId, event)
    this.#requireRun(runId)
    return { id: 'evt_1', run: runId, name: event.name, state: 'kept' as const, step: null }
  }

  async listApprovals(...args: Parameters<Engine['listApprovals']>) {
    this.#note('listApprovals', ...args)
    return { items: [approvalOf(APPROVAL_ID)], next: null }
  }

  async getApproval(...[caller, id]: Parameters<Engine['getApproval']>) {
    this.#note('getApproval', caller, id)
    return approvalOf(id)
  }

  async decideApproval(...[caller, id, wish]: Parameters<Engine['decideApproval']>): Promise<ApprovalView> {
    this.#note('decideApproval', caller, id, wish)
    const state = wish.approved ? 'approved' : 'denied'
    return { ...approvalOf(id), state, decidedBy: 'tok_admin', comment: wish.comment, decidedAt: NOW }
  }

  async waitForRun(...[caller, runId, waitMs]: Parameters<Engine['waitForRun']>): Promise<RunView> {
    this.#note('waitForRun', caller, runId, waitMs)
    return {
      ...summaryOf(runId),
      state: 'succeeded',
      definition: 'sha256:demo',
      inputs: {},
      reason: null,
      waitsOn: [],
      stepList: [],
    }
  }

  async *followLogs(...[caller, runId, filter, signal]: Parameters<Engine['followLogs']>) {
    this.#note('followLogs', caller, runId, filter)
    this.#requireRun(runId)
    for (let at = Number(filter.cursor ?? 0); ;) {
      const text = this.lines[at]
      if (text !== undefined) {
        at++
        const line = { step: 'build', fence: 1, index: at, stream: 'stdout' as const, at: NOW, text }
        yield { ...line, cursor: String(at) }
      } else if (!filter.follow || this.ended) return
      else await this.#change(signal)
    }
  }

  async examine(): Promise<ServerFacts> {
    return {
      version: '0.1.0',
      store: { kind: 'open', engine: 'pglite', version: '16', latencyMs: 1 },
      migrations: null,
      clocks: [],
      workers: [],
      refusals: [],
      models: [],
      budgets: [],
      servers: [],
      bus: null,
      approvals: null,
    }
  }

  async askModel(...args: Parameters<Engine['askModel']>): ReturnType<Engine['askModel']> {
    this.#note('askModel', ...args)
    throw new Failure('resource.not_found', 'holds no models; tests of them ask the real engine')
  }

  async checkAgent(...args: Parameters<Engine['checkAgent']>): ReturnType<Engine['checkAgent']> {
    this.#note('checkAgent', ...args)
    throw new Failure('resource.not_found', 'holds no agents; tests of them ask the real engine')
  }

  async listWorkers(...args: Parameters<Engine['listWorkers']>) {
    this.#note('listWorkers', ...args)
    return []
  }

  async register(...args: Parameters<Engine['register']>) {
    this.#note('register', ...args)
    return { session: 'ses_1', leaseMs: 8000, heartbeatMs: 2000, pollMs: 20000, serverVersion: '0.1.0', adopted: [] }
  }

  /** Parked until the caller goes away, unless there is no free slot. */
  async poll(...[caller, request, signal]: Parameters<Engine['poll']>): Promise<PollResponse> {
    this.#note('poll', caller, request)
    const nothing: PollResponse = { sessionState: 'live', assignments: [], cancels: [], drain: false }
    if (request.free === 0) return nothing
    this.parked++
    try {
      await this.#change(signal)
    } finally {
      this.parked--
    }
    return nothing
  }

  async report(...[caller, request]: Parameters<Engine['report']>) {
    this.#note('report', caller, request)
    const acks = request.reports.map(({ step, fence, seq }) => ({ step, fence, seq, outcome: 'recorded' as const }))
    return { sessionState: 'live' as const, assignments: [], cancels: [], drain: false, acks }
  }

  async putSecret(...[caller, at, body]: Parameters<Engine['putSecret']>) {
    this.#note('putSecret', caller, at, body)
    const keys = Object.keys(body.values)
    return { namespace: at.namespace, name: at.secret, keys, sealedBy: ['k1'], updatedAt: '2026-01-01T00:00:00.000Z' }
  }

  async listSecrets(...args: Parameters<Engine['listSecrets']>) {
    this.#note('listSecrets', ...args)
    return { items: [], next: null }
  }

  async getSecret(...[caller, at, options]: Parameters<Engine['getSecret']>) {
    this.#note('getSecret', caller, at, options)
    return { namespace: at.namespace, name: at.secret, keys: [] }
  }

  async deleteSecret(...args: Parameters<Engine['deleteSecret']>) {
    this.#note('deleteSecret', ...args)
    return { deleted: ['token'] }
  }

  async rotateSecrets(...args: Parameters<Engine['rotateSecrets']>) {
    this.#note('rotateSecrets', ...args)
    return { activeKey: 'k1', olderKeys: [], resealed: 0, remaining: 0, unreadable: [] }
  }

  async useMemory(...args: Parameters<Engine['useMemory']>): ReturnType<Engine['useMemory']> {
    this.#note('useMemory', ...args)
    return { state: 'stale', result: null }
  }

  async heartbeat(...args: Parameters<Engine['heartbeat']>) {
    this.#note('heartbeat', ...args)
    return { sessionState: 'live' as const, leaseMs: 8000 }
  }

  async authenticate(token: string) {
    if (token === ADMIN_TOKEN)
      return { actor: 'tok_admin', role: 'admin' as const, organisation: '*', namespaces: null }
    if (token === WORKER_TOKEN)
      return { actor: 'tok_worker', role: 'worker' as const, organisation: '*', namespaces: null }
    return null
  }

  readonly access: Access = {
    whoami: (caller) => Promise.resolve(whoamiOf(caller.role)),
    createToken: (_, { name, role }) => Promise.resolve({ ...tokenOf('tok_new'), name, role, token: 'orr_shown-once' }),
    listTokens: () => Promise.resolve({ items: [tokenOf('tok_admin')], next: null }),
    revokeToken: (_, id) => Promise.resolve({ ...tokenOf(id), state: 'revoked', revokedAt: NOW }),
    listAudit: () => Promise.resolve({ items: [], next: null }),
    noteRefused: (refused) => void this.calls.push({ name: 'noteRefused', args: [refused] }),
    noteDenied: (_, denied) => void this.calls.push({ name: 'noteDenied', args: [denied] }),
    knows: (token) => token === ADMIN_TOKEN || token === WORKER_TOKEN,
  }

  async checkReady() {
    this.#note('checkReady')
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error)
      this.wake.push(resolve)
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
    })
  }
}
