// A server and a worker in processes of their own, over the embedded store, with what the tests of observability look at.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { type OrreryProcess, runOrrery, startOrrery } from '../support/processes.ts'
import { FUNCTIONS, makeDir, startUp, type Up, WITHIN } from './rig.ts'

export interface Observed {
  up: Up
  worker: OrreryProcess
  dir: string
  logDir: string
  /** `orrery <args>` against this server, in its own environment. */
  orrery(args: readonly string[], env?: Record<string, string>): ReturnType<typeof runOrrery>
}

export async function startObserved(
  options: { env?: Record<string, string>; serverArgs?: string[]; workerArgs?: string[]; logs?: boolean } = {},
): Promise<Observed> {
  const dir = makeDir()
  const logDir = join(dir, 'logs')
  const logArgs = ['--log-format', 'json', ...(options.logs ? ['--log-dir', logDir, '--log-level', 'debug'] : [])]
  const up = await startUp(['--no-worker', ...logArgs, ...(options.serverArgs ?? [])], {
    dataDir: join(dir, 'data'),
    ...(options.env ? { env: options.env } : {}),
  })
  const workerToken = readFileSync(join(up.dataDir, 'worker.token'), 'utf8').trim()
  const worker = startOrrery(
    [
      ...['worker', '--name', 'w1', '--server', up.address, '--module', `t=${FUNCTIONS}`, ...logArgs],
      ...['--workspace', join(dir, 'worker'), ...(options.workerArgs ?? [])],
    ],
    { env: { ORRERY_WORKER_TOKEN: workerToken, ...options.env } },
  )
  onTestFinished(async () => {
    worker.signal('SIGKILL')
    await worker.ended
  })
  await worker.waitFor(/takes work from/, WITHIN)
  return {
    up,
    worker,
    dir,
    logDir,
    orrery: (args, env = {}) =>
      runOrrery(args, { env: { ORRERY_SERVER: up.address, ORRERY_TOKEN: up.token, XDG_DATA_HOME: dir, ...env } }),
  }
}

/** JSON lines of a stream. */
export const linesOf = (text: string): Record<string, unknown>[] =>
  text.split('\n').flatMap((line) => {
    try {
      return line.startsWith('{') ? [JSON.parse(line) as Record<string, unknown>] : [] // it begins with a brace
    } catch {
      return [] // not whole yet
    }
  })
