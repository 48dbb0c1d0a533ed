import pg from 'pg'
import type { Log } from '../base/log.ts'
import { outOfScope } from '../base/scope.ts'
import { Failure } from '../domain/failure.ts'
import type { Db, Queryable } from './db.ts'
import { PreparedQuery, submitTo, textOf } from './prepared-query.ts'
import { PINNED_PLANS } from './pinned-plans.ts'
import { storageFailure } from './storage-failure.ts'

const INT8_OID = 20

const SESSION_SETTINGS = ['timezone=UTC', 'lock_timeout=30000', 'idle_in_transaction_session_timeout=60000']

/** A pinned plan lives as long as its connection; a new one is made for tables as they are by then. */
const CONNECTION_LIFE_SECONDS = 600

export interface PostgresOptions {
  dsn: string
  /** Connections of the pool; one more is used to listen. */
  connections: number
  log: Log
  /** Sets the database's clock, for tests. */
  now?: () => string
}

/** PostgreSQL through `pg`. Connects lazily; `storage.unreachable` when it cannot. */
export function openPostgres(options: PostgresOptions): Db {
  const parserOf = (oid: number): ((text: string) => unknown) =>
    oid === INT8_OID ? Number : (pg.types.getTypeParser(oid, 'text') as (text: string) => unknown)
  const config = {
    connectionString: options.dsn,
    application_name: 'orrery',
    options: [...PINNED_PLANS, ...SESSION_SETTINGS].map((s) => `-c ${s}`).join(' '),
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
    types: { getTypeParser: parserOf }, // pg's type asks for overloads that one function satisfies
  }
  const pool = new pg.Pool({
    ...config,
    max: options.connections,
    idleTimeoutMillis: 60_000,
    maxLifetimeSeconds: CONNECTION_LIFE_SECONDS,
  })
  // A broken idle connection is replaced by the pool; the next query tells whether the database is gone.
  pool.on('error', (error) => outOfScope(() => options.log.warn('database connection lost', { error: error.message })))

  const run = async <R>(client: pg.Pool | pg.PoolClient, sql: string, params: readonly unknown[], name?: string) => {
    try {
      if (name) return (await submitTo(client, new PreparedQuery(name, sql, params, parserOf))) as R[]
      const result = await client.query<R & pg.QueryResultRow>(sql, params.map(textOf))
      return result.rows as R[]
    } catch (error) {
      throw storageFailure(error)
    }
  }

  return {
    kind: 'postgres',
    connections: () => ({
      idle: pool.idleCount,
      busy: pool.totalCount - pool.idleCount,
      waiting: pool.waitingCount,
    }),
    query: (sql, params = [], o) => run(pool, sql, params, o?.name),
    async transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T> {
      let client: pg.PoolClient
      try {
        client = await pool.connect()
      } catch (error) {
        throw storageFailure(error)
      }
      const holder = client
      let broken: Error | undefined
      // The pool listens to idle clients alone. Between two statements of a transaction nobody would, and the process would end.
      const onError = (error: Error) => (broken = error)
      holder.on('error', onError)
      try {
        await run(holder, 'begin', [])
        const result = await work({ query: (sql, params = [], o) => run(holder, sql, params, o?.name) })
        await run(holder, 'commit', [])
        return result
      } catch (error) {
        try {
          await holder.query('rollback')
        } catch (rollbackError) {
          broken = rollbackError as Error
        }
        throw error
      } finally {
        // A connection whose rollback failed is in an unknown state and must not go back to the pool.
        holder.off('error', onError)
        holder.release(broken)
      }
    },
    async listen(channel, onMessage, onLost) {
      let closed = false
      let client: pg.Client | null = null
      const connect = async (): Promise<void> => {
        const next = new pg.Client(config)
        next.on('notification', (message) => onMessage(message.payload ?? ''))
        next.on('error', () => {}) // `end` follows
        next.on('end', () => {
          if (closed) return
          client = null
          onLost()
        })
        try {
          await next.connect()
          await next.query(`listen ${pg.escapeIdentifier(channel)}`)
        } catch (error) {
          await next.end().catch(() => {}) // never opened, or lost already
          throw error
        }
        client = next
      }
      try {
        await connect()
      } catch (error) {
        throw storageFailure(error)
      }
      return async () => {
        closed = true
        await client?.end()
      }
    },
    close: () => pool.end(),
  }
}

/** Refuses a DSN that `pg` cannot read, before anything is tried. */
export function checkDsn(dsn: string): void {
  if (!/^postgres(ql)?:\/\//.test(dsn) || !URL.canParse(dsn)) {
    throw new Failure('config.value_unsupported', 'reading the PostgreSQL address', {
      evidence: { accepted: 'postgres://USER:PASSWORD@HOST:PORT/DATABASE' },
      remediation:
        'Write the address as postgres://USER:PASSWORD@HOST:PORT/DATABASE; encode special characters in the password.',
    })
  }
}

/** Where an address leads, as `HOST:PORT/DATABASE`: without user, password and settings, so that it can be shown. Of an address that cannot be read nothing. */
export function placeOfDsn(dsn: string): string {
  const url = URL.parse(dsn)
  if (!url) return ''
  const host = url.hostname === '' ? (url.searchParams.get('host') ?? '') : url.hostname
  return `${host}:${url.port === '' ? '5432' : url.port}${url.pathname}`
}
