import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compilePattern, type LinearPattern } from './linear-pattern.ts'

function patternOf(source: string, ignoreCase = false): LinearPattern {
  const compiled = compilePattern(source, { ignoreCase })
  if (compiled.kind === 'wrong') throw new Error(`${source}: ${compiled.message}`)
  return compiled.pattern
}
const placesOf = (source: string, text: string) =>
  patternOf(source)
    .findAll(text)
    .map(({ start, end }) => text.slice(start, end))

describe('a pattern finds', () => {
  test.for<[pattern: string, text: string, found: string[]]>([
    ['cat', 'a cat, a CAT, concat', ['cat', 'cat']],
    ['c.t', 'cat cut c\nt', ['cat', 'cut']],
    ['[a-c]+', 'xabcx-bb', ['abc', 'bb']],
    ['[^a-c ]+', 'ab xy cd', ['xy', 'd']],
    ['\\d{3}-\\d{2,3}', '123-45 1-2 123-4567', ['123-45', '123-456']],
    ['\\bno\\b', 'no, none, know, no', ['no', 'no']],
    ['a|ab', 'ab', ['a']],
    ['(?:ab|a)c?', 'abc ac a', ['abc', 'ac', 'a']],
    ['a+?', 'aaa', ['a', 'a', 'a']],
    ['^x', 'xx', ['x']],
    ['x$', 'xx', ['x']],
    ['a*b|a', 'aaac', ['a', 'a', 'a']],
    ['ab|cd|b', 'abcdb', ['ab', 'cd', 'b']],
    ['\\u00e4+', 'ää', ['ää']],
    ['😀.', '😀😀x', ['😀😀']],
    ['[a\\]-]+', 'a]-b', ['a]-']],
  ])('%s in %s', ([pattern, text, found]) => {
    expect(placesOf(pattern, text)).toEqual(found)
  })

  test('letters of either case when it is told to', () => {
    const found = patternOf('straße-[a-c]', true).findAll('STRAßE-B')
    expect(found).toEqual([{ start: 0, end: 8 }])
  })
})

describe('a pattern is refused that', () => {
  test.for<[pattern: string, why: RegExp]>([
    ['', /^is empty/],
    ['a*', /fits the empty text/],
    ['(a|b?)', /fits the empty text/],
    ['\\bx*', /fits the empty text/],
    ['(a)\\1', /cannot be referred to.*character 5/],
    ['a(?=b)', /looking ahead/],
    ['(?<n>a)', /looking ahead/],
    ['(a', /a group is not closed/],
    ['a)', /not opened/],
    ['[a', /a class is not closed/],
    ['[]', /nothing in it/],
    ['[z-a]', /ends below/],
    ['[\\d-z]', /no end of a range/],
    ['a{3,2}', /ends below/],
    ['a{x}', /begins a repetition/],
    ['*a', /nothing stands before/],
    ['a**', /cannot be repeated/],
    ['\\q', /has no meaning/],
    ['\\x1', /hexadecimal/],
    ['a\\', /stands for nothing/],
    ['(a*)*b', /what may be empty/],
    ['^*a', /place cannot be repeated/],
    ['(?:a{1000}){1000}', /is too large/],
    ['a'.repeat(501), /is longer than 500/],
    [`${'('.repeat(100)}a${')'.repeat(100)}`, /nested too deep/],
  ])('%s', ([pattern, why]) => {
    const compiled = compilePattern(pattern, { ignoreCase: false })
    expect(compiled.kind === 'wrong' ? compiled.message : 'compiled').toMatch(why)
  })
})

const atom = fc.constantFrom('a', 'b', 'c', '.', '[ab]', '[^a]', '\\w', '\\b', 'ab')
const { source: sources } = fc.letrec<{ source: string; part: string }>((tie) => ({
  part: fc.oneof(
    { weight: 5, arbitrary: atom },
    fc
      .tuple(atom, fc.constantFrom('*', '+', '?', '{2}', '{1,2}', '+?', '*?'))
      .map(([a, b]) => (a === '\\b' ? a : `(?:${a})${b}`)),
    tie('source').map((inner) => `(?:${inner})`),
    fc.tuple(tie('source'), fc.constantFrom('?', '{2}', '{1,3}')).map(([inner, times]) => `(?:${inner})${times}`),
  ),
  source: fc
    .array(
      fc.array(tie('part'), { minLength: 1, maxLength: 3 }).map((parts) => parts.join('')),
      { minLength: 1, maxLength: 3 },
    )
    .map((ways) => ways.join('|')),
}))
const texts = fc.string({ unit: fc.constantFrom('a', 'b', 'c', ' ', '😀'), maxLength: 24 })

test('it finds what a regular expression finds, whole and in pieces', () => {
  fc.assert(
    fc.property(sources, texts, fc.array(fc.nat(24), { maxLength: 4 }), (source, text, cuts) => {
      const compiled = compilePattern(source, { ignoreCase: false })
      fc.pre(compiled.kind === 'compiled')
      const wanted = [...text.matchAll(new RegExp(source, 'gu'))].map(({ index, 0: found }) => ({
        start: index,
        end: index + found.length,
      }))
      expect(compiled.pattern.findAll(text)).toEqual(wanted)
      const inPieces: { start: number; end: number }[] = []
      let from = 0
      for (const cut of [...cuts.filter((one) => one < text.length).sort((a, b) => a - b), text.length]) {
        // A character is never cut in two: who streams text gives whole ones.
        if (/[\ud800-\udbff]$/.test(text.slice(0, cut))) continue
        const isWhole = cut === text.length
        const { found, settled } = compiled.pattern.findSoFar(text.slice(0, cut), { from, isWhole })
        inPieces.push(...found)
        from = settled
      }
      expect(inPieces).toEqual(wanted)
    }),
    { numRuns: 500 },
  )
})

test('what makes other engines go back for ever takes one pass', () => {
  expect(placesOf('(?:a+)+b', 'a'.repeat(100_000))).toEqual([])
  expect(placesOf('(?:a|aa|a.)*c', `${'a'.repeat(50_000)}d`)).toEqual([])
  // Every place begins a way that goes on to the end: no place is looked at again for it.
  expect(placesOf('a.*b|a', 'a'.repeat(100_000))).toHaveLength(100_000)
})
