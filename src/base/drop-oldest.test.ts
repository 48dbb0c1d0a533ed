import { expect, test } from 'vitest'
import { dropOldest } from './drop-oldest.ts'

test('what was put in first is let go, and no more than is too many', () => {
  const kept = new Map(['a', 'b', 'c'].map((key) => [key, 0]))
  dropOldest(kept, 3)
  expect(kept.size).toBe(3)
  kept.delete('a')
  kept.set('a', 0)
  dropOldest(kept, 1)
  expect([...kept.keys()]).toEqual(['a'])
})
