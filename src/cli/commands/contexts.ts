import path from 'node:path'
import { getContext, isContextName, type ServerContext } from '../contexts.ts'
import type { CliDeps } from '../deps.ts'
import type { Output } from '../output.ts'
import { usageFailure } from '../usage.ts'
import { badName, withContext } from './auth.ts'

/** A context as it is shown: whether a token is kept, never which. */
const shown = ({ server, token, ca }: ServerContext) => ({ server, hasToken: token !== undefined, ca: ca ?? null })

export async function listContexts(deps: CliDeps, output: Output): Promise<number> {
  const { current, contexts } = await deps.contexts.read()
  const entries = Object.entries(contexts).sort(([a], [b]) => (a < b ? -1 : 1))
  if (output.isData) {
    output.printData({ current, contexts: entries.map(([name, context]) => ({ name, ...shown(context) })) })
    return 0
  }
  if (entries.length === 0) {
    output.remark('No contexts yet. orrery auth login --server URL makes one, or orrery context set NAME --server URL.')
    return 0
  }
  const columns = [
    { title: '' },
    { title: 'NAME', isName: true },
    ...['SERVER', 'TOKEN', 'CA'].map((title) => ({ title })),
  ]
  const rows = entries.map(([name, { server, token, ca }]) => [
    { text: name === current ? '*' : '' },
    { text: name },
    { text: server },
    { text: token === undefined ? 'none' : 'kept' },
    { text: ca ?? '-' },
  ])
  output.printTable(columns, rows)
  return 0
}

export async function useContext(deps: CliDeps, output: Output, name: string): Promise<number> {
  const all = await deps.contexts.read()
  const { server } = getContext(all, name, 'orrery context use')
  await deps.contexts.write({ ...all, current: name })
  if (output.isData) output.printData({ current: name, server })
  else output.print(`context ${name} is in use: ${server}`)
  const stronger = ['ORRERY_SERVER', 'ORRERY_CONTEXT'].find((variable) => deps.env[variable])
  if (stronger !== undefined) output.remark(`${stronger} is set and wins over it.`)
  return 0
}

export async function showContext(deps: CliDeps, output: Output, given: string | undefined): Promise<number> {
  const all = await deps.contexts.read()
  const name = given ?? (deps.env['ORRERY_CONTEXT'] || all.current)
  if (name === null) {
    if (output.isData) output.printData({ name: null })
    else output.remark('No context is in use. orrery context list shows those that there are.')
    return 0
  }
  const context = getContext(all, name, given === undefined ? 'in use' : 'orrery context show')
  if (output.isData) output.printData({ name, ...shown(context), file: deps.contexts.path })
  else {
    output.print(`context ${name}${name === all.current ? ', in use' : ''}`)
    output.print(`  server  ${context.server}`, `  token   ${context.token === undefined ? 'none' : 'kept, not shown'}`)
    if (context.ca !== undefined) output.print(`  ca      ${context.ca}`)
    output.print(`  file    ${deps.contexts.path}`)
  }
  return 0
}

export interface SetContextFlags {
  server?: string
  token?: string
  ca?: string
}

/** Makes a context, or changes what is given of it. A token that is kept stays with its server: another address forgets it. */
export async function setContext(deps: CliDeps, output: Output, name: string, flags: SetContextFlags): Promise<number> {
  if (!isContextName(name)) throw badName(name)
  const all = await deps.contexts.read()
  const former = Object.hasOwn(all.contexts, name) ? all.contexts[name] : undefined
  const server = flags.server ?? former?.server
  if (server === undefined)
    throw usageFailure(`context ${name} is new and has no server`, 'Pass its address with --server.')
  const url = URL.parse(server)
  if (url === null || !/^https?:$/.test(url.protocol))
    throw usageFailure(`--server ${server} is no address`, 'Write it as http://host:port or https://host:port.')
  const token = flags.token ?? (server === former?.server ? former.token : undefined)
  const ca = flags.ca === undefined ? former?.ca : path.resolve(deps.cwd, flags.ca)
  const context = { server, ...(token === undefined ? {} : { token }), ...(ca === undefined ? {} : { ca }) }
  const next = withContext(all, name, context)
  await deps.contexts.write({ ...next, current: next.current ?? name })
  if (output.isData) output.printData({ name, ...shown(context) })
  else output.print(`context ${name} is ${former ? 'changed' : 'made'}: ${server}`)
  return 0
}

export async function deleteContext(deps: CliDeps, output: Output, name: string): Promise<number> {
  const all = await deps.contexts.read()
  getContext(all, name, 'orrery context delete')
  const { [name]: _, ...contexts } = all.contexts
  const current = all.current === name ? null : all.current
  await deps.contexts.write({ current, contexts })
  if (output.isData) output.printData({ deleted: name, current })
  else {
    output.print(`context ${name} is deleted`)
    if (current === null) output.remark('No context is in use now: orrery context use NAME.')
  }
  return 0
}
