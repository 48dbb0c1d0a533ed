import { randomBytes } from 'node:crypto'
import { formatDuration, REDACT_CHARS_MIN } from '../../base/index.ts'
import type { Client } from '../../client/client.ts'
import type { RotateSecretsResponse, SecretView } from '../../contract/api-types.ts'
import { Failure } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import { SECRET_KEY, SECRET_NAME } from '../../domain/secrets.ts'
import { getConfig } from '../config.ts'
import { SECRET_SETTINGS } from '../settings.ts'
import type { CliDeps } from '../deps.ts'
import { readText } from '../inputs.ts'
import type { Output } from '../output.ts'
import { printableLine, span } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'

export interface SecretFlags extends ServerFlags {
  store?: string
  postgresDsn?: string
  dataDir?: string
  secretsKeyFile?: string
  secretsDir?: string
  secretsEnvPrefix?: string
  namespace: string
}

/** Asks the server; or works on a store in this process when one was named, as `orrery run` does. */
async function withSecrets(
  deps: CliDeps,
  flags: SecretFlags,
  work: (client: Client) => Promise<number>,
): Promise<number> {
  const { store, postgresDsn, dataDir, secretsKeyFile, secretsDir, secretsEnvPrefix } = flags
  const local = { store, postgresDsn, dataDir, secretsKeyFile, secretsDir, secretsEnvPrefix }
  const given = Object.entries(local).filter(([, value]) => value !== undefined)
  if (given.length === 0) {
    const wasNamed =
      [flags.server, flags.context].some((named) => named !== undefined) ||
      Boolean(deps.env['ORRERY_SERVER'] || deps.env['ORRERY_CONTEXT'])
    return work(await connect(deps, flags)).catch((error: unknown) => {
      throw wasNamed ? error : withoutServer(error)
    })
  }
  const server = flags.server === undefined ? (flags.context === undefined ? null : '--context') : '--server'
  if (server !== null)
    throw usageFailure(
      `a store was named beside ${server}`,
      'The server has a store of its own; leave one of them out.',
    )
  const config = getConfig({
    flags: Object.fromEntries(given),
    env: deps.env,
    file: null,
    cwd: deps.cwd,
    only: ['store', 'postgresDsn', 'dataDir', ...SECRET_SETTINGS],
  })
  const embedded = await deps.startEmbedded({
    store: config.store,
    dataDir: config.dataDir,
    secrets: config.secrets,
    modules: {},
    programs: { files: null, hostCommands: [] },
    capacity: 1,
    labels: {},
    idle: true,
  })
  try {
    return await work(embedded.client)
  } finally {
    await embedded.close()
  }
}

/** Whoever runs workflows without a server keeps their secrets without one. */
function withoutServer(error: unknown): unknown {
  if (!(error instanceof Failure) || error.code !== 'client.server_unreachable') return error
  return new Failure(error.code, error.message, {
    cause: error.cause,
    ...(error.evidence ? { evidence: error.evidence } : {}),
    remediation:
      'Start a server with orrery up, or name one with --server. For the store that orrery run uses without a server, add --store embedded.',
  })
}

export interface SetFlags extends SecretFlags {
  fromEnvFile?: string
  stdin?: string
  replace?: boolean
}

/** `orrery secret set NAME KEY=VALUE… | KEY=@FILE | --from-env-file FILE | --stdin KEY` */
export async function setSecret(
  deps: CliDeps,
  output: Output,
  { name, pairs }: { name: string; pairs: string[] },
  flags: SetFlags,
): Promise<number> {
  const values = await readValues(deps, checkName(name), pairs, flags)
  return withSecrets(deps, flags, async (client) => {
    const view = await client.putSecret(flags.namespace, name, { values, replace: flags.replace === true })
    if (output.isData) output.printData(view)
    else {
      output.print(`secret ${nameOf(view)} is set; it has ${keysText(view.keys)}`)
      for (const [key, value] of Object.entries(values))
        if (value.length < REDACT_CHARS_MIN)
          output.remark(
            `  ${key} is shorter than ${REDACT_CHARS_MIN} characters: logs and outputs are not searched for it`,
          )
    }
    return 0
  })
}

