import type { Failure } from '../../domain/failure.ts'
import type { WhoamiView } from '../../contract/api-types.ts'
import path from 'node:path'
import { type Contexts, isContextName } from '../contexts.ts'
import type { CliDeps } from '../deps.ts'
import type { Output } from '../output.ts'
import { printableLine, span } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'
import { reachText } from './tokens.ts'

export interface LoginFlags extends ServerFlags {
  name?: string
}

/** `orrery auth login`: tries a token and keeps it, with its server, as the context in use. */
export async function login(deps: CliDeps, output: Output, flags: LoginFlags): Promise<number> {
  const token = flags.token ?? (await askToken(deps, output))
  const client = await connect(deps, { ...flags, token })
  const who = await client.whoami()
  const name = flags.name ?? flags.context ?? new URL(client.address).host.replace(/[[\]]/g, '')
  if (!isContextName(name)) throw badName(name)
  const all = await deps.contexts.read()
  const former = all.contexts[name]
  const ca = flags.ca === undefined ? former?.ca : path.resolve(deps.cwd, flags.ca)
  const context = { server: client.address, token, ...(ca === undefined ? {} : { ca }) }
  await deps.contexts.write({ current: name, contexts: { ...all.contexts, [name]: context } })
  if (output.isData) output.printData({ context: name, server: client.address, who, file: deps.contexts.path })
  else {
    output.print([span(`${printableLine(who.name)} `, 'bold'), span(`is logged in at ${client.address}`)])
    output.print(`  ${who.role} of ${reachText(who)}; kept as context ${name}, which is in use now`)
    output.remark(`  ${deps.contexts.path}`)
  }
  return 0
}

export const badName = (name: string): Failure =>
  usageFailure(`${JSON.stringify(name)} is no name for a context`, 'Use letters, digits, dots, colons and hyphens.')

async function askToken(deps: CliDeps, output: Output): Promise<string> {
  output.remark('Paste the token, then press Enter and Ctrl-D.')
  const token = (await deps.stdin.readText()).trim()
  if (token !== '') return token
  throw usageFailure(
    'no token was given',
    'Pass it with --token, or on standard input: orrery auth login < token-file.',
  )
}

/** `orrery auth logout`: forgets the token of a context; the token itself stays good. */
export async function logout(deps: CliDeps, output: Output, flags: { context?: string }): Promise<number> {
  const all = await deps.contexts.read()
  const name = flags.context ?? (deps.env['ORRERY_CONTEXT'] || all.current)
  if (name === null || !Object.hasOwn(all.contexts, name) || all.contexts[name]?.token === undefined) {
    if (output.isData) output.printData({ context: name, forgotten: false })
    else output.remark(name === null ? 'No context is in use; nothing to forget.' : `Context ${name} keeps no token.`)
    return 0
  }
  const { token: _, ...rest } = all.contexts[name]
  await deps.contexts.write(withContext(all, name, rest))
  if (output.isData) output.printData({ context: name, forgotten: true })
  else {
    output.print(`context ${name} keeps no token any more`)
    output.remark('The token itself stays good; orrery token revoke ends it.')
  }
  return 0
}

export const withContext = (all: Contexts, name: string, context: Contexts['contexts'][string]): Contexts => ({
  ...all,
  contexts: { ...all.contexts, [name]: context },
})

export async function whoami(deps: CliDeps, output: Output, flags: ServerFlags): Promise<number> {
  const client = await connect(deps, flags)
  const who = await client.whoami()
  if (output.isData) output.printData({ ...who, server: client.address })
  else output.print(...whoLines(who, client.address))
  return 0
}

function whoLines(who: WhoamiView, address: string): string[] {
  return [
    `${printableLine(who.name)} (${who.id}) at ${address}`,
    `  role    ${who.role}`,
    `  sees    ${reachText(who)}`,
    `  until   ${who.expiresAt ?? 'it is revoked'}`,
  ]
}
