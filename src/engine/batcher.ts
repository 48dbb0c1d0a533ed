import { type Deferred, deferred } from '../base/deferred.ts'
import { outOfScope, type Scope } from '../base/scope.ts'
import { atEndOfTurn } from '../base/turn.ts'
import { Failure } from '../domain/failure.ts'
import type { FlushWatch } from './observe.ts'

export interface BatcherOptions<I, O> {
  /** Does all items in one go; the answer has one outcome an item, in order. */
  flush(items: I[]): Promise<O[]>
  maxItems: number
  /** Flushes under way at once. There is no timer: the next flush is whatever gathered meanwhile. */
  maxInFlight: number
  /** More waiting items than this are refused with `request.rate_limited`. */
  maxQueued: number
  /** The same flush may be tried again after this error. */
  isConflict(error: unknown): boolean
  /** Told of each flush. */
  watch?: FlushWatch
}

export interface Batcher<I, O> {
  add(item: I): Promise<O>
  /** Items waiting or under way. */
  readonly load: number
}

const CONFLICT_TRIES = 5

interface Waiting<I, O> {
  item: I
  outcome: Deferred<O>
  scope: Scope | undefined
}

/**
 * Group commit. Callers that come while a flush is under way share the next one. One bad item cannot fail its batch: a flush
 * that throws for another reason than the database being away is halved until the bad item stands alone.
 */
export function createBatcher<I, O>(options: BatcherOptions<I, O>): Batcher<I, O> {
  const waiting: Waiting<I, O>[] = []
  let inFlight = 0
  let busy = 0
  let scheduled = false

  const flushWatched = async (batch: Waiting<I, O>[]): Promise<O[]> => {
    const items = batch.map((b) => b.item)
    const { watch } = options
    if (!watch) return options.flush(items)
    const over = watch.begin(
      items.length,
      batch.map((b) => b.scope),
    )
    try {
      const outcomes = await options.flush(items)
      over(null)
      return outcomes
    } catch (error) {
      over(error)
      throw error
    }
  }

  const flushSome = async (batch: Waiting<I, O>[]): Promise<void> => {
    for (let tries = 1; ; tries++) {
      try {
        const outcomes = await flushWatched(batch)
        for (const [i, b] of batch.entries()) b.outcome.resolve(outcomes[i] as O) // flush answers one for one
        return
      } catch (error) {
        if (options.isConflict(error) && tries < CONFLICT_TRIES) continue
        if (batch.length === 1 || error instanceof Failure) {
          for (const b of batch) b.outcome.reject(error)
          return
        }
        const half = Math.ceil(batch.length / 2)
        await flushSome(batch.slice(0, half))
        await flushSome(batch.slice(half))
        return
      }
    }
  }

  const pump = (): void => {
    while (inFlight < options.maxInFlight && waiting.length > 0) {
      const batch = waiting.splice(0, options.maxItems)
      inFlight += 1
      busy += batch.length
      // Of many callers: what is logged there belongs to none of them.
      void outOfScope(() => flushSome(batch)).finally(() => {
        inFlight -= 1
        busy -= batch.length
        pump()
      })
    }
  }

  const pumpNow = (): void => {
    scheduled = false
    pump()
  }

  return {
    add(item) {
      if (waiting.length >= options.maxQueued) {
        return Promise.reject(
          new Failure('request.rate_limited', 'queueing a request', { evidence: { waiting: waiting.length } }),
        )
      }
      const outcome = deferred<O>()
      waiting.push({ item, outcome, scope: options.watch?.scope() })
      // Not at once: all requests that this turn of the event loop reads share the flush. A store in process blocks the loop while
      // it works, and what came meanwhile would else go one by one.
      if (inFlight < options.maxInFlight && !scheduled) {
        scheduled = true
        atEndOfTurn(pumpNow)
      }
      return outcome.promise
    },
    get load() {
      return waiting.length + busy
    },
  }
}