async function readValues(
  deps: CliDeps,
  name: string,
  pairs: string[],
  flags: SetFlags,
): Promise<Record<string, string>> {
  const values: Record<string, string> = {}
  const add = (key: string, value: string, from: string): void => {
    if (!SECRET_KEY.test(key))
      throw usageFailure(
        `${JSON.stringify(key)} (${from}) is no name of a key`,
        'Keys are letters, digits, _, . and -.',
      )
    if (Object.hasOwn(values, key)) throw usageFailure(`the key ${key} is given twice`)
    if (value === '') throw usageFailure(`the value of ${key} (${from}) is empty`)
    if (Buffer.byteLength(value) > LIMITS.secretValueBytes)
      throw usageFailure(`the value of ${key} (${from}) is larger than ${LIMITS.secretValueBytes} bytes`)
    values[key] = value
  }
  for (const pair of pairs) {
    const at = pair.indexOf('=')
    // What was typed may be the value itself, so it is not shown.
    if (at < 1) throw usageFailure(`one of the values of ${name} has not the form KEY=VALUE`)
    const key = pair.slice(0, at)
    const given = pair.slice(at + 1)
    const isFile = given.startsWith('@')
    add(
      key,
      isFile ? await readText(deps, given.slice(1), `the value of ${key} from`) : given,
      isFile ? given : 'argument',
    )
  }
  if (flags.fromEnvFile !== undefined)
    for (const [key, value] of readEnvFile(
      await readText(deps, flags.fromEnvFile, 'the values from'),
      flags.fromEnvFile,
    ))
      add(key, value, flags.fromEnvFile)
  if (flags.stdin !== undefined) add(flags.stdin, (await deps.stdin.readText()).replace(/\r?\n$/, ''), 'standard input')
  if (Object.keys(values).length === 0)
    throw usageFailure(
      `no value for secret ${name} is given`,
      'Write KEY=VALUE, KEY=@FILE, --from-env-file FILE, or --stdin KEY to keep the value out of the history of your shell.',
    )
  return values
}

