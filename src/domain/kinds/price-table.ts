import { z } from 'zod'
import type { JsonObject } from '../../base/json.ts'
import { LIMITS } from '../limits.ts'
import { isObject, type Placed, placedProblem } from '../placed-problem.ts'
import { defineKind, READY } from './kind.ts'
import { CURRENCY } from '../currency.ts'
import { PROVIDERS } from './model-endpoint.ts'

const price = z.number().min(0).max(1_000_000)

export const priceTableSpecSchema = z.strictObject({
  currency: z
    .string()
    .regex(CURRENCY, { error: 'must be three capital letters, such as USD' })
    .describe('Of all rows.'),
  rows: z
    .array(
      z.strictObject({
        provider: z.enum(PROVIDERS).optional().describe('Of this provider alone; left out, of any.'),
        model: z.string().min(1).max(256).describe('A name, or a pattern in which `*` is any text.'),
        input: price.describe('A million tokens of requests.'),
        output: price.describe('A million tokens of answers.'),
        cachedInput: price.optional().describe('A million tokens that came from a cache; left out, as `input`.'),
        cacheWrite: price.optional().describe('A million tokens that a cache was given; left out, as `input`.'),
      }),
    )
    .min(1)
    .max(LIMITS.priceRowsMax)
    .describe('Prices; the first row that fits a model counts.'),
})
export type PriceTable = z.infer<typeof priceTableSpecSchema>

/** Of a spec that was checked when it was stored. */
export const readPriceTable = (spec: JsonObject): PriceTable => priceTableSpecSchema.parse(spec)

/** A row that an earlier one of the same provider and pattern hides would never count. */
function hiddenRows({ rows }: JsonObject): Placed[] {
  if (!Array.isArray(rows)) return []
  const seen = new Map<string, number>()
  return rows.flatMap((row, i) => {
    if (!isObject(row)) return []
    const key = JSON.stringify([row['provider'] ?? null, row['model'] ?? null])
    const first = seen.get(key)
    seen.set(key, first ?? i)
    return first === undefined
      ? []
      : [
          placedProblem('manifest.invalid', `is hidden by rows[${first}], which is for the same models`, [
            'spec',
            'rows',
            i,
          ]),
        ]
  })
}

export const priceTableKind = defineKind({
  kind: 'PriceTable',
  plural: 'pricetables',
  shortNames: ['prices'],
  summary: 'What tokens cost, by provider and model.',
  spec: priceTableSpecSchema,
  crossCheck: hiddenRows,
  columns: [
    { title: 'CURRENCY', text: ({ spec }) => (typeof spec['currency'] === 'string' ? spec['currency'] : '') },
    {
      title: 'ROWS',
      align: 'right',
      text: ({ spec }) => String(Array.isArray(spec['rows']) ? spec['rows'].length : 0),
    },
  ],
  statusOf: () => ({ phase: 'ready', conditions: [READY] }),
})
