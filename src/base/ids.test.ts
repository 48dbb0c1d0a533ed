import { describe, expect, test } from 'vitest'
import { type Clock, HandClock } from './clock.ts'
import { createIds, isRunId, isSessionId } from './ids.ts'
import { type Random, seededRandom } from './random.ts'

const isAscending = (ids: string[]): boolean => ids.every((id, i) => i === 0 || (ids[i - 1] ?? '') < id)

describe('ids', () => {
  test('of one millisecond ascend', () => {
    const ids = createIds(new HandClock(1_000), seededRandom(1))
    const made = Array.from({ length: 5_000 }, () => ids.make('run'))
    expect(isAscending(made)).toBe(true)
    expect(new Set(made).size).toBe(5_000)
  })

  test('ascend across milliseconds, and when the clock steps back', () => {
    let now = 1_000_000
    const clock: Clock = { now: () => now, monotonic: () => now, sleep: () => Promise.resolve() }
    const ids = createIds(clock, seededRandom(2))
    const made = [0, 1, 5, -5_000, 0, 1, 4_999, 100].map((step) => {
      now += step
      return ids.make('run')
    })
    expect(isAscending(made)).toBe(true)
  })

  test('ascend even when chance begins at its highest', () => {
    const highest: Random = { next: () => 0.999, bytes: (size) => new Uint8Array(size).fill(255) }
    const ids = createIds(new HandClock(1), highest)
    expect(isAscending(Array.from({ length: 100 }, () => ids.make('event')))).toBe(true)
  })

  test('of two makers differ in the same millisecond', () => {
    const clock = new HandClock(7)
    expect(createIds(clock, seededRandom(1)).make('run')).not.toBe(createIds(clock, seededRandom(2)).make('run'))
  })

  test('carry their kind', () => {
    const ids = createIds(new HandClock(1_700_000_000_000), seededRandom(3))
    const run = ids.make('run')
    expect(run).toMatch(/^run_[0-9a-z]{26}$/)
    expect(isRunId(run)).toBe(true)
    expect(isSessionId(run)).toBe(false)
    expect(isSessionId(ids.make('session'))).toBe(true)
    expect(ids.make('request')).toMatch(/^req_/)
  })

  test.for(['run_', 'run_0', `run_${'u'.repeat(26)}`, `run_${'0'.repeat(27)}`, `RUN_${'0'.repeat(26)}`])(
    '%s is no run id',
    (text) => {
      expect(isRunId(text)).toBe(false)
    },
  )
})
