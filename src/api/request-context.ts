import { assert } from '../base/assert.ts'
import type { LogFields } from '../base/log.ts'
import { isRunId } from '../base/ids.ts'
import type { Scope } from '../base/scope.ts'
import {
  creationSpanOf,
  noTracer,
  parseTraceparent,
  spanIdOf,
  type TraceContext,
  traceIdOfId,
  type Tracer,
} from '../base/trace.ts'
import { PROBLEM_TYPE, problemOf } from '../contract/problem.ts'
import { Failure, type FailureRecord, failureRecord } from '../domain/failure.ts'
import { FAILURES } from '../domain/failures.ts'
import type { Caller } from '../engine/engine.ts'
import type { Answer, ApiDeps, Call, Exchange } from './context.ts'
import type { Edge } from './edge.ts'
import { isRequestId } from './request-headers.ts'

/** Answers are for the one who asked: never kept, never sniffed, never framed. */
export const SECURITY_HEADERS = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
} as const

/** One request under way. Its trace is worked out when somebody asks: most requests are answered without a line or a span. */
export class RequestContext implements Exchange, Scope {
  readonly deps: ApiDeps
  readonly edge: Edge
  readonly call: Call
  readonly requestId: string
  readonly path: string
  readonly params = new Map<string, string>()
  query: unknown = {}
  body: unknown = undefined
  bodyText = ''
  suspect = false
  bulk: readonly string[] = []
  #caller: Caller | null = null
  readonly #tracer: Tracer
  #trace: TraceContext | null = null
  #given: TraceContext | null | undefined = undefined
  #made: string | null = null

  constructor(deps: ApiDeps, edge: Edge, call: Call) {
    this.deps = deps
    this.edge = edge
    this.call = call
    this.path = call.path
    const given = this.header('x-request-id')
    this.#tracer = deps.tracer ?? noTracer
    this.requestId = given !== null && isRequestId(given) ? given : deps.ids.make('request')
  }

  /** The span that the request came with. */
  get parent(): TraceContext | null {
    if (this.#given === undefined) this.#given = parseTraceparent(this.header('traceparent'))
    return this.#given
  }

  get foreignTrace(): TraceContext | null {
    return this.parent && this.trace
  }

  get trace(): TraceContext {
    return (this.#trace ??= this.#makeTrace())
  }

  #makeTrace(): TraceContext {
    const { parent } = this
    // An id that the caller chose may come twice; a span's must not.
    const own = this.requestId === this.header('x-request-id') ? this.deps.ids.make('request') : this.requestId
    const spanId = spanIdOf(own)
    if (parent) return { traceId: parent.traceId, spanId, sampled: this.#tracer.samplesChild(parent) }
    const traceId = traceIdOfId(own)
    return { traceId, spanId, sampled: this.#tracer.samplesRoot(traceId) }
  }

  /** Runs of a bulk request: each has a trace of its own, with a span that leads back here. */
  madeMany(runIds: readonly string[]): void {
    this.bulk = runIds
  }

  made(runId: string): void {
    if (runId === this.#made) return
    this.#made = runId
    if (this.parent) return
    const traceId = traceIdOfId(runId)
    this.#trace = { traceId, spanId: creationSpanOf(runId), sampled: this.#tracer.samplesRoot(traceId) }
  }

  get runId(): string | null {
    const named = this.#made ?? this.params.get('id') ?? null
    return named !== null && isRunId(named) ? named : null
  }

  get logFields(): LogFields {
    const { traceId, spanId } = this.trace
    const { runId } = this
    return { requestId: this.requestId, traceId, spanId, ...(runId === null ? {} : { runId }) }
  }

  get caller(): Caller {
    assert(this.#caller, 'a handler of an open route asked who calls')
    return this.#caller
  }

  set caller(caller: Caller) {
    this.#caller = caller
  }

  /** Where the request came from; null when it came from the same process. */
  get address(): string | null {
    return this.edge.addressOf(this.call.body.incoming)
  }

  get signal(): AbortSignal {
    return this.call.signal
  }

  header(name: string): string | null {
    return this.call.header(name)
  }

  param(name: string): string {
    return this.params.get(name) ?? ''
  }

  respond(status: number, body: string | ReadableStream<Uint8Array> | null, headers: Record<string, string>): Answer {
    const outside = this.edge.headersFor(this.call.body.incoming, this.header('origin'))
    return { status, body, headers: { 'x-request-id': this.requestId, ...SECURITY_HEADERS, ...outside, ...headers } }
  }

  respondJson(status: number, value: unknown, headers?: Record<string, string>): Answer {
    return this.respond(status, JSON.stringify(value), { 'content-type': 'application/json', ...headers })
  }

  respondFailure(error: unknown, headers?: Record<string, string>): Answer {
    const failure = this.recordFailure(error)
    const problem = problemOf(failure, { instance: this.path, requestId: this.requestId })
    const extra: Record<string, string> = { 'content-type': PROBLEM_TYPE, ...headers }
    if (problem.status === 401)
      extra['www-authenticate'] =
        failure.evidence?.['token'] === 'missing'
          ? 'Bearer realm="orrery"'
          : 'Bearer realm="orrery", error="invalid_token"'
    if (FAILURES[failure.code].retry === 'later' && problem.status >= 429)
      extra['retry-after'] = String(failure.evidence?.['retryAfterSeconds'] ?? 1)
    return this.respond(problem.status, JSON.stringify(problem), extra)
  }

  recordFailure(error: unknown): FailureRecord {
    const fields = { method: this.call.method, path: this.path }
    if (error instanceof Failure) {
      const status = FAILURES[error.code].status
      if (status >= 500) this.deps.log.warn('request failed', { ...fields, code: error.code, err: error })
      else this.deps.log.debug('request refused', { ...fields, code: error.code, detail: error.message })
      return error.toRecord()
    }
    // The caller went away, and what it waited for was stopped: nobody reads this answer.
    if (this.signal.aborted)
      return failureRecord('request.invalid', `${fields.method} ${this.path} was given up by the caller`)
    this.deps.log.error('request met a bug', { ...fields, err: error })
    return failureRecord('internal.bug', `${fields.method} ${this.path}`, { evidence: { requestId: this.requestId } })
  }
}
