import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { readBudget } from '../kinds/budget.ts'
import { misfitOf, roomAfter, roomIn, shareOf } from './fit.ts'

const budget = (limits: JsonObject, more: JsonObject = {}) => readBudget({ window: 'day', limits, ...more })
const state = (tokens: number, heldTokens = 0, nanos = 0, heldNanos = 0) => ({ tokens, heldTokens, nanos, heldNanos })
const USD = { currency: 'USD' }

describe('a call fits', () => {
  test('to the last token, spent and set aside together', () => {
    expect(misfitOf(budget({ tokens: 100 }), state(60, 20), { tokens: 20, nanos: null })).toBeNull()
    expect(misfitOf(budget({ tokens: 100 }), state(60, 20), { tokens: 21, nanos: null })).toEqual({
      of: 'tokens',
      limit: 100,
      spent: 60,
      held: 20,
      wanted: 21,
      until: 'held',
    })
    expect(misfitOf(budget({ tokens: 100 }), state(80), { tokens: 21, nanos: null })).toMatchObject({ until: 'spent' })
    expect(misfitOf(budget({ tokens: 100 }), state(0), { tokens: 101, nanos: null })).toMatchObject({ until: 'larger' })
    expect(misfitOf(budget({ tokens: 0 }), state(0), { tokens: 1, nanos: null })).toMatchObject({ until: 'larger' })
  })

  test('in money by its price, and not at all when that is not known', () => {
    const money = budget({ money: 1.5, ...USD })
    expect(misfitOf(money, state(9_999, 0, 1e9, 4e8), { tokens: 5, nanos: 1e8 })).toBeNull()
    expect(misfitOf(money, state(0, 0, 1e9, 4e8), { tokens: 5, nanos: 1e8 + 1 })).toMatchObject({
      of: 'money',
      limit: 1.5e9,
      until: 'held',
    })
    expect(misfitOf(money, state(0), { tokens: 5, nanos: null })).toEqual({ of: 'price' })
    const allowing = budget({ money: 1.5, ...USD }, { unknownPrice: 'allow' })
    expect(misfitOf(allowing, state(0), { tokens: 5, nanos: null })).toBeNull()
    expect(misfitOf(allowing, state(0, 0, 2e9), { tokens: 5, nanos: null })).toMatchObject({ of: 'money' })
  })

  test('both limits, and the one that lasts longest is told', () => {
    const both = budget({ tokens: 10, money: 1, ...USD })
    expect(misfitOf(both, state(9, 0, 0), { tokens: 2, nanos: 2e9 })).toMatchObject({ of: 'money', until: 'larger' })
    expect(misfitOf(both, state(9, 0, 5e8, 5e8), { tokens: 2, nanos: 1e8 })).toMatchObject({ of: 'tokens' })
  })

  test('so that whatever was let through never adds up to more than the limit', () => {
    fc.assert(
      fc.property(fc.nat(1_000), fc.array(fc.nat(300), { maxLength: 30 }), (limit, wishes) => {
        const spec = budget({ tokens: limit })
        let held = 0
        for (const tokens of wishes)
          if (misfitOf(spec, state(0, held), { tokens, nanos: null }) === null) held += tokens
        expect(held).toBeLessThanOrEqual(limit)
      }),
    )
  })
})

describe('the room of a window', () => {
  test('is what is left to its limits, and ends below the next share that is told of', () => {
    const spec = budget({ tokens: 100, money: 1, ...USD })
    expect(roomIn(spec, state(20, 10, 3e8, 1e8), [])).toEqual({ tokens: 70, nanos: 6e8 })
    expect(roomIn(spec, state(20, 10, 3e8, 1e8), [0.9, 0.5])).toEqual({ tokens: 19, nanos: 1e8 - 1 })
    expect(roomIn(budget({ tokens: 100 }), state(101), [])).toEqual({ tokens: -1, nanos: Infinity })
    expect(roomIn(budget({ money: 1, ...USD }), state(5), [])).toEqual({ tokens: Infinity, nanos: 1e9 })
  })

  test.each([0.07, 0.14, 0.28, 0.55, 0.56, 0.57, 1])('ends below the share %d, however it is rounded', (share) => {
    const spec = budget({ tokens: 100 })
    const { tokens } = roomIn(spec, state(0), [share])
    expect(shareOf(spec, { tokens, nanos: 0 })).toBeLessThan(share)
    expect(shareOf(spec, { tokens: tokens + 1, nanos: 0 })).toBeGreaterThanOrEqual(share)
  })

  test('is refused to what has no price, as the budget itself refuses it', () => {
    const room = { tokens: Infinity, nanos: 10 }
    expect(roomAfter(budget({ money: 1, ...USD }), room, { tokens: 1, nanos: null })).toBeNull()
    const allowing = budget({ money: 1, ...USD }, { unknownPrice: 'allow' })
    expect(roomAfter(allowing, room, { tokens: 1, nanos: null })).toEqual(room)
    expect(roomAfter(budget({ money: 1, ...USD }), room, { tokens: 1, nanos: 11 })).toBeNull()
    expect(roomAfter(budget({ money: 1, ...USD }), room, { tokens: 1, nanos: 10 })).toMatchObject({ nanos: 0 })
  })

  test('lets nothing pass that would not fit, nor reaches a share that is not told of', () => {
    const amounts = fc.record({ tokens: fc.nat(200), nanos: fc.nat(200) })
    fc.assert(
      fc.property(
        ...[fc.nat(1_000), fc.nat(1_000), amounts, amounts, fc.array(amounts, { maxLength: 20 })],
        fc.array(
          fc.oneof(
            fc.integer({ min: 1, max: 100 }).map((n) => n / 100),
            fc.double({ min: 0.001, max: 1, noNaN: true }),
          ),
          {
            maxLength: 3,
          },
        ),
        (tokens, nanos, spent, held, wishes, shares) => {
          const spec = budget({ tokens, money: nanos / 1e9, ...USD })
          const all = { ...spent, heldTokens: held.tokens, heldNanos: held.nanos }
          const ahead = shares.filter((share) => share > shareOf(spec, all))
          let room = roomIn(spec, all, ahead)
          for (const wanted of wishes) {
            const left = roomAfter(spec, room, wanted)
            if (!left) continue
            room = left
            expect(misfitOf(spec, all, wanted)).toBeNull()
            all.heldTokens += wanted.tokens
            all.heldNanos += wanted.nanos
            const inTheEnd = shareOf(spec, { tokens: all.tokens + all.heldTokens, nanos: all.nanos + all.heldNanos })
            for (const share of ahead) expect(inTheEnd).toBeLessThan(share)
          }
        },
      ),
    )
  })
})

test('the share that is used is that of the limit that is used most', () => {
  expect(shareOf(budget({ tokens: 100 }), { tokens: 80, nanos: 0 })).toBe(0.8)
  expect(shareOf(budget({ tokens: 100, money: 1, ...USD }), { tokens: 80, nanos: 9e8 })).toBe(0.9)
  expect(shareOf(budget({ tokens: 0 }), { tokens: 0, nanos: 0 })).toBe(1)
})
