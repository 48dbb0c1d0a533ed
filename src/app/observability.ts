import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Log, noTracer, systemClock, systemRandom, type Tracer } from '../base/index.ts'
import type { LogFiles, LogFormat, LogLevel } from '../cli/index.ts'
import { ROUTES } from '../contract/index.ts'
import { LIMITS } from '../domain/index.ts'
import {
  createLog,
  createOtlpTracer,
  createPrometheus,
  createSampler,
  KnownSecrets,
  type OtlpTracer,
  type Prometheus,
  readOtelSettings,
  RotatingFile,
  textOfLine,
} from '../telemetry/index.ts'
import { hostIdentity } from './host.ts'
import type { Env } from './places.ts'
import { watchProcess } from './process-stats.ts'
import { VERSION } from './version.ts'

export type Component = 'server' | 'worker' | 'run'

/** What a process says about itself: its logs, its metrics, its spans. */
export interface Observability {
  prometheus: Prometheus
  tracer: Tracer
  /** Secret values that no line of its logs may show. */
  known: KnownSecrets
  /** The log of one component of this process. */
  logOf(component: Component): Log
  /** The file of a component's log; null when it goes to none. */
  logFileOf(component: Component): string | null
  /** Sends and writes what is left. */
  close(): Promise<void>
}

export interface ObservabilityOptions {
  of: 'server' | 'worker' | 'all'
  format: LogFormat
  level: LogLevel
  files: LogFiles | null
  /** False: the log goes to files alone. */
  toStderr: boolean
  /** Whether spans have in them what was said to models and tools, when no variable says otherwise. */
  capturesContent?: boolean
  env: Env
}

const toStderr = (line: string): void => void process.stderr.write(line)

/** Builds all of it. A file that cannot be written and variables that make no sense are said, and stop nothing. */
export function openObservability(options: ObservabilityOptions): Observability {
  const prometheus = createPrometheus({ version: VERSION, of: options.of, routes: ROUTES.map((route) => route.id) })
  const { metrics } = prometheus
  const files = new Map<Component, RotatingFile>()
  const logs = new Map<Component, Log>()
  const known = new KnownSecrets({ max: LIMITS.secretsRememberedMax })
  const shape = (line: string) =>
    options.format === 'json' ? line : textOfLine(line, { withStacks: options.level === 'debug' })

  const fileOf = (component: Component): RotatingFile | null => {
    const { files: wanted } = options
    if (wanted === null) return null
    const file = new RotatingFile({
      path: join(wanted.dir, `${component}.log`),
      maxBytes: wanted.maxBytes,
      keep: wanted.keep,
      bufferBytes: LIMITS.logFileBufferBytes,
      onTrouble: (trouble) => {
        // To the other place alone: the file is what does not work.
        if (options.toStderr) toStderr(shape(troubleLine(component, trouble)))
      },
    })
    files.set(component, file)
    return file
  }
  const logOf = (component: Component): Log => {
    const made = logs.get(component)
    if (made) return made
    const file = fileOf(component)
    const log = createLog({
      level: options.level,
      format: 'json',
      component,
      write: (written) => {
        const line = known.redact(written)
        if (options.toStderr) toStderr(shape(line))
        file?.write(line)
      },
      onLine: (level) => metrics.count('orrery_log_lines_total', 1, { level }),
    })
    logs.set(component, log)
    return log
  }
  prometheus.onScrape(() =>
    prometheus.countTo(
      'orrery_log_lines_dropped_total',
      [...files.values()].reduce((sum, file) => sum + file.dropped, 0),
    ),
  )
  const stopWatching = watchProcess(prometheus)
  const main = options.of === 'worker' ? 'worker' : 'server'
  const tracer =
    options.toStderr || options.files ? openTracer(options.env, logOf(main), prometheus, { main, ...options }) : null
  const flushFiles = () => {
    for (const file of files.values()) file.flushNow()
  }
  process.on('exit', flushFiles)
  return {
    prometheus,
    tracer: tracer ?? noTracer,
    known,
    logOf,
    logFileOf: (component) => files.get(component)?.path ?? null,
    async close() {
      stopWatching()
      await tracer?.close()
      await Promise.all([...files.values()].map((file) => file.close()))
      process.off('exit', flushFiles)
    },
  }
}

function troubleLine(component: Component, trouble: object): string {
  const isOver = 'recovered' in trouble
  return `${JSON.stringify({
    level: isOver ? 'info' : 'warn',
    time: new Date(systemClock.now()).toISOString(),
    component,
    ...trouble,
    message: isOver ? 'log file is written again' : 'log file cannot be written; its lines are dropped until it can',
  })}\n`
}

/** Null while no endpoint is set: then nothing is measured and nothing leaves. */
function openTracer(
  env: Env,
  log: Log,
  { metrics }: Prometheus,
  { main, capturesContent = false }: { main: 'server' | 'worker'; capturesContent?: boolean },
): OtlpTracer | null {
  const { settings, problems } = readOtelSettings(env, { serviceName: `orrery-${main}`, capturesContent })
  for (const problem of problems)
    log.warn('a variable of OpenTelemetry is passed over', {
      code: problem.code,
      ...problem.toRecord().evidence,
      remediation: problem.toRecord().remediation,
    })
  if (settings.endpoint === null) return null
  return createOtlpTracer({
    collector: {
      endpoint: settings.endpoint,
      headers: settings.headers,
      timeoutMs: settings.timeoutMs,
      ca: readCertificate(settings.certificate, log),
    },
    sampler: createSampler(settings.sampler, settings.ratio),
    resource: {
      ...settings.resource,
      'service.name': settings.serviceName,
      'service.version': VERSION,
      'service.instance.id': `${hostIdentity().split('/')[0] ?? ''}/${process.pid}`,
    },
    version: VERSION,
    delayMs: settings.delayMs,
    capturesContent: settings.capturesContent,
    clock: systemClock,
    random: systemRandom,
    log,
    metrics,
  })
}

function readCertificate(path: string | null, log: Log): string | null {
  if (path === null) return null
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    log.warn('the certificate for traces cannot be read', { path, err: error })
    return null
  }
}
