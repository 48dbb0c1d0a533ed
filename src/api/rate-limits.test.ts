import { describe, expect, test } from 'vitest'
import { HandClock } from '../base/clock.ts'
import { Allowance, networkOf, rateLimited } from './rate-limits.ts'

describe('an allowance', () => {
  test('gives so many at once, then so many a second, to each key its own', () => {
    const clock = new HandClock(0)
    const allowance = new Allowance(clock, { perSecond: 10, burst: 3 })
    const take = (key: string) => allowance.take(key)
    expect([take('a'), take('a'), take('a'), take('a')]).toEqual([0, 0, 0, 100])
    expect(allowance.peek('a')).toBe(100)
    expect(take('b')).toBe(0)
    clock.advance(100)
    expect([take('a'), take('a')]).toEqual([0, 100])
    clock.advance(10_000)
    expect([take('a'), take('a'), take('a'), take('a')]).toEqual([0, 0, 0, 100])
  })
})

test('an IPv6 caller is counted with its network', () => {
  expect(networkOf('192.0.2.7')).toBe('192.0.2.7')
  expect(networkOf('2001:db8:1:2:3:4:5:6')).toBe('2001:db8:1:2::/64')
  expect(networkOf('2001:db8::1')).toBe(networkOf('2001:db8::ffff'))
  expect(networkOf('::1')).toBe('0:0:0:0::/64')
})

test('who is held up is told for how long', () => {
  expect(rateLimited('GET /v1/runs', 'token tok_1', 1_200)).toMatchObject({
    code: 'request.rate_limited',
    evidence: { who: 'token tok_1', retryAfterSeconds: 2 },
  })
})
