import { LIMITS } from '../domain/limits.ts'
import type { CostGroup } from '../domain/prices.ts'
import type { Answer, Exchange } from './context.ts'

// The query was checked by the schema of its route before a handler sees it: that is the reason for the `as` here.

export async function listCosts(x: Exchange): Promise<Answer> {
  const q = x.query as { by?: CostGroup; namespace?: string; since?: string; until?: string; limit?: number }
  const costs = await x.deps.engine.listCosts(x.caller, {
    by: q.by ?? 'agent',
    namespace: q.namespace ?? null,
    since: q.since ?? null,
    until: q.until ?? null,
    limit: q.limit ?? LIMITS.pageDefault,
  })
  return x.respondJson(200, costs)
}
