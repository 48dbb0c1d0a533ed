import type * as Sdk from '@modelcontextprotocol/client'
import { backoffMs } from '../../base/backoff.ts'
import type { Clock } from '../../base/clock.ts'
import type { Log } from '../../base/log.ts'
import type { Random } from '../../base/random.ts'
import { Redactor } from '../../base/redact.ts'
import { Failure } from '../../domain/failure.ts'
import { FAILURES } from '../../domain/failures.ts'
import type { McpServerSpec } from '../../domain/kinds/mcp-server.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { Egress } from '../egress.ts'
import type { ToolPrograms } from '../tools/tool-programs.ts'
import { type ChildTransport, startChild } from './child-transport.ts'
import { openHttp, type ValueAt } from './http-transport.ts'
import { judgeConnection } from './judge-error.ts'
import { type KnownTool, knownTools } from './offered-tools.ts'

export interface SessionDeps {
  clock: Clock
  random: Random
  log: Log
  egress: Egress
  /** How we call ourselves to servers. */
  about: { name: string; version: string }
  /** PATH of programs that are started without isolation. */
  path: string | null
  /** What the host has for programs in a sandbox. */
  programs: Pick<ToolPrograms, 'files'>
}

export interface SessionOf {
  namespace: string
  name: string
  spec: McpServerSpec
  /** Values of the secrets that the spec names, by where. */
  valueAt: ValueAt
  /** The same secrets as `use: NAME/KEY`. */
  secrets: readonly string[]
  /** The values themselves: nothing that comes back has them in it. */
  hidden: readonly string[]
}

/** A connection that was opened, until it is lost. */
export interface Link {
  sdk: typeof Sdk
  client: Sdk.Client
  child: ChildTransport | null
  http: Sdk.StreamableHTTPClientTransport | null
  /** As they were last listed; null when they have to be listed anew. */
  tools: Promise<Map<string, KnownTool>> | null
  /** It has answered once. */
  isProven: boolean
}

/** Tokens that may still be in what comes back. */
const TOKENS_HIDDEN = 20

/** One server that several attempts speak to. It is connected when it is needed, again when it was lost, and stopped when nobody uses it. */
export class McpSession {
  readonly #deps: SessionDeps
  readonly of: SessionOf
  #link: Promise<Link> | null = null
  #uses = 0
  #idle: AbortController | null = null
  /** Once known: asking a program that ends at a question which it does not know costs a start each time. */
  #isOld = false
  readonly #closing = new AbortController()
  readonly #hidden: Set<string>
  #redactor: Redactor

  constructor(deps: SessionDeps, of: SessionOf) {
    this.#deps = deps
    this.of = of
    this.#hidden = new Set(of.hidden)
    this.#redactor = new Redactor(this.#hidden)
  }

  /** Takes out what the server is shown: the secrets of its spec, and the tokens that were borrowed with them. */
  get redactor(): Redactor {
    return this.#redactor
  }

  get server(): string {
    return `${this.of.namespace}/${this.of.name}`
  }

  get isUsed(): boolean {
    return this.#uses > 0
  }

