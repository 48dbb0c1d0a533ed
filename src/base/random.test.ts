import { expect, test } from 'vitest'
import { seededRandom, systemRandom } from './random.ts'

test('one seed gives one history, another seed another', () => {
  const draw = (seed: number) => {
    const random = seededRandom(seed)
    return [random.next(), random.next(), ...random.bytes(8)]
  }
  expect(draw(5)).toEqual(draw(5))
  expect(draw(5)).not.toEqual(draw(6))
})

test('seeded dice stay in [0, 1) and are spread evenly', () => {
  const random = seededRandom(1)
  const tenths = Array.from({ length: 10 }, () => 0)
  for (let i = 0; i < 10_000; i++) {
    const at = Math.floor(random.next() * 10)
    tenths[at] = (tenths[at] ?? Number.NaN) + 1
  }
  expect(tenths).toHaveLength(10)
  expect(Math.min(...tenths)).toBeGreaterThan(800)
})

test("the system's bytes are of the asked size and never given twice", () => {
  const seen = new Set<string>()
  for (let i = 0; i < 2_000; i++) seen.add(Buffer.from(systemRandom.bytes(16)).toString('hex'))
  expect(seen.size).toBe(2_000)
  expect(systemRandom.bytes(20_000)).toHaveLength(20_000)
  expect(systemRandom.bytes(0)).toHaveLength(0)
})
