// A server of the test's own on a real socket, over a real database, with times that a test can wait for; workers and commands
// are real processes. Everything is ended and removed when the test is over.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer, connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { serve } from '../../src/api/index.ts'
import { createIds, type JsonObject, Secret, systemClock, systemRandom } from '../../src/base/index.ts'
import { type Client, createClient, createExchangeLane, httpTransport } from '../../src/client/index.ts'
import type { ExchangeLane } from '../../src/contract/index.ts'
import type { RunView, StepView } from '../../src/contract/api-types.ts'
import { DEFAULT_TIMES, type EngineTimes, type SecretDeps } from '../../src/engine/index.ts'
import { NO_SOURCES } from '../../src/engine/secret-sources.ts'
import { KeyRing } from '../../src/store/secrets/key-ring.ts'
import { SealingKey } from '../../src/store/secrets/seal.ts'
import { type Db, migrate, openPostgres } from '../../src/store/index.ts'
import { createLog } from '../../src/telemetry/index.ts'
import { isProcessAlive } from '../../src/app/host.ts'
import { VERSION } from '../../src/app/index.ts'
import { startServer } from '../../src/app/start-server.ts'
import { eventually } from '../support/eventually.ts'
import { type OrreryProcess, runOrrery, startOrrery } from '../support/processes.ts'

export const FUNCTIONS = fileURLToPath(new URL('./functions.ts', import.meta.url))
/** Long enough for a loaded machine; nothing waits this long unless it fails. */
export const WITHIN = { withinMs: 40_000 }
/** For a server that starts: it may migrate, or make a whole database where none was prepared. One that ends is told at once. */
const UP_WITHIN = { withinMs: 50_000 }

/** Times that a test can wait for, in the proportions of the real ones. */
export const SHORT_TIMES: EngineTimes = {
  ...DEFAULT_TIMES,
  leaseMs: 2_000,
  heartbeatMs: 300,
  pollMs: 2_000,
  tickMs: 150,
  // Twice the lease, as in the product: who falls silent is lost before it is late.
  acknowledgeMs: 4_000,
  dispatchGraceMs: 200,
}

/** An empty directory that goes with the test. */
export function makeDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'orrery-scenario-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }))
  return dir
}

export interface Scene {
  address: string
  client: Client
  db: Db
  /** For files that functions and commands look at. */
  dir: string
  adminToken: string
  workerToken: string
  serverLog(): string
  /** A worker in a process of its own, registered when this resolves unless `waits` is false. */
  startWorker(options?: WorkerOptions): Promise<OrreryProcess>
  /** `orrery <args>` against this server. */
  orrery(...args: string[]): ReturnType<typeof runOrrery>
  /** The exchange as a worker speaks it, for workers that misbehave. */
  lane(token?: string): ExchangeLane
  /** Starts a run of these steps and gives its id. */
  start(steps: JsonObject[], spec?: JsonObject): Promise<string>
  getStep(runId: string, name: string): Promise<StepView>
  /** The run once it has ended. */
  ended(runId: string): Promise<RunView>
  stepWith(runId: string, name: string, holds: (step: StepView) => boolean): Promise<StepView>
  /** Lets `gate` functions of this name end. */
  open(name: string): void
  /** How often a `gate` function of this name did that: began, ended, stopped. */
  noted(name: string, what: 'began' | 'ended' | 'stopped'): string[]
}

export interface WorkerOptions {
  name?: string
  capacity?: number
  labels?: string[]
  token?: string
  /** Another way to the server, such as a proxy. */
  server?: string
  waits?: boolean
}

export interface SceneOptions {
  dsn: string
  times?: Partial<EngineTimes>
  /** Workers appear to be on another machine: their death shows by their lease alone. */
  isFar?: boolean
  /** What the server says that it is; as this build says when absent. */
  version?: string
  /** The server has a key of its own for secrets. */
  keepsSecrets?: boolean
}

function ownSecrets(): SecretDeps {
  const key = SealingKey.generate().reveal()
  const ring = new KeyRing({ name: 'of the test', read: () => Promise.resolve(key), prepend: null })
  return { ring, sources: NO_SOURCES, remember: () => {} }
}

