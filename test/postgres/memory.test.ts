import { afterAll, beforeAll, expect, test } from 'vitest'
import { memorySuite } from '../../src/store/memory/memory.suite.ts'
import { deleteEntries, lockPlace, putEntries } from '../../src/store/memory/write-entries.ts'
import { pruneExpired } from '../../src/store/memory/prune-memories.ts'
import { openMigrated } from '../../src/store/testing/postgres.ts'
import type { Db } from '../../src/store/index.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'

describeWithPostgres('memories', (postgres) => {
  // One connection: the clock of a test is turned on it.
  memorySuite('memories on PostgreSQL', async () => openMigrated(await postgres.createStore(), 1))
})

describeWithPostgres('several who write one memory at once', (postgres) => {
  let db: Db
  beforeAll(async () => {
    db = await openMigrated(await postgres.createStore(), 6)
  })
  afterAll(() => db.close())

  test('wait for each other, never for ever, and what there is stays counted', async () => {
    const place = { namespace: 'default', memory: 'm', scope: 'shared' }
    const write = (n: number) =>
      db.transaction(async (tx) => {
        await lockPlace(tx, place)
        const entries = [3, 2, 1].map((k) => ({
          key: `k${(n * k) % 11}-${k}`,
          text: `x`.repeat(n),
          metadata: {},
          embedding: null,
        }))
        await putEntries(tx, place, { entries, embeddedBy: null, ttlMs: n % 3 === 0 ? 1 : null, writtenBy: `w${n}` })
        if (n % 4 === 0) await deleteEntries(tx, place, { prefix: `k${n % 7}` })
      })
    const work = Array.from({ length: 60 }, (_, n) => (n % 10 === 9 ? pruneExpired(db, 100) : write(n)))
    await Promise.all(work)
    const [real] = await db.query<{ entries: number; bytes: number }>(
      `select count(*)::int as entries, coalesce(sum(bytes), 0)::bigint as bytes from memory_entry where memory = 'm'`,
    )
    expect(await db.transaction((tx) => lockPlace(tx, place))).toEqual(real)
    expect(real?.entries).toBeGreaterThan(0)
  })
})
