import { describe, expect, test } from 'vitest'
import { filePattern, isFilePattern } from './file-pattern.ts'

describe('a pattern over names', () => {
  test.each([
    ['*', 'a', true],
    ['*', 'a/b', false],
    ['*.js', 'a.js', true],
    ['*.js', 'a.ts', false],
    ['a*b*c', 'aXbXbYc', true],
    ['a*b*c', 'aXcXb', false],
    ['a**c', 'abc', true],
    ['a**c', 'a/c', false],
    ['?', 'é', true],
    ['?', '😀', true],
    ['?', 'ab', false],
    ['a?', 'a', false],
    ['**', 'a', true],
    ['**', 'a/b/c', true],
    ['a/**', 'a/b/c', true],
    ['a/**', 'a', false],
    ['a/**', 'ab/c', false],
    ['**/c', 'c', true],
    ['**/c', 'a/b/c', true],
    ['a/**/c', 'a/c', true],
    ['a/**/b/**/c', 'a/b/x/b/y/c', true],
    ['a/**/b/**/c', 'a/x/y/c', false],
    ['a/*/c', 'a/b/c', true],
    ['a/*/c', 'a/b/b/c', false],
    ['*', '.env', false],
    ['?env', '.env', false],
    ['.*', '.env', true],
    ['**', 'a/.git/x', false],
    ['**', '.env', false],
    ['a/.git/**', 'a/.git/x', true],
    ['a[1].txt', 'a[1].txt', true],
    ['a[1].txt', 'a1.txt', false],
    ['(a)!', '(a)!', true],
  ])('%s and %s: %s', (pattern, name, fits) => {
    expect(filePattern(pattern)(name)).toBe(fits)
  })

  test('takes no more time the more stars it has', () => {
    // A matcher that tries every way for every star would not come to an end with any of these.
    const name = 'a'.repeat(1_000)
    expect(filePattern(`${'*a'.repeat(500)}b`)(name)).toBe(false)
    expect(filePattern(`${'**/'.repeat(300)}b`)('a/'.repeat(500) + 'a')).toBe(false)
    expect(filePattern(`${'**/a/'.repeat(200)}b`)('a/'.repeat(500) + 'a')).toBe(false)
  })

  test.each(['a[1]', '{a,b}', '!(a)', '*.@(a|b)', '+(a)', '?(a)', '*(a)'])('has not what %s says', (pattern) => {
    expect(isFilePattern(pattern)).toBe(false)
  })

  test.each(['**', 'dist/**/*.js', 'a(1).txt', '!a', 'a]', 'a}', '#a'])('may be %s', (pattern) => {
    expect(isFilePattern(pattern)).toBe(true)
  })
})
