import { describe, expect, test } from 'vitest'
import { systemClock } from './clock.ts'
import { createIds } from './ids.ts'
import { seededRandom } from './random.ts'
import { formatTraceparent, parseTraceparent, runIdOfTrace, spanIdOf, traceIdOfId, traceOfRun } from './trace.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const SPAN = '00f067aa0ba902b7'

describe('a traceparent', () => {
  test('is read and written as W3C has it', () => {
    const context = { traceId: TRACE, spanId: SPAN, sampled: true }
    expect(parseTraceparent(`00-${TRACE}-${SPAN}-01`)).toEqual(context)
    expect(formatTraceparent(context)).toBe(`00-${TRACE}-${SPAN}-01`)
    expect(parseTraceparent(`00-${TRACE}-${SPAN}-00`)).toMatchObject({ sampled: false })
  })

  test('of a later version is read as far as this one goes', () => {
    expect(parseTraceparent(`01-${TRACE}-${SPAN}-01-more`)).toMatchObject({ traceId: TRACE })
  })

  test.for([
    '',
    `00-${TRACE}-${SPAN}`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `ff-${TRACE}-${SPAN}-01`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE}-${SPAN}-01-more`,
  ])('that is not valid is none: %s', (text) => {
    expect(parseTraceparent(text)).toBeNull()
  })
})

describe('the trace of a run', () => {
  const ids = createIds(systemClock, seededRandom(3))

  test('is made of the bits of its id, and leads back to it', () => {
    for (let i = 0; i < 100; i++) {
      const runId = ids.make('run')
      expect(traceIdOfId(runId)).toMatch(/^[\da-f]{32}$/)
      expect(runIdOfTrace(traceIdOfId(runId))).toBe(runId)
    }
  })

  test('is the one that its request came with, when there was one', () => {
    const runId = ids.make('run')
    expect(traceOfRun(runId, `00-${TRACE}-${SPAN}-00`)).toEqual({
      traceId: TRACE,
      spanId: spanIdOf(runId),
      sampled: false,
    })
    expect(traceOfRun(runId)).toMatchObject({ traceId: traceIdOfId(runId), sampled: true })
  })
})

test('ids that differ little have spans that differ', () => {
  const ids = createIds(systemClock, seededRandom(3))
  const seen = new Set(Array.from({ length: 10_000 }, () => spanIdOf(ids.make('run'))))
  expect(seen.size).toBe(10_000)
})
