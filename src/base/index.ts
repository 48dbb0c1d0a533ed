export { assert, Bug, unreachable } from './assert.ts'
export { backoffMs, type BackoffPolicy } from './backoff.ts'
export { type Clock, HandClock, systemClock } from './clock.ts'
export { createDeadlines, type Deadlines } from './deadlines.ts'
export { type Deferred, deferred } from './deferred.ts'
export { formatDuration, parseDuration } from './duration.ts'
export {
  createIds,
  type IdKind,
  type Ids,
  isRunId,
  isSessionId,
  type RunId,
  type ServerId,
  type SessionId,
  type TokenId,
} from './ids.ts'
export type { Json, JsonObject } from './json.ts'
export { type Log, type LogFields, silentLog } from './log.ts'
export { type Metrics, noMetrics } from './metrics.ts'
export { nearest } from './nearest.ts'
export { type Random, seededRandom, systemRandom } from './random.ts'
export { givenTraceOf, rememberRunTrace } from './run-traces.ts'
export { currentScope, inScope, outOfScope, type Scope } from './scope.ts'
export { FORM_CHARS_MAX, REDACT_CHARS_MIN, REDACTED, type RedactedStream, Redactor } from './redact.ts'
export { Secret } from './secret.ts'
export {
  attemptSpanOf,
  creationSpanOf,
  formatTraceparent,
  noTracer,
  parseTraceparent,
  runIdOfTrace,
  type Span,
  spanIdOf,
  type TraceContext,
  traceIdOfId,
  traceOfRun,
  type Tracer,
} from './trace.ts'
export { endOfTurn } from './turn.ts'
