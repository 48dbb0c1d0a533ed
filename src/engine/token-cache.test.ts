import { describe, expect, test } from 'vitest'
import { HandClock } from '../base/clock.ts'
import type { Queryable } from '../store/db.ts'
import { tokenHash } from '../store/tokens/tokens.ts'
import { TokenCache } from './token-cache.ts'

const ROW = { id: 'tok_1', role: 'worker', organisation: '*', namespaces: null }
const FOUND = { id: 'tok_1', role: 'worker', organisation: '*', reach: null }

function scene() {
  const clock = new HandClock(0)
  const good = new Set(['good'].map(tokenHash))
  let asked = 0
  const db: Queryable = {
    query<R>(_: string, [hash]: readonly unknown[] = []): Promise<R[]> {
      asked += 1
      return Promise.resolve((good.has(String(hash)) ? [ROW] : []) as R[]) // the one statement of the cache
    },
  }
  return { clock, good, cache: new TokenCache(db, clock), asked: () => asked }
}

describe('the tokens that a server takes for good', () => {
  test('are asked for once and then confirmed by ticks', async () => {
    const { clock, cache, asked } = scene()
    for (let i = 0; i < 10; i++) {
      expect(await cache.find('good')).toEqual(FOUND)
      cache.confirm(cache.hashes(), [])
      clock.advance(4_000)
    }
    expect(asked()).toBe(1)
  })

  test('are not taken any more once a tick has found them bad', async () => {
    const { good, cache } = scene()
    await cache.find('good')
    good.clear()
    cache.confirm(cache.hashes(), [tokenHash('good')])
    expect(await cache.find('good')).toBeNull()
  })

  test('are asked for again when no tick confirms them', async () => {
    const { clock, cache, asked } = scene()
    await cache.find('good')
    clock.advance(5_001)
    await cache.find('good')
    expect(asked()).toBe(2)
  })

  test('do not count an unknown one, which no tick is asked about', async () => {
    const { clock, good, cache } = scene()
    expect(await cache.find('new')).toBeNull()
    expect(cache.hashes()).toEqual([])
    good.add(tokenHash('new'))
    clock.advance(5_001)
    expect(await cache.find('new')).toEqual(FOUND)
  })

  test('are forgotten when nobody uses them', async () => {
    const { clock, cache } = scene()
    await cache.find('good')
    for (let i = 0; i < 16; i++) {
      cache.confirm(cache.hashes(), [])
      clock.advance(4_000)
    }
    expect(cache.hashes()).toEqual([])
  })
})
