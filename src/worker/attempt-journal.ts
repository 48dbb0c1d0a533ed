import type { AppendResponse, ExchangeLane } from '../contract/exchange.ts'
import type { StoredEntry, WorkerEntry } from '../domain/agents/journal.ts'
import type { Attempt } from './attempt.ts'
import type { AttemptAsker } from './attempt-asker.ts'

/** Thrown when the attempt is not ours any more, or the worker stops: nothing more may be done for it, and nothing is to be reported. */
export class Stale extends Error {
  override readonly name = 'Stale'
}

/** The journal of an activation, as the attempt that holds it reads and writes it. One append after the other. */
export class AttemptJournal {
  readonly #lane: ExchangeLane
  readonly #asker: AttemptAsker
  readonly #attempt: Attempt
  #n = 0

  constructor(deps: { lane: ExchangeLane; asker: AttemptAsker }, attempt: Attempt) {
    this.#lane = deps.lane
    this.#asker = deps.asker
    this.#attempt = attempt
  }

  /** All entries that count. Throws `Stale`. */
  async read(): Promise<StoredEntry[]> {
    const entries: StoredEntry[] = []
    for (let from: number | null = 1; from !== null;) {
      const at: number = from
      const page = await this.#asker.ask(this.#attempt, (key, signal) =>
        this.#lane.journal({ ...key, from: at }, signal),
      )
      if (page === null || page.state === 'stale') throw this.#stale()
      entries.push(...page.entries)
      from = page.next
    }
    return entries
  }

  /** Resolves when they are recorded: only then may what they announce be done. Throws `Stale`. */
  async append(entries: WorkerEntry[]): Promise<AppendResponse> {
    const n = ++this.#n
    const answer = await this.#asker.ask(this.#attempt, (key, signal) =>
      this.#lane.append({ ...key, n, entries }, signal),
    )
    if (answer === null || answer.state === 'stale') throw this.#stale()
    return answer
  }

  #stale(): Stale {
    return new Stale(`attempt ${this.#attempt.key} is not ours any more`)
  }
}
