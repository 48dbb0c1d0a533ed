import { expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { nanosOf, readBudget } from './budget.ts'
import { readResources } from './documents.ts'

const limits = { tokens: 1_000 }
const money = { money: 1, currency: 'USD' }
const problemsOf = (spec: JsonObject) =>
  readResources(
    [
      {
        text: JSON.stringify({ apiVersion: 'orrery.dev/v1', kind: 'Budget', metadata: { name: 'it' }, spec }),
        file: 'm.json',
      },
    ],
    null,
  ).problems.map(({ path, message, line }) => (line === 1 ? `${path} ${message}` : 'no place'))

test.for<[what: string, spec: JsonObject, problem: RegExp]>([
  ['no window', { limits }, /^spec\.window/],
  ['a window that is none', { window: 'year', limits }, /^spec\.window must be one of run, 24h, day, week, month/],
  ['no limits', { window: 'day' }, /^spec\.limits/],
  ['limits of nothing', { window: 'day', limits: {} }, /^spec\.limits limits nothing: name tokens, money or both/],
  ['money of no currency', { window: 'day', limits: { money: 1 } }, /^spec\.limits\.currency is required beside money/],
  ['a currency of no money', { window: 'day', limits: { tokens: 1, currency: 'USD' } }, /currency is for money/],
  ['a currency that is none', { window: 'day', limits: { money: 1, currency: 'usd' } }, /three capital letters/],
  ['tokens below nothing', { window: 'day', limits: { tokens: -1 } }, /^spec\.limits\.tokens/],
  [
    'prices without money',
    { window: 'day', limits, unknownPrice: 'allow' },
    /^spec\.unknownPrice is for limits\.money/,
  ],
  ['a zone that is none', { window: 'day', limits, timeZone: 'Mars/Olympus' }, /^spec\.timeZone is no time zone/],
  ['a zone of no calendar', { window: '24h', limits, timeZone: 'UTC' }, /^spec\.timeZone is for the windows day/],
  ['a share of nothing', { window: 'day', limits, alerts: [0] }, /^spec\.alerts\[0\] must be a share above 0/],
  ['a share above all', { window: 'day', limits, alerts: [1.1] }, /^spec\.alerts\[0\]/],
  ['a share twice', { window: 'day', limits, alerts: [0.5, 0.5] }, /^spec\.alerts\[1\] is there twice/],
  [
    'a name twice',
    { window: 'day', limits, selector: { agents: ['a', 'a'] } },
    /^spec\.selector\.agents\[1\] is there/,
  ],
  ['an unknown selector', { window: 'day', limits, selector: { agent: 'a' } }, /^spec\.selector\.agent/],
  ['no label', { window: 'day', limits, selector: { labels: {} } }, /^spec\.selector\.labels names no label/],
  ['another action', { window: 'day', limits, action: 'stop' }, /^spec\.action must be one of wait, fail/],
])('a Budget with %s is refused where it stands', ([, spec, problem]) => {
  expect(problemsOf(spec)).toEqual([expect.stringMatching(problem)])
})

test('what is left out has its default', () => {
  expect(problemsOf({ window: 'month', timeZone: 'Europe/Berlin', limits: { ...limits, ...money } })).toEqual([])
  expect(readBudget({ window: 'day', limits })).toEqual({
    window: 'day',
    limits,
    selector: {},
    alerts: [0.8],
    action: 'wait',
  })
})

test('money is counted to a billionth', () => {
  expect(nanosOf(0.1 + 0.2)).toBe(300_000_000)
  expect(nanosOf(9_000_000)).toBeLessThanOrEqual(Number.MAX_SAFE_INTEGER)
})
