import type { AppendResponse } from '../../contract/exchange.ts'
import type { JournalEntry, WorkerEntry } from '../../domain/agents/journal.ts'
import type { Verdict } from '../../domain/agents/verdict.ts'
import { LIMITS } from '../../domain/limits.ts'
import { appendAt } from '../../store/journal/append-at.ts'
import { counterKey, type HeldCount } from '../../store/budgets/counters.ts'
import type { LiveBudget } from '../../store/budgets/live-budgets.ts'
import { isUniqueViolation } from '../../store/storage-failure.ts'
import type { EngineContext } from '../context.ts'
import {
  type Answers,
  type AppendItem,
  askedCallIn,
  askedModelIn,
  type Entry,
  isOwn,
  STALE,
  verdictsIn,
} from './append-item.ts'
import { type KnownUse, type ModelUse, openBudgets } from '../budgets/budgets.ts'
import { type Allowed, countVerdict } from './gate.ts'
import { HeardResources, type ResourcesAt } from '../resources/resources-at.ts'

/** Somebody who changes resources all the time holds nobody up: after so many versions it is done in a transaction. */
const VERSIONS_TRIED = 2

/** What is known of an append that the rules allow, while the resources are at `version`. */
export interface Foreword {
  version: number
  item: AppendItem
  /** By the rules. */
  allowed: Allowed
  /** What is written: each call that is asked is followed by the word on it. */
  entries: readonly JournalEntry[]
  use: ModelUse
  known: KnownUse
  /** Those of its namespace. */
  budgets: readonly LiveBudget[]
}

export interface Known {
  answers: Answers
  /** Of those that have no answer. */
  forewords: ReadonlyMap<AppendItem, Foreword>
}

/**
 * Appends of which the server knows beforehand what becomes of them: the rules, as they are at one version of the resources, allow everything, and nobody has
 * to be asked. They are recorded in one statement, which writes only while the resources are at that version; of what budgets count, only while the counts
 * hold that it is set aside by.
 */
export class KnownAppends {
  readonly #ctx: EngineContext
  readonly #resources: HeardResources

  constructor(ctx: EngineContext) {
    this.#ctx = ctx
    this.#resources = new HeardResources(ctx.db)
  }

  /** Records what no budget counts, each activation at most once. What has no answer takes `recordCounted` where a budget counts it, or else a transaction. */
  async record(items: readonly AppendItem[]): Promise<Known> {
    const answers: Answers = new Map()
    let forewords: Known['forewords'] = new Map()
    let left = items
    for (let tries = 0; tries < VERSIONS_TRIED && left.length > 0; tries++) {
      const resources = await this.#resources.get()
      forewords = await this.#forewordsOf(resources, left)
      const uncounted = [...forewords.values()].filter((one) => !isCounted(one))
      if (uncounted.length === 0) break
      const heard = await this.#write(uncounted, null, answers)
      if (heard === resources.version) break
      this.#resources.heard(heard)
      left = left.filter((item) => !answers.has(item))
    }
    return { answers, forewords }
  }

  /** Records what fits into what this server may set aside by the counts that it made last. What has no answer takes a transaction, in which it is counted. */
  async recordCounted(items: readonly AppendItem[], forewords: Known['forewords']): Promise<Answers> {
    const { budgets = openBudgets } = this.#ctx
    const answers: Answers = new Map()
    const all: HeldCount[] = []
    const fitting = items.flatMap((item) => {
      const foreword = forewords.get(item)
      const counts = foreword && isCounted(foreword) ? budgets.take(foreword.known) : null
      if (!foreword || !counts) return []
      all.push(...counts)
      return [foreword]
    })
    if (fitting.length > 0) {
      const counts = [...new Map(all.map((count) => [counterKey(count), count])).values()]
      this.#resources.heard(await this.#write(fitting, counts, answers))
    }
    return answers
  }

  /** A transaction told of a version. */
  heard(version: number): void {
    this.#resources.heard(version)
  }

