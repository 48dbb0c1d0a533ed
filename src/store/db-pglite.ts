import { AsyncLocalStorage } from 'node:async_hooks'
import type { PGlite, Transaction } from '@electric-sql/pglite'
import { assert } from '../base/assert.ts'
import type { Db, Queryable } from './db.ts'
import { textOf } from './prepared-query.ts'
import { storageFailure } from './storage-failure.ts'

const INT8_OID = 20
/** SQLSTATE, PostgreSQL appendix A. */
const DUPLICATE_PREPARED_STATEMENT = '42P05'

/** The same dialect in process. One connection: a query on the outer handle inside a transaction would wait for ever, so it is refused. */
export function wrapPglite(pglite: PGlite): Db {
  // Here and not with each query: there the driver would put its whole table of types together anew.
  pglite.parsers[INT8_OID] = Number
  const inside = new AsyncLocalStorage<true>()
  /** Statements by name that the one connection has prepared: planning them costs several times what running them does. */
  const prepared = new Set<string>()
  /** What each handle is preparing now: two first uses at once share it. */
  const preparing = new WeakMap<PGlite | Transaction, Map<string, Promise<void>>>()
  const prepare = (on: PGlite | Transaction, name: string, sql: string): Promise<void> => {
    const mine = preparing.get(on) ?? new Map<string, Promise<void>>()
    preparing.set(on, mine)
    const underWay = mine.get(name)
    if (underWay) return underWay
    const done = on
      .query(`prepare ${name} as ${sql}`)
      .then(
        () => {},
        (error: unknown) => {
          // A transaction that ran while this one stood in line has prepared it meanwhile.
          if (on !== pglite || (error as { code?: unknown }).code !== DUPLICATE_PREPARED_STATEMENT) throw error
        },
      )
      .then(() => void prepared.add(name))
      .finally(() => mine.delete(name))
    mine.set(name, done)
    return done
  }
  const ask = async <R>(
    on: PGlite | Transaction,
    sql: string,
    params: readonly unknown[],
    name: string | undefined,
  ): Promise<R[]> => {
    if (name === undefined) return (await on.query<R>(sql, params as unknown[])).rows
    if (!prepared.has(name)) await prepare(on, name, sql)
    const values = params.length === 0 ? '' : `(${params.map(literalOf).join(',')})`
    // The simple protocol enters the database twice for a statement, the extended one five times: a quarter of what a short one costs.
    const [result] = await on.exec(`execute ${name}${values}`)
    return (result?.rows ?? []) as R[] // as the statement says
  }
  const run = async <R>(
    on: PGlite | Transaction,
    sql: string,
    params: readonly unknown[],
    name?: string,
  ): Promise<R[]> => {
    try {
      return await ask<R>(on, sql, params, name)
    } catch (error) {
      // The driver adds the values of the statement, which are people's inputs and outputs: they belong in no log.
      if (error instanceof Error) {
        Reflect.deleteProperty(error, 'params')
        if (name !== undefined) Reflect.deleteProperty(error, 'query')
      }
      throw storageFailure(error)
    }
  }
  return {
    kind: 'pglite',
    query: (sql, params = [], o) => {
      assert(inside.getStore() === undefined, 'the outer handle was used inside a transaction')
      return run(pglite, sql, params, o?.name)
    },
    transaction: <T>(work: (tx: Queryable) => Promise<T>): Promise<T> => {
      assert(inside.getStore() === undefined, 'a transaction was opened inside a transaction')
      return pglite.transaction((tx) =>
        inside.run(true, () => work({ query: (sql, params = [], o) => run(tx, sql, params, o?.name) })),
      )
    },
    // One process, one server: whoever changes a row here also tells those who wait, without the database.
    listen: () => Promise.resolve(() => Promise.resolve()),
    close: () => pglite.close(),
  }
}

/** A parameter as a literal of unknown type, which takes the type that the statement gives it. It ends where it should whatever is in it, and whatever standard_conforming_strings says. */
function literalOf(value: unknown): string {
  const text = textOf(value)
  if (text === null) return 'null'
  const quoted = `'${text.replaceAll("'", "''")}'`
  return text.includes('\\') ? `e${quoted.replaceAll('\\', '\\\\')}` : quoted
}
