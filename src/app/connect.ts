import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type JsonObject, Secret } from '../base/index.ts'
import type { ConnectOptions } from '../cli/index.ts'
import { getContext, type ServerContext } from '../cli/contexts.ts'
import { type Client, createClient, type Transport, transportTo } from '../client/index.ts'
import { Failure } from '../domain/index.ts'
import { contextFile } from './context-file.ts'
import { isProcessAlive } from './host.ts'
import { defaultDataDir, type Env, stateFile } from './places.ts'

const DEFAULT_ADDRESS = 'http://127.0.0.1:7780'

/** What a server that `orrery up` started here has left. */
interface LocalServer {
  address: string
  tokenFile: string | null
  caFile: string | null
  pid: number | null
  logFile: string | null
}

export interface FoundServer {
  address: string
  /** Which flag, variable, context or file gave it. */
  addressFrom: string
  token: Secret | null
  tokenFrom: string | null
  /** PEM of the authority to trust beside the known ones. */
  ca: string | null
  /** What else is known of the server, for when it cannot be reached. */
  known: JsonObject
}

async function localServer(env: Env): Promise<LocalServer | null> {
  try {
    const parsed = JSON.parse(await readFile(stateFile(defaultDataDir(env)), 'utf8')) as Record<string, unknown> // checked below
    const text = (name: string) => (typeof parsed[name] === 'string' ? parsed[name] : null)
    const address = text('address')
    if (address === null) return null
    const pid = typeof parsed['pid'] === 'number' ? parsed['pid'] : null
    return { address, tokenFile: text('tokenFile'), caFile: text('caFile'), pid, logFile: text('logFile') }
  } catch {
    return null
  }
}

/** What helps to find out why a server of this machine does not answer. */
function knownOf(local: LocalServer, env: Env): JsonObject {
  const state = stateFile(defaultDataDir(env))
  const alive = local.pid === null ? null : isProcessAlive(local.pid, null)
  const process = alive === false ? `${local.pid}, which is gone` : String(local.pid)
  // A server that writes no file of its own tells its log to whoever started it.
  const log =
    local.logFile !== null && existsSync(local.logFile)
      ? local.logFile
      : `where process ${local.pid} was started (standard error)`
  return { localServer: state, process, log }
}

const readToken = async (file: string): Promise<string | undefined> =>
  (await readFile(file, 'utf8').catch(() => '')).trim() || undefined

interface Place {
  address: string
  from: string
  context: ServerContext | null
}

/** The address, and what named it. The order is that of ADDRESS_ORDER. */
async function findPlace(options: ConnectOptions, env: Env, local: LocalServer | null): Promise<Place> {
  const contexts = contextFile(env)
  const named = async (name: string, from: string): Promise<Place> => {
    const context = getContext(await contexts.read(), name, from)
    return { address: context.server, from: `context ${name} (${from})`, context }
  }
  if (options.server !== undefined) return { address: options.server, from: '--server', context: null }
  if (options.context !== undefined) return named(options.context, '--context')
  if (env['ORRERY_SERVER']) return { address: env['ORRERY_SERVER'], from: 'ORRERY_SERVER', context: null }
  if (env['ORRERY_CONTEXT']) return named(env['ORRERY_CONTEXT'], 'ORRERY_CONTEXT')
  const { current } = await contexts.read()
  if (current !== null) return named(current, `in use, ${contexts.path}`)
  if (local) return { address: local.address, from: stateFile(defaultDataDir(env)), context: null }
  return { address: DEFAULT_ADDRESS, from: 'the default', context: null }
}

/** Which server, and as whom. The orders are those that the help and every `client.*` failure tell. */
export async function findServer(options: ConnectOptions, env: Env): Promise<FoundServer> {
  const local = await localServer(env)
  const { address, from, context } = await findPlace(options, env, local)
  // The token of the local server is for the local server: another address never gets to see it.
  const here = local !== null && local.address === address ? local : null
  const [token, tokenFrom] = await findToken(options, env, { context, from, here })
  const caFile = options.ca ?? (env['ORRERY_CA'] || undefined) ?? context?.ca ?? here?.caFile ?? undefined
  return {
    address,
    addressFrom: from,
    token: token === undefined ? null : new Secret(token),
    tokenFrom: token === undefined ? null : tokenFrom,
    ca: caFile === undefined ? null : await readCa(caFile),
    known: here ? knownOf(here, env) : {},
  }
}

async function findToken(
  options: ConnectOptions,
  env: Env,
  { context, from, here }: { context: ServerContext | null; from: string; here: LocalServer | null },
): Promise<[string | undefined, string]> {
  if (options.token !== undefined) return [options.token, '--token']
  const ofContext: [string | undefined, string] = [context?.token, from]
  if (options.context !== undefined && context?.token !== undefined) return ofContext
  if (options.role === 'worker' && env['ORRERY_WORKER_TOKEN'])
    return [env['ORRERY_WORKER_TOKEN'], 'ORRERY_WORKER_TOKEN']
  if (env['ORRERY_TOKEN']) return [env['ORRERY_TOKEN'], 'ORRERY_TOKEN']
  if (context?.token !== undefined) return ofContext
  if (here === null) return [undefined, '']
  const file = options.role === 'worker' ? join(defaultDataDir(env), 'worker.token') : here.tokenFile
  return file === null ? [undefined, ''] : [await readToken(file), file]
}

async function readCa(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new Failure('file.unreadable', 'reading the authority to trust (--ca, ORRERY_CA or the context)', {
      cause: error,
      evidence: { path },
    })
  }
}

/** `onMove` is told when the way leads to another of several servers. `asksOften`: see `transportTo`. */
export const wayTo = (
  found: FoundServer,
  onMove?: (move: { from: string; to: string }) => void,
  { asksOften = false } = {},
): Transport =>
  transportTo(
    {
      asksOften,
      address: found.address,
      addressFrom: found.addressFrom,
      known: found.known,
      ...(found.ca === null ? {} : { ca: found.ca }),
    },
    onMove,
  )

export async function connect(options: ConnectOptions, env: Env): Promise<Client> {
  const found = await findServer(options, env)
  return createClient({
    transport: wayTo(found),
    token: found.token,
    traceparent: env['TRACEPARENT'],
    ...(found.tokenFrom === null ? {} : { tokenFrom: found.tokenFrom }),
  })
}
