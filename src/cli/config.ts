import path from 'node:path'
import { LineCounter, parseDocument, isMap, isScalar } from 'yaml'
import { type Json, nearest, Secret } from '../base/index.ts'
import { isLoopback, parseBlock } from '../domain/address-block.ts'
import { Failure, type Problem } from '../domain/failure.ts'
import type { FailureCode } from '../domain/failures.ts'
import { LIMITS } from '../domain/limits.ts'
import type { LogFiles, LogFormat, LogLevel, SecretsOptions, StoreOptions } from './deps.ts'

/**
 * Configuration: flag, then ORRERY_* variable, then file, then default. One table says how each setting is called in each
 * place and what it takes.
 */
export interface Config {
  store: StoreOptions
  dataDir: string | null
  host: string
  port: number
  secrets: SecretsOptions
  tls: { certFile: string; keyFile: string } | null
  trustedProxies: string[]
  corsOrigins: string[]
  modules: Record<string, string>
  capacity: number
  labels: Record<string, string>
  worker: boolean
  logFormat: LogFormat
  logLevel: LogLevel
  /** Null: to standard error alone. */
  logFiles: LogFiles | null
  metrics: boolean
  metricsPort: number | null
  metricsHost: string
}

/** Where a value came from, such as `--port`, `ORRERY_PORT`, `orrery.yaml:3` or `default`. */
export type Sources = Record<SettingName, string>

export interface ConfigInput {
  /** Values of flags by setting; absent ones were not given. */
  flags: Partial<Record<SettingName, Json>>
  env: Record<string, string | undefined>
  file: { path: string; text: string } | null
  /** Paths of flags and variables are relative to it; those of a file to the file. */
  cwd: string
  /** Settings that this command has; variables of others are not looked at. All when absent. */
  only?: readonly SettingName[]
}

export type ConfigOutcome =
  { kind: 'loaded'; config: Config; sources: Sources } | { kind: 'refused'; problems: Problem[]; missingDsn: boolean }

type Parsed = { value: Json } | { wrong: string; accepted?: readonly string[] }

interface Setting {
  flag: string
  env: string
  fallback: Json
  /** The value may be shown in a message. */
  secret?: boolean
  /** How paths inside the value are made absolute. */
  resolve?: (value: Json, base: string) => Json
  parse: (raw: Json) => Parsed
}

const choice =
  (...accepted: string[]) =>
  (raw: Json): Parsed =>
    typeof raw === 'string' && accepted.includes(raw)
      ? { value: raw }
      : { wrong: `accepted: ${accepted.join(', ')}`, accepted }

const text = (raw: Json): Parsed =>
  typeof raw === 'string' && raw !== '' ? { value: raw } : { wrong: 'accepted: a text that is not empty' }

const whole =
  (min: number, max: number) =>
  (raw: Json): Parsed => {
    const value = typeof raw === 'string' && /^\d{1,9}$/.test(raw) ? Number(raw) : raw
    return typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max
      ? { value }
      : { wrong: `accepted: a whole number from ${min} to ${max}` }
  }

function toggle(raw: Json): Parsed {
  if (typeof raw === 'boolean') return { value: raw }
  if (raw === 'true' || raw === '1') return { value: true }
  if (raw === 'false' || raw === '0') return { value: false }
  return { wrong: 'accepted: true, false', accepted: ['true', 'false'] }
}

/** `{a: b}` in a file, `a=b` flags, `a=b,c=d` in a variable. */
function pairs(raw: Json): Parsed {
  const wrong = { wrong: 'accepted: pairs such as name=value' }
  if (raw !== null && typeof raw === 'object' && !Array.isArray(raw)) {
    const entries = Object.entries(raw)
    return entries.every(([k, v]) => k !== '' && ['string', 'number', 'boolean'].includes(typeof v))
      ? { value: Object.fromEntries(entries.map(([k, v]) => [k, String(v)])) }
      : { wrong: 'accepted: names with a text each' }
  }
  const items = typeof raw === 'string' ? raw.split(',').map((item) => item.trim()) : raw
  if (!Array.isArray(items)) return wrong
  const value: Record<string, string> = {}
  for (const item of items) {
    const at = typeof item === 'string' ? item.indexOf('=') : -1
    if (typeof item !== 'string' || at < 1 || at === item.length - 1) return wrong
    value[item.slice(0, at)] = item.slice(at + 1)
  }
  return { value }
}

const EXAMPLE_DSN = 'postgres://orrery:secret@db.example:5432/orrery'

const dsn = (raw: Json): Parsed =>
  typeof raw === 'string' && /^postgres(ql)?:\/\/./.test(raw)
    ? { value: raw }
    : { wrong: `accepted: an address such as ${EXAMPLE_DSN}` }

