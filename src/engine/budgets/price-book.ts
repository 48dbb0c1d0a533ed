import { type Provider, readModelEndpoint } from '../../domain/kinds/model-endpoint.ts'
import { type PriceTable, readPriceTable } from '../../domain/kinds/price-table.ts'
import { costOf, type TokenUsage } from '../../domain/prices.ts'
import type { Queryable } from '../../store/db.ts'
import { findResources } from '../../store/resources/read-resources.ts'

interface Priced {
  provider: Provider
  model: string
  prices: PriceTable | null
}

/** What endpoints charge, as they and their price tables are now. */
export class PriceBook {
  readonly #priced: Map<string, Priced>

  private constructor(priced: Map<string, Priced>) {
    this.#priced = priced
  }

  static async read(on: Queryable, asked: readonly { namespace: string; endpoint: string }[]): Promise<PriceBook> {
    const endpoints = [...new Map(asked.map((one) => [keyOf(one.namespace, one.endpoint), one])).values()]
    const rows = await findResources(
      on,
      endpoints.map(({ namespace, endpoint }) => ({ kind: 'ModelEndpoint', namespace, name: endpoint })),
    )
    const read = rows.map(({ namespace, name, spec }) => ({ namespace, name, spec: readModelEndpoint(spec) }))
    const named = read.flatMap(({ namespace, spec: { prices } }) =>
      prices === undefined ? [] : [{ kind: 'PriceTable', namespace, name: prices }],
    )
    const tables = new Map(
      named.length === 0
        ? []
        : (await findResources(on, named)).map((row) => [keyOf(row.namespace, row.name), readPriceTable(row.spec)]),
    )
    return new PriceBook(
      new Map(
        read.map(({ namespace, name, spec: { provider, model, prices } }) => [
          keyOf(namespace, name),
          { provider, model, prices: prices === undefined ? null : (tables.get(keyOf(namespace, prices)) ?? null) },
        ]),
      ),
    )
  }

  /** The model that an endpoint has; null when the endpoint is gone. */
  modelOf(namespace: string, endpoint: string): string | null {
    return this.#priced.get(keyOf(namespace, endpoint))?.model ?? null
  }

  /** What a call may cost at most; null when that is not known. */
  estimate(
    { namespace, endpoint }: { namespace: string; endpoint: string },
    tokens: { input: number; output: number },
  ): { nanos: number; currency: string } | null {
    const priced = this.#priced.get(keyOf(namespace, endpoint))
    if (!priced?.prices) return null
    const usage: TokenUsage = {
      inputTokens: tokens.input,
      outputTokens: tokens.output,
      cachedInputTokens: 0,
      // A cache may have to be written, which may cost more than not to have one.
      cacheWriteTokens: 0,
    }
    const plain = costOf(priced.prices, priced, usage)
    const writing = costOf(priced.prices, priced, { ...usage, cacheWriteTokens: tokens.input })
    if (!plain || !writing) return null
    return { currency: plain.currency, nanos: Math.round(Math.max(plain.amount, writing.amount) * 1e9) }
  }
}

const keyOf = (namespace: string, name: string): string => `${namespace} ${name}`
