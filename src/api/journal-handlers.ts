import type { AppendRequest, JournalRequest } from '../contract/exchange.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Answer, Exchange } from './context.ts'

// Bodies and queries were checked by the schema of their route before a handler sees them: that is the reason for each `as` here.

export async function journal(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.readJournal(x.caller, x.body as JournalRequest))
}

export async function append(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.append(x.caller, x.body as AppendRequest))
}

export async function showJournal(x: Exchange): Promise<Answer> {
  const { from = 1, limit = LIMITS.pageDefault } = x.query as { from?: number; limit?: number }
  const at = { runId: x.param('id'), step: x.param('step') }
  return x.respondJson(200, await x.deps.engine.showJournal(x.caller, at, { from, limit }))
}
