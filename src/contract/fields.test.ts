import { expect, test } from 'vitest'
import { fieldsOf } from '../domain/kinds/fields.ts'
import { ROUTES } from './routes.ts'

test('every member of a query and of a body says what it means; those of the exchange are for workers alone', () => {
  const silent = ROUTES.filter((route) => route.auth !== 'worker').flatMap((route) =>
    [route.query, route.body]
      .flatMap((schema) => (schema ? fieldsOf(schema) : []))
      .filter((field) => field.description === null)
      .map((field) => `${route.id} ${field.path}`),
  )
  expect(silent).toEqual([])
})
