import { existsSync } from 'node:fs'
import path from 'node:path'
import { Failure } from '../../domain/failure.ts'
import { type LogFilter, readLogs, textOfLine } from '../../telemetry/index.ts'
import type { CliDeps } from '../deps.ts'
import { instantOf } from '../instant.ts'
import { EXIT_OF_SIGNAL, Interrupts } from '../interrupts.ts'
import type { Output } from '../output.ts'
import { usageFailure } from '../usage.ts'

export interface ComponentLogFlags {
  component?: string
  run?: string
  trace?: string
  request?: string
  since?: string
  level?: string
  follow?: boolean
  logDir?: string
}

const COMPONENTS = ['server', 'worker', 'run']
const LEVELS = ['debug', 'info', 'warn', 'error'] as const

/** `orrery logs`: what servers and workers wrote into a directory of logs; asks no server. */
export async function showComponentLogs(deps: CliDeps, output: Output, flags: ComponentLogFlags): Promise<number> {
  const filter = filterOf(deps, flags)
  const dir = directoryOf(deps, flags)
  const interrupts = new Interrupts(deps)
  const stopping = new AbortController()
  void interrupts.first.then(() => stopping.abort(new Error('interrupted')))
  let shown = 0
  try {
    const options = { clock: deps.clock, follow: flags.follow === true, signal: stopping.signal }
    for await (const { line, fields } of readLogs(dir, filter, options)) {
      if (stopping.signal.aborted) break
      shown++
      if (output.format === 'json') deps.stdout.write(`${line}\n`)
      else if (output.isData) output.printData(fields)
      else deps.stdout.write(`${String(fields['component']).padEnd(6)} ${textOfLine(line, { withStacks: false })}`)
    }
    if (shown === 0 && !flags.follow) output.remark(`no line in ${dir} fits`)
    return stopping.signal.aborted ? EXIT_OF_SIGNAL.SIGINT : 0
  } finally {
    interrupts.stop()
  }
}

function directoryOf(deps: CliDeps, flags: ComponentLogFlags): string {
  const given = flags.logDir ?? (deps.env['ORRERY_LOG_DIR'] || undefined)
  if (given === undefined) throw new Failure('telemetry.log_dir_unset', 'looking for the logs of servers and workers')
  const dir = path.resolve(deps.cwd, given)
  if (!existsSync(dir))
    throw new Failure('telemetry.log_dir_unset', `reading logs in ${dir}`, {
      evidence: { dir, from: flags.logDir === undefined ? 'ORRERY_LOG_DIR' : '--log-dir' },
      remediation: 'There is no such directory: name the one that servers and workers were started with.',
    })
  return dir
}

function filterOf(deps: CliDeps, flags: ComponentLogFlags): LogFilter {
  const { component, level, since, trace } = flags
  if (component !== undefined && !COMPONENTS.includes(component))
    throw usageFailure(`--component ${component}: there is no such component`, `Use one of ${COMPONENTS.join(', ')}.`)
  const least = LEVELS.find((name) => name === level)
  if (level !== undefined && !least)
    throw usageFailure(`--level ${level}: there is no such level`, `Use one of ${LEVELS.join(', ')}.`)
  if (trace !== undefined && !/^[\da-f]{32}$/i.test(trace))
    throw usageFailure(`--trace ${trace}: is no trace id`, 'A trace id has 32 hexadecimal digits.')
  return {
    component: component ?? null,
    run: flags.run ?? null,
    trace: trace?.toLowerCase() ?? null,
    request: flags.request ?? null,
    level: least ?? null,
    since: since === undefined ? null : instantOf(deps, since),
  }
}
