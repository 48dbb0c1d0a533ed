import type { Json, JsonObject } from '../base/json.ts'
import type { ApprovalState } from '../contract/api-types.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Answer, Exchange } from './context.ts'
import { idempotencyKey } from './request-headers.ts'
import { shown } from './tenancy.ts'

// Bodies and queries were checked by the schema of their route before a handler sees them: that is the reason for each `as` here.

export async function sendEvent(x: Exchange): Promise<Answer> {
  const { payload = null } = x.body as { payload?: Json }
  const key = idempotencyKey(x.header('idempotency-key'))
  const event = { name: x.param('event'), payload, key }
  return x.respondJson(200, await x.deps.engine.sendEvent(x.caller, x.param('id'), event))
}

export async function listApprovals(x: Exchange): Promise<Answer> {
  const q = x.query as {
    namespace?: string
    run?: string
    step?: string
    state?: ApprovalState[]
    cursor?: string
    limit?: number
  }
  const page = await x.deps.engine.listApprovals(x.caller, {
    namespace: q.namespace ?? null,
    runId: q.run ?? null,
    step: q.step ?? null,
    states: q.state ?? [],
    cursor: q.cursor ?? null,
    limit: q.limit ?? LIMITS.pageDefault,
  })
  return x.respondJson(200, { ...page, items: page.items.map((one) => shown(x.caller, one)) })
}

export async function getApproval(x: Exchange): Promise<Answer> {
  return x.respondJson(200, shown(x.caller, await x.deps.engine.getApproval(x.caller, x.param('approval'))))
}

interface ApproveBody {
  comment?: string
  inputs?: JsonObject
  input?: JsonObject
  output?: Json
}

export async function approve(x: Exchange): Promise<Answer> {
  const { comment = null, inputs = null, input = null, output = null } = x.body as ApproveBody
  const wish = { approved: true, comment, inputs, input, output }
  return x.respondJson(200, shown(x.caller, await x.deps.engine.decideApproval(x.caller, x.param('approval'), wish)))
}

export async function deny(x: Exchange): Promise<Answer> {
  const { comment = null } = x.body as { comment?: string }
  const wish = { approved: false, comment, inputs: null, input: null, output: null }
  return x.respondJson(200, shown(x.caller, await x.deps.engine.decideApproval(x.caller, x.param('approval'), wish)))
}
