import type { Provider } from './kinds/model-endpoint.ts'
import type { PriceTable } from './kinds/price-table.ts'
import { fitsName } from './name-pattern.ts'

/** What costs are told apart by. Runs and workflows are those at the top: what runs below them take is theirs. */
export const COST_GROUPS = ['agent', 'workflow', 'namespace', 'model', 'endpoint', 'run'] as const
export type CostGroup = (typeof COST_GROUPS)[number]

/** Tokens of one call. What is read from a cache or written to one is part of the input. */
export interface TokenUsage {
  inputTokens: number
  outputTokens: number
  cachedInputTokens: number
  cacheWriteTokens: number
}

export interface Cost {
  currency: string
  /** In the currency, to a billionth of it. */
  amount: number
}

/** What tokens cost by a table; null when no row is for the model: unknown is not nothing. */
export function costOf(table: PriceTable, of: { provider: Provider; model: string }, usage: TokenUsage): Cost | null {
  const row = table.rows.find(
    ({ provider, model }) => (provider === undefined || provider === of.provider) && fitsName(model, of.model),
  )
  if (!row) return null
  const { input, output, cachedInput = input, cacheWrite = input } = row
  const plain = Math.max(0, usage.inputTokens - usage.cachedInputTokens - usage.cacheWriteTokens)
  const perMillion =
    plain * input +
    usage.cachedInputTokens * cachedInput +
    usage.cacheWriteTokens * cacheWrite +
    usage.outputTokens * output
  return { currency: table.currency, amount: Math.round(perMillion * 1_000) / 1e9 }
}
