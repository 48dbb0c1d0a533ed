import { type Room, roomAfter, roomIn, shareOf, type Wanted } from '../../domain/agents/fit.ts'
import type { CounterKey, HeldCount } from '../../store/budgets/counters.ts'
import type { Budget, Ledger } from './budget-windows.ts'

/** How often something is set aside by one count: then counters are set forward, and what rolling windows have let go is noticed. */
const USES = 200
const KEPT_MAX = 10_000
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
  readonly #kept = new Map<string, Allowance>()
  readonly #pauses = new Map<string, Pause>()

  /** `state` of the ledger is what was counted, with what was set aside since. */
  note({ budget, window, state }: Ledger, { countId, mark }: Pick<HeldCount, 'countId' | 'mark'>): void {
    const of = keyOf(budget, window.rootRun ?? '')
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
    const { namespace, key, until } = window
    if (this.#kept.size >= KEPT_MAX) this.#kept.clear()
    this.#kept.set(of, {
      count: { budget: budget.uid, key, namespace, countId, mark, until },
      room,
      uses: USES,
      hasServed: false,
    })
  }

  /** Takes what all of these want, of which a budget may be named more than once; gives the counts that it is taken by. Null: one has no room, and nothing is taken. */
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

  /** What was taken was set aside: the counts held. */
  served(wishes: readonly AllowanceWish[]): void {
    for (const { budget, rootRun } of wishes) {
      const kept = this.#kept.get(keyOf(budget, rootRun))
      if (kept) kept.hasServed = true
    }
  }

  /** Counts that do not hold any more. */
  forget(counts: readonly CounterKey[]): void {
    const gone = new Set(counts.map(({ budget, key }) => `${budget} ${key}`))
    for (const [of, { count, hasServed }] of this.#kept) {
      if (!gone.has(`${count.budget} ${count.key}`)) continue
      this.#kept.delete(of)
      const next = this.#pauses.get(of)?.next ?? 0
      if (hasServed) this.#pauses.delete(of)
      else {
        if (this.#pauses.size >= KEPT_MAX) this.#pauses.clear()
        this.#pauses.set(of, { left: next, next: Math.min(Math.max(1, 2 * next), PAUSE_MAX) })
      }
    }
  }
}

/** Of a budget at its version, whose spec does not change; of a cap, which has none, with what it allows. */
const keyOf = ({ uid, version, spec: { window, limits } }: Budget, rootRun: string): string =>
  `${uid} ${version} ${limits.tokens ?? ''} ${window === 'run' ? rootRun : ''}`
