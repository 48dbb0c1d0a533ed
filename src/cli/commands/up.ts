import path from 'node:path'
import { errorOfRecord } from '../../contract/problem.ts'
import { type Config, getConfig } from '../config.ts'
import type { SettingName } from '../settings.ts'
import type { CliDeps, UpHandle } from '../deps.ts'
import { readText } from '../inputs.ts'
import { DRAINING, EXIT_OF_SIGNAL, Interrupts } from '../interrupts.ts'
import type { Output } from '../output.ts'
import { span } from '../terminal-text.ts'

export interface ConfigFlags {
  config?: string
  store?: string
  postgresDsn?: string
  dataDir?: string
  host?: string
  port?: string
  secretsKeyFile?: string
  secretsDir?: string
  secretsEnvPrefix?: string
  tlsCert?: string
  tlsKey?: string
  insecureHttp?: boolean
  trustedProxy?: string[]
  corsOrigin?: string[]
  module?: string[]
  toolFiles?: string
  toolCommands?: string
  capacity?: string
  label?: string[]
  /** False with --no-worker; commander says true when the flag was not given. */
  worker?: boolean
  logFormat?: string
  logDir?: string
  logFileSize?: string
  logFilesKept?: string
  /** False with --no-metrics. */
  metrics?: boolean
  metricsPort?: string
  metricsHost?: string
  logLevel?: string
}

/** Flags, environment and file as one configuration; `only` names what the command has. */
export async function readConfig(
  deps: CliDeps,
  output: Output,
  given: ConfigFlags,
  only?: readonly SettingName[],
): Promise<Config> {
  const at = given.config ?? (deps.env['ORRERY_CONFIG'] || undefined)
  let file: { path: string; text: string } | null = null
  if (at !== undefined) {
    const full = path.resolve(deps.cwd, at)
    file = { path: full, text: await readText(deps, at, 'the configuration') }
    output.sources[full] = file.text
  }
  const { config: _, module, label, worker, metrics, trustedProxy, corsOrigin, ...flags } = given
  const list = (items: string[] | undefined) => (items && items.length > 0 ? items : undefined)
  const isOff = (value: boolean | undefined) => (value === false ? false : undefined)
  const all = {
    ...flags,
    modules: list(module),
    labels: list(label),
    trustedProxies: list(trustedProxy),
    corsOrigins: list(corsOrigin),
    worker: isOff(worker),
    metrics: isOff(metrics),
  }
  const present = Object.fromEntries(Object.entries(all).filter((entry) => entry[1] !== undefined))
  return getConfig({ flags: present, env: deps.env, file, cwd: deps.cwd, ...(only ? { only } : {}) })
}

/** `orrery up`: a server with a worker inside, until a signal or its end. */
export async function runUp(deps: CliDeps, output: Output, flags: ConfigFlags): Promise<number> {
  const config = await readConfig(deps, output, flags)
  const {
    store,
    dataDir,
    host,
    port,
    secrets,
    tls,
    trustedProxies,
    corsOrigins,
    logFormat,
    logLevel,
    logFiles,
    metrics,
    capacity,
    labels,
    modules,
    programs,
  } = config
  const interrupts = new Interrupts(deps)
  try {
    const starting = deps.startUp({
      store,
      dataDir,
      host,
      port,
      secrets,
      tls,
      trustedProxies,
      corsOrigins,
      worker: config.worker ? { capacity, labels, modules, programs } : null,
      logFormat,
      logLevel,
      logFiles,
      metrics,
    })
    starting.catch(() => {}) // a second signal may leave before it is known how the start went
    const leave = interrupts.second.then((signal) => ({ kind: 'left' as const, exit: EXIT_OF_SIGNAL[signal] }))
    const started = await Promise.race([starting.then((up) => ({ kind: 'up' as const, up })), leave])
    if (started.kind === 'left') return started.exit
    const { up } = started
    announce(output, config, up)
    const stopping = interrupts.first.then(() => {
      output.remark(DRAINING)
      return up.stop()
    })
    const failedStop = new Promise<never>((_resolve, reject) => void stopping.catch(reject))
    const result = await Promise.race([up.ended.then((end) => ({ kind: 'ended' as const, ...end })), leave, failedStop])
    if (result.kind === 'left') return result.exit
    if (result.failure) throw errorOfRecord(result.failure)
    return 0
  } finally {
    interrupts.stop()
  }
}

function announce(output: Output, config: Config, up: UpHandle): void {
  const store = config.store.kind
  if (output.isData) {
    output.printData({ type: 'up', address: up.address, tokenFile: up.tokenFile, logFile: up.logFile, store })
    return
  }
  const dim = (label: string) => span(`  ${label.padEnd(8)}`, 'dim')
  output.print(
    [span('orrery is up', 'good'), span(`  ${up.address}`, 'bold')],
    [dim('store'), span(config.dataDir && store === 'embedded' ? `${store} in ${config.dataDir}` : store)],
    [
      dim('worker'),
      span(config.worker ? `${config.capacity} slots` : 'none here: orrery worker connects one from anywhere'),
    ],
    [
      dim('token'),
      span(
        up.tokenFile ??
          'of ORRERY_ADMIN_TOKEN, or kept by the server that started first: orrery token create makes more',
      ),
    ],
    ...(up.logFile ? [[dim('log'), span(up.logFile)]] : []),
    [dim('try'), span(`orrery run FILE --server ${up.address}`, 'accent')],
  )
}
