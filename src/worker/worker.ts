import type { Clock, Log, Metrics, Random, Tracer } from '../base/index.ts'
import type { Backend, CommandHandle } from '../backends/backend.ts'
import type { Assignment, ExchangeLane } from '../contract/exchange.ts'
import { FEATURES } from '../domain/workflow.ts'
import type { AgentRuntime } from './agent-runtime.ts'
import { ExchangeLoop, type Identity, type WorkerEnd } from './exchange-loop.ts'
import type { StartHeartbeats } from './heartbeats.ts'
import { Outbox } from './outbox.ts'

export interface WorkerDeps {
  lane: ExchangeLane
  /** Null: this worker runs no commands. */
  backend: Backend | null
  /** Null: this worker runs no agents. It is closed when the worker ends. */
  agents?: AgentRuntime | null
  /** Module namespaces by the name that steps use. */
  modules: Record<string, unknown>
  name: string
  version: string
  capacity: number
  labels: Record<string, string>
  namespaces: string[] | null
  host: string
  pid: number
  pidStart: string | null
  /** Where the outbox and the session id are kept; null keeps all in memory, and commands do not outlive the worker. */
  stateDir: string | null
  startHeartbeats: StartHeartbeats
  clock: Clock
  random: Random
  log: Log
  /** Take measurements and spans; nobody does when absent. */
  metrics?: Metrics
  tracer?: Tracer
  /** Base environment of commands. */
  env: Record<string, string>
  /** Told every secret value that a step is given. */
  remember?: (value: string) => void
}

export interface WorkerStats {
  session: string | null
  draining: boolean
  capacity: number
  free: number
  /** Attempts held, those included whose end is not acknowledged yet. */
  held: number
  running: number
  queued: number
  finished: number
  /** Assignments passed over because they were here already. */
  ignored: number
  reportRequests: number
  outages: number
  /** End reports on disk. */
  outbox: number
}

export interface Worker {
  /** True once the first session is open; false when there will be none, because the server refuses the worker: `ended` says why. */
  start(): Promise<boolean>
  /** Finishes what runs, takes nothing new; resolves when the server has acknowledged all of it. */
  drain(): Promise<void>
  /** Ends at once. */
  stop(): Promise<void>
  readonly ended: Promise<WorkerEnd>
  stats(): WorkerStats
}

/** A worker is started once. */
export function createWorker(deps: WorkerDeps): Worker {
  const { promise: ended, resolve: resolveEnded } = Promise.withResolvers<WorkerEnd>()
  let loop: ExchangeLoop | null = null
  let outbox: Outbox | null = null
  let isOver = false

  const start = async () => {
    outbox = await Outbox.open({ dir: deps.stateDir, clock: deps.clock, log: deps.log })
    const commands = deps.backend ? await recoverCommands(deps.backend, deps.log) : []
    if (isOver) {
      await outbox.close()
      return false
    }
    loop = new ExchangeLoop({ ...deps, agents: deps.agents ?? null, outbox, identity: identityOf(deps) })
    void loop.ended.then(resolveEnded)
    loop.supervisor.restore(commands)
    await loop.start()
    return loop.session !== null
  }

  const leaveBeforeStart = (end: WorkerEnd) => {
    isOver = true
    resolveEnded(end)
  }

  return {
    start,
    drain: async () => (loop ? loop.drain() : leaveBeforeStart({ reason: 'drained' })),
    stop: async () => (loop ? loop.stop() : leaveBeforeStart({ reason: 'stopped' })),
    ended,
    stats: () => ({
      session: loop?.session ?? null,
      draining: loop?.draining ?? false,
      capacity: deps.capacity,
      free: loop?.supervisor.free ?? 0,
      ...(loop?.supervisor.counts ?? { held: 0, running: 0, queued: 0 }),
      finished: loop?.supervisor.finished ?? 0,
      ignored: loop?.supervisor.ignored ?? 0,
      reportRequests: loop?.reports.requests ?? 0,
      outages: loop?.outages ?? 0,
      outbox: outbox?.size ?? 0,
    }),
  }
}

function identityOf(deps: WorkerDeps): Identity {
  const { name, version, host, pid, pidStart, capacity, labels, namespaces, modules, backend, agents } = deps
  const backends: Identity['backends'] = [
    'function',
    ...(backend ? (['process'] as const) : []),
    ...(agents ? (['agent'] as const) : []),
  ]
  return {
    worker: name,
    version,
    host,
    pid,
    pidStart,
    capacity,
    labels,
    namespaces,
    backends,
    modules: Object.keys(modules),
    features: [...FEATURES],
  }
}

/** Commands of an earlier life. What cannot be told to belong to a step is stopped: nobody would ever ask for it. */
async function recoverCommands(
  backend: Backend,
  log: Log,
): Promise<{ assignment: Assignment; handle: CommandHandle }[]> {
  const found: { assignment: Assignment; handle: CommandHandle }[] = []
  for (const handle of await backend.recover()) {
    const assignment = parseNote(handle.note)
    if (assignment) found.push({ assignment, handle })
    else {
      log.warn('command of an earlier life has no readable note; it is stopped', { key: handle.key })
      void handle
        .cancel()
        .then(() => handle.ended)
        .then(() => handle.forget({ failed: false }))
        .catch((error: unknown) => log.warn('command could not be stopped', { key: handle.key, error: String(error) }))
    }
  }
  return found
}

function parseNote(note: string): Assignment | null {
  try {
    const value: unknown = JSON.parse(note)
    if (typeof value !== 'object' || value === null) return null
    const { step, fence, work } = value as Partial<Assignment>
    // The note is a whole assignment or none: it was written in one piece by this worker.
    return typeof step === 'string' && typeof fence === 'number' && work?.kind === 'command'
      ? (value as Assignment)
      : null
  } catch {
    return null
  }
}