export async function openScene(options: SceneOptions): Promise<Scene> {
  const dir = makeDir()
  const version = options.version ?? VERSION
  const lines: string[] = []
  const log = createLog({ level: 'debug', format: 'json', component: 'server', write: (line) => void lines.push(line) })
  const db = openPostgres({ dsn: options.dsn, connections: 6, log })
  await migrate(db, { version })
  const server = await startServer({
    db,
    log,
    address: null,
    tokens: { admin: { given: undefined, file: null }, worker: { given: undefined, file: null } },
    ...(options.keepsSecrets ? { secrets: ownSecrets() } : {}),
    unlike: {
      times: { ...SHORT_TIMES, ...options.times },
      version,
      isAlive: options.isFar ? () => null : isProcessAlive,
    },
  })
  const tokens = { admin: server.adminToken.reveal(), worker: server.workerToken.reveal() }
  const ids = createIds(systemClock, systemRandom)
  const serving = await serve(server.api, { host: '127.0.0.1', port: 0, clock: systemClock, ids, closeGraceMs: 200 })
  const address = `http://127.0.0.1:${serving.port}`
  const transport = httpTransport({ address })
  const client = createClient({ transport, token: server.adminToken })
  const workers: OrreryProcess[] = []
  onTestFinished(async () => {
    for (const worker of workers) worker.signal('SIGKILL')
    await Promise.all(workers.map((worker) => worker.ended))
    endAllBelow(dir)
    await server.stop()
    await serving.close()
    await db.close()
  })
  let started = 0
  const scene: Scene = {
    address,
    client,
    db,
    dir,
    adminToken: tokens.admin,
    workerToken: tokens.worker,
    serverLog: () => lines.join(''),
    async startWorker({ name = `w${++started}`, capacity = 4, labels = [], token, server, waits = true } = {}) {
      const args = ['worker', '--name', name, '--capacity', String(capacity), '--server', server ?? address]
      const more = [...labels.flatMap((label) => ['--label', label]), '--module', `t=${FUNCTIONS}`]
      const worker = startOrrery(
        [...args, ...more, '--workspace', join(dir, 'workers', name), '--log-format', 'json'],
        {
          env: { ORRERY_WORKER_TOKEN: token ?? tokens.worker, XDG_DATA_HOME: join(dir, 'data') },
        },
      )
      workers.push(worker)
      if (waits) await worker.waitFor(/takes work from/, WITHIN)
      return worker
    },
    orrery: (...args) =>
      runOrrery(args, {
        env: { ORRERY_SERVER: address, ORRERY_TOKEN: tokens.admin, XDG_DATA_HOME: join(dir, 'data') },
      }),
    lane: (token) => createExchangeLane({ transport, token: new Secret(token ?? tokens.worker) }),
    async start(steps, spec = {}) {
      const created = await client.createRun({ workflow: workflowOf(steps, spec) })
      return created.id
    },
    async getStep(runId, name) {
      const { items } = await client.listSteps(runId)
      const step = items.find((s) => s.name === name)
      if (!step) throw new Error(`run ${runId} has no step ${name}`)
      return step
    },
    async ended(runId) {
      return eventually(
        async () => {
          const run = await client.getRun(runId)
          return ['succeeded', 'failed', 'canceled'].includes(run.state) ? run : null
        },
        { ...WITHIN, what: `the end of ${runId}` },
      ).catch(async (error: unknown) => {
        const run = await client.getRun(runId)
        throw new Error(`${JSON.stringify(run, null, 1)}\n${lines.slice(-20).join('')}`, { cause: error })
      })
    },
    async stepWith(runId, name, holds) {
      let last: StepView | null = null
      return eventually(
        async () => {
          last = await scene.getStep(runId, name)
          return holds(last) ? last : null
        },
        { ...WITHIN, what: `step ${name} of ${runId}` },
      ).catch((error: unknown) => {
        throw new Error(`${JSON.stringify(last, null, 1)}\n${lines.slice(-20).join('')}`, { cause: error })
      })
    },
    open: (name) => writeFileSync(join(dir, `${name}.go`), ''),
    noted(name, what) {
      const file = join(dir, `${name}.${what}`)
      return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : []
    },
  }
  return scene
}

export const workflowOf = (steps: JsonObject[], spec: JsonObject = {}): JsonObject => ({
  apiVersion: 'orrery.dev/v1',
  kind: 'Workflow',
  metadata: { name: 'scenario' },
  spec: { modules: { t: './functions.ts' }, ...spec, steps },
})

/** Commands outlive their worker, so what was started below a directory is looked for by it. Lines of `<pid> <command line>`. */
export function processesBelow(dir: string): string[] {
  if (!existsSync('/proc/self')) return []
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return []
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
      const isZombie = line === ''
      const isBelow = `${readlinkSync(`/proc/${pid}/cwd`)}/ ${line}`.includes(`${dir}/`)
      return isBelow && !isZombie ? [`${pid} ${line}`] : []
    } catch {
      return [] // It ended while it was looked at.
    }
  })
}

function endAllBelow(dir: string): void {
  for (const line of processesBelow(dir)) {
    try {
      process.kill(Number.parseInt(line, 10), 'SIGKILL')
    } catch {
      // Gone already.
    }
  }
}

