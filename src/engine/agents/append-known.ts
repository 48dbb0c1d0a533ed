import type { AppendResponse } from '../../contract/exchange.ts'
import type { JournalEntry, WorkerEntry } from '../../domain/agents/journal.ts'
import type { Verdict } from '../../domain/agents/verdict.ts'
import { appendAt, type AppendAt } from '../../store/journal/append-at.ts'
import type { LiveBudget } from '../../store/budgets/live-budgets.ts'
import { isUniqueViolation } from '../../store/storage-failure.ts'
import type { EngineContext } from '../context.ts'
import {
  type Answers,
  type AppendItem,
  askedCallIn,
  askedModelIn,
  isOwn,
  spenderIn,
  STALE,
  verdictsIn,
} from './append-item.ts'
import { type ModelUse, openBudgets } from './budgets.ts'
import { type Allowed, countVerdict } from './gate.ts'
import { HeardResources, type ResourcesAt } from './resources-at.ts'

/** Somebody who changes resources all the time holds nobody up: after so many versions it is done in a transaction. */
const VERSIONS_TRIED = 2

interface Draft extends AppendAt {
  item: AppendItem
}

/** What is known beforehand of an append that something counts, which takes a transaction: it holds while the resources are at `version`. */
export interface Foreword {
  version: number
  /** By the rules. */
  allowed: Allowed
  /** Those of its namespace. */
  budgets: readonly LiveBudget[]
}

export interface Known {
  answers: Answers
  /** Of those that have no answer. */
  forewords: ReadonlyMap<AppendItem, Foreword>
}

/**
 * Appends of which the server knows beforehand what becomes of them: the rules, as they are at one version of the resources, allow everything, no budget
 * counts it, and nobody has to be asked. They are recorded in one statement, which writes only while the resources are at that version.
 */
export class KnownAppends {
  readonly #ctx: EngineContext
  readonly #resources: HeardResources

  constructor(ctx: EngineContext) {
    this.#ctx = ctx
    this.#resources = new HeardResources(ctx.db)
  }

  /** Each activation at most once. What has no answer takes a transaction. */
  async record(items: readonly AppendItem[]): Promise<Known> {
    const answers: Answers = new Map()
    let forewords: Known['forewords'] = new Map()
    for (let tries = 0; tries < VERSIONS_TRIED; tries++) {
      const resources = await this.#resources.get()
      const known = await this.#draft(resources, items)
      const { drafts } = known
      forewords = known.forewords
      if (drafts.length === 0) break
      const written = await appendAt(this.#ctx.db, resources.version, drafts).catch((error: unknown) => {
        if (isUniqueViolation(error)) return null
        throw error
      })
      if (!written) break
      if (written.version !== resources.version) {
        this.#resources.heard(written.version)
        continue
      }
      for (const [i, draft] of drafts.entries()) {
        const outcome = written.outcomes[i] ?? null
        // What came with the same number before is answered as it was then.
        if (outcome !== 'known') answers.set(draft.item, outcome ? this.#recorded(draft, written.version) : STALE)
      }
      break
    }
    return { answers, forewords }
  }

  /** A transaction told of a version. */
  heard(version: number): void {
    this.#resources.heard(version)
  }

  #recorded({ entries, ended }: Draft, version: number): AppendResponse {
    const { budgets = openBudgets } = this.#ctx
    budgets.written(ended.flatMap(({ spending }) => spending ?? []))
    for (const { kind } of entries) {
      if (kind === 'verdict') countVerdict(this.#ctx, 'tool', 'allow')
      if (kind === 'model_asked') countVerdict(this.#ctx, 'model', 'allow')
    }
    return { state: 'recorded', verdicts: verdictsIn(entries), refused: null, contextVersion: String(version) }
  }

  async #draft(
    resources: ResourcesAt,
    items: readonly AppendItem[],
  ): Promise<{ drafts: Draft[]; forewords: Map<AppendItem, Foreword> }> {
    const { gate, budgets = openBudgets, db } = this.#ctx
    const own = items.flatMap((item) => {
      const calls = item.entries.filter((entry) => entry.kind === 'tool_asked')
      const models = item.entries.filter((entry) => entry.kind === 'model_asked')
      return [...calls, ...models].every((entry) => isOwn(item, entry)) ? [{ item, calls, models }] : []
    })
    // Whatever goes wrong here goes wrong in a transaction too, where it is told.
    const [words, uses] = await Promise.all([
      gate
        .allowedAt(
          resources,
          own.map(({ item, calls, models }) => ({
            calls: calls.map((entry) => askedCallIn(item, entry)),
            models: models.map((entry) => askedModelIn(item, entry)),
          })),
        )
        .catch(() => []),
      budgets
        .uncountedAt(
          db,
          resources,
          own.map(({ item, models }) => ({
            runId: item.runId,
            namespace: item.definition.namespace,
            workflow: item.definition.name,
            asked: models.map((entry) => spenderIn(item, entry)),
            ended: item.entries.flatMap(endedIn),
          })),
        )
        .catch(() => []),
    ])
    const drafts: Draft[] = []
    const forewords = new Map<AppendItem, Foreword>()
    for (const [i, { item, calls, models }] of own.entries()) {
      const allowed = words[i] ?? null
      if (!allowed || allowed.verdicts.length < calls.length || allowed.caps.length < models.length) continue
      const isCapped = allowed.caps.some((caps) => caps.length > 0)
      const ended = isCapped ? null : (uses[i] ?? null)
      if (ended) drafts.push({ ...item, item, ended, entries: withVerdicts(item, allowed.verdicts) })
      else {
        const budgets = await resources.budgets(item.definition.namespace).catch(() => null)
        if (budgets) forewords.set(item, { version: resources.version, allowed, budgets })
      }
    }
    return { drafts, forewords }
  }
}

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
