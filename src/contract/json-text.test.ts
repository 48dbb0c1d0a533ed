import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LIMITS } from '../domain/limits.ts'
import { findUnstorable, parseJson } from './json-text.ts'

describe('JSON from outside', () => {
  test('whatever JSON.stringify writes is parsed to the same value', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
        const text = JSON.stringify(value)
        const parsed = parseJson(text)
        expect(parsed).toMatchObject({ kind: 'parsed', value: JSON.parse(text) })
      }),
    )
  })

  test('what is suspect and what cannot be stored agree: nothing unstorable passes unseen', () => {
    const texts = fc.array(fc.constantFrom('\0', '\ud800', 'a', '\\', '"', '\\u0000', '𝒳', '1e400'), { maxLength: 6 })
    fc.assert(
      fc.property(fc.array(texts), (parts) => {
        const text = JSON.stringify(parts.map((p) => p.join('')))
        const parsed = parseJson(text)
        if (parsed.kind !== 'parsed') throw new Error('must parse')
        if (findUnstorable(parsed.value) !== null) expect(parsed.suspect).toBe(true)
      }),
      { numRuns: 2000 },
    )
  })

  test.each([
    ['{"a":["x\\u0000"]}', 'a[0]'],
    ['{"a":{"b\\u0000":1}}', 'a'],
    ['{"a":"\\ud800"}', 'a'],
    ['{"a":1e999}', 'a'],
    [`{"a":-${'9'.repeat(400)}}`, 'a'],
  ])('%# names the place of what cannot be stored', (text, path) => {
    const parsed = parseJson(text)
    expect(parsed).toMatchObject({ kind: 'parsed', suspect: true })
    expect(parsed.kind === 'parsed' && findUnstorable(parsed.value)).toMatchObject({ path })
  })

  test('nesting is bounded without building anything, and a bracket in a text does not count', () => {
    expect(parseJson('['.repeat(5_000_000))).toMatchObject({ kind: 'refused' })
    expect(parseJson(JSON.stringify('['.repeat(1000))).kind).toBe('parsed')
    const deepest = '['.repeat(LIMITS.nestingMax) + ']'.repeat(LIMITS.nestingMax)
    expect(parseJson(deepest).kind).toBe('parsed')
    expect(parseJson(`[${deepest}]`).kind).toBe('refused')
  })
})
