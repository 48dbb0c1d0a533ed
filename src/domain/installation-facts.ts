import type { FailureRecord, Problem } from './failure.ts'
import type { Role } from './roles.ts'
import type { Reach } from './tenancy.ts'

/** What the checks of an installation judge by. Facts are gathered elsewhere; every rule is a pure function of some of them. */

export interface ConfigFacts {
  /** The file of settings, when there is one. */
  file: string | null
  /** Settings with where each came from, those left at their default not among them. No values: one may be a password. */
  given: Record<string, string>
  problems: readonly Problem[]
  /** Variables that begin like ours and are none. */
  unknownVariables: readonly { name: string; nearest: string | null }[]
}

export interface DirectoryFacts {
  use: 'data' | 'log' | 'workspace'
  path: string
  /** The nearest directory that is there: what was measured. */
  measured: string
  exists: boolean
  isWritable: boolean
  /** Of the operating system, when it cannot be written. */
  errorCode: string | null
  freeBytes: number
  totalBytes: number
  freeInodes: number
  /** 0 where the file system does not count them. */
  totalInodes: number
}

export interface PortFacts {
  host: string
  port: number
  /** `held`: somebody listens there. */
  state: 'free' | 'held' | 'refused'
  error: string | null
  holder: { pid: number; name: string } | null
  /** Version of the Orrery that answers there; null when what answers is none. */
  orrery: string | null
}

export type StoreFacts =
  | {
      kind: 'embedded'
      dataDir: string
      /** Who has it open. */
      owner: { pid: number; isAlive: boolean | null } | null
      hasDatabase: boolean
    }
  | { kind: 'open'; engine: 'pglite' | 'postgres'; version: string; latencyMs: number }
  | { kind: 'unreachable'; failure: FailureRecord }

export interface MigrationFacts {
  /** Migrations that this build knows and the database has not. */
  pending: readonly string[]
  /** Of a newer build. */
  newer: readonly { name: string; breaking: boolean; version: string }[]
  /** Applied with another text than this build has. */
  changed: readonly string[]
  missing: readonly string[]
  extra: readonly string[]
}

export interface ClockFacts {
  /** Which two clocks, such as `server and database`. */
  between: string
  /** How far the first is ahead. */
  skewMs: number
}

export interface DoctorWorker {
  worker: string
  state: 'live' | 'draining' | 'lost'
  version: string
  clockSkewMs: number
  lastHeartbeatMs: number
  held: number
  capacity: number
}

export interface RefusalFacts {
  worker: string
  agoMs: number
  failure: FailureRecord
}

export interface KeyFileFacts {
  /** What it opens: `secrets key`, `admin token`. */
  what: string
  path: string
  exists: boolean
  /** Permission bits; null where they mean nothing. */
  mode: number | null
  /** Whether somebody named it, so that it must be there. */
  isNamed: boolean
}

/** A model endpoint and what it names in vain. */
export interface ModelFacts {
  /** With its namespace. */
  endpoint: string
  provider: string
  model: string
  /** Why secrets of it cannot be had. */
  secrets: readonly FailureRecord[]
  dangling: readonly { field: string; name: string }[]
}

/** A budget: how much of it is used, and what it names in vain. */
export interface BudgetFacts {
  /** With its namespace. */
  budget: string
  window: string
  /** Used of the limit that is used most, from 0; 0 of one that counts each run by itself. */
  share: number
  /** The lowest share that it tells of; 1 when it tells of none. */
  alert: number
  /** RFC 3339; null when the window moves all the time. */
  until: string | null
  dangling: readonly { field: 'agents' | 'endpoints'; name: string }[]
  /** Nothing that its selector names is there: it counts nothing. */
  isIdle: boolean
  /** Endpoints whose calls it refuses, because their price is not known. */
  unpriced: readonly string[]
  currency: string | null
}

export interface VersionFacts {
  cli: string | null
  server: string
  /** Other servers over the same store. */
  servers: readonly { id: string; version: string }[]
  workers: readonly { worker: string; version: string }[]
}

export interface TelemetryFacts {
  endpoint: string
  /** Which variable named it. */
  from: string
  error: string | null
}

/** Whether a server hears what is sent to it; `unknown` where nothing is to be heard. */
export type Hearing =
  | { kind: 'unknown' }
  | { kind: 'heard'; latencyMs: number }
  | { kind: 'deaf'; forMs: number; error: string }

export interface BusFacts {
  hearing: Hearing
  /** Other servers over the same store; `deafMs` is null of one that hears. */
  others: readonly { id: string; deafMs: number | null }[]
}

export interface PendingApproval {
  approval: string
  run: string
  step: string
  /** As it is stored. */
  namespace: string
  approvers: readonly string[] | null
}

/** A token that is good. */
export interface TokenFacts {
  id: string
  name: string
  role: Role
  organisation: string
  reach: Reach
  /** Whether the caller may know of it. */
  isSeen: boolean
}

export interface ApprovalFacts {
  pending: readonly PendingApproval[]
  tokens: readonly TokenFacts[]
  /** Whether the caller sees every organisation. */
  seesAll: boolean
}

/** What a host tells of itself: of the server's own, or of the one that the CLI runs on. */
export interface HostFacts {
  directories: readonly DirectoryFacts[]
  port: PortFacts | null
  store: StoreFacts | null
  migrations: MigrationFacts | null
  keyFiles: readonly KeyFileFacts[]
  telemetry: TelemetryFacts | null
}

/** What a server knows of the installation from its store. */
export interface ServerFacts {
  version: string
  store: StoreFacts
  migrations: MigrationFacts | null
  clocks: readonly ClockFacts[]
  workers: readonly DoctorWorker[]
  refusals: readonly RefusalFacts[]
  models: readonly ModelFacts[]
  budgets: readonly BudgetFacts[]
  servers: readonly { id: string; version: string }[]
  /** Null on the embedded store, which has one server. */
  bus: BusFacts | null
  /** Null when there are too many tokens to say what none of them may. */
  approvals: ApprovalFacts | null
}
