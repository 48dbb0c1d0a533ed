import { PGlite } from '@electric-sql/pglite'
import { afterAll, expect, test } from 'vitest'
import { wrapPglite } from './db-pglite.ts'
import { readMigrations } from './migrate.ts'
import { migrationsSuite } from './migrations.suite.ts'

const pglite = await PGlite.create()
afterAll(() => pglite.close())

// In process there is one connection, and starting costs a second: two servers at once are two calls on it, emptied for each test.
migrationsSuite('migrations on PGlite', async () => {
  await pglite.exec('drop schema public cascade; create schema public')
  const db = { ...wrapPglite(pglite), close: () => Promise.resolve() }
  return () => db
})

test('each migration has a number of its own, and none is left out: of two with one number the second would never be applied', async () => {
  const numbers = (await readMigrations()).map((m) => m.number)
  expect(numbers).toEqual(numbers.map((_, i) => i + 1))
})
