import type * as Sdk from '@modelcontextprotocol/client'
import type { McpServerSpec } from '../../domain/kinds/mcp-server.ts'
import type { Egress } from '../egress.ts'

type HttpSpec = NonNullable<McpServerSpec['http']>

/** The value that the spec gives or a secret holds, by where the spec names it. */
export type ValueAt = (use: string, given: string | object) => string

/**
 * A session over streamable HTTP. Every request leaves through the guard. What opens the server goes to its own origin alone: neither a redirect nor
 * the authorization server is shown it.
 */
export function openHttp(
  sdk: typeof Sdk,
  spec: HttpSpec,
  { valueAt, egress, hide }: { valueAt: ValueAt; egress: Egress; hide: (token: string) => void },
) {
  const url = new URL(spec.url)
  const send = egress.fetch({ allowPrivate: spec.allowPrivateAddresses, onlyPrivate: false })
  const own = ownHeaders(spec, valueAt)
  const fetch: Sdk.FetchLike = async (input, init) => {
    const headers = new Headers(init?.headers)
    if (new URL(input).origin === url.origin) for (const [name, value] of own) headers.set(name, value)
    // A redirect is looked at by the transport, which follows none to another origin.
    return send(input, { ...init, headers, redirect: 'manual' })
  }
  const provider = oauthProvider(sdk, spec, valueAt)
  if (provider) {
    const save = provider.saveTokens.bind(provider)
    provider.saveTokens = (tokens, context) => {
      for (const token of [tokens.access_token, tokens.refresh_token, tokens.id_token]) if (token) hide(token)
      return save(tokens, context)
    }
  }
  return new sdk.StreamableHTTPClientTransport(url, {
    fetch,
    ...(provider ? { authProvider: provider } : {}),
    onInsufficientScope: 'throw',
  })
}

function ownHeaders({ headers, auth }: HttpSpec, valueAt: ValueAt): [string, string][] {
  const own = Object.entries(headers).map(([name, value]): [string, string] => [
    name,
    valueAt(`http.headers.${name}`, value),
  ])
  if (auth?.type === 'bearer') own.push(['Authorization', `Bearer ${valueAt('http.auth.token', auth.token)}`])
  if (auth?.type === 'header') own.push([auth.name, valueAt('http.auth.value', auth.value)])
  return own
}

function oauthProvider(sdk: typeof Sdk, { auth }: HttpSpec, valueAt: ValueAt): Sdk.OAuthClientProvider | null {
  if (auth?.type !== 'oauth') return null
  const { clientId, clientSecret, privateKey, algorithm = 'ES256', scope, issuer } = auth
  const known = { clientId, clientName: 'orrery', expectedIssuer: issuer, ...(scope ? { scope } : {}) }

  if (clientSecret)
    return new sdk.ClientCredentialsProvider({
      ...known,
      clientSecret: valueAt('http.auth.clientSecret', clientSecret),
    })
  if (!privateKey) return null
  return new sdk.PrivateKeyJwtProvider({ ...known, privateKey: valueAt('http.auth.privateKey', privateKey), algorithm })
}