/** Lines of KEY=VALUE; `#` begins a remark, `export` and quotes round a value are left out. */
function readEnvFile(text: string, file: string): [string, string][] {
  return text.split(/\r?\n/).flatMap((line, i): [string, string][] => {
    const trimmed = line.trim()
    if (trimmed === '' || trimmed.startsWith('#')) return []
    const found = /^(?:export\s+)?([^=\s]+)\s*=\s*(.*)$/.exec(trimmed)
    if (!found) throw usageFailure(`line ${i + 1} of ${file} has not the form KEY=VALUE`)
    const [, key = '', value = ''] = found
    const quoted = /^(["'])(.*)\1$/.exec(value)
    return [[key, quoted ? (quoted[2] ?? '') : value]]
  })
}

export async function listSecrets(deps: CliDeps, output: Output, flags: SecretFlags): Promise<number> {
  return withSecrets(deps, flags, async (client) => {
    const secrets: SecretView[] = []
    let cursor: string | null = null
    do {
      const page: { items: SecretView[]; next: string | null } = await client.listSecrets(flags.namespace, {
        limit: LIMITS.pageMax,
        ...(cursor === null ? {} : { cursor }),
      })
      secrets.push(...page.items)
      cursor = page.next
    } while (cursor !== null)
    if (output.isData) {
      output.printData({ secrets })
      return 0
    }
    if (secrets.length === 0) {
      output.remark(`No secret is stored in namespace ${flags.namespace}. Store one: orrery secret set NAME KEY=VALUE`)
      return 0
    }
    const now = deps.clock.now()
    const rows = secrets.map((secret) => [
      { text: secret.name },
      { text: printableLine(secret.keys.join(', ')) },
      { text: `${formatDuration(Math.max(0, now - Date.parse(secret.updatedAt)))} ago` },
      { text: secret.sealedBy.join(', ') },
      { text: secret.namespace },
    ])
    const columns = [
      { title: 'NAME', isName: true },
      ...['KEYS', 'SET', 'ENCRYPTED BY'].map((title) => ({ title })),
      { title: 'NAMESPACE', wide: true },
    ]
    output.printTable(columns, rows)
    return 0
  })
}

export interface ShowFlags extends SecretFlags {
  key?: string[]
}

/** Keys, and where each would be found; never a value. */
export async function showSecret(deps: CliDeps, output: Output, name: string, flags: ShowFlags): Promise<number> {
  checkName(name)
  return withSecrets(deps, flags, async (client) => {
    const detail = await client.getSecret(flags.namespace, name, flags.key ? { keys: flags.key } : {})
    if (output.isData) {
      output.printData(detail)
      return 0
    }
    const now = deps.clock.now()
    output.print([span(`secret ${nameOf(detail)}`, 'bold')])
    for (const { key, stored, places } of detail.keys) {
      const used = places.find((place) => place.found)
      const set = stored
        ? `, set ${formatDuration(Math.max(0, now - Date.parse(stored.updatedAt)))} ago, encrypted by key ${stored.sealedBy}`
        : ''
      output.print(
        [],
        used
          ? [span(`  ${key}`, 'bold'), span(` comes from ${WORDS[used.from]}${set}`)]
          : [span(`  ${key}`, 'bold'), span(' is nowhere', 'warn')],
      )
      for (const place of places) {
        const state = place === used ? 'used' : place.found ? 'there, but a place before it wins' : (place.note ?? '')
        output.print([
          span(`    ${WORDS[place.from]} ${printableLine(place.name)}: `, 'dim'),
          span(printableLine(state)),
        ])
      }
    }
    return 0
  })
}

const WORDS = { store: 'the store', environment: 'the variable', file: 'the file' } as const

export async function deleteSecret(
  deps: CliDeps,
  output: Output,
  { name, keys }: { name: string; keys: string[] },
  flags: SecretFlags,
): Promise<number> {
  checkName(name)
  return withSecrets(deps, flags, async (client) => {
    const { deleted } = await client.deleteSecret(flags.namespace, name, keys.length > 0 ? { keys } : {})
    if (output.isData) output.printData({ namespace: flags.namespace, name, deleted })
    else
      output.print(
        `${keysText(deleted)} of secret ${nameOf({ namespace: flags.namespace, name })} ${deleted.length === 1 ? 'is' : 'are'} deleted`,
      )
    return 0
  })
}

export interface RotateFlags extends SecretFlags {
  newKey?: boolean
}

/** Encrypts all stored values by the active key, batch by batch; cut off, it goes on where it was. */
export async function rotateSecrets(deps: CliDeps, output: Output, flags: RotateFlags): Promise<number> {
  return withSecrets(deps, flags, async (client) => {
    let done = 0
    let last: RotateSecretsResponse = await client.rotateSecrets({ newKey: flags.newKey === true })
    for (let stuck = 0; ; last = await client.rotateSecrets()) {
      done += last.resealed
      if (!output.isData && last.resealed > 0)
        output.remark(`  ${done} of ${done + last.remaining} encrypted by key ${last.activeKey}`)
      if (last.remaining === 0) break
      // Another server holds what remains just now.
      stuck = last.resealed === 0 ? stuck + 1 : 0
      if (stuck > STUCK_MAX)
        throw new Failure('request.rate_limited', `encrypting ${last.remaining} values anew: others keep them locked`)
      if (stuck > 0) await deps.clock.sleep(STUCK_MS)
    }
    const lost = last.unreadable.reduce((sum, one) => sum + one.values, 0)
    if (output.isData) output.printData({ ...last, resealed: done })
    else if (lost === 0) {
      output.print(`all stored secrets are encrypted by key ${last.activeKey}; ${done} were encrypted anew`)
      if (last.olderKeys.length > 0)
        output.remark(
          `  Older keys are still there for backups: ${last.olderKeys.join(', ')}. Remove them when no backup needs them.`,
        )
    }
    if (lost > 0)
      throw new Failure('secrets.key_wrong', `encrypting all secrets anew: ${lost} of them cannot be decrypted`, {
        evidence: { sealedBy: last.unreadable.map((one) => one.keyId).join(', '), values: lost, resealed: done },
      })
    return 0
  })
}

const STUCK_MAX = 50
const STUCK_MS = 200

/** A new key on standard output, and on nothing else. */
export function generateKey(output: Output): number {
  const key = randomBytes(32).toString('base64')
  if (output.isData) output.printData({ key })
  else {
    output.print(key)
    output.remark(
      'Keep it in a file that only the servers may read (chmod 600) and start each with --secrets-key-file FILE.',
      'Without it, secrets that it encrypted are lost: keep a copy apart from the database.',
    )
  }
  return 0
}

function checkName(name: string): string {
  if (SECRET_NAME.test(name)) return name
  const folded = name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')
  throw usageFailure(
    `${JSON.stringify(name.slice(0, 80))} is no name of a secret`,
    `Names are lower-case letters, digits and hyphens${SECRET_NAME.test(folded) ? `, such as ${folded}` : ''}.`,
  )
}

const nameOf = ({ namespace, name }: { namespace: string; name: string }): string =>
  namespace === 'default' ? name : `${namespace}/${name}`

const keysText = (keys: string[]): string =>
  `${keys.length === 1 ? 'key' : `${keys.length} keys:`} ${printableLine(keys.join(', '))}`
