import fc from 'fast-check'
import { expect, test } from 'vitest'
import { backoffMs } from './backoff.ts'
import { seededRandom } from './random.ts'

const policy = { initialMs: 100, maxMs: 5_000, factor: 2, jitter: 0 }
const random = seededRandom(1)

test('doubles from the first retry on, up to the limit', () => {
  expect([1, 2, 3, 4, 10, 1_000].map((n) => backoffMs(policy, n, random))).toEqual([100, 200, 400, 800, 5_000, 5_000])
})

test('a try before the first waits like the first', () => {
  expect(backoffMs(policy, 0, random)).toBe(100)
})

test('chance only shortens, by no more than its share', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.integer(),
      (n, jitter, seed) => {
        const full = backoffMs(policy, n, random)
        const delay = backoffMs({ ...policy, jitter }, n, seededRandom(seed))
        expect(delay).toBeLessThanOrEqual(full)
        expect(delay).toBeGreaterThanOrEqual(Math.floor(full * (1 - jitter)))
      },
    ),
  )
})