  /** Work with the server; it is not stopped meanwhile. */
  async use<T>(work: () => Promise<T>): Promise<T> {
    this.#uses++
    this.#idle?.abort()
    this.#idle = null
    try {
      return await work()
    } finally {
      this.#uses--
      if (this.#uses === 0 && !this.#closing.signal.aborted) void this.#stopLater()
    }
  }

  /**
   * The connection and the tools as they are now. One that does not answer any more (the server was started anew, and knows nothing of it) is given up for
   * another.
   */
  async ready(signal: AbortSignal): Promise<{ link: Link; tools: Map<string, KnownTool> }> {
    for (;;) {
      const link = await this.#connected(signal)
      const wasProven = link.isProven
      try {
        return { link, tools: await this.#toolsOf(link, signal) }
      } catch (error) {
        signal.throwIfAborted()
        await this.drop(link)
        if (!wasProven) throw error
      }
    }
  }

  /** The connection, opened when there is none. All who wait share one opening, and none of them ends it for the others. */
  async #connected(signal: AbortSignal): Promise<Link> {
    signal.throwIfAborted()
    if (this.#closing.signal.aborted) throw new Failure('mcp.unreachable', `MCP server ${this.server} was closed`)
    if (this.#link === null) {
      const opening = this.#open()
      this.#link = opening
      opening.catch(() => this.#forget(opening))
    }
    return unlessAborted(this.#link, signal)
  }

  async #toolsOf(link: Link, signal: AbortSignal): Promise<Map<string, KnownTool>> {
    if (link.tools === null) {
      const listing = this.#list(link)
      link.tools = listing
      listing.catch(() => {
        if (link.tools === listing) link.tools = null
      })
    }
    return unlessAborted(link.tools, signal)
  }

  /** What an error of the connection means. */
  judge(link: Link | null, sdk: typeof Sdk, error: unknown): Failure {
    const { spec, secrets } = this.of
    const { redactor } = this
    const where = spec.http?.url ?? [spec.stdio?.command ?? '', ...(spec.stdio?.args ?? [])].join(' ')
    const child = link?.child ?? null
    const failure = judgeConnection(sdk, error, {
      server: this.server,
      where,
      end: child?.end ?? null,
      complaint: child?.complaint ?? null,
      secrets,
    })
    const { message, cause, evidence, remediation } = failure
    return new Failure(failure.code, redactor.text(message), {
      ...(cause instanceof Error ? { cause: redactor.text(cause.message) } : {}),
      ...(evidence ? { evidence: redactor.json(evidence) } : {}),
      remediation,
    })
  }

  /** Gives a connection up that is of no use any more; the next use opens another. */
  async drop(link: Link): Promise<void> {
    const held = this.#link
    if (held !== null && (await held.catch(() => null)) === link) this.#forget(held)
    await closeLink(link)
  }

  async close(): Promise<void> {
    this.#closing.abort(new Failure('mcp.unreachable', `MCP server ${this.server} was closed`))
    this.#idle?.abort()
    await this.#stop()
  }

  /** Only the newest tokens are kept: a server that gives one for every request would be remembered for ever. */
  #hide(token: string): void {
    this.#hidden.delete(token)
    this.#hidden.add(token)
    const tokens = [...this.#hidden].slice(this.of.hidden.length)
    for (const old of tokens.slice(0, -TOKENS_HIDDEN)) this.#hidden.delete(old)
    this.#redactor = new Redactor(this.#hidden)
  }

  #forget(link: Promise<Link>): void {
    if (this.#link === link) this.#link = null
  }

  async #stopLater(): Promise<void> {
    const idle = new AbortController()
    this.#idle = idle
    const isOver = await this.#deps.clock.sleep(this.of.spec.idleStop, idle.signal).then(
      () => true,
      () => false,
    )
    if (isOver && !this.isUsed) await this.#stop()
  }

  async #stop(): Promise<void> {
    const held = this.#link
    this.#link = null
    const link = await held?.catch(() => null)
    if (link) await closeLink(link)
  }

  async #open(): Promise<Link> {
    const { reconnect } = this.of.spec
    const { clock, random, log } = this.#deps
    const policy = { ...reconnect, initialMs: reconnect.initial, maxMs: reconnect.maxDelay }
    for (let tries = 1; ; tries++) {
      try {
        return await this.#openOnce()
      } catch (error) {
        const failure = error instanceof Failure ? error : this.judge(null, await loadSdk(), error)
        if (FAILURES[failure.code].retry !== 'later' || tries > reconnect.max) throw failure
        const delayMs = backoffMs(policy, tries, random)
        log.warn('MCP server not reached, trying again', { server: this.server, code: failure.code, tries, delayMs })
        await clock.sleep(delayMs, this.#closing.signal)
      }
    }
  }

