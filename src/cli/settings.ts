import path from 'node:path'
import type { Json } from '../base/index.ts'
import { parseBlock } from '../domain/address-block.ts'
import { LIMITS } from '../domain/limits.ts'

export type Parsed = { value: Json } | { wrong: string; accepted?: readonly string[] }

export interface Setting {
  flag: string
  env: string
  fallback: Json
  /** The value is never shown in a message. */
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

export const EXAMPLE_DSN = 'postgres://orrery:secret@db.example:5432/orrery'

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

export const MIB = 1024 * 1024

/** How each setting is called in each place, what it takes, and what it is when nobody says. */
export const SETTINGS = {
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
  toolFiles: { flag: '--tool-files', env: 'ORRERY_TOOL_FILES', fallback: null, resolve: resolvePath, parse: text },
  toolCommands: {
    flag: '--tool-commands',
    env: 'ORRERY_TOOL_COMMANDS',
    fallback: [],
    parse: list((item) => item !== '', 'names of programs with commas between them, such as git,curl, or *'),
  },
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
export const SETTING_NAMES = Object.keys(SETTINGS) as SettingName[]

/** The variable of each setting. */
export const SETTING_VARIABLES: readonly string[] = SETTING_NAMES.map((name) => SETTINGS[name].env)
