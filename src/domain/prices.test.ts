import { expect, test } from 'vitest'
import { readPriceTable } from './kinds/price-table.ts'
import { costOf } from './prices.ts'

const usage = { inputTokens: 1_000, outputTokens: 100, cachedInputTokens: 200, cacheWriteTokens: 300 }
const table = readPriceTable({
  currency: 'USD',
  rows: [
    { provider: 'openai', model: 'gpt-*-mini', input: 1, output: 10, cachedInput: 0.1, cacheWrite: 2 },
    { model: 'gpt-*', input: 4, output: 8 },
    { model: 'exact', input: 0, output: 0 },
    { model: '*a*b*', input: 1, output: 1 },
  ],
})

test.for<[provider: 'openai' | 'google', model: string, amount: number | null]>([
  ['openai', 'gpt-5-mini', (500 * 1 + 200 * 0.1 + 300 * 2 + 100 * 10) / 1e6],
  // Without prices of their own cached tokens cost what others do.
  ['google', 'gpt-5-mini', (1_000 * 4 + 100 * 8) / 1e6],
  ['openai', 'gpt-5', (1_000 * 4 + 100 * 8) / 1e6],
  ['openai', 'exact', 0],
  ['openai', 'exactly', null],
  ['openai', 'gpt', null],
  ['openai', 'xaxbx', 0.0011],
  ['openai', 'ba', null],
])('%s %s costs %s', ([provider, model, amount]) => {
  expect(costOf(table, { provider, model }, usage)).toEqual(amount === null ? null : { currency: 'USD', amount })
})
