import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { displayWidth, fitLine, paint, plainText, printable, span, truncate, wrap } from './terminal-text.ts'

describe('text for a terminal', () => {
  test('wide characters take two columns, combining ones none', () => {
    expect(displayWidth('abc')).toBe(3)
    expect(displayWidth('日本')).toBe(4)
    expect(displayWidth('é'.normalize('NFD'))).toBe(1)
    expect(displayWidth('🚀')).toBe(2)
  })

  test('cutting says that something is missing and never exceeds the width', () => {
    expect(truncate('measure', 5)).toBe('meas…')
    expect(truncate('日本語', 4)).toBe('日…')
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.nat(20), (text, width) => {
        expect(displayWidth(truncate(text, width))).toBeLessThanOrEqual(width)
      }),
    )
  })

  test('a line is cut across its parts', () => {
    const line = [span('abc', 'good'), span('def'), span('ghi')]
    expect(plainText(fitLine(line, 9))).toBe('abcdefghi')
    expect(plainText(fitLine(line, 6))).toBe('abcde…')
    expect(plainText(fitLine(line, 5))).toBe('abcd…')
  })

  test('colours appear only when asked for', () => {
    const line = [span('ok', 'good'), span(' done')]
    expect(paint(line, { colour: false })).toBe('ok done')
    expect(paint(line, { colour: true })).toBe('\x1b[32mok\x1b[39m done')
  })

  test('text from outside cannot drive the terminal', () => {
    expect(printable('a\x1b[2Jb\x1b]0;title\x07c\x07\r\nd\te')).toBe('abc�\nd  e')
  })

  test('words wrap, a long word stays whole', () => {
    expect(wrap('one two three', 7)).toEqual(['one two', 'three'])
    expect(wrap('http://a.very.long.address x', 5)).toEqual(['http://a.very.long.address', 'x'])
  })
})
