import type { Clock } from '../../base/clock.ts'
import { dropOldest } from '../../base/drop-oldest.ts'
import { type Room, roomAfter, roomIn, shareOf, type Wanted } from '../../domain/agents/fit.ts'
import { counterKey, type CounterKey, type HeldCount } from '../../store/budgets/counters.ts'
import type { Budget, Ledger, OpenWindow } from './budget-windows.ts'

/** How often something is set aside by one count: then counters are set forward, and what rolling windows have let go is noticed. */
const USES = 200
const KEPT_MAX = 10_000
/**
 * How long a server has to know a window of a budget as it is before it keeps counts of it. A statement that began before the budget was made or changed, or before
 * the window began, sets aside or spends by what it knew: it is over by then, and counted. It may have waited for a lock, of which none is waited for longer than 30 s.
 */
const KNOWN_FOR_MS = 60_000
/** Where others count as often as this server, so many of its counts at most are not tried to be used. */
const PAUSE_MAX = 64

interface Allowance {
  count: HeldCount
  room: Room
  uses: number
  /** Something was set aside by it. */
  hasServed: boolean
}

/** Of a window whose counts did not hold until they were used: how many are not kept, now and next time. */
interface Pause {
  left: number
  next: number
}

/** A call that is to be set aside in a budget. */
export interface AllowanceWish {
  budget: Budget
  rootRun: string
  wanted: Wanted
}

/**
 * What this server may set aside in windows of budgets by the counts that it made last, under their locks. Each holds as long as nobody else has counted and
 * nothing was spent beyond what was set aside, which the statement that sets aside compares. So room is only ever taken here, and given back by a new count.
 */
export class Allowances {
  readonly #clock: Clock
  /** By budget; each names its window, whose end the statement compares. */
  readonly #kept = new Map<string, Allowance>()
  readonly #pauses = new Map<string, Pause>()
  /** Since when windows are known. Those of runs are known with their budget: before a run there was nothing to count in its window. */
  readonly #knownSince = new Map<string, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** `state` of the ledger is what was counted, with what was set aside since. */
  note({ budget, window, state }: Ledger, { countId, mark }: Pick<HeldCount, 'countId' | 'mark'>): void {
    const of = keyOf(budget, window.rootRun ?? '')
    if (!this.#isKnown(budget, window)) return
    const pause = this.#pauses.get(of)
    if (pause && pause.left > 0) {
      pause.left--
      return
    }
    const used = shareOf(budget.spec, state)
    const room = roomIn(
      budget.spec,
      state,
      budget.spec.alerts.filter((share) => share > used),
    )
    const { namespace, selector, key, until } = window
    this.#kept.delete(of)
    this.#kept.set(of, {
      count: { budget: budget.uid, key, namespace, selector, rootRun: window.rootRun, countId, mark, until },
      room,
      uses: USES,
      hasServed: false,
    })
    dropOldest(this.#kept, KEPT_MAX)
  }

  /**
   * Takes what all of these want, of which a budget may be named more than once; gives the counts that it is taken by. Null, and nothing is taken: one was
   * not counted, its count was used often enough, or has no room.
   */
  take(wishes: readonly AllowanceWish[]): HeldCount[] | null {
    const rooms = new Map<Allowance, { room: Room; uses: number }>()
    for (const { budget, rootRun, wanted } of wishes) {
      const kept = this.#kept.get(keyOf(budget, rootRun))
      if (!kept) return null
      const { room, uses } = rooms.get(kept) ?? kept
      const left = roomAfter(budget.spec, room, wanted)
      if (!left || uses === 0) return null
      rooms.set(kept, { room: left, uses: uses - 1 })
    }
    for (const [kept, left] of rooms) Object.assign(kept, left)
    return [...rooms.keys()].map(({ count }) => count)
  }

  #isKnown(budget: Budget, window: OpenWindow): boolean {
    const of = `${keyOf(budget, '')} ${window.rootRun === null ? window.key : ''}`
    const now = this.#clock.monotonic()
    const since = this.#knownSince.get(of) ?? now
    this.#knownSince.delete(of)
    this.#knownSince.set(of, since)
    dropOldest(this.#knownSince, KEPT_MAX)
    return now - since >= KNOWN_FOR_MS
  }

  /** What was taken was set aside: the counts held. */
  served(wishes: readonly AllowanceWish[]): void {
    for (const { budget, rootRun } of wishes) {
      const kept = this.#kept.get(keyOf(budget, rootRun))
      if (kept) kept.hasServed = true
    }
  }

  /** Counts that do not hold any more. */
  forget(counts: readonly CounterKey[]): void {
    const gone = new Set(counts.map(counterKey))
    for (const [of, { count, hasServed }] of this.#kept) {
      if (!gone.has(counterKey(count))) continue
      this.#kept.delete(of)
      const next = this.#pauses.get(of)?.next ?? 0
      if (hasServed) this.#pauses.delete(of)
      else {
        // 0, 1, 2, 4 …: what is lost once is tried again at once.
        this.#pauses.set(of, { left: next, next: Math.min(Math.max(1, 2 * next), PAUSE_MAX) })
        dropOldest(this.#pauses, KEPT_MAX)
      }
    }
  }
}

/** Of a budget or a cap at its version, under which nothing of it changes. */
const keyOf = ({ uid, version, spec: { window } }: Budget, rootRun: string): string =>
  `${uid} ${version} ${window === 'run' ? rootRun : ''}`
