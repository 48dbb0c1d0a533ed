import { z } from 'zod'
import { COST_GROUPS } from '../domain/prices.ts'
import { limit } from './page-schemas.ts'

const instant = z.iso.datetime({ offset: true, error: 'must be a time such as 2026-01-31T12:00:00Z' })

export const ListCostsQuerySchema = z.strictObject({
  by: z
    .enum(COST_GROUPS)
    .optional()
    .meta({ description: 'What they are told apart by; left out, `agent`. Runs and workflows are those at the top.' }),
  namespace: z.string().max(256).optional().meta({ description: 'In this namespace alone.' }),
  since: instant.optional().meta({ title: 'time', description: 'What was spent from this time on.' }),
  until: instant.optional().meta({ title: 'time', description: 'What was spent before this time.' }),
  limit: limit.optional(),
})

const count = z.int().min(0)
export const CostsViewSchema = z
  .object({
    by: z.enum(COST_GROUPS),
    items: z
      .array(
        z.object({
          namespace: z.string(),
          name: z.string().meta({ description: 'Of the agent, the workflow and so on.' }),
          calls: count,
          inputTokens: count,
          outputTokens: count,
          cachedInputTokens: count.meta({ description: 'Part of the input.' }),
          costs: z.array(z.object({ currency: z.string(), amount: z.number() })),
          unpriced: count.meta({ description: 'Calls whose price is not known.' }),
        }),
      )
      .meta({ description: 'Those with the most tokens first.' }),
    more: z.boolean().meta({ description: 'There are more than were asked for.' }),
  })
  .meta({ id: 'Costs' })
