export type LogFields = Record<string, unknown>

/**
 * Constant message, values as fields. Warn when an operator may have to act. An error that was caught goes under `err` as it is:
 * whoever writes the line decides how much of it to show. At level `error`, one that is no Failure is taken for a bug.
 */
export interface Log {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
  child(fields: LogFields): Log
}

/** Says nothing; for tests and for commands that have no log. */
export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLog,
}
