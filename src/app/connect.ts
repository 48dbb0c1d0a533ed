import { readFile } from 'node:fs/promises'
import { Secret } from '../base/index.ts'
import { type Client, createClient, httpTransport } from '../client/index.ts'
import { defaultDataDir, type Env, stateFile } from './places.ts'

const DEFAULT_ADDRESS = 'http://127.0.0.1:7780'

interface LocalServer {
  address: string
  tokenFile: string
}

async function localServer(env: Env): Promise<LocalServer | null> {
  try {
    const parsed = JSON.parse(await readFile(stateFile(defaultDataDir(env)), 'utf8')) as Partial<LocalServer> // checked below
    return typeof parsed.address === 'string' && typeof parsed.tokenFile === 'string'
      ? { address: parsed.address, tokenFile: parsed.tokenFile }
      : null
  } catch {
    return null
  }
}

const readToken = async (file: string): Promise<string | undefined> =>
  (await readFile(file, 'utf8').catch(() => '')).trim() || undefined

/** Which server, and as whom: flag, then environment, then what a local `orrery up` left. */
export async function findServer(
  options: { server: string | undefined; token: string | undefined; role: 'admin' | 'worker' },
  env: Env,
): Promise<{ address: string; addressFrom: string; token: Secret | null }> {
  const local = await localServer(env)
  const [address, addressFrom] =
    options.server !== undefined
      ? [options.server, '--server']
      : env['ORRERY_SERVER'] !== undefined
        ? [env['ORRERY_SERVER'], 'ORRERY_SERVER']
        : local
          ? [local.address, stateFile(defaultDataDir(env))]
          : [DEFAULT_ADDRESS, 'the default']
  // The token of the local server is for the local server: another address never gets to see it.
  const isLocal = local !== null && local.address === address
  const kept = isLocal
    ? await readToken(
        options.role === 'worker' ? local.tokenFile.replace(/admin\.token$/, 'worker.token') : local.tokenFile,
      )
    : undefined
  const fromEnv = options.role === 'worker' ? (env['ORRERY_WORKER_TOKEN'] ?? env['ORRERY_TOKEN']) : env['ORRERY_TOKEN']
  const token = options.token ?? fromEnv ?? kept
  return { address, addressFrom, token: token === undefined ? null : new Secret(token) }
}

export async function connect(options: { server?: string; token?: string }, env: Env): Promise<Client> {
  const found = await findServer({ server: options.server, token: options.token, role: 'admin' }, env)
  return createClient({
    transport: httpTransport({ address: found.address, addressFrom: found.addressFrom }),
    token: found.token,
    traceparent: env['TRACEPARENT'],
  })
}
