import { describe, expect, test } from 'vitest'
import { LIMITS } from '../limits.ts'
import { matchesTerms, parseSelector } from './selector.ts'

const matches = (selector: string, labels: Record<string, string>): boolean => {
  const parsed = parseSelector(selector)
  if (parsed.kind === 'wrong') throw new Error(parsed.message)
  return matchesTerms(labels, parsed.terms)
}

describe('a label selector', () => {
  test.for<[selector: string, labels: Record<string, string>, holds: boolean]>([
    ['a=x', { a: 'x' }, true],
    ['a==x', { a: 'y' }, false],
    ['a = x', {}, false],
    ['a!=x', { a: 'y' }, true],
    ['a!=x', {}, true],
    ['a in (x, y)', { a: 'y' }, true],
    ['a in (x,y)', {}, false],
    ['a notin (x, y)', { a: 'y' }, false],
    ['a notin (x)', {}, true],
    ['example.com/tier', { 'example.com/tier': '' }, true],
    ['!a', { a: 'x' }, false],
    ['!a', { toString: 'x' }, true],
    ['a=x,b notin (y, z), c', { a: 'x', b: 'q', c: '' }, true],
    ['a=', { a: '' }, true],
    ['toString', {}, false],
  ])('%s on %o is %s', ([selector, labels, holds]) => {
    expect(matches(selector, labels)).toBe(holds)
  })

  test.for(['a=x,', '', '=x', 'a in x', 'a in (x', 'a in (x y)', 'a<5', '!', `a=${'x'.repeat(LIMITS.selectorChars)}`])(
    '%s is refused',
    (text) => expect(parseSelector(text)).toMatchObject({ kind: 'wrong' }),
  )

  test('more terms than the limit are refused', () => {
    const many = Array.from({ length: LIMITS.selectorTermsMax + 1 }, (_, i) => `k${i}`).join(',')
    expect(parseSelector(many)).toMatchObject({ kind: 'wrong', message: expect.stringContaining('the limit is 32') })
  })
})