  /** Gives the version of the resources that it found: at another one than that of the forewords nothing is written. */
  async #write(forewords: readonly Foreword[], counts: readonly HeldCount[] | null, answers: Answers): Promise<number> {
    const { db, budgets = openBudgets } = this.#ctx
    const version = forewords[0]?.version ?? 0
    const written = await appendAt(
      db,
      version,
      forewords.map(({ item, entries, known }) => ({
        ...item,
        ended: known.ended,
        entries,
      })),
      counts && { counts, holds: forewords.map(({ known }) => known.holds), forMs: LIMITS.holdMs },
    ).catch((error: unknown) => {
      if (isUniqueViolation(error)) return null
      throw error
    })
    if (!written) return version
    if (written.version !== version) return written.version
    if (!written.countsHold) budgets.outdated(counts ?? [])
    else
      for (const [i, foreword] of forewords.entries()) {
        const outcome = written.outcomes[i] ?? null
        // What came with the same number before is answered as it was then.
        if (outcome !== 'known') answers.set(foreword.item, outcome ? this.#recorded(foreword) : STALE)
      }
    return written.version
  }

  #recorded({ entries, use, known, version }: Foreword): AppendResponse {
    const { budgets = openBudgets } = this.#ctx
    budgets.written(use, known)
    for (const { kind } of entries) {
      if (kind === 'verdict') countVerdict(this.#ctx, 'tool', 'allow')
      if (kind === 'model_asked') countVerdict(this.#ctx, 'model', 'allow')
    }
    return { state: 'recorded', verdicts: verdictsIn(entries), refused: null, contextVersion: String(version) }
  }

  async #forewordsOf(resources: ResourcesAt, items: readonly AppendItem[]): Promise<Map<AppendItem, Foreword>> {
    const { budgets = openBudgets, db } = this.#ctx
    const allowed = await this.#allowed(resources, items)
    const uses = allowed.map(({ item, models, word }): ModelUse => {
      const { runId, node, path, fence, definition } = item
      return {
        ...{ runId, node, path, fence, namespace: definition.namespace, workflow: definition.name },
        asked: models.map((entry, i) => ({ ...entry, caps: word.caps[i] ?? [] })),
        ended: item.entries.flatMap(endedIn),
        isCapping: word.isCapping,
      }
    })
    // Whatever goes wrong here goes wrong in a transaction too, where it is told.
    const all = await budgets.knownAt(db, resources, uses).catch(() => [])
    const forewords = new Map<AppendItem, Foreword>()
    for (const [i, { item, word }] of allowed.entries()) {
      const [use, known] = [uses[i], all[i]]
      const live = await resources.budgets(item.definition.namespace).catch(() => null)
      if (!use || !known || !live) continue
      const entries = withVerdicts(item, word.verdicts)
      forewords.set(item, { version: resources.version, item, allowed: word, entries, use, known, budgets: live })
    }
    return forewords
  }

  /** Those that may do all they ask for by the rules alone. */
  async #allowed(
    resources: ResourcesAt,
    items: readonly AppendItem[],
  ): Promise<{ item: AppendItem; models: readonly Entry<'model_asked'>[]; word: Allowed }[]> {
    const own = items.flatMap((item) => {
      const calls = item.entries.filter((entry) => entry.kind === 'tool_asked')
      const models = item.entries.filter((entry) => entry.kind === 'model_asked')
      return [...calls, ...models].every((entry) => isOwn(item, entry)) ? [{ item, calls, models }] : []
    })
    const words = await this.#ctx.gate
      .allowedAt(
        resources,
        own.map(({ item, calls, models }) => ({
          namespace: item.definition.namespace,
          calls: calls.map((entry) => askedCallIn(item, entry)),
          models: models.map((entry) => askedModelIn(item, entry)),
        })),
      )
      .catch(() => [])
    return own.flatMap(({ item, calls, models }, i) => {
      const word = words[i] ?? null
      const isWhole = word && word.verdicts.length >= calls.length && word.caps.length >= models.length
      return isWhole ? [{ item, models, word }] : []
    })
  }
}

/** Whether a budget counts it. */
export const isCounted = ({ known }: Foreword): boolean => known.wishes.length > 0

const endedIn = (entry: WorkerEntry): ModelUse['ended'] =>
  entry.kind === 'model_answered'
    ? [{ call: entry.call, result: entry.result }]
    : entry.kind === 'model_failed'
      ? [{ call: entry.call, result: null }]
      : []

/** Each call that is asked is followed by the word on it. */
function withVerdicts({ entries }: AppendItem, verdicts: readonly Verdict[]): JournalEntry[] {
  const left = [...verdicts]
  return entries.flatMap((entry): JournalEntry[] => {
    const verdict = entry.kind === 'tool_asked' ? left.shift() : undefined
    return verdict && 'call' in entry
      ? [entry, { kind: 'verdict', call: entry.call, verdict, approval: null }]
      : [entry]
  })
}
