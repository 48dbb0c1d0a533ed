import { beforeEach, describe, expect, test } from 'vitest'
import { HandClock } from '../../base/clock.ts'
import { LIMITS } from '../../domain/limits.ts'
import { HeldCalls } from './held-calls.ts'

const CALL = { runId: 'run_1', node: 0, path: '', fence: 1, call: 'c' }
const HELD = { endpoint: 'gpt', tokens: 100, cost: { nanos: 50, currency: 'EUR' } }
const took = (tokens: number, nanos: number | null, more = {}) => ({
  endpoint: 'gpt',
  tokens: { input: tokens - 1, output: 1, cachedInput: 0, cacheWrite: 0 },
  cost: nanos === null ? null : { nanos, currency: 'EUR' },
  ...more,
})

describe('what is set aside covers what a call took', () => {
  let clock: HandClock
  let held: HeldCalls
  beforeEach(() => {
    clock = new HandClock(0)
    held = new HeldCalls(clock)
    held.put(CALL, HELD)
  })

  test('up to the last token and the last part of the money', () => {
    expect(held.covers(CALL, took(100, 50))).toBe(true)
    expect(held.covers(CALL, took(3, null))).toBe(true)
    expect(held.covers(CALL, took(101, 50))).toBe(false)
    expect(held.covers(CALL, took(100, 51))).toBe(false)
  })

  test.each([
    ['another endpoint', CALL, took(1, 1, { endpoint: 'claude' })],
    ['another currency', CALL, took(1, 1, { cost: { nanos: 1, currency: 'USD' } })],
    ['another attempt', { ...CALL, fence: 2 }, took(1, 1)],
    ['another call', { ...CALL, call: 'd' }, took(1, 1)],
    ['another step', { ...CALL, path: '1' }, took(1, 1)],
  ])('not of %s', (_, call, what) => {
    expect(held.covers(call, what)).toBe(false)
  })

  test('not when it had no price, and the call has one', () => {
    held.put(CALL, { ...HELD, cost: null })
    expect(held.covers(CALL, took(1, null))).toBe(true)
    expect(held.covers(CALL, took(1, 1))).toBe(false)
  })

  test('not any more long before it is free again by the clock of the database', async () => {
    await clock.advance(LIMITS.holdMs / 2 - 1)
    expect(held.covers(CALL, took(1, 1))).toBe(true)
    await clock.advance(1)
    expect(held.covers(CALL, took(1, 1))).toBe(false)
  })

  test('not any more when the call has ended', () => {
    held.drop(CALL)
    expect(held.covers(CALL, took(1, 1))).toBe(false)
  })
})