export interface Proxy {
  address: string
  /** Cuts every connection; new ones are refused until `mend`. */
  cut(): void
  /** Takes what the server answers and passes nothing on, as a buffering proxy does. */
  buffer(): void
  mend(): void
  /** Connections that were ever made. */
  connections(): number
}

/** A TCP proxy in front of a server, which can be cut; with `only`, those connections alone on which that text was sent. */
export async function startProxy(target: string, { only }: { only?: string } = {}): Promise<Proxy> {
  const { port } = new URL(target)
  const sockets = new Set<Socket>()
  const meant = new Set<Socket>()
  let state: 'open' | 'cut' | 'buffer' = 'open'
  let connections = 0
  const server = createServer((near) => {
    connections++
    if (state === 'cut' && only === undefined) return void near.destroy()
    const far = connect(Number(port), '127.0.0.1')
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('error', () => {}) // `close` follows
      socket.on('close', () => {
        sockets.delete(socket)
        meant.delete(socket)
        near.destroy()
        far.destroy()
      })
    }
    near.on('data', (chunk) => {
      if (only !== undefined && chunk.includes(only)) {
        if (state === 'cut') return void near.destroy()
        meant.add(near)
      }
      far.write(chunk)
    })
    far.on('data', (chunk) => {
      if (state !== 'buffer') near.write(chunk)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const dropAll = () => {
    for (const socket of only === undefined ? sockets : meant) socket.destroy()
  }
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port')
  return {
    address: `http://127.0.0.1:${address.port}`,
    cut() {
      state = 'cut'
      dropAll()
    },
    buffer() {
      state = 'buffer'
    },
    mend() {
      if (state === 'buffer') dropAll()
      state = 'open'
    },
    connections: () => connections,
  }
}

/** Writes a file below a directory and gives its path. */
export function writeBelow(dir: string, name: string, text: string): string {
  const path = join(dir, name)
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, text)
  return path
}

/** The failure of a command that was run with --json. */
export function failureIn(stderr: string): {
  code: string
  message: string
  remediation: string
  evidence: JsonObject
  cause?: JsonObject
} {
  const line = stderr.split('\n').findLast((text) => text.startsWith('{"failure"'))
  if (line === undefined) throw new Error(`no failure in:\n${stderr}`)
  return JSON.parse(line).failure // tests look at what it holds
}

export interface Up {
  process: OrreryProcess
  address: string
  client: Client
  token: string
  dataDir: string
}

/** Administrator of the servers that scenarios start. */
const UP_TOKEN = 'administrator-of-scenarios-0123456789'

/** `orrery up` as people start it, on a free port; ended when the test is over. */
export async function startUp(
  args: readonly string[],
  options: { dataDir?: string; env?: Record<string, string> } = {},
): Promise<Up> {
  const dataDir = options.dataDir ?? join(makeDir(), 'data')
  // Only the first server of a database makes an administrator of its own: where others may follow all are given one.
  const given = options.env?.['ORRERY_ADMIN_TOKEN'] ?? (args.includes('postgres') ? UP_TOKEN : null)
  const env = { ...options.env, ...(given === null ? {} : { ORRERY_ADMIN_TOKEN: given }) }
  const up = startOrrery(['up', '--json', '--port', '0', '--data-dir', dataDir, ...args], { env })
  onTestFinished(async () => {
    await up.kill9()
    endAllBelow(dataDir)
  })
  await up.waitFor(/"type":"up".*\n/, UP_WITHIN)
  const told =
    up
      .stdout()
      .split('\n')
      .find((line) => line.includes('"type":"up"')) ?? '{}'
  const { address, tokenFile }: { address: string; tokenFile: string } = JSON.parse(told)
  const token = given ?? readFileSync(tokenFile, 'utf8').trim()
  return {
    process: up,
    address,
    token,
    dataDir,
    client: createClient({ transport: httpTransport({ address }), token: new Secret(token) }),
  }
}

/** Runs `orrery <args> --json` to its end and gives its failure, exit code and what it printed besides. */
export async function refused(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ exit: number | null; stdout: string; failure: ReturnType<typeof failureIn> }> {
  const end = await runOrrery([...args, '--json'], { env })
  return { exit: end.code, stdout: end.stdout, failure: failureIn(end.stderr) }
}

export async function endedRun(client: Client, runId: string): Promise<RunView> {
  return eventually(
    async () => {
      const run = await client.getRun(runId)
      return ['succeeded', 'failed', 'canceled'].includes(run.state) ? run : null
    },
    { ...WITHIN, what: `the end of ${runId}` },
  )
}
