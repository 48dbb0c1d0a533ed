import { formatDuration, parseDuration } from '../../base/index.ts'
import { nearest } from '../../base/nearest.ts'
import type { Client } from '../../client/client.ts'
import type { CreateTokenRequest, TokenView, WhoamiView } from '../../contract/api-types.ts'
import { Failure } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import { type Role, ROLES } from '../../domain/roles.ts'
import type { CliDeps } from '../deps.ts'
import type { Output } from '../output.ts'
import { printableLine } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'

export interface CreateTokenFlags extends ServerFlags {
  role: string
  name: string
  organisation?: string
  namespace?: string[]
  expires?: string
}

/** `orrery token create`: the token alone on standard output, so that it can be piped to where it belongs. */
export async function createToken(deps: CliDeps, output: Output, flags: CreateTokenFlags): Promise<number> {
  const request: CreateTokenRequest = {
    name: flags.name,
    role: parseRole(flags.role),
    ...(flags.organisation === undefined ? {} : { organisation: flags.organisation }),
    ...(flags.namespace && flags.namespace.length > 0 ? { namespaces: flags.namespace } : {}),
    ...(flags.expires === undefined ? {} : { expiresInSeconds: parseLife(flags.expires) }),
  }
  const client = await connect(deps, flags)
  const made = await client.createToken(request)
  if (output.isData) {
    output.printData(made)
    return 0
  }
  output.print(made.token)
  output.remark(
    `${made.id} (${printableLine(made.name)}): ${made.role} of ${reachText(made)}, ${made.expiresAt ? `until ${made.expiresAt}` : 'until it is revoked'}`,
    `It is shown this once. Use it: ORRERY_TOKEN=… or orrery auth login --server ${client.address}`,
    `End it: orrery token revoke ${made.id}`,
  )
  return 0
}

function parseRole(text: string): Role {
  const role = ROLES.find((candidate) => candidate === text)
  if (role) return role
  const near = nearest(text, ROLES)
  throw usageFailure(
    `--role ${text} is no role`,
    `${near ? `Did you mean ${near}? ` : ''}Roles are ${ROLES.join(', ')}.`,
  )
}

function parseLife(text: string): number {
  const ms = parseDuration(text)
  const seconds = ms === null ? 0 : Math.floor(ms / 1000)
  if (seconds >= 1 && seconds <= LIMITS.tokenLifeSeconds) return seconds
  throw usageFailure(
    `--expires ${text} is no time that a token may last`,
    `Write a duration such as 12h or 90d, at most ${LIMITS.tokenLifeSeconds / 86_400}d.`,
  )
}

/** What a token sees, in words. */
export function reachText({ organisation, namespaces }: Pick<WhoamiView, 'organisation' | 'namespaces'>): string {
  const where = namespaces === null ? 'all namespaces' : namespaces.map(printableLine).join(', ')
  if (organisation === '*') return 'everything'
  return organisation === 'default' ? where : `${where} of ${organisation}`
}

export interface ListTokensFlags extends ServerFlags {
  all?: boolean
}

export async function listTokens(deps: CliDeps, output: Output, flags: ListTokensFlags): Promise<number> {
  const client = await connect(deps, flags)
  const tokens = await allTokens(client, flags.all === true)
  if (output.isData) {
    output.printData({ tokens })
    return 0
  }
  if (tokens.length === 0) {
    output.remark(
      `No tokens that you may see at ${client.address}. Make one: orrery token create --name ci --role operator`,
    )
    return 0
  }
  const now = deps.clock.now()
  const ago = (time: string | null) =>
    time === null ? '-' : `${formatDuration(Math.max(0, now - Date.parse(time)))} ago`
  const columns = [
    { title: 'ID', isName: true },
    ...['NAME', 'ROLE', 'SEES', 'STATE', 'CREATED', 'USED', 'EXPIRES'].map((title) => ({ title })),
    { title: 'ORGANISATION', wide: true },
    { title: 'MADE BY', wide: true },
  ]
  const rows = tokens.map((token) => [
    { text: token.id },
    { text: printableLine(token.name) },
    { text: token.role },
    { text: reachText(token) },
    { text: token.state, style: token.state === 'good' ? ('good' as const) : ('dim' as const) },
    { text: ago(token.createdAt) },
    { text: ago(token.lastUsedAt) },
    { text: token.expiresAt ?? 'never' },
    { text: printableLine(token.organisation) },
    { text: token.createdBy ?? '-' },
  ])
  output.printTable(columns, rows)
  return 0
}

async function allTokens(client: Client, all: boolean): Promise<TokenView[]> {
  const tokens: TokenView[] = []
  let cursor: string | undefined
  do {
    const page = await client.listTokens({ all, limit: LIMITS.pageMax, ...(cursor === undefined ? {} : { cursor }) })
    tokens.push(...page.items)
    cursor = page.next ?? undefined
  } while (cursor !== undefined)
  return tokens
}

/** `orrery token revoke`: by id, or by a name that only one good token has. */
export async function revokeToken(deps: CliDeps, output: Output, name: string, flags: ServerFlags): Promise<number> {
  const client = await connect(deps, flags)
  const revoked = await client.revokeToken(await resolveToken(client, name))
  if (output.isData) output.printData(revoked)
  else output.print(`${revoked.id} (${printableLine(revoked.name)}) is revoked; no server takes it after a second`)
  return 0
}

async function resolveToken(client: Client, name: string): Promise<string> {
  if (name.startsWith('tok_')) return name
  const named = (await allTokens(client, false)).filter((token) => token.name === name)
  const [only] = named
  if (only && named.length === 1) return only.id
  throw new Failure('token.not_found', `looking for token ${JSON.stringify(name)}`, {
    evidence: named.length > 1 ? { ids: named.map((token) => token.id) } : {},
    remediation:
      named.length > 1
        ? 'Several tokens have this name: revoke the one that you mean by its id.'
        : 'orrery token list shows ids and names of the tokens that you may see.',
  })
}
