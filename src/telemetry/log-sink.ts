import { type DestinationStream, type Logger, pino } from 'pino'
import type { Log, LogFields } from '../base/log.ts'
import { givenTraceOf } from '../base/run-traces.ts'
import { currentScope } from '../base/scope.ts'
import { traceOfRun } from '../base/trace.ts'

export interface LogSinkOptions {
  level: 'debug' | 'info' | 'warn' | 'error'
  format: 'json' | 'text'
  /** Takes whole lines. */
  write(line: string): void
  /** In every line: which component speaks. */
  component: string
  /** Told of each line that is written. */
  onLine?(level: LogLevel): void
}

type LogLevel = LogSinkOptions['level']

/** How the fields that name things are called in a line; in code they are called as everything in code is. */
const FIELD_NAMES: Record<string, string> = {
  requestId: 'request_id',
  traceId: 'trace_id',
  spanId: 'span_id',
  runId: 'run_id',
  workerId: 'worker_id',
  sessionId: 'session_id',
}

/** Fields whose values are never written, wherever they stand. */
const REDACTED = [
  'token',
  'password',
  'secret',
  'authorization',
  '*.token',
  '*.password',
  '*.secret',
  '*.authorization',
]

/** The log of a process, by pino: JSON lines, or lines for people. */
export function createLog(options: LogSinkOptions): Log {
  const withStacks = options.level === 'debug'
  const destination: DestinationStream = {
    write: (line) => options.write(options.format === 'json' ? line : textOfLine(line, { withStacks })),
  }
  const logger = pino(
    {
      level: options.level,
      base: { component: options.component },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      messageKey: 'message',
      serializers: { err: pino.stdSerializers.err, error: pino.stdSerializers.err },
      redact: { paths: REDACTED, censor: '[secret]' },
    },
    destination,
  )
  return wrap(logger, options.onLine)
}

function wrap(logger: Logger, onLine: LogSinkOptions['onLine']): Log {
  const say = (level: LogLevel) => (message: string, fields?: LogFields) => {
    if (!logger.isLevelEnabled(level)) return
    onLine?.(level)
    logger[level](withScope(fields), message)
  }
  return {
    debug: say('debug'),
    info: say('info'),
    warn: say('warn'),
    error: say('error'),
    child: (fields: LogFields) => wrap(logger.child(named(fields)), onLine),
  }
}

const named = (fields: LogFields): LogFields =>
  Object.fromEntries(Object.entries(fields).map(([name, value]) => [FIELD_NAMES[name] ?? name, value]))

/** What the line says itself, and what is being worked on while it is said. A line about one run belongs to its trace. */
function withScope(fields: LogFields | undefined): LogFields {
  const scope = currentScope()
  const all = { ...(scope ? named(scope.logFields) : {}), ...(fields ? named(fields) : {}) }
  const runId = all['run_id']
  if (typeof runId === 'string' && all['trace_id'] === undefined) {
    const { traceId, spanId } = traceOfRun(runId, givenTraceOf(runId))
    all['trace_id'] = traceId
    all['span_id'] = spanId
  }
  return all
}

interface LoggedError {
  type: string
  /** With those of its causes. */
  message: string
  stack: string
}

const isError = (value: unknown): value is LoggedError =>
  typeof value === 'object' && value !== null && 'stack' in value && 'message' in value

const textOf = (value: unknown): string =>
  typeof value === 'string' && value !== '' && !/[\s"\p{Cc}]/u.test(value) ? value : JSON.stringify(value)

/**
 * `12:00:01.123 warn  lease lost run_id=run_… fence=3`. An error is its message; its stack follows, indented, where it is wanted:
 * a bug has nothing else to go by, while a failure names its cause and remedy.
 */
export function textOfLine(json: string, { withStacks }: { withStacks: boolean }): string {
  const { time, level, message, component: _component, ...fields } = JSON.parse(json) as Record<string, unknown> // pino wrote it
  let line = `${String(time).slice(11, 23)} ${String(level).padEnd(5)} ${String(message)}`
  let stacks = ''
  for (const [key, value] of Object.entries(fields)) {
    line += ` ${key}=${textOf(isError(value) ? value.message : value)}`
    if (!isError(value)) continue
    const isBug = level === 'error' && value.type !== 'Failure'
    if (withStacks || isBug) stacks += value.stack.replaceAll(/^/gm, '    ') + '\n'
  }
  return `${line}\n${stacks}`
}
