import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { type FileHandle, open, readdir, readFile, readlink, rm } from 'node:fs/promises'
import { createConnection, type Socket } from 'node:net'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Log, Random } from '../../base/index.ts'
import { Failure } from '../../domain/failure.ts'
import type { RootPaths } from './layout.ts'
import { type HostNews, type HostOrder, onLines, PROTOCOL, sendLine } from './shim-protocol.ts'

const LOG_TAIL_CHARS = 2_000
/** Ids of the hosts that know all that this worker orders. */
const HOST_PREFIX = `p${PROTOCOL}-`

/** A connection to one living shim host. */
export interface ShimLink {
  readonly id: string
  readonly isOpen: boolean
  send(order: HostOrder): void
  close(): void
}

export interface LinkEvents {
  onNews(news: HostNews, link: ShimLink): void
  /** The host is gone; not called after `close()`. */
  onDead(link: ShimLink): void
}

/** Finds and starts the shim hosts of one root. */
export class ShimHosts {
  readonly #paths: RootPaths
  readonly #random: Random
  readonly #log: Log
  readonly #idleExitMs: number
  readonly #events: LinkEvents
  readonly #links = new Map<string, Promise<ShimLink | null>>()
  #dir: FileHandle | null = null
  #current: Promise<ShimLink> | null = null

  constructor(options: { paths: RootPaths; random: Random; log: Log; idleExitMs: number; events: LinkEvents }) {
    this.#paths = options.paths
    this.#random = options.random
    this.#log = options.log
    this.#idleExitMs = options.idleExitMs
    this.#events = options.events
  }

  /** A host for new commands: one that lives, or a new one. */
  current(): Promise<ShimLink> {
    this.#current ??= this.#findOrStart()
    this.#current.catch(() => (this.#current = null))
    return this.#current
  }

  /** The link to a certain host; null when it is dead. */
  connect(id: string): Promise<ShimLink | null> {
    const known = this.#links.get(id)
    if (known) return known
    const link = this.#connect(id)
    this.#links.set(id, link)
    return link
  }

  async close(): Promise<void> {
    for (const link of this.#links.values()) (await link)?.close()
    await this.#dir?.close()
    this.#dir = null
  }

  /** The last words of a host that died. */
  async lastWords(id: string): Promise<string> {
    return (await readFile(join(this.#paths.hosts, `${id}.log`), 'utf8').catch(() => '')).slice(-LOG_TAIL_CHARS)
  }

  async #findOrStart(): Promise<ShimLink> {
    const entries = await readdir(this.#paths.hosts)
    for (const entry of entries) {
      // What hosts of another protocol run is theirs to end, but they would pass over what they do not know in an order.
      if (extname(entry) !== '.sock' || !entry.startsWith(HOST_PREFIX)) continue
      const id = entry.slice(0, -'.sock'.length)
      const link = await this.connect(id)
      if (link?.isOpen) return link
      const left = entries.filter((e) => e.startsWith(`${id}.`))
      for (const name of left) await rm(join(this.#paths.hosts, name), { force: true })
      this.#links.delete(id)
    }
    return this.#start()
  }

  async #start(): Promise<ShimLink> {
    const id = `${HOST_PREFIX}${Buffer.from(this.#random.bytes(8)).toString('hex')}`
    const logPath = join(this.#paths.hosts, `${id}.log`)
    const log = openSync(logPath, 'a', 0o600)
    let child
    try {
      // Beside this file, and built as this file is.
      const program = fileURLToPath(new URL(`./shim-host${extname(import.meta.url)}`, import.meta.url))
      child = spawn(process.execPath, [program, id, String(this.#idleExitMs)], {
        cwd: this.#paths.hosts,
        env: {},
        detached: true,
        stdio: ['ignore', log, log, 'pipe'],
      })
    } finally {
      closeSync(log)
    }
    const { pid } = child
    child.unref()
    const problem = await readiness(child)
    const link = problem === null ? await this.connect(id) : null
    if (link === null) {
      throw new Failure('backend.start_failed', 'starting the shim host, the parent of all commands', {
        cause: problem,
        evidence: { log: logPath, last_words: await this.lastWords(id) },
      })
    }
    this.#log.debug('shim host started', { host: id, pid })
    return link
  }

  async #connect(id: string): Promise<ShimLink | null> {
    this.#dir ??= await open(this.#paths.hosts, 'r')
    // Through the descriptor, because the path of a socket may have no more than 107 bytes.
    const socket = createConnection(`/proc/self/fd/${this.#dir.fd}/${id}.sock`)
    const link = await greet(socket, id, this.#events, () => {
      this.#current = null
      this.#links.delete(id)
    })
    if (link === null) this.#links.delete(id)
    return link
  }
}

/** The id of the host that took the attempt; null when none did. */
export async function readClaim(path: string): Promise<string | null> {
  return readlink(path).catch(() => null)
}

/** Resolves when the new host listens (null), or with the reason why it will not. */
function readiness(child: ReturnType<typeof spawn>): Promise<Error | string | null> {
  return new Promise((resolve) => {
    child.once('error', resolve)
    const ready = child.stdio[3]
    ready?.once('data', () => resolve(null))
    ready?.once('close', () => resolve('it ended before it listened'))
    ready?.once('error', resolve)
  })
}

/** Resolves with the host's first line; null when there is no host. */
function greet(socket: Socket, id: string, events: LinkEvents, onGone: () => void): Promise<ShimLink | null> {
  return new Promise((resolve) => {
    let link: ShimLink | null = null
    let closing = false
    socket.on('error', () => {}) // `close` follows
    socket.on('close', () => {
      onGone()
      if (link !== null && !closing) events.onDead(link)
      resolve(null)
    })
    onLines<HostNews>(socket, (news) => {
      if (news.is !== 'hello') {
        if (link !== null && !closing) events.onNews(news, link)
        return
      }
      link = {
        id,
        get isOpen() {
          return !socket.destroyed
        },
        send: (order) => sendLine(socket, order),
        close: () => {
          closing = true
          socket.destroy()
        },
      }
      resolve(link)
    })
  })
}
