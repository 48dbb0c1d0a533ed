import type { Assignment, CancelOrder, HeldAttempt, StepId } from '../contract/exchange.ts'
import { missingFor, type Offer, type Requirements } from '../domain/workflow.ts'

/** An attempt that this server knows a session to own. */
export interface Owned {
  step: StepId
  fence: number
  assignment: Assignment | null
  /** Hash of the run's definition; null when it was not read. */
  definition: string | null
  /** The worker has shown that it has it: by a poll's list or by a report. */
  confirmed: boolean
  /** Monotonic ms when it was last sent; null while it was never sent. */
  sentAt: number | null
  /** Monotonic ms since which this server knows of it. */
  ownedAt: number
  lane: 'poll' | 'report'
}

/** A worker's session as one server sees it. Memory only: the store knows the same, slower. */
export class WorkerSession {
  readonly id: string
  readonly worker: string
  /** Whoever opened the session; nobody else may speak for it. */
  readonly actor: string
  readonly offer: Offer
  readonly host: string
  readonly pid: number
  readonly pidStart: string | null
  readonly capacity: number
  queues: number[] = []
  /** Those of them whose steps may be leased at once; for the others it is looked first whether what they need is there. */
  directQueues: number[] = []
  draining = false
  ended = false
  /** Slots promised to leases that are on their way to the store. */
  reserved = 0
  /** Attempts whose end is being recorded and that nothing follows: the worker is free for others already. */
  ending = 0
  /** Heard of since the last tick. */
  seen = true
  lastHeardAt: number
  lastCheckedAt = 0
  /** How far the worker's clock is ahead of this server's, as the store has it. */
  skewMs = 0
  readonly owned = new Map<string, Owned>()
  readonly cancels = new Map<string, CancelOrder>()
  /** Assignments for the next reply on the poll lane. */
  readonly outgoing: Assignment[] = []
  #wake: ((why: 'woken' | 'replaced') => void) | null = null

  constructor(from: {
    id: string
    worker: string
    actor: string
    offer: Offer
    host: string
    pid: number
    pidStart: string | null
    capacity: number
    now: number
  }) {
    this.id = from.id
    this.worker = from.worker
    this.actor = from.actor
    this.offer = from.offer
    this.host = from.host
    this.pid = from.pid
    this.pidStart = from.pidStart
    this.capacity = from.capacity
    this.lastHeardAt = from.now
  }

  /** Slots that are neither used nor promised. */
  get free(): number {
    return this.draining || this.ended
      ? 0
      : Math.max(0, this.capacity - (this.owned.size - this.ending) - this.reserved)
  }

  get isParked(): boolean {
    return this.#wake !== null
  }

  subscribe(queues: ReadonlyMap<number, Requirements>): void {
    const served = [...queues].filter(([, r]) => missingFor(r, this.offer).length === 0)
    this.queues = served.map(([id]) => id)
    this.directQueues = served.filter(([, r]) => !r.ready).map(([id]) => id)
  }

  /** Leased to it, and to be sent with the next reply. */
  own(assignment: Assignment, definition: string, now: number): void {
    const { step, fence } = assignment
    const sent = { sentAt: null, ownedAt: now, lane: 'poll' as const }
    this.owned.set(`${step}@${fence}`, { step, fence, assignment, definition, confirmed: false, ...sent })
  }

  /** Leased to it, perhaps sent by another server. `confirmed`: the worker says that it has it. */
  ownSent(lease: Pick<Owned, 'step' | 'fence' | 'assignment' | 'definition' | 'confirmed'>, now: number): void {
    this.owned.set(`${lease.step}@${lease.fence}`, { ...lease, sentAt: now, ownedAt: now, lane: 'poll' })
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

  /** Sends again, to the poll that is parked here, what went out with a report's reply and was not confirmed since. */
  resend(sentBefore: number): number {
    if (!this.isParked) return 0
    let count = 0
    for (const o of this.owned.values()) {
      if (o.confirmed || !o.assignment || o.lane !== 'report' || o.sentAt === null || o.sentAt > sentBefore) continue
      this.outgoing.push(o.assignment)
      o.lane = 'poll'
      count += 1
    }
    if (count > 0) this.wake()
    return count
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

  /** What was sent and is not in the worker's list: the reply was lost, or the attempt ended at another server. */
  unlisted(held: readonly HeldAttempt[]): Owned[] {
    const listed = new Set(held.map((h) => `${h.step}@${h.fence}`))
    return [...this.owned].filter(([key, o]) => !listed.has(key) && o.sentAt !== null).map(([, o]) => o)
  }
}
