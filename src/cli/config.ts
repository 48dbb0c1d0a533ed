import { type Json, nearest, Secret } from '../base/index.ts'
import type { ToolPrograms } from '../agents/index.ts'
import { isLoopback } from '../domain/address-block.ts'
import { Failure, type Problem } from '../domain/failure.ts'
import type { FailureCode } from '../domain/failures.ts'
import { type Found, readFileSettings } from './config-file.ts'
import type { LogFiles, LogFormat, LogLevel, SecretsOptions, StoreOptions } from './deps.ts'
import { EXAMPLE_DSN, MIB, type Parsed, type Setting, SETTING_NAMES, type SettingName, SETTINGS } from './settings.ts'

/**
 * Configuration: flag, then ORRERY_* variable, then file, then default. The table of settings says how
 * each is called in each place and what it takes.
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
  /** What the worker has for tools that are programs. */
  programs: ToolPrograms
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
  | { kind: 'loaded'; config: Config; sources: Sources }
  | { kind: 'refused'; problems: Problem[]; missingDsn: boolean }

/** Pure: the same flags, environment and file give the same answer. Reports every problem at once. */
export function loadConfig(input: ConfigInput): ConfigOutcome {
  const problems: Problem[] = []
  const file = input.file ? readFileSettings(input.file, problems) : new Map<SettingName, Found>()
  const values = {} as Record<SettingName, Json> // filled by the loop below, name by name
  const sources = {} as Sources // likewise
  for (const name of SETTING_NAMES) {
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

function unsupported(setting: Setting, found: Found, parsed: Extract<Parsed, { wrong: string }>): Problem {
  const shown = setting.secret ? 'the value' : JSON.stringify(found.raw)
  const near = typeof found.raw === 'string' && parsed.accepted ? nearest(found.raw, parsed.accepted) : null
  return {
    code: 'config.value_unsupported',
    message: `${shown} is not supported; ${parsed.wrong}`,
    ...found.place,
    ...(near ? { nearest: near } : {}),
  }
}

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
    programs: { files: v.toolFiles as string | null, hostCommands: v.toolCommands as string[] },
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