/** What variables of secrets begin with: nothing by which a setting of ours could be read as a secret. */
function secretPrefix(raw: Json): Parsed {
  const isOurs = typeof raw === 'string' && raw.startsWith('ORRERY_') && !raw.startsWith('ORRERY_SECRET_')
  return typeof raw === 'string' && /^[A-Z][A-Z0-9_]*_$/.test(raw) && !isOurs
    ? { value: raw }
    : { wrong: 'accepted: upper case, ending with _, such as MYTEAM_SECRET_; of ORRERY_ only ORRERY_SECRET_' }
}
/** A list in a file, repeated flags, or one text with commas in a variable; each item is checked. */
const list =
  (isGood: (item: string) => boolean, wrong: string) =>
  (raw: Json): Parsed => {
    const items = typeof raw === 'string' ? raw.split(',').map((item) => item.trim()) : raw
    return Array.isArray(items) && items.every((item) => typeof item === 'string' && isGood(item))
      ? { value: items }
      : { wrong: `accepted: ${wrong}` }
  }

/** As a browser writes it: scheme, host and port, and nothing behind them. */
const isOrigin = (text: string): boolean => /^https?:\/\//.test(text) && URL.parse(text)?.origin === text

const resolvePath = (value: Json, base: string): Json => (typeof value === 'string' ? path.resolve(base, value) : value)
const resolveValues = (value: Json, base: string): Json =>
  Object.fromEntries(Object.entries(value ?? {}).map(([name, file]) => [name, path.resolve(base, String(file))]))

const MIB = 1024 * 1024

const SETTINGS = {
  store: {
    flag: '--store',
    env: 'ORRERY_STORE',
    fallback: null,
    parse: choice('embedded', 'postgres'),
  },
  postgresDsn: { flag: '--postgres-dsn', env: 'ORRERY_POSTGRES_DSN', fallback: null, secret: true, parse: dsn },
  dataDir: { flag: '--data-dir', env: 'ORRERY_DATA_DIR', fallback: null, resolve: resolvePath, parse: text },
  host: { flag: '--host', env: 'ORRERY_HOST', fallback: '127.0.0.1', parse: text },
  port: { flag: '--port', env: 'ORRERY_PORT', fallback: 7780, parse: whole(0, 65_535) },
  secretsKeyFile: {
    flag: '--secrets-key-file',
    env: 'ORRERY_SECRETS_KEY_FILE',
    fallback: null,
    resolve: resolvePath,
    parse: text,
  },
  secretsDir: {
    flag: '--secrets-dir',
    env: 'ORRERY_SECRETS_DIR',
    fallback: null,
    resolve: resolvePath,
    parse: text,
  },
  secretsEnvPrefix: {
    flag: '--secrets-env-prefix',
    env: 'ORRERY_SECRETS_ENV_PREFIX',
    fallback: 'ORRERY_SECRET_',
    parse: secretPrefix,
  },
  tlsCert: { flag: '--tls-cert', env: 'ORRERY_TLS_CERT', fallback: null, resolve: resolvePath, parse: text },
  tlsKey: { flag: '--tls-key', env: 'ORRERY_TLS_KEY', fallback: null, resolve: resolvePath, parse: text },
  insecureHttp: { flag: '--insecure-http', env: 'ORRERY_INSECURE_HTTP', fallback: false, parse: toggle },
  trustedProxies: {
    flag: '--trusted-proxy',
    env: 'ORRERY_TRUSTED_PROXIES',
    fallback: [],
    parse: list((item) => parseBlock(item) !== null, 'addresses or blocks such as 10.0.0.0/8'),
  },
  corsOrigins: {
    flag: '--cors-origin',
    env: 'ORRERY_CORS_ORIGINS',
    fallback: [],
    parse: list(isOrigin, 'origins such as https://console.example, without a path'),
  },
  modules: { flag: '--module', env: 'ORRERY_MODULES', fallback: {}, resolve: resolveValues, parse: pairs },
  capacity: { flag: '--capacity', env: 'ORRERY_CAPACITY', fallback: 16, parse: whole(1, LIMITS.capacityMax) },
  labels: { flag: '--label', env: 'ORRERY_LABELS', fallback: {}, parse: pairs },
  worker: { flag: '--no-worker', env: 'ORRERY_WORKER', fallback: true, parse: toggle },
  logFormat: { flag: '--log-format', env: 'ORRERY_LOG_FORMAT', fallback: 'text', parse: choice('text', 'json') },
  logLevel: {
    flag: '--log-level',
    env: 'ORRERY_LOG_LEVEL',
    fallback: 'info',
    parse: choice('debug', 'info', 'warn', 'error'),
  },
  logDir: { flag: '--log-dir', env: 'ORRERY_LOG_DIR', fallback: null, resolve: resolvePath, parse: text },
  logFileSize: {
    flag: '--log-file-size',
    env: 'ORRERY_LOG_FILE_SIZE',
    fallback: LIMITS.logFileBytes / MIB,
    parse: whole(1, LIMITS.logFileMibMax),
  },
  logFilesKept: {
    flag: '--log-files-kept',
    env: 'ORRERY_LOG_FILES_KEPT',
    fallback: LIMITS.logFilesKept,
    parse: whole(0, LIMITS.logFilesKeptMax),
  },
  metrics: { flag: '--no-metrics', env: 'ORRERY_METRICS', fallback: true, parse: toggle },
  metricsPort: { flag: '--metrics-port', env: 'ORRERY_METRICS_PORT', fallback: null, parse: whole(0, 65_535) },
  metricsHost: { flag: '--metrics-host', env: 'ORRERY_METRICS_HOST', fallback: '127.0.0.1', parse: text },
} satisfies Record<string, Setting>

