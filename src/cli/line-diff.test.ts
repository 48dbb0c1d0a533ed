import fc from 'fast-check'
import { expect, test } from 'vitest'
import { diffLines, shorten } from './line-diff.ts'

const marked = (a: string, b: string): string[] => diffLines(a, b).map(({ mark, text }) => mark + text)

test('lines that were taken out and put in stand where they were', () => {
  expect(marked('a\nb\nc\n', 'a\nx\nc\nd\n')).toEqual([' a', '-b', '+x', ' c', '+d'])
  expect(marked('', 'a\n')).toEqual(['+a'])
  expect(marked('a\n', '')).toEqual(['-a'])
  expect(marked('a\n', 'a\n')).toEqual([' a'])
})

test('what is kept and taken out is the one text, what is kept and put in the other', () => {
  const text = fc
    .array(fc.constantFrom('a', 'b', 'c', ''), { maxLength: 12 })
    .map((lines) => lines.map((l) => `${l}\n`).join(''))
  fc.assert(
    fc.property(text, text, (a, b) => {
      const lines = diffLines(a, b)
      const side = (mark: '-' | '+') =>
        lines
          .filter((l) => l.mark !== mark)
          .map((l) => `${l.text}\n`)
          .join('')
      expect(side('+')).toBe(a)
      expect(side('-')).toBe(b)
    }),
  )
})

test('texts that have nothing in common are shown whole, however large', () => {
  const of = (word: string) => Array.from({ length: 3_000 }, (_, i) => `${word}${i}`).join('\n')
  expect(diffLines(of('a'), of('b'))).toHaveLength(6_000)
})

test('lines far from a change are left out', () => {
  const lines = diffLines('1\n2\n3\n4\n5\n6\n', '1\n2\n3\n4\nx\n6\n')
  expect(shorten(lines, 1).map((line) => line && line.mark + line.text)).toEqual([null, ' 4', '-5', '+x', ' 6'])
})
