import type { Clock } from '../../base/clock.ts'
import { dropOldest } from '../../base/drop-oldest.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { HoldDraft } from '../../store/budgets/holds.ts'
import type { SpendingDraft } from '../../store/budgets/spending.ts'
import type { CallKey } from './budgets.ts'

const KEPT_MAX = 50_000
/** What is set aside is free again by the clock of the database: what is as old as this is not relied on any more. */
const KEPT_MS = LIMITS.holdMs / 2

type HeldKey = Omit<CallKey, 'generation'>
type Held = Pick<HoldDraft, 'endpoint' | 'tokens' | 'cost'>

/** What this server has set aside for calls that have not ended yet, as far as it knows. */
export class HeldCalls {
  readonly #clock: Clock
  readonly #kept = new Map<string, Held & { since: number }>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** The same call of another attempt is another one: something else may have been set aside for it. */
  put(call: HeldKey, { endpoint, tokens, cost }: Held): void {
    this.#kept.set(keyOf(call), { endpoint, tokens, cost, since: this.#clock.monotonic() })
    dropOldest(this.#kept, KEPT_MAX)
  }

  /** Whether all that a call took was set aside for it, so that whoever counted what is set aside has counted it. */
  covers(call: HeldKey, took: Pick<SpendingDraft, 'endpoint' | 'tokens' | 'cost'>): boolean {
    const held = this.#kept.get(keyOf(call))
    return (
      held !== undefined &&
      this.#clock.monotonic() - held.since < KEPT_MS &&
      held.endpoint === took.endpoint &&
      held.tokens >= took.tokens.input + took.tokens.output &&
      (took.cost === null || (held.cost?.currency === took.cost.currency && held.cost.nanos >= took.cost.nanos))
    )
  }

  drop(call: HeldKey): void {
    this.#kept.delete(keyOf(call))
  }
}

const keyOf = ({ runId, node, path, fence, call }: HeldKey): string => `${runId} ${node} ${path} ${fence} ${call}`
