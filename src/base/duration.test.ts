import fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatDuration, parseDuration } from './duration.ts'

test.for([
  ['250ms', 250],
  ['10s', 10_000],
  ['5m', 300_000],
  ['1h30m', 5_400_000],
  ['2d', 172_800_000],
  ['1.5s', 1_500],
  ['0s', 0],
] as const)('%s is %d ms', ([text, ms]) => {
  expect(parseDuration(text)).toBe(ms)
})

test.for(['', '10', 's', '10 s', '-5s', '1h 30m', '5S', '1e3s', 'ten seconds', '5ms!'])(
  '"%s" is no duration',
  (text) => {
    expect(parseDuration(text)).toBeNull()
  },
)

test.for([
  [0, '0ms'],
  [840, '840ms'],
  [999.6, '1.0s'],
  [3_200, '3.2s'],
  [59_999, '1m 0s'],
  [3_599_999, '1h 0m'],
  [7_199_999, '2h 0m'],
  [250_000, '4m 10s'],
  [7_500_000, '2h 5m'],
] as const)('%d ms read as %s', ([ms, text]) => {
  expect(formatDuration(ms)).toBe(text)
})

test('no duration for people reads like sixty of something', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 400_000_000 }), (ms) => {
      expect(formatDuration(ms)).not.toMatch(/\b60(\.0)?[sm]|\b1000ms/)
    }),
    { numRuns: 2_000 },
  )
})

test('what is written in whole units is read back', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1_000_000 }), fc.constantFrom('ms', 's', 'm', 'h', 'd'), (amount, unit) => {
      expect(parseDuration(`${amount}${unit}`)).toBe((parseDuration(`1${unit}`) ?? Number.NaN) * amount)
    }),
  )
})
