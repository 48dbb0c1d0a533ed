import { PGlite } from '@electric-sql/pglite'
import { afterAll } from 'vitest'
import { wrapPglite } from './db-pglite.ts'
import { migrationsSuite } from './migrations.suite.ts'

const pglite = await PGlite.create()
afterAll(() => pglite.close())

// In process there is one connection, and starting costs a second: two servers at once are two calls on it, emptied for each test.
migrationsSuite('migrations on PGlite', async () => {
  await pglite.exec('drop schema public cascade; create schema public')
  const db = { ...wrapPglite(pglite), close: () => Promise.resolve() }
  return () => db
})
