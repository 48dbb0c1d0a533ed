import { describe, expect, test } from 'vitest'
import { LIMITS } from '../domain/limits.ts'
import { AppendSchema } from './agent-schemas.ts'
import { checkRequest } from './check-request.ts'

const usage = {
  ...{ inputTokens: 10, outputTokens: 5, cachedInputTokens: 0, cacheWriteTokens: 0 },
  ...{ reasoningTokens: 0, isEstimated: false },
}
const result = {
  ...{ endpoint: 'gpt', provider: 'mock', model: 'm', text: 'hi', toolCalls: [], finish: 'stop' },
  ...{ usage, cost: { currency: 'USD', amount: 0.5 }, warnings: [], tried: [], totalMs: 20 },
}
const asked = {
  ...{ kind: 'model_asked', call: 'm2', turn: 2, purpose: 'turn', agent: 'writer', endpoint: 'gpt' },
  tokens: { input: 1, output: 1 },
}
const append = (entry: object): unknown =>
  checkRequest(
    AppendSchema,
    { session: 'ses_1', step: 'run_1.0', fence: 1, n: 1, entries: [entry] },
    'reading what was sent',
  )
const answered = (more: object): unknown =>
  append({ kind: 'model_answered', call: 'm1', result: { ...result, ...more } })
const problemsOf = (work: () => unknown): unknown => {
  try {
    work()
  } catch (error) {
    const { code, evidence } = error as { code: string; evidence: { problems: { path: string }[] } } // as checkRequest throws
    return [code, ...new Set(evidence.problems.map(({ path }) => path))]
  }
  return null
}

describe('what a worker says that a call took', () => {
  test('is taken up to more than any call takes', () => {
    const { callTokensMax: inputTokens, callMoneyMax: amount } = LIMITS
    expect(
      problemsOf(() => answered({ usage: { ...usage, inputTokens }, cost: { currency: 'USD', amount } })),
    ).toBeNull()
    expect(problemsOf(() => append(asked))).toBeNull()
  })

  const kinds = ['inputTokens', 'outputTokens', 'cachedInputTokens', 'cacheWriteTokens', 'reasoningTokens']
  test.each(kinds)('is refused by its place when %s cannot be a number of tokens', (kind) => {
    for (const tokens of [1e300, LIMITS.callTokensMax + 1, -1, 0.5, Number.NaN, Infinity, null, '1'])
      expect(problemsOf(() => answered({ usage: { ...usage, [kind]: tokens } }))).toEqual([
        'request.invalid',
        `entries[0].result.usage.${kind}`,
      ])
  })

  test('is refused by its place when it cannot be money', () => {
    for (const amount of [1e300, LIMITS.callMoneyMax + 1, -0.01, Number.NaN, Infinity])
      expect(problemsOf(() => answered({ cost: { currency: 'USD', amount } }))).toEqual([
        'request.invalid',
        'entries[0].result.cost.amount',
      ])
    for (const currency of ['', 'usd', 'x'.repeat(10_000)])
      expect(problemsOf(() => answered({ cost: { currency, amount: 1 } }))).toEqual([
        'request.invalid',
        'entries[0].result.cost.currency',
      ])
  })

  test('is refused by its place when it cannot be set aside either', () => {
    for (const output of [1e300, -1, 0.5])
      expect(problemsOf(() => append({ ...asked, tokens: { input: 1, output } }))).toEqual([
        'request.invalid',
        'entries[0].tokens.output',
      ])
  })

  test('is refused by its place when it took no time that can be', () => {
    for (const totalMs of [1e300, -1])
      expect(problemsOf(() => answered({ totalMs }))).toEqual(['request.invalid', 'entries[0].result.totalMs'])
  })
})
