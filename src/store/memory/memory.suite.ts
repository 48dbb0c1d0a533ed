import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { seededRandom } from '../../base/random.ts'
import type { Db } from '../db.ts'
import { StoreRig } from '../testing/rig.ts'
import { findCall, findTopRun, holdStep, recordCall } from './memory-calls.ts'
import type { MemoryPlace, NewEntry } from './memory-rows.ts'
import { pruneCalls, pruneExpired, pruneOfRuns } from './prune-memories.ts'
import { findEntries, listEntries } from './read-entries.ts'
import { hasVectors, searchVectors, searchWords, type VectorSearch } from './search-entries.ts'
import { type Deletion, deleteEntries, deleteMemory, lockPlace, putEntries } from './write-entries.ts'

const MAKER = 'mock scripted 3'

const unit = (...numbers: number[]): Float32Array => {
  const length = Math.hypot(...numbers)
  return Float32Array.from(numbers, (n) => n / length)
}

/** Every store keeps memories alike. `vectors`: the database of `open` compares vectors itself. */
export function memorySuite(name: string, open: () => Promise<Db>, { vectors = false } = {}): void {
  describe(name, () => {
    let db: Db
    let rig: StoreRig
    let made = 0
    beforeAll(async () => {
      db = await open()
      rig = new StoreRig(db)
    })
    afterAll(() => db.close())

    const newPlace = (scope = 'shared'): MemoryPlace => ({ namespace: 'default', memory: `m${++made}`, scope })
    const entry = (key: string, text = `about ${key}`, more: Partial<NewEntry> = {}): NewEntry => ({
      key,
      text,
      metadata: {},
      embedding: null,
      ...more,
    })
    const put = (place: MemoryPlace, entries: NewEntry[], more: { ttlMs?: number; writtenBy?: string } = {}) =>
      db.transaction(async (tx) => {
        await lockPlace(tx, place)
        const { ttlMs = null, writtenBy = 'agent/writer' } = more
        return putEntries(tx, place, { entries, embeddedBy: MAKER, ttlMs, writtenBy })
      })
    const drop = (place: MemoryPlace, which: Deletion) =>
      db.transaction(async (tx) => {
        await lockPlace(tx, place)
        return deleteEntries(tx, place, which)
      })
    const filled = (place: MemoryPlace) => db.transaction((tx) => lockPlace(tx, place))
    const keysOf = (rows: { key: string }[]) => rows.map(({ key }) => key)
    const list = (place: MemoryPlace, prefix = '', limit = 100) =>
      listEntries(db, place, { prefix, after: null, limit }).then(keysOf)
    const words = (place: MemoryPlace, query: string, more: { minScore?: number; limit?: number } = {}) =>
      searchWords(db, place, { query, minScore: 0, limit: 10, ...more })
    const near = (place: MemoryPlace, vector: Float32Array, more: Partial<VectorSearch> & { max?: number } = {}) =>
      searchVectors(db, place, {
        vector,
        embeddedBy: MAKER,
        minScore: 0,
        limit: 10,
        max: 1_000,
        inDatabase: vectors,
        ...more,
      })

    test('says truly whether it compares vectors itself', async () => {
      expect(await hasVectors(db)).toBe(vectors)
    })

    test('what was written is read as it was, with who wrote it', async () => {
      const place = newPlace()
      const metadata = { of: 'Müller', n: [1, { deep: null }] }
      expect((await put(place, [entry('a/b', 'line one\nline "two" \\', { metadata })])).replaced).toEqual([])
      expect(await findEntries(db, place, ['a/b', 'nowhere'])).toEqual([
        {
          scope: 'shared',
          key: 'a/b',
          body: 'line one\nline "two" \\',
          metadata,
          bytes: 3 + 21 + Buffer.byteLength(JSON.stringify(metadata)),
          written_by: 'agent/writer',
          created_at: expect.any(Date),
          updated_at: expect.any(Date),
          expires_at: null,
        },
      ])
    })

    test('an entry that is written again is replaced, and counted once', async () => {
      const place = newPlace()
      await put(place, [entry('a', 'x'.repeat(100)), entry('b')])
      const again = await put(place, [entry('a', 'y'), entry('c')], { writtenBy: 'tok_1' })
      expect(again.replaced).toEqual(['a'])
      expect(again).toMatchObject({ entries: 3 })
      expect(await findEntries(db, place, ['a'])).toMatchObject([{ body: 'y', written_by: 'tok_1' }])
      const rows = await findEntries(db, place, ['a', 'b', 'c'])
      expect(await filled(place)).toEqual({ entries: 3, bytes: rows.reduce((sum, row) => sum + row.bytes, 0) })
    })

    test('deletions take what they name and nothing beside, and what remains is counted', async () => {
      const place = newPlace()
      await put(
        place,
        ['a', 'doc/chunk-0001', 'doc/chunk-0002', 'doc/chunk-0003', 'doc2/x', 'dod'].map((key) => entry(key)),
      )
      expect(await drop(place, { keys: ['a', 'nowhere'] })).toBe(1)
      expect(await drop(place, { prefix: 'doc/', keep: ['doc/chunk-0002'] })).toBe(2)
      expect(await list(place)).toEqual(['doc/chunk-0002', 'doc2/x', 'dod'])
      expect(await drop(place, { prefix: 'doc_' })).toBe(0)
      expect(await drop(place, { prefix: '' })).toBe(3)
      expect(await filled(place)).toEqual({ entries: 0, bytes: 0 })
    })

    test('lists by prefix and by page, in the order of bytes', async () => {
      const place = newPlace()
      await put(
        place,
        ['b', 'B', 'a/1', 'a/2', 'a0', 'ä', 'a%'].map((key) => entry(key)),
      )
      expect(await list(place)).toEqual(['B', 'a%', 'a/1', 'a/2', 'a0', 'b', 'ä'])
      expect(await list(place, 'a/')).toEqual(['a/1', 'a/2'])
      expect(await list(place, 'a%')).toEqual(['a%'])
      const page = await listEntries(db, place, { prefix: '', after: { scope: 'shared', key: 'a/1' }, limit: 2 })
      expect(keysOf(page)).toEqual(['a/2', 'a0'])
    })

    test('neither other scopes, other memories nor other namespaces are seen', async () => {
      const place = newPlace()
      const others = [
        { ...place, namespace: 'acme/default' },
        { ...place, memory: `${place.memory}x` },
        { ...place, scope: 'agent/writer' },
      ]
      await put(place, [entry('a', 'the red fox', { embedding: unit(1, 0, 0) })])
      for (const other of others) {
        expect(await findEntries(db, other, ['a'])).toEqual([])
        expect(await list(other)).toEqual([])
        expect(await words(other, 'fox')).toEqual([])
        expect(await near(other, unit(1, 0, 0))).toEqual({ found: [], others: 0, skipped: 0 })
        expect(await drop(other, { prefix: '' })).toBe(0)
      }
      await put({ ...place, scope: 'agent/writer' }, [entry('b')])
      const all = await listEntries(db, { ...place, scope: null }, { prefix: '', after: null, limit: 10 })
      expect(all.map(({ scope, key }) => `${scope} ${key}`)).toEqual(['agent/writer b', 'shared a'])
    })

    describe('by words', () => {
      test('the entries that have most of the words come first, whatever their order and case', async () => {
        const place = newPlace()
        await put(place, [
          entry('all', 'A quick brown fox'),
          entry('half', 'a brown bear'),
          entry('none', 'nothing to see'),
          entry('brown/fox', 'said by its key'),
        ])
        const found = await words(place, 'FOX, brown?')
        expect(found.map(({ key, score }) => [key, score])).toEqual([
          ['all', 1],
          ['brown/fox', 1],
          ['half', 0.5],
        ])
        expect(keysOf(await words(place, 'fox brown', { minScore: 0.6 }))).toEqual(['all', 'brown/fox'])
        expect(keysOf(await words(place, 'fox brown', { limit: 1 }))).toEqual(['all'])
      })

      test('what looks like a query language is only words', async () => {
        const place = newPlace()
        await put(place, [entry('a', "it's 100% (really) & true"), entry('b', 'a:* | !b <-> c \\ ')])
        for (const query of ["'", "' & '", '!!', '()', 'a:*', "it's | '", '\\', '<->', '%', '"really" -true', '&&&|||'])
          await expect(words(place, query)).resolves.toBeInstanceOf(Array)
        expect(keysOf(await words(place, '(really) & !true'))).toEqual(['a'])
        expect(await words(place, '…')).toEqual([])
      })

      test('words of other scripts are found', async () => {
        const place = newPlace()
        await put(place, [entry('a', 'Größe der Tür'), entry('b', 'размер двери'), entry('c', 'ドア')])
        expect(keysOf(await words(place, 'tür'))).toEqual(['a'])
        expect(keysOf(await words(place, 'двери'))).toEqual(['b'])
        expect(keysOf(await words(place, 'ドア'))).toEqual(['c'])
      })

      test('the longest text that an entry may have is taken', async () => {
        const place = newPlace()
        const text = Array.from({ length: 14_000 }, (_, i) => i.toString(36).padStart(5, 'q')).join(' ')
        await put(place, [entry('long', text), entry('joined', 'x'.repeat(100_000))])
        expect(keysOf(await words(place, 'qqqqa'))).toEqual(['long'])
      })
    })

    describe('by vectors', () => {
      test('the nearest come first, and those that have none of the same maker are counted', async () => {
        const place = newPlace()
        await put(place, [
          entry('near', 'n', { embedding: unit(1, 0.1, 0) }),
          entry('same', 's', { embedding: unit(2, 0, 0) }),
          entry('far', 'f', { embedding: unit(0, 1, 0) }),
          entry('against', 'x', { embedding: unit(-1, 0, 0) }),
        ])
        await db.transaction(async (tx) => {
          await lockPlace(tx, place)
          const theirs = { embeddedBy: 'openai other 3', ttlMs: null, writtenBy: 'w' }
          await putEntries(tx, place, { entries: [entry('other', 'o', { embedding: unit(1, 0, 0) })], ...theirs })
          await putEntries(tx, place, { ...theirs, entries: [entry('without')], embeddedBy: null })
        })
        const { found, others } = await near(place, unit(1, 0, 0))
        expect(keysOf(found)).toEqual(['same', 'near', 'far'])
        expect(found[0]?.score).toBeCloseTo(1, 5)
        expect(others).toBe(2)
        expect(keysOf((await near(place, unit(1, 0, 0), { minScore: 0.5 })).found)).toEqual(['same', 'near'])
        expect(keysOf((await near(place, unit(1, 0, 0), { limit: 1 })).found)).toEqual(['same'])
      })

      test('finds what comparing all by hand finds, over many pages', async () => {
        const random = seededRandom(7)
        const place = newPlace()
        const given = Array.from({ length: 1_200 }, (_, i) =>
          entry(`k${i}`, 't', { embedding: unit(...Array.from({ length: 3 }, () => random.next() * 2 - 1)) }),
        )
        for (let at = 0; at < given.length; at += 300) await put(place, given.slice(at, at + 300))
        for (let n = 0; n < 10; n++) {
          const vector = unit(...Array.from({ length: 3 }, () => random.next() * 2 - 1))
          const by = (e: NewEntry) =>
            (e.embedding ?? new Float32Array()).reduce((sum, x, i) => sum + x * (vector[i] ?? 0), 0)
          const hand = given.map((e) => ({ key: e.key, score: by(e) })).sort((a, b) => b.score - a.score)
          const { found } = await near(place, vector, { max: 5_000 })
          expect(keysOf(found)).toEqual(keysOf(hand.slice(0, 10)))
          for (const [i, { score }] of found.entries()) expect(score).toBeCloseTo(hand[i]?.score ?? 0, 5)
        }
      })

      test.skipIf(vectors)('of more than are compared only the newest are, and it is told', async () => {
        const place = newPlace()
        for (let n = 0; n < 6; n++) {
          await db.query(`select set_config('orrery.now', $1, false)`, [`2026-01-01T00:00:0${n}Z`])
          await put(place, [entry(`k${n}`, 't', { embedding: unit(1, n, 0) })])
        }
        await db.query(`select set_config('orrery.now', '', false)`)
        const { found, skipped } = await near(place, unit(1, 0, 0), { max: 2 })
        expect([keysOf(found), skipped]).toEqual([['k4', 'k5'], 4])
      })
    })

    describe('in time', () => {
      const at = (time: string) => db.query(`select set_config('orrery.now', $1, false)`, [time])
      const setBack = () => at('')

      test('an entry whose time is over is not there any more, pruned or not, and begins anew when it is written again', async () => {
        const place = newPlace()
        try {
          await at('2026-01-01T00:00:00Z')
          await put(place, [entry('short', 'a red fox', { embedding: unit(1, 0, 0) })], { ttlMs: 60_000 })
          await put(place, [entry('long', 'a red fox')], { ttlMs: 120_000 })
          await at('2026-01-01T00:01:00Z')
          expect(await list(place)).toEqual(['long'])
          expect(await findEntries(db, place, ['short'])).toEqual([])
          expect(keysOf(await words(place, 'fox'))).toEqual(['long'])
          expect((await near(place, unit(1, 0, 0))).found).toEqual([])
          expect(await filled(place)).toMatchObject({ entries: 2 })
          expect((await put(place, [entry('short')], { ttlMs: 1 })).replaced).toEqual([])
          const [row] = await db.query<{ same: boolean }>(
            `select created_at = updated_at as same from memory_entry where memory = $1 and key = 'short'`,
            [place.memory],
          )
          expect(row?.same).toBe(true)
          await at('2026-01-01T00:01:30Z')
          expect(await pruneExpired(db, 100)).toBe(1)
          expect(await filled(place)).toMatchObject({ entries: 1 })
          await put(place, [entry('long')], { ttlMs: 120_000 })
          await at('2026-01-01T00:02:30Z')
          expect(await pruneExpired(db, 100)).toBe(0)
          expect(await list(place)).toEqual(['long'])
        } finally {
          await setBack()
        }
      })

      test('what is of a run goes some time after its end, and what is of none that is there at once', async () => {
        const workflow = await rig.put([{ name: 'a' }])
        const runId = await rig.run(workflow)
        const place = newPlace(`run/${runId}`)
        await put(place, [entry('a')])
        const gone = newPlace('run/run_nowhere')
        await put(gone, [entry('a')])
        const kept = newPlace('agent/run')
        await put(kept, [entry('a')])
        expect(await pruneOfRuns(db, { keepMs: 60_000, limit: 100 })).toBe(1)
        expect([await list(place), await list(gone), await list(kept)]).toEqual([['a'], [], ['a']])
        await db.query(`update run set ended_at = clock_now() - interval '59 s' where id = $1`, [runId])
        expect(await pruneOfRuns(db, { keepMs: 60_000, limit: 100 })).toBe(0)
        await db.query(`update run set ended_at = clock_now() - interval '61 s' where id = $1`, [runId])
        expect(await pruneOfRuns(db, { keepMs: 60_000, limit: 100 })).toBe(1)
        expect(await list(place)).toEqual([])
      })
    })

    test('a memory that is deleted takes all of its scopes with it, and nothing else', async () => {
      const place = newPlace()
      const other = newPlace()
      for (const scope of ['shared', 'agent/a', 'run/r']) await put({ ...place, scope }, [entry('a')])
      await put(other, [entry('a')])
      await deleteMemory(db, place)
      expect(await listEntries(db, { ...place, scope: null }, { prefix: '', after: null, limit: 10 })).toEqual([])
      expect(await filled(place)).toEqual({ entries: 0, bytes: 0 })
      expect(await list(other)).toEqual(['a'])
    })

    test('a call is recorded once, and is known with what it gave', async () => {
      const call = { runId: 'run_1', node: 0, path: '2', call: `c${++made}` }
      expect(await findCall(db, call)).toBeNull()
      expect(await recordCall(db, call, { ok: true })).toBe(true)
      expect(await recordCall(db, call, { ok: false })).toBe(false)
      expect(await findCall(db, call)).toEqual({ result: { ok: true } })
      expect(await findCall(db, { ...call, path: '' })).toBeNull()
      expect(await pruneCalls(db, { keepMs: 60_000, limit: 100 })).toBe(0)
      await db.query(`update memory_call set made_at = clock_now() - interval '61 s' where call = $1`, [call.call])
      expect(await pruneCalls(db, { keepMs: 60_000, limit: 100 })).toBe(1)
    })

    test('an attempt that does not hold its step may write nothing', async () => {
      const workflow = await rig.put([{ name: 'a', runsOn: { test: 'memory' } }])
      await rig.run(workflow)
      const session = await rig.session()
      const [leased] = await rig.claim(session, workflow, 1)
      if (!leased) throw new Error('nothing was leased')
      const held = { runId: leased.runId, node: 0, path: '', session, fence: leased.fence }
      const holds = (more: Partial<typeof held>) => db.transaction((tx) => holdStep(tx, { ...held, ...more }))
      expect(await holds({})).toBe(true)
      expect(await holds({ fence: held.fence + 1 })).toBe(false)
      expect(await holds({ session: await rig.session() })).toBe(false)
      expect(await holds({ path: '1' })).toBe(false)
      await rig.complete([rig.done(leased)])
      expect(await holds({})).toBe(false)
    })

    test('the run at the top is that of all below it', async () => {
      const workflow = await rig.put([{ name: 'a' }])
      const [top, middle, bottom] = [await rig.run(workflow), await rig.run(workflow), await rig.run(workflow)]
      await db.query(
        `update run set parent_run = $2, parent_node = 0, parent_path = '', parent_fence = 1 where id = $1`,
        [middle, top],
      )
      await db.query(
        `update run set parent_run = $2, parent_node = 0, parent_path = '', parent_fence = 1 where id = $1`,
        [bottom, middle],
      )
      expect([await findTopRun(db, top), await findTopRun(db, bottom), await findTopRun(db, 'run_x')]).toEqual([
        top,
        top,
        'run_x',
      ])
    })
  })
}