export type SettingName = keyof typeof SETTINGS

/** What says where secrets are. */
export const SECRET_SETTINGS: readonly SettingName[] = ['secretsKeyFile', 'secretsDir', 'secretsEnvPrefix']

// The keys of the table are its names; Object.keys only forgets that.
const NAMES = Object.keys(SETTINGS) as SettingName[]

/** The variable of each setting. */
export const SETTING_VARIABLES: readonly string[] = NAMES.map((name) => SETTINGS[name].env)

interface Found {
  raw: Json
  source: string
  base: string
  place: Pick<Problem, 'path' | 'file' | 'line' | 'column'>
}

/** Pure: the same flags, environment and file give the same answer. Reports every problem at once. */
export function loadConfig(input: ConfigInput): ConfigOutcome {
  const problems: Problem[] = []
  const file = input.file ? readFileSettings(input.file, problems) : new Map<SettingName, Found>()
  const values = {} as Record<SettingName, Json> // filled by the loop below, name by name
  const sources = {} as Sources // likewise
  for (const name of NAMES) {
    const setting: Setting = SETTINGS[name]
    const applies = !input.only || input.only.includes(name)
    const found = applies ? findSetting(name, input, file) : undefined
    values[name] = setting.fallback
    sources[name] = found?.source ?? 'default'
    if (!found) continue
    const parsed = setting.parse(found.raw)
    if ('wrong' in parsed) problems.push(unsupported(setting, found, parsed))
    else values[name] = setting.resolve ? setting.resolve(parsed.value, found.base) : parsed.value
  }
  // A DSN that was written for this command says which store is meant; one that merely stands in the environment does not.
  if (values.store === null && values.postgresDsn !== null && sources.postgresDsn !== SETTINGS.postgresDsn.env) {
    values.store = 'postgres'
    sources.store = sources.postgresDsn
  }
  const missingDsn = values.store === 'postgres' && values.postgresDsn === null && sources.postgresDsn === 'default'
  if (missingDsn) {
    problems.push({
      code: 'config.storage_dsn_missing',
      path: 'postgresDsn',
      message: `the store is postgres (${sources.store}) and no address is given`,
    })
  }
  problems.push(...listenProblems(values, sources))
  if (problems.length > 0) return { kind: 'refused', problems, missingDsn }
  return { kind: 'loaded', config: toConfig(values), sources }
}

/** What is listened on must be safe from where it can be reached. */
function listenProblems(values: Record<SettingName, Json>, sources: Sources): Problem[] {
  const { host, tlsCert, tlsKey, insecureHttp } = values
  if ((tlsCert === null) !== (tlsKey === null)) {
    const [given, other] = tlsCert === null ? (['tlsKey', 'tlsCert'] as const) : (['tlsCert', 'tlsKey'] as const)
    const message = `${SETTINGS[given].flag} is given (${sources[given]}) and ${SETTINGS[other].flag} is not; they go together`
    return [{ code: 'config.invalid', path: other, message }]
  }
  if (tlsCert !== null || insecureHttp === true || isLoopback(String(host))) return []
  const message = `${String(host)} (${sources.host}) can be reached from elsewhere, and tokens would cross the network in the clear`
  return [{ code: 'config.insecure_listen', path: 'host', message }]
}

/** The configuration, or the Failure that names every problem. */
export function getConfig(input: ConfigInput): Config {
  const outcome = loadConfig(input)
  if (outcome.kind === 'loaded') return outcome.config
  const { problems } = outcome
  const first = problems[0]
  const code: FailureCode =
    first && problems.every((problem) => problem.code === first.code) ? first.code : 'config.invalid'
  const many = `${problems.length} problem${problems.length === 1 ? '' : 's'}`
  throw new Failure(code, `reading the configuration: ${many}`, {
    evidence: {
      problems: problems.map((problem) => ({ ...problem })),
      ...(outcome.missingDsn
        ? { flag: SETTINGS.postgresDsn.flag, variable: SETTINGS.postgresDsn.env, example: EXAMPLE_DSN }
        : {}),
    },
  })
}

