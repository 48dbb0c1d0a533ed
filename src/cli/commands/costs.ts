import type { CostsView } from '../../contract/api-types.ts'
import { LIMITS } from '../../domain/limits.ts'
import { COST_GROUPS } from '../../domain/prices.ts'
import type { CliDeps } from '../deps.ts'
import { instantOf } from '../instant.ts'
import type { Output } from '../output.ts'
import { printableLine } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'

export interface CostFlags extends ServerFlags {
  by: string
  since?: string
  until?: string
  namespace?: string
  limit: string
}

/** `orrery costs`: what calls of models took, by who made them; those with the most tokens first. */
export async function listCosts(deps: CliDeps, output: Output, flags: CostFlags): Promise<number> {
  const by = COST_GROUPS.find((group) => group === flags.by)
  if (by === undefined) throw usageFailure(`--by ${flags.by}: is none of ${COST_GROUPS.join(', ')}`)
  const limit = Number(flags.limit)
  if (!Number.isInteger(limit) || limit < 1 || limit > LIMITS.pageMax)
    throw usageFailure(`--limit ${flags.limit} is not a whole number from 1 to ${LIMITS.pageMax}`)
  const time = (text: string): string => new Date(instantOf(deps, text)).toISOString()
  const client = await connect(deps, flags)
  const costs = await client.listCosts({
    by,
    limit,
    ...(flags.namespace === undefined ? {} : { namespace: flags.namespace }),
    ...(flags.since === undefined ? {} : { since: time(flags.since) }),
    ...(flags.until === undefined ? {} : { until: time(flags.until) }),
  })
  if (output.isData) {
    output.printData(costs)
    return 0
  }
  if (costs.items.length === 0) {
    output.remark('No calls of models in this time.')
    return 0
  }
  const right = { align: 'right' as const }
  output.printTable(
    [
      ...(by === 'namespace' ? [] : [{ title: 'NAMESPACE' }]),
      { title: by.toUpperCase(), isName: true },
      ...['CALLS', 'INPUT', 'OUTPUT', 'COST'].map((title) => ({ title, ...right })),
      { title: 'CACHED', wide: true, ...right },
      { title: 'UNPRICED', wide: true, ...right },
    ],
    costs.items.map((item) => [
      ...(by === 'namespace' ? [] : [{ text: item.namespace }]),
      { text: printableLine(item.name) || '-' },
      { text: String(item.calls) },
      { text: String(item.inputTokens) },
      { text: String(item.outputTokens) },
      { text: costText(item) },
      { text: String(item.cachedInputTokens) },
      { text: String(item.unpriced), ...(item.unpriced > 0 ? { style: 'warn' as const } : {}) },
    ]),
  )
  if (costs.more) output.remark(`More are not shown; --limit goes up to ${LIMITS.pageMax}.`)
  if (costs.items.some((item) => item.unpriced > 0))
    output.remark(
      'The price of some calls is not known: name a PriceTable in their endpoints (see docs/guides/agents/budgets.md).',
    )
  return 0
}

const costText = ({ costs }: CostsView['items'][number]): string =>
  costs.map(({ currency, amount }) => `${moneyText(amount)} ${currency}`).join(' + ') || '-'

/** Cents where there are some, else as small as it is. */
const moneyText = (amount: number): string =>
  amount === 0 || amount >= 0.01 ? amount.toFixed(2) : String(Number(amount.toPrecision(2)))
