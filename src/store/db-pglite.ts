import { AsyncLocalStorage } from 'node:async_hooks'
import type { PGlite, Transaction } from '@electric-sql/pglite'
import { assert } from '../base/assert.ts'
import type { Db, Queryable } from './db.ts'
import { storageFailure } from './storage-failure.ts'

const INT8_OID = 20
const PARSERS = { [INT8_OID]: Number }

/** The same dialect in process. One connection: a query on the outer handle inside a transaction would wait for ever, so it is refused. */
export function wrapPglite(pglite: PGlite): Db {
  const inside = new AsyncLocalStorage<true>()
  const run = async <R>(on: PGlite | Transaction, sql: string, params: readonly unknown[]): Promise<R[]> => {
    try {
      const result = await on.query<R>(sql, params as unknown[], { parsers: PARSERS })
      return result.rows
    } catch (error) {
      // The driver adds the values of the statement, which are people's inputs and outputs: they belong in no log.
      if (error instanceof Error) Reflect.deleteProperty(error, 'params')
      throw storageFailure(error)
    }
  }
  return {
    kind: 'pglite',
    query: (sql, params = []) => {
      assert(inside.getStore() === undefined, 'the outer handle was used inside a transaction')
      return run(pglite, sql, params)
    },
    transaction: <T>(work: (tx: Queryable) => Promise<T>): Promise<T> => {
      assert(inside.getStore() === undefined, 'a transaction was opened inside a transaction')
      return pglite.transaction((tx) =>
        inside.run(true, () => work({ query: (sql, params = []) => run(tx, sql, params) })),
      )
    },
    // One process, one server: whoever changes a row here also tells those who wait, without the database.
    listen: () => Promise.resolve(() => Promise.resolve()),
    close: () => pglite.close(),
  }
}
