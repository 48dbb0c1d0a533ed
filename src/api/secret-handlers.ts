import type { PutSecretRequest } from '../contract/api-types.ts'
import { invalidRequest } from '../contract/check-request.ts'
import { LIMITS } from '../domain/limits.ts'
import { SECRET_NAME } from '../domain/secrets.ts'
import type { SecretAddress } from '../engine/engine.ts'
import type { Answer, Exchange } from './context.ts'
import { ownNamespace, shown } from './tenancy.ts'

// Bodies and queries were checked by the schema of their route before a handler sees them: that is the reason for each `as` here.

const MAY_BE = 'must be lower-case letters, digits and hyphens, at most 63'

/** Names that no secret and no namespace can have are refused before anything is asked. */
export function checkSecretParam(name: string, value: string): void {
  // The namespace is looked at where it is known who asks.
  if (name !== 'ns' && !SECRET_NAME.test(value)) throw invalidRequest('reading the address', 'name', MAY_BE)
}

const addressOf = (x: Exchange): SecretAddress => ({
  namespace: ownNamespace(x.caller, x.param('ns')),
  secret: x.param('name'),
})

export async function putSecret(x: Exchange): Promise<Answer> {
  const { values, replace = false } = x.body as PutSecretRequest
  return x.respondJson(200, shown(x.caller, await x.deps.engine.putSecret(x.caller, addressOf(x), { values, replace })))
}

export async function listSecrets(x: Exchange): Promise<Answer> {
  const q = x.query as { cursor?: string; limit?: number }
  const filter = {
    namespace: ownNamespace(x.caller, x.param('ns')),
    cursor: q.cursor ?? null,
    limit: q.limit ?? LIMITS.pageDefault,
  }
  const page = await x.deps.engine.listSecrets(x.caller, filter)
  return x.respondJson(200, { ...page, items: page.items.map((one) => shown(x.caller, one)) })
}

export async function getSecret(x: Exchange): Promise<Answer> {
  const { key = [] } = x.query as { key?: string[] }
  return x.respondJson(200, shown(x.caller, await x.deps.engine.getSecret(x.caller, addressOf(x), { asked: key })))
}

export async function deleteSecret(x: Exchange): Promise<Answer> {
  const { key = null } = x.query as { key?: string[] }
  return x.respondJson(200, await x.deps.engine.deleteSecret(x.caller, addressOf(x), { keys: key }))
}

export async function rotateSecrets(x: Exchange): Promise<Answer> {
  const { newKey = false } = x.body as { newKey?: boolean }
  return x.respondJson(200, await x.deps.engine.rotateSecrets(x.caller, { newKey }))
}
