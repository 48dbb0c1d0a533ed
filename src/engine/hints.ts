import type { EngineContext } from './context.ts'

const CHANNEL = 'orrery_hints'
/** NOTIFY payloads end at 8,000 bytes; beyond this many runs their watchers look by themselves. */
const RUNS_MAX = 150
/** Queues of one notification; the rest goes with the next. */
const QUEUES_MAX = 250

export interface Hint {
  queues: number[]
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
  #stopping = false
  #sending = false
  #unlisten: (() => Promise<void>) | null = null
  /** Nobody listens while this server is alone. */
  isAlone: () => boolean = () => true

  constructor(ctx: EngineContext) {
    this.#ctx = ctx
  }

  send(hint: Partial<Hint>): void {
    if (this.isAlone()) return
    for (const q of hint.queues ?? []) this.#queues.add(q)
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
          runs: [...this.#runs].slice(0, RUNS_MAX),
          stopping: this.#stopping,
        }
        for (const q of payload.queues) this.#queues.delete(q)
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
        const onAbort = () => lost.resolve()
        signal.addEventListener('abort', onAbort, { once: true })
        // It may have been aborted while the connection was opened.
        if (!signal.aborted) await lost.promise
        signal.removeEventListener('abort', onAbort)
      } catch (error) {
        this.#ctx.log.debug('cannot listen for hints', { error: String(error) })
      }
      if (!signal.aborted) await this.#ctx.clock.sleep(1_000, signal).catch(() => {})
    }
    await this.#unlisten?.().catch(() => {})
  }

  #receive(payload: string, onHint: (hint: Hint) => void): void {
    let parsed: unknown
    try {
      parsed = JSON.parse(payload)
    } catch {
      parsed = null
    }
    if (typeof parsed !== 'object' || parsed === null || !('from' in parsed) || parsed.from === this.#ctx.serverId)
      return
    const { queues, runs, stopping } = parsed as Partial<Hint> // whatever is not as expected is left out below
    onHint({
      queues: Array.isArray(queues) ? queues.filter((q) => typeof q === 'number') : [],
      runs: Array.isArray(runs) ? runs.filter((r) => typeof r === 'string') : [],
      stopping: stopping === true,
    })
  }
}
