import { expect, test } from 'vitest'
import { fieldsOf } from './fields.ts'
import { KINDS } from './registry.ts'

test.each(KINDS.map((row) => [row.kind, row] as const))('every field of a %s says what it means', (_, row) => {
  const fields = fieldsOf(row.schema)
  expect(fields.filter((field) => field.description === null).map((field) => field.path)).toEqual([])
  expect(fields.length).toBeGreaterThan(10)
})

test('a field is told with its type, its default and its limits', () => {
  const [workflow] = KINDS
  const at = (path: string) => fieldsOf(workflow.schema).find((field) => field.path === path)
  expect(at('spec.steps')).toMatchObject({ type: 'list: object', isRequired: true, limits: ['not empty'] })
  expect(at('spec.steps[].retry.initial')).toMatchObject({ type: 'duration', isRequired: false, fallback: 500 })
  expect(at('spec.steps[].retry.max')).toMatchObject({
    type: 'whole number',
    limits: ['from 0', 'to 1,000'],
  })
  expect(at('spec.steps[].env.*.key')).toMatchObject({ type: 'text', isRequired: true })
  expect(at('spec.steps[].join')).toMatchObject({ type: '`all`, `any` or object', fallback: 'all' })
  expect(at('metadata.namespace')).toMatchObject({ fallback: 'default', limits: ['at most 63 characters'] })
})
