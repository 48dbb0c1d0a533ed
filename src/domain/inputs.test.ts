import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../base/json.ts'
import { Failure } from './failure.ts'
import { checkInputs, checkSchema } from './inputs.ts'

const withInputs = (inputs: JsonObject | null): { name: string; inputs: JsonObject | null } => ({ name: 'w', inputs })

function problemsOf(schema: JsonObject, inputs: unknown): unknown {
  try {
    checkInputs(withInputs(schema), inputs)
  } catch (error) {
    if (error instanceof Failure && error.code === 'input.invalid') return error.evidence?.['problems'] ?? error.message
    throw error
  }
  return null
}

describe('checkInputs', () => {
  test('fills in defaults and leaves what was passed untouched', () => {
    const given = { deep: {} }
    const schema = {
      type: 'object',
      properties: { mode: { default: 'fast' }, deep: { type: 'object', properties: { n: { default: 1 } } } },
    }
    expect(checkInputs(withInputs(schema), given)).toEqual({ mode: 'fast', deep: { n: 1 } })
    expect(given).toEqual({ deep: {} })
  })

  test('names every problem with its path and what was meant', () => {
    const schema = {
      type: 'object',
      properties: {
        mode: { enum: ['fast', 'slow'] },
        list: { type: 'array', items: { type: 'string' } },
        'a/b': { type: 'object', required: ['x'] },
      },
      required: ['repo'],
      additionalProperties: false,
    }
    expect(problemsOf(schema, { mode: 'fsat', lst: 1, list: ['a', 2], 'a/b': {} })).toEqual([
      { code: 'input.invalid', path: 'inputs.repo', message: 'is required' },
      { code: 'input.invalid', path: 'inputs.lst', message: 'is not known to the schema', nearest: 'list' },
      { code: 'input.invalid', path: 'inputs.mode', message: 'must be one of "fast", "slow"', nearest: 'fast' },
      { code: 'input.invalid', path: 'inputs.list[1]', message: 'must be string' },
      { code: 'input.invalid', path: 'inputs["a/b"].x', message: 'is required' },
    ])
  })

  test('without a schema any object will do, and nothing else', () => {
    expect(checkInputs(withInputs(null), { a: 1 })).toEqual({ a: 1 })
    for (const inputs of [null, [], 'x', 1, undefined])
      expect(() => checkInputs(withInputs(null), inputs)).toThrow(Failure)
  })

  test('two schemas with one $id do not meet', () => {
    for (const type of ['string', 'number']) {
      const schema = { $id: 'https://example.test/s', type: 'object', properties: { a: { type } } }
      expect(checkInputs(withInputs(schema), { a: type === 'string' ? 'x' : 1 })).toBeTruthy()
    }
  })

  test('a schema that explodes is stopped and is a problem', () => {
    const pattern = { type: 'object', properties: { s: { type: 'string', pattern: '^(a+)+$' } } }
    expect(problemsOf(pattern, { s: `${'a'.repeat(40)}b` })).toMatchObject([
      { message: expect.stringContaining('too costly') },
    ])
    expect(problemsOf(pattern, { s: 'aaa' })).toBeNull()
    expect(problemsOf({ $ref: '#' }, {})).toMatchObject([{ message: expect.stringContaining('without end') }])
  })

  test('a nest without bottom is refused', () => {
    let deep: JsonObject = {}
    for (let i = 0; i < 10_000; i++) deep = { deep }
    expect(() => checkInputs(withInputs(null), deep)).toThrow(/nested deeper/)
  })

  test('any inputs against a schema give an object or input.invalid', () => {
    const schema = {
      type: 'object',
      properties: { a: { type: 'integer', default: 1 }, b: { $ref: '#/$defs/b' } },
      $defs: { b: { type: ['string', 'array'] } },
    }
    fc.assert(fc.property(fc.jsonValue(), (value) => void problemsOf(schema, value)))
  })
})

describe('checkSchema', () => {
  test('says where an output does not fit, and changes nothing', () => {
    const output = { rows: [{ n: 1 }, { n: 'x' }] }
    const schema = {
      type: 'object',
      properties: { rows: { items: { properties: { n: { type: 'number' }, m: { default: 1 } } } } },
    }
    expect(checkSchema(output, schema)).toEqual([
      { code: 'output.schema_violation', path: 'output.rows[1].n', message: 'must be number' },
    ])
    expect(output).toEqual({ rows: [{ n: 1 }, { n: 'x' }] })
    expect(checkSchema(3, { type: 'integer' })).toEqual([])
  })
})
