import type { CanIRequest, CanIView, CreateTokenRequest } from '../contract/api-types.ts'
import { permissionOf } from '../contract/permissions.ts'
import { LIMITS } from '../domain/limits.ts'
import { isEnough } from '../domain/roles.ts'
import { storedNamespace } from '../domain/tenancy.ts'
import { canSee } from '../engine/visible.ts'
import type { Answer, Exchange } from './context.ts'

// Bodies and queries were checked by the schema of their route: that is the reason for each `as` here.

export async function createToken(x: Exchange): Promise<Answer> {
  return x.respondJson(201, await x.deps.engine.access.createToken(x.caller, x.body as CreateTokenRequest))
}

export async function listTokens(x: Exchange): Promise<Answer> {
  const q = x.query as { all?: 'true' | 'false'; cursor?: string; limit?: number }
  const filter = { all: q.all === 'true', cursor: q.cursor ?? null, limit: q.limit ?? LIMITS.pageDefault }
  return x.respondJson(200, await x.deps.engine.access.listTokens(x.caller, filter))
}

export async function revokeToken(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.access.revokeToken(x.caller, x.param('token')))
}

export async function whoami(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.access.whoami(x.caller))
}

export function canI(x: Exchange): Answer {
  const { verb, resource, namespace } = x.body as CanIRequest
  return x.respondJson(200, mayCaller(x.caller, { verb, resource, namespace: namespace ?? null }))
}

function mayCaller(
  caller: Exchange['caller'],
  { verb, resource, namespace }: { verb: string; resource: string; namespace: string | null },
): CanIView {
  const { needed } = permissionOf(verb, resource)
  const { role } = caller
  if (!isEnough(role, needed))
    return { allowed: false, required: needed, role, reason: `the token has the role ${role}, and ${needed} is needed` }
  if (namespace !== null && !canSee(caller, storedNamespace(caller.organisation, namespace)))
    return { allowed: false, required: needed, role, reason: `the token sees nothing of namespace ${namespace}` }
  return { allowed: true, required: needed, role, reason: `the token has the role ${role}` }
}

export async function listAudit(x: Exchange): Promise<Answer> {
  const q = x.query as {
    actor?: string
    action?: string
    object?: string
    outcome?: 'done' | 'denied'
    namespace?: string
    since?: string
    cursor?: string
    limit?: number
  }
  const page = await x.deps.engine.access.listAudit(x.caller, {
    actor: q.actor ?? null,
    action: q.action ?? null,
    object: q.object ?? null,
    outcome: q.outcome ?? null,
    namespace: q.namespace ?? null,
    since: q.since ?? null,
    cursor: q.cursor ?? null,
    limit: q.limit ?? LIMITS.pageDefault,
  })
  return x.respondJson(200, page)
}
