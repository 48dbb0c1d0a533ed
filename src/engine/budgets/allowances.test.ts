import { beforeEach, describe, expect, test } from 'vitest'
import { HandClock } from '../../base/clock.ts'
import type { JsonObject } from '../../base/json.ts'
import { readBudget } from '../../domain/kinds/budget.ts'
import { Allowances } from './allowances.ts'
import { type Budget, windowAt } from './budget-windows.ts'

const NOW = Date.UTC(2026, 0, 10, 12)
const COUNT = { countId: 'first', mark: '7' }
const budgetOf = (name: string, spec: JsonObject, version = 1): Budget => ({
  ...{ uid: `res_${name}`, namespace: 'default', name, version, fingerprint: 'f' },
  spec: readBudget({ window: 'day', alerts: [], ...spec }),
})

describe('what may be set aside by a count', () => {
  let allowances: Allowances
  let clock: HandClock
  const day = budgetOf('day', { limits: { tokens: 100 } })
  const run = budgetOf('run', { window: 'run', limits: { tokens: 10 } })
  const note = (budget: Budget, spent = 0, rootRun = 'run_1') => {
    noteNow(budget, spent, rootRun)
    clock.advance(60_000)
    noteNow(budget, spent, rootRun)
  }
  const noteNow = (budget: Budget, spent: number, rootRun: string, now = NOW) => {
    const window = windowAt(budget, now, rootRun)
    if (!window) throw new Error('no window')
    allowances.note({ budget, window, state: { tokens: spent, nanos: 0, heldTokens: 0, heldNanos: 0 } }, COUNT)
  }
  const take = (tokens: number, budgets: Budget[] = [day], rootRun = 'run_1') =>
    allowances.take(budgets.map((budget) => ({ budget, rootRun, wanted: { tokens, nanos: null } })))
  beforeEach(() => {
    clock = new HandClock(0)
    allowances = new Allowances(clock)
  })

  test('is nothing before there is one', () => {
    expect(take(1)).toBeNull()
    expect(take(1, [])).toEqual([])
  })

  test('is what the count left, and every call takes of it', () => {
    note(day, 50)
    expect(take(30)).toEqual([
      {
        ...{ budget: 'res_day', key: 'f:2026-01-10T00:00:00.000Z', namespace: 'default', selector: {}, rootRun: null },
        ...{ until: NOW + 43_200_000, ...COUNT },
      },
    ])
    expect(take(21)).toBeNull()
    expect(take(20)).toHaveLength(1)
    expect(take(1)).toBeNull()
    note(day, 50)
    expect(take(50)).toHaveLength(1)
  })

  test('is taken of all budgets, or of none', () => {
    note(day)
    note(run)
    expect(take(11, [day, run])).toBeNull()
    expect(take(10, [day, run])).toHaveLength(2)
    expect(take(90)).toHaveLength(1)
  })

  test('is enough for all of several calls, or taken for none', () => {
    note(day)
    expect(take(51, [day, day])).toBeNull()
    expect(take(50, [day, day])).toHaveLength(1)
    expect(take(1)).toBeNull()
  })

  test('of a run is for the runs below the same one', () => {
    note(run, 0, 'run_1')
    expect(take(1, [run], 'run_2')).toBeNull()
    expect(take(1, [run], 'run_1')).toMatchObject([{ key: 'f:run_1', until: null }])
  })

  test('is kept once the window was known for longer than any statement is under way', () => {
    const isKept = (budget: Budget, rootRun = 'run_1', now = NOW) => {
      noteNow(budget, 0, rootRun, now)
      return take(1, [budget], rootRun) !== null
    }
    expect(isKept(day)).toBe(false)
    clock.advance(59_999)
    expect(isKept(day)).toBe(false)
    clock.advance(1)
    expect(isKept(day)).toBe(true)
    // Another version is known anew, and so is the window of another day; a run whose budget is known is not.
    expect(isKept(budgetOf('day', { limits: { tokens: 100 } }, 2))).toBe(false)
    allowances = new Allowances(clock)
    isKept(day)
    isKept(run, 'run_1')
    clock.advance(60_000)
    expect(isKept(day, 'run_1', NOW + 86_400_000)).toBe(false)
    expect(isKept(run, 'run_2')).toBe(true)
  })

  test('is not for another version of the budget', () => {
    note(day)
    expect(take(1, [budgetOf('day', { limits: { tokens: 100 } }, 2)])).toBeNull()
    expect(take(1, [day])).toHaveLength(1)
  })

  test('ends below the next share that is told of', () => {
    const telling = budgetOf('day', { limits: { tokens: 100 }, alerts: [0.2, 0.5] })
    note(telling, 20)
    expect(take(30, [telling])).toBeNull()
    expect(take(29, [telling])).toHaveLength(1)
  })

  test('lasts for so many calls: counters are to be set forward', () => {
    const large = budgetOf('large', { limits: { tokens: 1_000_000 } })
    note(large)
    for (let i = 0; i < 200; i++) expect(take(1, [large])).toHaveLength(1)
    expect(take(1, [large])).toBeNull()
  })

  test('is forgotten when the count does not hold', () => {
    note(day)
    note(run)
    const counts = take(1) ?? []
    allowances.forget(counts)
    expect(take(1)).toBeNull()
    expect(take(1, [run])).toHaveLength(1)
  })

  test('is tried less and less where others count all the time, and at once when it served', () => {
    const lose = () => allowances.forget(take(1) ?? [])
    const countsUntilKept = () => {
      for (let counts = 1; ; counts++) {
        noteNow(day, 0, 'run_1')
        if (take(1)) return counts
      }
    }
    note(day)
    lose()
    const tries = Array.from({ length: 8 }, () => {
      const counts = countsUntilKept()
      lose()
      return counts
    })
    expect(tries).toEqual([1, 2, 3, 5, 9, 17, 33, 65])
    countsUntilKept()
    allowances.served([{ budget: day, rootRun: 'run_1', wanted: { tokens: 1, nanos: null } }])
    lose()
    expect(countsUntilKept()).toBe(1)
  })
})
