// A PostgreSQL cluster of a test's own: temporary directory, random port.
import { spawn, spawnSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { appendFile, chmod, chown, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { Client } from 'pg'
import { eventually } from './eventually.ts'
import { freePort } from './free-port.ts'

const CACHE = join(import.meta.dirname, '..', '..', '.cache')
const SUPERUSER = 'orrery'
const START_WITHIN_MS = 60_000
const PORT_TRIES = 5

export type PostgresInstall = { kind: 'found'; bin: string; version: string } | { kind: 'missing'; reason: string }

let install: PostgresInstall | null = null

/** Looks for the programs of PostgreSQL 15 or newer: on the PATH, then where Debian and macOS put them. */
export function findPostgres(): PostgresInstall {
  if (install?.kind === 'found') return install
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  const places = [
    ...(process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== ''),
    ...versions.map((version) => join(debian, version, 'bin')),
    '/opt/homebrew/bin',
  ]
  for (const place of places) {
    if (!['initdb', 'postgres'].every((program) => existsSync(join(place, program)))) continue
    const bin = dirname(realpathSync(join(place, 'initdb')))
    const said = spawnSync(join(bin, 'postgres'), ['--version'], { encoding: 'utf8' }).stdout ?? ''
    const version = /\(PostgreSQL\) ((\d+)\S*)/.exec(said)
    if (version?.[1] && Number(version[2]) >= 15) return (install = { kind: 'found', bin, version: version[1] })
  }
  const reason =
    'The PostgreSQL server, version 15 or newer, is not installed (initdb and postgres). ' +
    'On Debian: apt-get install -y --no-install-recommends postgresql.'
  return (install = { kind: 'missing', reason })
}

export interface Postgres {
  /** Address of a database; `postgres` always exists. */
  dsn(database?: string): string
  /** Makes an empty database and gives its address. */
  createDatabase(name?: string): Promise<string>
  dropDatabase(name: string): Promise<void>
  /** Ends every process of the cluster at once, as a power cut would end them, and waits until they are gone. */
  kill9(): Promise<void>
  /** Starts again on the same port and data; stops first when it runs. */
  restart(): Promise<void>
  /** Ends the cluster and removes its directory. Safe to call twice. */
  stop(): Promise<void>
  readonly port: number
  readonly dataDir: string
}

export interface PostgresOptions {
  /** For tests that need to know it before; else a free one is taken. */
  port?: number
  /** False for a cluster that nobody kills and whose data goes with it: it spares every commit the wait for the disk. */
  isDurable?: boolean
}

/** Starts a cluster, durable as in production when nothing else is said. */
export async function startPostgres(options: PostgresOptions = {}): Promise<Postgres> {
  const found = findPostgres()
  if (found.kind === 'missing') throw new Error(found.reason)
  const owner = clusterOwner()
  const home = await makeHome(owner)
  const cluster = new Cluster(found.bin, home, owner)
  try {
    await copyTemplate(await templateOf(found, owner), cluster.dataDir, owner)
    await cluster.startFirst(options)
  } catch (error) {
    await cluster.stop()
    throw error
  }
  return cluster
}

/** PostgreSQL refuses to run as root, so root hands the cluster to another user. */
interface Owner {
  uid: number
  gid: number
}

function clusterOwner(): Owner | null {
  if (process.getuid?.() !== 0) return null
  const users = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
  const user = users.find(([name]) => name === 'postgres') ?? users.find(([name]) => name === 'nobody')
  if (!user)
    throw new Error('PostgreSQL does not run as root, and this machine has neither a user postgres nor nobody.')
  return { uid: Number(user[2]), gid: Number(user[3]) }
}

async function makeHome(owner: Owner | null): Promise<string> {
  // As root the temporary directory may lie where no other user gets; /tmp is open to all. It is also short, as socket paths must be.
  const home = await mkdtemp(join(owner ? '/tmp' : tmpdir(), 'orrery-pg-'))
  await chmod(home, 0o700)
  if (owner) await chown(home, owner.uid, owner.gid)
  return home
}

interface RunOptions {
  owner: Owner | null
  withinMs?: number
}

/** Runs a program to its end; throws with what it printed when it fails. */
function run(program: string, args: string[], { owner, withinMs = START_WITHIN_MS }: RunOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: '/', stdio: ['ignore', 'pipe', 'pipe'], timeout: withinMs, ...owner })
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.on('error', reject)
    child.on('close', (code, signal) => {
      if (code === 0) resolve()
      else reject(new Error(`${program} ${args.join(' ')} ended with ${signal ?? code}:\n${output}`))
    })
  })
}

