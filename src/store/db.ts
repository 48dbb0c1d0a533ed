/**
 * The database, as everything above it sees it: three calls. Two drivers (PGlite, PostgreSQL) run one dialect.
 * Parameters are positional; arrays are sent as PostgreSQL arrays; `jsonb` parameters are passed as JSON text; `bigint`
 * comes back as a number, timestamps as Date, json as parsed values.
 */
export interface Queryable {
  /** `name` prepares the statement once per connection; a name always means the same text. */
  query<R>(sql: string, params?: readonly unknown[], options?: { name?: string }): Promise<R[]>
}

export interface Db extends Queryable {
  readonly kind: 'pglite' | 'postgres'
  /** One transaction. Inside, use `tx` only: on PGlite a query on the outer handle would never return (the driver asserts it). */
  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T>
  /** Calls `onMessage` for every notification on `channel`, `onLost` when notifications may have been missed. Resolves once it listens. */
  listen(channel: string, onMessage: (payload: string) => void, onLost: () => void): Promise<() => Promise<void>>
  /** Connections of the pool by what they do, and callers that wait for one; absent where there is no pool. */
  connections?(): { idle: number; busy: number; waiting: number }
  close(): Promise<void>
}