  async #openOnce(): Promise<Link> {
    const sdk = await loadSdk()
    const { spec, valueAt } = this.of
    const { stdio, http } = spec
    if (http) {
      const ways = { valueAt, egress: this.#deps.egress, hide: (token: string) => this.#hide(token) }
      return this.#connect(sdk, { child: null, http: openHttp(sdk, http, ways) })
    }
    const program = {
      command: stdio?.command ?? '',
      args: stdio?.args ?? [],
      env: Object.fromEntries(
        Object.entries(stdio?.env ?? {}).map(([name, value]) => [name, valueAt(`stdio.env.${name}`, value)]),
      ),
      workdir: stdio?.workdir ?? null,
      isolation: stdio?.isolation ?? 'none',
    }
    const start = async () => {
      const child = await startChild(program, this.#deps).catch((error: unknown) => {
        throw this.judge(null, sdk, error)
      })
      return { child, http: null }
    }
    try {
      return await this.#connect(sdk, await start())
    } catch (error) {
      // Old programs end at the question which revision they speak. They are asked once.
      if (this.#isOld || spec.protocol !== 'auto' || !(error instanceof Failure && error.code === 'mcp.exited'))
        throw error
      this.#isOld = true
      return this.#connect(sdk, await start())
    }
  }

  async #connect(sdk: typeof Sdk, { child, http }: Pick<Link, 'child' | 'http'>): Promise<Link> {
    const { spec } = this.of
    const { about, log } = this.#deps
    const mode = spec.protocol === 'auto' ? 'auto' : spec.protocol === '2026-07-28' ? { pin: spec.protocol } : 'legacy'
    const timeout = spec.timeouts.connect
    const client = new sdk.Client(about, {
      capabilities: {},
      versionNegotiation: { mode, probe: child ? { timeoutMs: Math.min(timeout, LIMITS.mcpProbeMs) } : {} },
      inputRequired: { autoFulfill: false },
      listMaxPages: LIMITS.mcpPagesMax,
      // Outputs are checked by us, where a schema that explodes is stopped in time.
      jsonSchemaValidator: trusting,
      listChanged: { tools: { autoRefresh: false, debounceMs: 0, onChanged: () => (link.tools = null) } },
    })
    const link: Link = { sdk, client, child, http, tools: null, isProven: false }
    const onerror = (error: Error): void => {
      log.debug('MCP server', { server: this.server, message: this.redactor.text(error.message) })
      // The stream on which changes are told may be what broke.
      link.tools = null
    }
    Object.assign(client, { onerror })
    try {
      const signal = this.#closing.signal
      const transport = child ?? http
      if (transport === null) throw new Failure('mcp.unreachable', `MCP server ${this.server} has no address`)
      await client.connect(transport, { timeout, signal, ...(this.#isOld ? { prior: { kind: 'legacy' } } : {}) })
    } catch (error) {
      if (child) await child.close()
      throw this.judge(link, sdk, error)
    }
    const onclose = (): void => {
      if (child) log.warn('program of an MCP server ended', { server: this.server, ...this.redactor.json(child.end) })
      void this.drop(link)
    }
    Object.assign(client, { onclose })
    return link
  }

  async #list(link: Link): Promise<Map<string, KnownTool>> {
    const { spec, name } = this.of
    try {
      const { tools } = await link.client.listTools({}, { timeout: spec.timeouts.connect, cacheMode: 'refresh' })
      if (tools.length > LIMITS.mcpToolsMax)
        throw new Failure('mcp.protocol_error', `listing the tools of MCP server ${this.server}`, {
          evidence: { tools: tools.length, limit: LIMITS.mcpToolsMax },
          remediation: 'Split the server, or have it list fewer tools.',
        })
      link.isProven = true
      return knownTools(name, tools, spec)
    } catch (error) {
      throw this.judge(link, link.sdk, error)
    }
  }
}

let sdk: Promise<typeof Sdk> | null = null

/** Loaded when the first server is spoken to: most workers never do. */
const loadSdk = (): Promise<typeof Sdk> => (sdk ??= import('@modelcontextprotocol/client'))

const trusting: NonNullable<Sdk.ClientOptions['jsonSchemaValidator']> = {
  // The caller names the type of what was checked, and nothing is checked here.
  getValidator: () => (input) => ({ valid: true, data: input as never, errorMessage: undefined }),
}

async function closeLink({ client, http }: Link): Promise<void> {
  Object.assign(client, { onclose: () => {} })
  // A server that is gone needs no farewell.
  await http?.terminateSession().catch(() => {})
  await client.close().catch(() => {})
}

/** The same promise, for one who may leave before. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = (): void => reject(signal.reason as Error)
    if (signal.aborted) return leave()
    signal.addEventListener('abort', leave, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave))
  })
}
