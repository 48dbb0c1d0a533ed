import type { Egress } from '../agents/index.ts'
import type { Clock } from '../base/clock.ts'
import type { Deadlines } from '../base/deadlines.ts'
import type { Ids } from '../base/ids.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import type { Random } from '../base/random.ts'
import type { Tracer } from '../base/trace.ts'
import type { StepFacts } from '../domain/reasons/step-reason.ts'
import type { ResourceView } from '../contract/resource-types.ts'
import type { Db } from '../store/db.ts'
import type { Binder } from './bind.ts'
import type { Budgets } from './budgets/budgets.ts'
import type { Gate } from './agents/gate.ts'
import type { Sealing } from './resources/sealing.ts'
import type { SecretResolver } from './secret-resolver.ts'
import type { SecretDeps } from './secrets.ts'
import type { DefinitionCache, QueueRegistry } from './definitions.ts'
import type { RecentRuns } from './recent-runs.ts'
import type { Watch } from './watch.ts'

/** How long things take; a test may shorten them. */
export interface EngineTimes {
  leaseMs: number
  heartbeatMs: number
  pollMs: number
  tickMs: number
  acknowledgeMs: number
  dispatchGraceMs: number
  stallMs: number
  /** Added to a step's time-out before the server itself ends the attempt. */
  deadlineGraceMs: number
}

/** What the engine is handed. */
export interface EngineDeps {
  db: Db
  clock: Clock
  ids: Ids
  random: Random
  log: Log
  metrics: Metrics
  /** Takes spans; nobody does when absent. */
  tracer?: Tracer
  serverId: string
  version: string
  address: string | null
  /** Names this machine and boot; sessions from the same host can be checked for life. */
  host: string
  /** Whether a process of this host is alive; null when it cannot be told. */
  isAlive: (pid: number, pidStart: string | null) => boolean | null
  times: EngineTimes
  /** The way out for models; one of its own when absent. */
  egress?: Egress
  /** What agents may do; by the roles and policies that are stored when absent. */
  gate?: Gate
  /** What agents may spend; by the budgets that are stored when absent. */
  budgets?: Budgets
  /** Absent: no secrets can be stored, and none are found anywhere. */
  secrets?: SecretDeps
}

/** What the parts of the engine share. */
export interface EngineContext extends EngineDeps {
  gate: Gate
  definitions: DefinitionCache
  /** What a run of a definition holds. */
  binder: Binder
  queues: QueueRegistry
  watch: Watch
  secretResolver: SecretResolver
  deadlines: Deadlines
  /** Told of each run that this server saw end. */
  onRunEnded?: (runId: string) => void
  /** How budgets stand, by `namespace/name`, that steps of a run wait for. */
  budgetsHolding(runId: string, names: readonly string[]): Promise<Map<string, StepFacts['budgets'][number]>>
  /** Resources with what budgets say of them. */
  withUse(views: ResourceView[]): Promise<ResourceView[]>
  /** What keeps the values of applied secrets; refuses where nothing can be encrypted. */
  sealing: Sealing
  /** Runs below others that this server started: their ends are passed on at once. Only a hint. */
  children: RecentRuns
  /** Asks for a tick no later than in `ms`. */
  tickWithin(ms: number): void
}
