import fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodeSse, SSE_COMMENT, type SseFrame, SseParser } from './sse.ts'

test('frames survive any cutting into chunks', () => {
  const frame = fc.record({ id: fc.nat().map(String), event: fc.constantFrom('changes', 'end'), data: fc.json() })
  fc.assert(
    fc.property(fc.array(frame), fc.array(fc.nat(50)), (frames, cuts) => {
      let text = frames.map((f) => encodeSse(f) + SSE_COMMENT).join('')
      const parser = new SseParser()
      const got: SseFrame[] = []
      for (const cut of cuts) {
        got.push(...parser.push(text.slice(0, cut)))
        text = text.slice(cut)
      }
      got.push(...parser.push(text))
      expect(got).toEqual(frames)
    }),
  )
})

test('a frame that was cut off is not given, and CRLF ends lines', () => {
  const parser = new SseParser()
  expect(parser.push('id: 1\r\nevent: a\r')).toEqual([])
  expect(parser.push('\ndata: x\r\n\r\nid: 2\ndata: lost')).toEqual([{ id: '1', event: 'a', data: 'x' }])
})
