import { Failure } from '../domain/failure.ts'
import type { Hearing } from '../domain/installation-facts.ts'
import type { EngineContext } from './context.ts'

const CHANNEL = 'orrery_hints'
/** NOTIFY payloads end at 8,000 bytes; beyond this many runs their watchers look by themselves. */
const RUNS_MAX = 150
/** Queues of one notification; the rest goes with the next. */
const QUEUES_MAX = 250
const LISTEN_AGAIN_MS = 1_000
const ECHO_WITHIN_MS = 2_000

export interface Hint {
  queues: number[]
  /** The oldest run of which the queues got steps; null: that is not known. */
  from: string | null
  runs: string[]
  stopping: boolean
}

/**
 * Wake-ups between servers, over LISTEN/NOTIFY: gathered while one is under way, sent on a connection of the pool after the commit they
 * speak of. A lost hint costs up to a tick.
 */
export class Hints {
  readonly #ctx: EngineContext
  readonly #queues = new Set<number>()
  readonly #runs = new Set<string>()
  /** Of the queues that are still to be told of; the empty text is older than every run. */
  #oldest: string | null = null
  #stopping = false
  #sending = false
  #unlisten: (() => Promise<void>) | null = null
  #isListening = false
  #deaf: { since: number; error: string } | null = null
  #echoes = 0
  readonly #awaited = new Map<string, () => void>()
  /** Nobody listens while this server is alone. */
  isAlone: () => boolean = () => true

  constructor(ctx: EngineContext) {
    this.#ctx = ctx
  }

  send(hint: Partial<Hint>): void {
    if (this.isAlone()) return
    for (const q of hint.queues ?? []) this.#queues.add(q)
    if (hint.queues && hint.queues.length > 0) this.#oldest = older(this.#oldest, hint.from ?? '')
    for (const r of hint.runs ?? []) this.#runs.add(r)
    if (hint.stopping) this.#stopping = true
    if (!this.#sending) void this.#flush()
  }

  async #flush(): Promise<void> {
    this.#sending = true
    try {
      while (this.#queues.size > 0 || this.#runs.size > 0 || this.#stopping) {
        const payload = {
          from: this.#ctx.serverId,
          queues: [...this.#queues].slice(0, QUEUES_MAX),
          oldest: this.#oldest,
          runs: [...this.#runs].slice(0, RUNS_MAX),
          stopping: this.#stopping,
        }
        for (const q of payload.queues) this.#queues.delete(q)
        if (this.#queues.size === 0) this.#oldest = null
        this.#runs.clear()
        this.#stopping = false
        await this.#ctx.db.query('select pg_notify($1, $2)', [CHANNEL, JSON.stringify(payload)])
      }
    } catch (error) {
      this.#ctx.log.debug('hint not sent', { error: String(error) })
    } finally {
      this.#sending = false
    }
  }

  /** Listens until the signal aborts; a lost connection is opened again. */
  async listen(onHint: (hint: Hint) => void, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const lost = Promise.withResolvers<void>()
        this.#unlisten = await this.#ctx.db.listen(CHANNEL, (payload) => this.#receive(payload, onHint), lost.resolve)
        this.#isListening = true
        this.#hears()
        const onAbort = () => lost.resolve()
        signal.addEventListener('abort', onAbort, { once: true })
        // It may have been aborted while the connection was opened.
        if (!signal.aborted) await lost.promise
        signal.removeEventListener('abort', onAbort)
        if (!signal.aborted) this.#isDeaf('the connection that listens was lost')
      } catch (error) {
        this.#isDeaf(error instanceof Failure ? reasonIn(error) : String(error))
      }
      this.#isListening = false
      if (!signal.aborted) await this.#ctx.clock.sleep(LISTEN_AGAIN_MS, signal).catch(() => {})
    }
    await this.#unlisten?.().catch(() => {})
  }

  /** For how long nothing is heard, in ms; null while something is, or nothing is to be heard. */
  deafMs(): number | null {
    return this.#deaf === null ? null : this.#ctx.clock.monotonic() - this.#deaf.since
  }

  /** Sends this server a word of its own and waits for it: a pooler may take the wish to listen and pass nothing on. */
  async probe(): Promise<Hearing> {
    if (this.#isListening) {
      const from = this.#ctx.clock.monotonic()
      if (await this.#hearsItself()) {
        this.#hears()
        return { kind: 'heard', latencyMs: this.#ctx.clock.monotonic() - from }
      }
      // Lost meanwhile, it has its own reason.
      if (this.#isListening) this.#isDeaf('what is sent does not come back')
    }
    const forMs = this.deafMs()
    return forMs === null ? { kind: 'unknown' } : { kind: 'deaf', forMs, error: this.#deaf?.error ?? '' }
  }

  async #hearsItself(): Promise<boolean> {
    const echo = String(++this.#echoes)
    const heard = Promise.withResolvers<true>()
    const over = new AbortController()
    this.#awaited.set(echo, () => heard.resolve(true))
    try {
      await this.#ctx.db.query('select pg_notify($1, $2)', [
        CHANNEL,
        JSON.stringify({ from: this.#ctx.serverId, echo }),
      ])
      const late = this.#ctx.clock.sleep(ECHO_WITHIN_MS, over.signal).then(() => false as const)
      return await Promise.race([heard.promise, late])
    } finally {
      over.abort()
      this.#awaited.delete(echo)
    }
  }

  #hears(): void {
    if (this.#deaf !== null)
      this.#ctx.log.info('other servers are heard again', { deafMs: Math.round(this.deafMs() ?? 0) })
    this.#deaf = null
  }

  /** Told once, until it hears again. */
  #isDeaf(error: string): void {
    if (this.#deaf === null)
      this.#ctx.log.warn('other servers are not heard; work goes on by ticks', { code: 'bus.unreachable', error })
    this.#deaf = { since: this.#deaf?.since ?? this.#ctx.clock.monotonic(), error }
  }

  #receive(payload: string, onHint: (hint: Hint) => void): void {
    let parsed: unknown
    try {
      parsed = JSON.parse(payload)
    } catch {
      parsed = null
    }
    if (typeof parsed !== 'object' || parsed === null || !('from' in parsed)) return
    if ('echo' in parsed) {
      if (parsed.from === this.#ctx.serverId) this.#awaited.get(String(parsed.echo))?.()
      return
    }
    if (parsed.from === this.#ctx.serverId) return
    const { queues, oldest, runs, stopping } = parsed as Partial<Hint> & { oldest?: unknown } // whatever is not as expected is left out below
    onHint({
      queues: Array.isArray(queues) ? queues.filter((q) => typeof q === 'number') : [],
      from: typeof oldest === 'string' && oldest !== '' ? oldest : null,
      runs: Array.isArray(runs) ? runs.filter((r) => typeof r === 'string') : [],
      stopping: stopping === true,
    })
  }
}

const older = (a: string | null, b: string): string => (a === null || b < a ? b : a)

/** What a database said when it refused to be listened to. */
const reasonIn = ({ cause, message }: Failure): string => (cause instanceof Error ? cause.message : message)
