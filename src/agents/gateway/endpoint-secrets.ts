import { Failure } from '../../domain/failure.ts'
import { type ModelEndpointSpec, secretsOfEndpoint } from '../../domain/kinds/model-endpoint.ts'
import type { ModelSource } from './model-source.ts'

/** Values by what they are for, as `secretsOfEndpoint` names it. */
export type EndpointSecrets = Partial<
  Record<'credentials' | 'accessKeyId' | 'secretAccessKey' | 'sessionToken', string>
>

/** Values of the secrets that an endpoint names. Throws `secret.*` for one that is nowhere, `model.auth_missing` for one that is blank. */
export async function secretsOf(
  source: Pick<ModelSource, 'resolveSecrets'>,
  spec: ModelEndpointSpec,
  at: { namespace: string; endpoint: string },
): Promise<EndpointSecrets> {
  const uses = secretsOfEndpoint(spec)
  const values = uses.length === 0 ? [] : await source.resolveSecrets(uses.map(({ ref }) => ({ ...at, ...ref })))
  for (const [i, { ref }] of uses.entries())
    if ((values[i] ?? '').trim() === '')
      throw new Failure('model.auth_missing', `reading the key of endpoint ${at.endpoint}`, {
        evidence: { endpoint: at.endpoint, secret: ref.secret, key: ref.key, why: 'its value is blank' },
      })
  return Object.fromEntries(uses.map(({ use }, i) => [use, (values[i] ?? '').trim()]))
}
