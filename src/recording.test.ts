import { describe, expect, test } from 'vitest'
import { drawRecording } from '../scripts/terminal/draw.ts'
import { TerminalScreen } from '../scripts/terminal/screen.ts'

const shown = (screen: TerminalScreen) =>
  screen.spans().map((row) => row.reduce((text, span) => text.padEnd(span.column) + span.text, ''))

describe('the screen of a recording', () => {
  test('shows what stays after lines were drawn over those before', () => {
    const screen = new TerminalScreen(20, 5)
    screen.write('head\r\none\x1b[K\r\ntwo\x1b[K\r\n')
    screen.write('\x1b[2A\r1\x1b[K\r\n2\x1b[K\r\n\x1b[J')
    expect(shown(screen)).toEqual(['head', '1', '2', '', ''])
    screen.write('a\x1b[10Gb\ttab\b!\r\nlast\r\nmore\r\n')
    expect(shown(screen)).toEqual(['2', 'a        b      ta!', 'last', 'more', ''])
  })

  test('keeps colours, weight and the place of each text', () => {
    const screen = new TerminalScreen(20, 1)
    screen.write('\x1b[32m✓\x1b[39m ok \x1b[1;2mboth\x1b[22m\x1b[0m \x1b]0;title\x07\x1b[?25lend')
    expect(screen.spans()[0]).toEqual([
      { column: 0, text: '✓', style: { colour: 2, isBold: false, isDim: false } },
      { column: 1, text: ' ok ', style: { colour: null, isBold: false, isDim: false } },
      { column: 5, text: 'both', style: { colour: null, isBold: true, isDim: true } },
      { column: 9, text: ' end', style: { colour: null, isBold: false, isDim: false } },
    ])
  })

  test('goes on below when a line is too long, and up when the screen is full', () => {
    const screen = new TerminalScreen(4, 2)
    screen.write('123456\r\nnext')
    expect(shown(screen)).toEqual(['56', 'next'])
  })
})

test('a drawing has a frame for each change, and shows the last one where nothing moves', () => {
  const output: [number, string][] = [
    [500, '<one>\r\n'],
    [10, 'same moment\r\n'],
    [60_000, 'two\r\n'],
  ]
  const svg = drawRecording({ command: 'go', columns: 20, rows: 6, output }, 'a & b')
  expect(svg).toContain('<title id="t">a &amp; b</title>')
  expect(svg).toContain('&lt;one&gt;')
  const frames = svg.match(/<g class="f /g)?.length ?? 0
  expect(frames).toBe(4)
  expect(svg).toContain(`.f${frames - 1}{visibility:visible}`)
  // A pause is cut short: the whole takes no minute.
  expect(Number(/animation-duration:(\d+)ms/.exec(svg)?.[1])).toBeLessThan(12_000)
})
