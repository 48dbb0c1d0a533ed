import type { ToolPrograms } from '../agents/index.ts'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { createProcessBackend } from '../backends/index.ts'
import { type Log, type Tracer, systemClock, systemRandom } from '../base/index.ts'
import type { ExchangeLane } from '../contract/index.ts'
import { createAgentRuntime, createWorker, type StartHeartbeats, type Worker } from '../worker/index.ts'
import type { KnownSecrets, Prometheus } from '../telemetry/index.ts'
import { collectWorker } from './collect.ts'
import { hostIdentity, processStart } from './host.ts'
import { commandEnv, loadModules } from './load-modules.ts'
import type { Env } from './places.ts'
import { VERSION } from './version.ts'

/** A worker of this process, over any lane. */
export async function buildWorker(options: {
  lane: ExchangeLane
  startHeartbeats: StartHeartbeats
  name: string | null
  modules: Record<string, string>
  /** What the host has for tools that are programs. */
  programs: ToolPrograms
  capacity: number
  labels: Record<string, string>
  namespaces: string[] | null
  /** Workspaces, outbox and session file lie below it. */
  workspace: string
  env: Env
  log: Log
  prometheus: Prometheus
  tracer: Tracer
  /** What the log of this process must not show. */
  known: KnownSecrets
}): Promise<Worker> {
  const name = options.name ?? hostname()
  const log = options.log.child({ workerId: name })
  const modules = await loadModules(options.modules)
  const backend =
    process.platform === 'linux'
      ? await createProcessBackend({
          root: join(options.workspace, 'commands'),
          clock: systemClock,
          log,
          random: systemRandom,
        })
      : null
  const worker = createWorker({
    lane: options.lane,
    backend,
    agents: createAgentRuntime({
      clock: systemClock,
      random: systemRandom,
      log,
      version: VERSION,
      path: options.env['PATH'] ?? null,
      workdir: null,
      programs: options.programs,
    }),
    modules,
    name,
    version: VERSION,
    capacity: options.capacity,
    labels: options.labels,
    namespaces: options.namespaces,
    host: hostIdentity(),
    pid: process.pid,
    pidStart: processStart(process.pid),
    stateDir: join(options.workspace, 'state'),
    startHeartbeats: options.startHeartbeats,
    clock: systemClock,
    random: systemRandom,
    log,
    metrics: options.prometheus.metrics,
    tracer: options.tracer,
    env: commandEnv(options.env),
    remember: (value) => options.known.add(value),
  })
  collectWorker(options.prometheus, worker)
  return worker
}
