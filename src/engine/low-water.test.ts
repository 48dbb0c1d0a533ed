import { expect, test } from 'vitest'
import { LowWater } from './low-water.ts'

test('a mark counts only once it is old enough: rows of older runs may still become visible', () => {
  const water = new LowWater(2_000)
  water.claimed('s', 'run_5', 0)
  water.claimed('s', 'run_9', 1_000)
  expect(water.from('s')).toBe('')
  water.claimed('s', 'run_20', 2_000)
  expect(water.from('s')).toBe('run_5')
  water.claimed('s', 'run_30', 4_000)
  expect(water.from('s')).toBe('run_20')
})

test('what is queued of an older run lowers the marks down to it, also those that do not count yet', () => {
  const water = new LowWater(1_000)
  water.claimed('s', 'run_5', 0)
  water.claimed('s', 'run_8', 1_000)
  expect(water.from('s')).toBe('run_5')
  water.lower('run_7')
  expect(water.from('s')).toBe('run_5')
  water.claimed('s', 'run_9', 2_000)
  expect(water.from('s')).toBe('run_7')
  water.lower('run_2')
  expect(water.from('s')).toBe('run_2')
  water.claimed('s', 'run_10', 3_000)
  expect(water.from('s')).toBe('run_2')
  water.claimed('s', 'run_11', 4_000)
  expect(water.from('s')).toBe('run_10')
})

test('a reset looks at everything again, and sessions do not share marks', () => {
  const water = new LowWater(0)
  water.claimed('a', 'run_1', 0)
  water.claimed('a', 'run_2', 1)
  expect([water.from('a'), water.from('b')]).toEqual(['run_1', ''])
  water.reset()
  expect(water.from('a')).toBe('')
})
