import { type DestinationStream, type Logger, pino } from 'pino'
import type { Log, LogFields } from '../base/log.ts'

export interface LogSinkOptions {
  level: 'debug' | 'info' | 'warn' | 'error'
  format: 'json' | 'text'
  /** Takes whole lines. */
  write(line: string): void
  /** In every line: which component speaks. */
  component: string
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
    write: (line) => options.write(options.format === 'json' ? line : textLine(line, { withStacks })),
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
  return wrap(logger)
}

function wrap(logger: Logger): Log {
  return {
    debug: (message, fields) => logger.debug(fields ?? {}, message),
    info: (message, fields) => logger.info(fields ?? {}, message),
    warn: (message, fields) => logger.warn(fields ?? {}, message),
    error: (message, fields) => logger.error(fields ?? {}, message),
    child: (fields: LogFields) => wrap(logger.child(fields)),
  }
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
  typeof value === 'string' && value !== '' && !/[\s"]/.test(value) ? value : JSON.stringify(value)

/**
 * `12:00:01.123 warn  lease lost runId=run_… fence=3`. An error is its message; its stack follows, indented, where it is wanted:
 * a bug has nothing else to go by, while a failure names its cause and remedy.
 */
function textLine(json: string, { withStacks }: { withStacks: boolean }): string {
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
