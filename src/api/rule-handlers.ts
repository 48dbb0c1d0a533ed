import type { CheckAgentRequest } from '../contract/api-types.ts'
import type { Answer, Exchange } from './context.ts'
import { ownNamespace } from './tenancy.ts'

/** What the rules say of a call that an agent might make. */
export async function checkAgent(x: Exchange): Promise<Answer> {
  const at = { namespace: ownNamespace(x.caller, x.param('namespace')), name: x.param('agent') }
  // The body was checked by the schema of its route: that is the reason for the `as`.
  return x.respondJson(200, await x.deps.engine.checkAgent(x.caller, at, x.body as CheckAgentRequest))
}
