import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { deferred } from '../base/deferred.ts'
import { Failure } from '../domain/failure.ts'
import { createBatcher } from './batcher.ts'

const options = { maxItems: 10, maxInFlight: 1, maxQueued: 3, isConflict: () => false }

describe('group commit', () => {
  test('what comes while a flush is under way shares the next one', async () => {
    const flushes: number[][] = []
    const first = deferred<void>()
    const batcher = createBatcher<number, number>({
      ...options,
      flush: async (items) => {
        flushes.push(items)
        if (flushes.length === 1) await first.promise
        return items.map((i) => i * 2)
      },
    })
    const one = batcher.add(1)
    await nextTurn()
    const others = [batcher.add(2), batcher.add(3)]
    first.resolve()
    expect(await Promise.all([one, ...others])).toEqual([2, 4, 6])
    expect(flushes).toEqual([[1], [2, 3]])
  })

  test('what one turn of the event loop adds shares a flush, however many promises lie between', async () => {
    const flushes: number[][] = []
    const flush = (items: number[]) => {
      flushes.push(items)
      return Promise.resolve(items)
    }
    const batcher = createBatcher<number, number>({ ...options, flush })
    const adding = [1, 2, 3].map(async (i) => {
      for (let hop = 0; hop < i * 5; hop++) await Promise.resolve()
      return batcher.add(i)
    })
    expect(await Promise.all(adding)).toEqual([1, 2, 3])
    expect(flushes).toEqual([[1, 2, 3]])
  })

  test('more waiting items than the limit are refused, and there is room again afterwards', async () => {
    const release = deferred<void>()
    const batcher = createBatcher<number, number>({ ...options, flush: (items) => release.promise.then(() => items) })
    const waiting = [1, 2, 3].map((i) => batcher.add(i))
    await expect(batcher.add(4)).rejects.toMatchObject({ code: 'request.rate_limited', evidence: { waiting: 3 } })
    release.resolve()
    expect(await Promise.all(waiting)).toEqual([1, 2, 3])
    expect(await batcher.add(5)).toBe(5)
  })

  test('one bad item fails alone', async () => {
    const batcher = createBatcher<number, number>({
      ...options,
      flush: (items) => (items.includes(2) ? Promise.reject(new Error('bad item')) : Promise.resolve(items)),
    })
    const outcomes = await Promise.allSettled([1, 2, 3].map((i) => batcher.add(i)))
    expect(outcomes.map((o) => o.status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
  })

  test('a failure of the store is everybody’s, and is not tried item by item', async () => {
    let flushes = 0
    const batcher = createBatcher<number, number>({
      ...options,
      flush: () => {
        flushes += 1
        return Promise.reject(new Failure('storage.unreachable', 'asking the database'))
      },
    })
    const outcomes = await Promise.allSettled([1, 2, 3].map((i) => batcher.add(i)))
    expect(outcomes.every((o) => o.status === 'rejected')).toBe(true)
    expect(flushes).toBe(1)
  })

  test('a lost conflict is tried again', async () => {
    let flushes = 0
    const batcher = createBatcher<number, number>({
      ...options,
      isConflict: () => true,
      flush: (items) => (++flushes < 3 ? Promise.reject(new Error('deadlock')) : Promise.resolve(items)),
    })
    expect(await batcher.add(7)).toBe(7)
    expect(flushes).toBe(3)
  })
})
