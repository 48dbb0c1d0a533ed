import { Secret } from '../../base/index.ts'
import path from 'node:path'
import type { SettingName } from '../settings.ts'
import type { CliDeps, WorkerHandle } from '../deps.ts'
import { DRAINING, EXIT_OF_SIGNAL, Interrupts } from '../interrupts.ts'
import type { Output } from '../output.ts'
import { span } from '../terminal-text.ts'
import { errorOfRecord } from '../../contract/problem.ts'
import { type ConfigFlags, readConfig } from './up.ts'

export interface WorkerFlags extends Pick<
  ConfigFlags,
  | 'config'
  | 'module'
  | 'toolFiles'
  | 'toolCommands'
  | 'capacity'
  | 'label'
  | 'logFormat'
  | 'logLevel'
  | 'logDir'
  | 'logFileSize'
  | 'logFilesKept'
  | 'metricsPort'
  | 'metricsHost'
> {
  server?: string
  token?: string
  context?: string
  ca?: string
  name?: string
  namespace?: string[]
  workspace?: string
}

const WORKER_SETTINGS = [
  'modules',
  'toolFiles',
  'toolCommands',
  'capacity',
  'labels',
  'logFormat',
  'logLevel',
  'logDir',
  'logFileSize',
  'logFilesKept',
  'metricsPort',
  'metricsHost',
] as const satisfies readonly SettingName[]

/** `orrery worker`: takes work from a server until a signal or its end. */
export async function runWorker(deps: CliDeps, output: Output, flags: WorkerFlags): Promise<number> {
  const { server, token, context, ca, name, namespace, workspace, ...rest } = flags
  const config = await readConfig(deps, output, rest, WORKER_SETTINGS)
  const place = workspace ?? (deps.env['ORRERY_WORKSPACE'] || undefined)
  const secret = token ?? (deps.env['ORRERY_WORKER_TOKEN'] || undefined)
  const interrupts = new Interrupts(deps)
  try {
    const starting = deps.startWorker({
      server: server ?? null,
      context: context ?? null,
      ca: ca === undefined ? null : path.resolve(deps.cwd, ca),
      token: secret === undefined ? null : new Secret(secret),
      name: name ?? (deps.env['ORRERY_WORKER_NAME'] || null),
      modules: config.modules,
      programs: config.programs,
      capacity: config.capacity,
      labels: config.labels,
      namespaces: namespace ?? null,
      workspace: place === undefined ? null : path.resolve(deps.cwd, place),
      logFormat: config.logFormat,
      logLevel: config.logLevel,
      logFiles: config.logFiles,
      metrics: config.metricsPort === null ? null : { host: config.metricsHost, port: config.metricsPort },
    })
    starting.catch(() => {}) // a second signal may leave before it is known how the start went
    const leave = interrupts.second.then((signal) => ({ kind: 'left' as const, exit: EXIT_OF_SIGNAL[signal] }))
    const started = await Promise.race([starting.then((worker) => ({ kind: 'started' as const, worker })), leave])
    if (started.kind === 'left') return started.exit
    const { worker } = started
    if (worker.isRegistered) announce(output, worker, config.capacity)
    const draining = interrupts.first.then(() => {
      output.remark(DRAINING)
      return worker.drain()
    })
    const failedDrain = new Promise<never>((_resolve, reject) => void draining.catch(reject))
    const ended = worker.ended.then((end) => ({ kind: 'ended' as const, ...end }))
    const result = await Promise.race([ended, leave, failedDrain])
    if (result.kind === 'left') return result.exit
    if (result.failure) throw errorOfRecord(result.failure)
    return 0
  } finally {
    interrupts.stop()
  }
}

function announce(output: Output, { name, address, metricsAddress }: WorkerHandle, capacity: number): void {
  if (output.isData)
    return output.printData({ type: 'worker', name, address, ...(metricsAddress ? { metricsAddress } : {}) })
  const slots = `${capacity} slot${capacity === 1 ? '' : 's'}`
  output.print([span(`worker ${name}`, 'bold'), span(` takes work from ${address}  `), span(slots, 'dim')])
  if (metricsAddress) output.print(`metrics at ${metricsAddress}`)
}
