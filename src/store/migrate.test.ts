import { expect, test } from 'vitest'
import { readMigrations } from './migrate.ts'

test('each migration has a number of its own, and none is left out: of two with one number the second would never be applied', async () => {
  const numbers = (await readMigrations()).map((m) => m.number)
  expect(numbers).toEqual(numbers.map((_, i) => i + 1))
})
