import type { Assignment, CancelOrder, HeldAttempt, StepId } from '../contract/exchange.ts'
import { missingFor, type Offer, type Requirements } from '../domain/workflow.ts'

/** An attempt that this server knows a session to own. */
export interface Owned {
  step: StepId
  fence: number
  assignment: Assignment | null
  /** The worker has shown that it has it: by a poll's list or by a report. */
  confirmed: boolean
  /** Monotonic ms when it was last sent; null while it was never sent. */
  sentAt: number | null
  /** Monotonic ms of the first sending. */
  firstSentAt: number | null
  lane: 'poll' | 'report'
}

/** A worker's session as one server sees it. Memory only: the store knows the same, slower. */
export class WorkerSession {
  readonly id: string
  readonly worker: string
  readonly offer: Offer
  readonly host: string
  readonly pid: number
  readonly pidStart: string | null
  readonly capacity: number
  queues: number[] = []
  draining = false
  ended = false
  /** Slots promised to leases that are on their way to the store. */
  reserved = 0
  /** Heard of since the last tick. */
  seen = true
  lastHeardAt: number
  lastCheckedAt = 0
  readonly owned = new Map<string, Owned>()
  readonly cancels = new Map<string, CancelOrder>()
  /** Assignments for the next reply on the poll lane. */
  readonly outgoing: Assignment[] = []
  #wake: ((why: 'woken' | 'replaced') => void) | null = null

  constructor(from: {
    id: string
    worker: string
    offer: Offer
    host: string
    pid: number
    pidStart: string | null
    capacity: number
    now: number
  }) {
    this.id = from.id
    this.worker = from.worker
    this.offer = from.offer
    this.host = from.host
    this.pid = from.pid
    this.pidStart = from.pidStart
    this.capacity = from.capacity
    this.lastHeardAt = from.now
  }

  /** Slots that are neither used nor promised. */
  get free(): number {
    return this.draining || this.ended ? 0 : Math.max(0, this.capacity - this.owned.size - this.reserved)
  }

  get isParked(): boolean {
    return this.#wake !== null
  }

  subscribe(queues: ReadonlyMap<number, Requirements>): void {
    this.queues = [...queues].filter(([, r]) => missingFor(r, this.offer).length === 0).map(([id]) => id)
  }

  own(assignment: Assignment, lane: 'poll' | 'report', now: number | null): void {
    const { step, fence } = assignment
    this.owned.set(`${step}@${fence}`, {
      step,
      fence,
      assignment,
      confirmed: false,
      sentAt: now,
      firstSentAt: now,
      lane,
    })
  }

  disown(step: StepId, fence: number): void {
    this.owned.delete(`${step}@${fence}`)
    this.cancels.delete(`${step}@${fence}`)
  }

  order(cancel: CancelOrder): void {
    this.cancels.set(`${cancel.step}@${cancel.fence}`, cancel)
    this.wake()
  }

  /** Parks the poll until something wakes it. A newer poll of the same session ends an older one: its connection is dead. */
  park(onWake: (why: 'woken' | 'replaced') => void): () => void {
    this.#wake?.('replaced')
    this.#wake = onWake
    return () => {
      if (this.#wake === onWake) this.#wake = null
    }
  }

  wake(): void {
    const wake = this.#wake
    this.#wake = null
    wake?.('woken')
  }

  /** Marks what the worker says that it holds. Gives what it holds and this server does not know as its own. */
  confirm(held: readonly HeldAttempt[]): HeldAttempt[] {
    const unknown: HeldAttempt[] = []
    for (const h of held) {
      const owned = this.owned.get(`${h.step}@${h.fence}`)
      if (owned) owned.confirmed = true
      else unknown.push(h)
    }
    return unknown
  }

  /** Assignments whose reply was lost: sent, not confirmed, not in the worker's list. */
  unconfirmed(held: readonly HeldAttempt[], sentBefore: number): Owned[] {
    const listed = new Set(held.map((h) => `${h.step}@${h.fence}`))
    return [...this.owned]
      .filter(([key, o]) => !o.confirmed && !listed.has(key) && o.sentAt !== null && o.sentAt <= sentBefore)
      .map(([, o]) => o)
  }
}
