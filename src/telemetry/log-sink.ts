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
  const destination: DestinationStream = {
    write: (line) => options.write(options.format === 'json' ? line : textLine(line)),
  }
  const logger = pino(
    {
      level: options.level,
      base: { component: options.component },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      messageKey: 'message',
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

/** `12:00:01.123 warn  lease lost runId=run_… fence=3` */
function textLine(json: string): string {
  const { time, level, message, component: _component, ...fields } = JSON.parse(json) as Record<string, unknown> // pino wrote it
  const rest = Object.entries(fields)
    .map(
      ([key, value]) =>
        ` ${key}=${typeof value === 'string' ? (/[\s"]/.test(value) ? JSON.stringify(value) : value) : JSON.stringify(value)}`,
    )
    .join('')
  return `${String(time).slice(11, 23)} ${String(level).padEnd(5)} ${String(message)}${rest}\n`
}
