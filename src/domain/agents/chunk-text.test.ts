import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { chunkKey, chunkText } from './chunk-text.ts'

describe('a text that is cut', () => {
  test('ends its pieces at paragraphs, lines and blanks, and repeats the end of each', () => {
    expect(chunkText('aaaa bbbb\n\ncccc dddd eeee', { chunkSize: 12, overlap: 4 })).toEqual([
      'aaaa bbbb\n\n',
      'bb\n\ncccc ',
      'ccc dddd ',
      'ddd eeee',
    ])
  })

  test('of one piece is left as it is, and none gives none', () => {
    expect(chunkText('short', { chunkSize: 100, overlap: 50 })).toEqual(['short'])
    expect(chunkText('', { chunkSize: 100, overlap: 50 })).toEqual([])
  })

  test('never cuts a character in two, and goes on in any case', () => {
    expect(chunkText('😀😀😀', { chunkSize: 3, overlap: 1 })).toEqual(['😀', '😀', '😀'])
  })

  test('has every character in a piece, in order, none too long', () => {
    fc.assert(
      fc.property(
        fc.string({ maxLength: 400, unit: fc.constantFrom('a', 'b', ' ', '\n', '😀', 'é') }),
        fc.integer({ min: 4, max: 60 }),
        fc.nat(),
        (text, chunkSize, seed) => {
          const overlap = seed % (Math.floor(chunkSize / 2) + 1)
          const pieces = chunkText(text, { chunkSize, overlap })
          // Where it may have come to: each piece begins no further back than it repeats, and leaves no gap.
          let ends = new Set([0])
          for (const piece of pieces) {
            expect(piece.length).toBeLessThanOrEqual(chunkSize)
            expect(piece.isWellFormed()).toBe(true)
            const next = new Set<number>()
            for (const end of ends)
              for (let at = Math.max(0, end - overlap - 1); at <= end; at++)
                if (text.startsWith(piece, at)) next.add(at + piece.length)
            ends = next
          }
          expect(ends).toContain(text.length)
        },
      ),
    )
  })

  test('has keys that are listed in its order', () => {
    expect([1, 2, 10, 9_999].map((n) => chunkKey('docs/a.md', n))).toEqual([
      'docs/a.md/chunk-0001',
      'docs/a.md/chunk-0002',
      'docs/a.md/chunk-0010',
      'docs/a.md/chunk-9999',
    ])
  })
})
