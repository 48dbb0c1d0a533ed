import { expect, test } from 'vitest'
import { fitsName } from './name-pattern.ts'

test.for<[pattern: string, name: string, fits: boolean]>([
  ['github.search', 'github.search', true],
  ['github.search', 'github.search2', false],
  ['github.*', 'github.search', true],
  ['github.*', 'github.', true],
  ['github.*', 'githubXsearch', false],
  ['*', '', true],
  ['*.read', 'notes.read', true],
  ['*.read', 'notes.read.all', false],
  ['a*a', 'a', false],
  ['a*b*c', 'axxbyyc', true],
  ['a*b*c', 'axxcyyb', false],
])('%s and %s: %s', ([pattern, name, fits]) => {
  expect(fitsName(pattern, name)).toBe(fits)
})

test('a pattern of many stars over a long name takes no time that grows by more than their lengths', () => {
  expect(fitsName(`${'*a'.repeat(200)}*b`, 'a'.repeat(200_000))).toBe(false)
})