/** An initialised data directory that every cluster of this version starts from: `initdb` costs a second, a copy a tenth. */
async function templateOf(found: { bin: string; version: string }, owner: Owner | null): Promise<string> {
  const template = join(CACHE, `postgres-${found.version}`)
  if (existsSync(join(template, 'PG_VERSION'))) return template
  const home = await makeHome(owner)
  try {
    const data = join(home, 'data')
    const args = [
      '-D',
      data,
      '-U',
      SUPERUSER,
      '-A',
      'trust',
      '-E',
      'UTF8',
      '--locale=C',
      '--no-sync',
      '--no-instructions',
    ]
    await run(join(found.bin, 'initdb'), args, { owner })
    await mkdir(CACHE, { recursive: true })
    const arriving = `${template}.${process.pid}`
    await run('cp', ['-a', data, arriving], { owner: null })
    // Another run may have been first: then its directory stays, and this one goes.
    await rename(arriving, template).catch(() => rm(arriving, { recursive: true, force: true }))
  } finally {
    await rm(home, { recursive: true, force: true })
  }
  return template
}

async function copyTemplate(template: string, dataDir: string, owner: Owner | null): Promise<void> {
  await run(
    'cp',
    ['-a', '--reflink=auto', template, dataDir].filter((a) => process.platform === 'linux' || a !== '--reflink=auto'),
    {
      owner: null,
    },
  )
  if (owner) await run('chown', ['-R', `${owner.uid}:${owner.gid}`, dataDir], { owner: null })
  await chmod(dataDir, 0o700)
}

class Cluster implements Postgres {
  readonly dataDir: string
  readonly #bin: string
  readonly #home: string
  readonly #owner: Owner | null
  #port = 0
  #server: { pid: number; ended: Promise<void> } | null = null
  #made = 0