function findSetting(name: SettingName, input: ConfigInput, file: Map<SettingName, Found>): Found | undefined {
  const { flag, env } = SETTINGS[name]
  const given = input.flags[name]
  if (given !== undefined) return { raw: given, source: flag, base: input.cwd, place: { path: flag } }
  const variable = input.env[env]
  // An empty variable counts as absent: that is how a shell or a compose file takes one back.
  if (variable !== undefined && variable !== '')
    return { raw: variable, source: env, base: input.cwd, place: { path: env } }
  return file.get(name)
}

function unsupported(setting: Setting, found: Found, parsed: { wrong: string; accepted?: readonly string[] }): Problem {
  const shown = setting.secret ? 'the value' : JSON.stringify(found.raw)
  const near = typeof found.raw === 'string' && parsed.accepted ? nearest(found.raw, parsed.accepted) : null
  return {
    code: 'config.value_unsupported',
    message: `${shown} is not supported; ${parsed.wrong}`,
    ...found.place,
    ...(near ? { nearest: near } : {}),
  }
}

function readFileSettings(file: { path: string; text: string }, problems: Problem[]): Map<SettingName, Found> {
  const found = new Map<SettingName, Found>()
  const lines = new LineCounter()
  const document = parseDocument(file.text, { lineCounter: lines, uniqueKeys: true })
  const placeOf = (offset: number): { file: string; line: number; column: number } => {
    const { line, col } = lines.linePos(offset)
    return { file: file.path, line, column: col }
  }
  for (const error of document.errors) {
    const message = error.message.split('\n')[0]?.replace(/ at line \d+, column \d+:?$/, '') ?? 'not YAML'
    problems.push({ code: 'config.invalid', message, path: '', ...placeOf(error.pos[0]) })
  }
  if (document.errors.length > 0 || document.contents === null) return found
  const root: unknown = document.contents
  if (!isMap(root)) {
    problems.push({ code: 'config.invalid', message: 'must be a mapping of settings', path: '', ...placeOf(0) })
    return found
  }
  // The core schema without custom tags gives JSON values only.
  const values = document.toJS() as Record<string, Json>
  for (const pair of root.items) {
    if (!isScalar(pair.key)) continue
    const key = String(pair.key.value)
    const keyPlace = placeOf(pair.key.range?.[0] ?? 0)
    const name = NAMES.find((candidate) => candidate === key)
    if (!name) {
      const near = nearest(key, NAMES)
      problems.push({
        code: 'config.key_unknown',
        message: `there is no setting ${JSON.stringify(key)}`,
        path: key,
        ...keyPlace,
        ...(near ? { nearest: near } : {}),
      })
      continue
    }
    const node = pair.value
    const offset = node !== null && typeof node === 'object' && 'range' in node ? rangeStart(node.range) : null
    found.set(name, {
      raw: values[key] ?? null,
      source: `${file.path}:${keyPlace.line}`,
      base: path.dirname(file.path),
      place: { path: key, ...(offset === null ? keyPlace : placeOf(offset)) },
    })
  }
  return found
}

const rangeStart = (range: unknown): number | null =>
  Array.isArray(range) && typeof range[0] === 'number' ? range[0] : null

function toConfig(v: Record<SettingName, Json>): Config {
  // Every value was parsed by its row of the table, which is what these types say.
  return {
    store: v.store === 'postgres' ? { kind: 'postgres', dsn: new Secret(String(v.postgresDsn)) } : { kind: 'embedded' },
    dataDir: v.dataDir as string | null,
    host: v.host as string,
    port: v.port as number,
    secrets: {
      keyFile: v.secretsKeyFile as string | null,
      dir: v.secretsDir as string | null,
      envPrefix: v.secretsEnvPrefix as string,
    },
    tls: v.tlsCert === null ? null : { certFile: String(v.tlsCert), keyFile: String(v.tlsKey) },
    trustedProxies: v.trustedProxies as string[],
    corsOrigins: v.corsOrigins as string[],
    modules: v.modules as Record<string, string>,
    capacity: v.capacity as number,
    labels: v.labels as Record<string, string>,
    worker: v.worker as boolean,
    logFormat: v.logFormat as LogFormat,
    logLevel: v.logLevel as LogLevel,
    logFiles:
      v.logDir === null
        ? null
        : { dir: v.logDir as string, maxBytes: Number(v.logFileSize) * MIB, keep: Number(v.logFilesKept) },
    metrics: v.metrics as boolean,
    metricsPort: v.metricsPort as number | null,
    metricsHost: v.metricsHost as string,
  }
}
