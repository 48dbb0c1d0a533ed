// Servers, workers and a PostgreSQL as real processes that can be killed and come again, and what is needed to look at them.
import { randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { onTestFinished } from 'vitest'
import { Secret } from '../../src/base/index.ts'
import { type Client, createClient, httpTransport } from '../../src/client/index.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../support/free-port.ts'
import { type Postgres, startPostgres } from '../support/postgres.ts'
import { type OrreryProcess, startOrrery } from '../support/processes.ts'

const STEPS = join(import.meta.dirname, 'steps.ts')
const START_WITHIN_MS = 60_000

/** A process that is started again with the same command line. */
export class Member {
  readonly name: string
  readonly #start: () => OrreryProcess
  process: OrreryProcess | null = null
  /** It may die by our hand alone; null as long as that holds. */
  endedAlone: string | null = null
  /** What earlier lives printed, for the message of a test that fails. */
  #said = ''

  constructor(name: string, start: () => OrreryProcess) {
    this.name = name
    this.#start = start
  }

  /** Starts it when it does not run. */
  start(): OrreryProcess {
    if (this.process === null) {
      const process = this.#start()
      this.process = process
      void process.ended.then((end) => {
        if (this.process === process) this.endedAlone = `${this.name} ended by itself: ${JSON.stringify(end)}`
      })
    }
    return this.process
  }

  async kill9(): Promise<void> {
    await this.#end((process) => process.kill9())
  }

  async stop(): Promise<void> {
    await this.#end((process) => process.stop())
  }

  async #end(how: (process: OrreryProcess) => Promise<unknown>): Promise<void> {
    const { process } = this
    this.process = null
    if (!process) return
    await how(process)
    this.#said = `${this.#said}${process.output()}`.slice(-20_000)
  }

  output(): string {
    return `${this.#said}${this.process?.output() ?? ''}`
  }
}

export interface Attempt {
  step: string
  fence: number
  pid: number
  what: 'start' | 'end'
  at: number
}

export interface RigOptions {
  servers: number
  workers: number
  capacity?: number
  /** Each worker knows all servers, its own first; else its own alone. */
  knowsAll?: boolean
}

export class Rig {
  readonly postgres: Postgres
  readonly home: string
  readonly journalFile: string
  readonly servers: { member: Member; address: string; client: Client }[] = []
  readonly workers: Member[] = []
  readonly adminToken = `admin-${randomUUID()}`
  readonly #dsn: string
  #closing: Promise<void> | null = null

  private constructor(postgres: Postgres, home: string, dsn: string) {
    this.postgres = postgres
    this.home = home
    this.journalFile = join(home, 'journal')
    this.#dsn = dsn
  }

  /** Starts everything and waits until the servers are ready and the workers are connected. */
  static async start(options: RigOptions): Promise<Rig> {
    const postgres = await startPostgres()
    const home = await mkdtemp(join(tmpdir(), 'orrery-chaos-'))
    const rig = new Rig(postgres, home, postgres.dsn())
    // From here on, and not only when all has started: a test that is given up meanwhile leaves nothing to the next.
    onTestFinished(() => rig.close())
    await rig.#build(options)
    await rig.startAll()
    return rig
  }

  async #build(options: RigOptions): Promise<void> {
    const workerToken = `worker-${randomUUID()}`
    const env = {
      ORRERY_ADMIN_TOKEN: this.adminToken,
      ORRERY_WORKER_TOKEN: workerToken,
      ORRERY_POSTGRES_DSN: this.#dsn,
    }
    for (let i = 0; i < options.servers; i++) {
      const port = await freePort()
      const address = `http://127.0.0.1:${port}`
      const args = ['up', '--store', 'postgres', '--no-worker', '--port', String(port), '--log-level', 'warn']
      const dataDir = ['--data-dir', join(this.home, `server${i}`)]
      const member = new Member(`server${i}`, () => startOrrery([...args, ...dataDir], { env }))
      const transport = httpTransport({ address, silenceMs: 10_000 })
      this.servers.push({ member, address, client: createClient({ transport, token: new Secret(this.adminToken) }) })
    }
    for (let i = 0; i < options.workers; i++) {
      const server = this.servers[i % this.servers.length]
      if (!server) throw new Error('a worker needs a server')
      const name = `worker${i}`
      const others = options.knowsAll === true ? this.servers.filter((other) => other !== server) : []
      const servers = [server, ...others].map(({ address }) => address).join(',')
      const place = ['--server', servers, '--workspace', join(this.home, name), '--log-level', 'warn']
      const args = ['worker', '--name', name, '--capacity', String(options.capacity ?? 8), '--module', `chaos=${STEPS}`]
      this.workers.push(
        new Member(name, () => startOrrery([...args, ...place], { env: { ORRERY_WORKER_TOKEN: workerToken } })),
      )
    }
  }

  get client(): Client {
    const server = this.servers[0]
    if (!server) throw new Error('there is no server')
    return server.client
  }

  get members(): Member[] {
    return [...this.servers.map((s) => s.member), ...this.workers]
  }

  /** Whatever does not run is started; resolves when all of it is at work. */
  async startAll(): Promise<void> {
    for (const { member } of this.servers) member.start()
    for (const server of this.servers) {
      await eventually(() => this.isReady(server.address), {
        withinMs: START_WITHIN_MS,
        what: server.member.name,
      }).catch((error: unknown) => {
        throw new Error(server.member.output(), { cause: error })
      })
    }
    for (const worker of this.workers) worker.start()
    for (const worker of this.workers) {
      await worker.process?.waitFor(/takes work from/, { withinMs: START_WITHIN_MS })
    }
  }

  async isReady(address: string): Promise<boolean> {
    return (await this.status(address, '/readyz')) === 200
  }

  /** Status of a GET; 0 when nothing answers. */
  async status(address: string, path: string): Promise<number> {
    try {
      const response = await fetch(address + path, { signal: AbortSignal.timeout(10_000) })
      await response.arrayBuffer()
      return response.status
    } catch {
      return 0
    }
  }

  /** Rows of the database itself: what is true, whoever says otherwise. */
  async query<R extends pg.QueryResultRow>(sql: string, params: unknown[] = []): Promise<R[]> {
    const client = new pg.Client({ connectionString: this.#dsn, connectionTimeoutMillis: 5_000 })
    client.on('error', () => {})
    await client.connect()
    try {
      return (await client.query<R>(sql, params)).rows
    } finally {
      await client.end().catch(() => {})
    }
  }

  async journal(): Promise<Attempt[]> {
    const text = await readFile(this.journalFile, 'utf8').catch(() => '')
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [key = '', pid, what, at] = line.split(' ')
        const [step = '', fence] = key.split('@')
        return {
          step,
          fence: Number(fence ?? 0),
          pid: Number(pid),
          what: what === 'end' ? 'end' : 'start',
          at: Number(at),
        }
      })
  }

  /** What every process said, for the message of a failure. */
  said(): string {
    return this.members.map((m) => `--- ${m.name}\n${m.output().slice(-3_000)}`).join('\n')
  }

  /** Ends everything, whatever of it can be ended. Twice is safe. */
  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    const workers = await Promise.allSettled(this.workers.map((worker) => worker.stop()))
    const servers = await Promise.allSettled(this.servers.map(({ member }) => member.stop()))
    await this.postgres.stop()
    await rm(this.home, { recursive: true, force: true, maxRetries: 5 })
    for (const end of [...workers, ...servers]) if (end.status === 'rejected') throw end.reason
  }
}