  constructor(bin: string, home: string, owner: Owner | null) {
    this.#bin = bin
    this.#home = home
    this.#owner = owner
    this.dataDir = join(home, 'data')
    process.once('exit', this.#onExit)
  }

  get port(): number {
    return this.#port
  }

  dsn(database = 'postgres'): string {
    return `postgres://${SUPERUSER}@127.0.0.1:${this.#port}/${database}`
  }

  async createDatabase(name = `t${process.pid}_${++this.#made}`): Promise<string> {
    return createDatabase(this.dsn(), name)
  }

  async dropDatabase(name: string): Promise<void> {
    await statement(this.dsn(), `drop database if exists "${name}" with (force)`)
  }

  async startFirst({ port, isDurable = true }: PostgresOptions): Promise<void> {
    const durability = isDurable ? '' : 'fsync = off\nfull_page_writes = off\n'
    for (let tries = 1; ; tries++) {
      this.#port = port ?? (await freePort())
      await appendFile(
        join(this.dataDir, 'postgresql.conf'),
        `listen_addresses = '127.0.0.1'\nport = ${this.#port}\nunix_socket_directories = '${this.#home}'\nmax_connections = 200\n${durability}`,
      )
      try {
        return await this.#start()
      } catch (error) {
        // Between the look and the start another process may have taken the port.
        if (port !== undefined || tries === PORT_TRIES) throw error
      }
    }
  }

  /** As our own child, not through pg_ctl: a killed server is then reaped at once and its lock file is known to be stale. */
  async #start(): Promise<void> {
    const log = join(this.#home, 'server.log')
    const file = openSync(log, 'a')
    const child = spawn(join(this.#bin, 'postgres'), ['-D', this.dataDir], {
      cwd: '/',
      stdio: ['ignore', file, file],
      ...this.#owner,
    })
    closeSync(file)
    const ended = new Promise<void>((resolve) => child.on('exit', () => resolve()).on('error', () => resolve()))
    this.#server = { pid: child.pid ?? -1, ended }
    const hasEnded = () => child.exitCode !== null || child.signalCode !== null || child.pid === undefined
    const state = await eventually(
      async () => {
        if (hasEnded()) return 'ended'
        const lines = (await readFile(join(this.dataDir, 'postmaster.pid'), 'utf8')).split('\n')
        // The file may be the one that a killed server left. The eighth line is the server's state.
        return Number(lines[0]) === child.pid && lines[7]?.trim() === 'ready' ? 'ready' : null
      },
      { withinMs: START_WITHIN_MS },
    ).catch(() => 'late')
    if (state === 'ready') return
    await this.#end('SIGKILL')
    throw new Error(`PostgreSQL did not start:\n${(await readFile(log, 'utf8').catch(() => '')).slice(-2_000)}`)
  }

  async kill9(): Promise<void> {
    if (this.#server === null) return
    const others = childrenOf(this.#server.pid)
    kill(this.#server.pid, 'SIGKILL')
    for (const pid of others) kill(pid, 'SIGKILL')
    await this.#end('SIGKILL')
    await eventually(() => others.every((pid) => !isAlive(pid)), { withinMs: 40_000, what: 'the end of PostgreSQL' })
  }

  async restart(): Promise<void> {
    await this.#end('SIGINT') // "fast": ends connections, writes a checkpoint
    await this.#start()
  }

  async stop(): Promise<void> {
    await this.#end('SIGQUIT') // "immediate": its data goes too, so it need not write any of it
    process.off('exit', this.#onExit)
    await rm(this.#home, { recursive: true, force: true, maxRetries: 5 })
  }

  async #end(signal: 'SIGINT' | 'SIGQUIT' | 'SIGKILL'): Promise<void> {
    if (this.#server === null) return
    const { pid, ended } = this.#server
    this.#server = null
    kill(pid, signal)
    const timer = setTimeout(() => kill(pid, 'SIGKILL'), 20_000)
    await ended
    clearTimeout(timer)
  }

  /** For a test process that ends without `stop()`. */
  readonly #onExit = (): void => {
    if (this.#server !== null) kill(this.#server.pid, 'SIGQUIT')
  }
}

/** Makes a database in the cluster that `dsn` leads to, empty unless it is a copy of a template, and gives the database's address. */
export async function createDatabase(dsn: string, name: string, { template = 'template1' } = {}): Promise<string> {
  await statement(dsn, `create database "${name}" template "${template}"`)
  const url = new URL(dsn)
  url.pathname = `/${name}`
  return url.href
}

async function statement(dsn: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: dsn })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // Gone already.
  }
}

/** A zombie is dead: it only waits for its parent to look. */
function isAlive(pid: number): boolean {
  const stat = statOf(pid)
  if (stat !== null) return stat.state !== 'Z'
  if (existsSync('/proc/self/stat')) return false
  return spawnSync('kill', ['-0', String(pid)]).status === 0
}

function statOf(pid: number): { state: string; parent: number } | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const [state = '', parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return { state, parent: Number(parent) }
  } catch {
    return null
  }
}

function childrenOf(pid: number): number[] {
  if (!existsSync('/proc')) return []
  const pids = readdirSync('/proc')
    .map(Number)
    .filter((n) => Number.isInteger(n) && n > 0)
  return pids.filter((child) => statOf(child)?.parent === pid)
}
