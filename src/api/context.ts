import type { Clock } from '../base/clock.ts'
import type { Ids } from '../base/ids.ts'
import type { Log } from '../base/log.ts'
import type { HostFacts } from '../domain/installation-facts.ts'
import type { Metrics } from '../base/metrics.ts'
import type { Tracer } from '../base/trace.ts'
import type { FailureRecord } from '../domain/failure.ts'
import type { Caller, Engine } from '../engine/engine.ts'
import type { IncomingMessage } from 'node:http'
import type { EdgeOptions } from './edge.ts'
import type { BodySource } from './read-body.ts'

/** Where `/metrics` gets its text; a registry of prom-client fits. */
export interface MetricsSource {
  readonly contentType: string
  metrics(): string | Promise<string>
}

export interface ApiDeps {
  engine: Engine
  clock: Clock
  ids: Ids
  log: Log
  version: string
  /** What the host of this server tells of itself; null where nobody can ask it. */
  examineHost?: (() => Promise<HostFacts>) | undefined
  /** Null: this server gives none. */
  metrics: MetricsSource | null
  /** Counts requests; nobody does when absent. */
  meter?: Metrics
  /** Takes the spans of requests; nobody does when absent. */
  tracer?: Tracer
  /** Where the server stands; at home when absent. */
  edge?: EdgeOptions | undefined
}

/** What comes beside a request: from the socket server, or from a caller in the same process. */
export interface ApiEnv {
  incoming?: IncomingMessage
  /** The request that this one is asked for, in whose place it stands: it came from there. */
  via?: IncomingMessage
  /** The body in memory, instead of the request's own. */
  body?: string
  /** Aborted when the caller gives up; instead of the request's own. */
  signal?: AbortSignal
}

/** A request, whatever carried it here. */
export interface Call {
  method: string
  path: string
  /** What stands behind the question mark; null when there is none. */
  search: string | null
  /** By its name in lower case. */
  header(name: string): string | null
  /** The decoded parameter as it stands in the path, with the verb behind it. */
  rawParam(name: string): string
  body: BodySource
  /** Aborted when the caller is gone. */
  readonly signal: AbortSignal
}

/** What is answered, whatever carries it back. */
export interface Answer {
  status: number
  headers: Record<string, string>
  body: string | ReadableStream<Uint8Array> | null
}

/** One request under way, checked as far as its route says. */
export interface Exchange {
  deps: ApiDeps
  caller: Caller
  /** Aborted when the caller is gone. */
  readonly signal: AbortSignal
  /** Path parameters, decoded. */
  param(name: string): string
  query: unknown
  body: unknown
  /** The body as it came. */
  bodyText: string
  header(name: string): string | null
  /** The request made this run: it belongs to the run's trace, unless it came with one of its own. */
  made(runId: string): void
  /** The same of a bulk request. */
  madeMany(runIds: readonly string[]): void
  /** How a failure reads in the answer or in the middle of a stream; bugs are logged and told without details. */
  recordFailure(error: unknown): FailureRecord
  respondJson(status: number, value: unknown, headers?: Record<string, string>): Answer
  respond(status: number, body: string | ReadableStream<Uint8Array>, headers: Record<string, string>): Answer
}
