import { beforeEach, describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { readMemory } from '../../domain/kinds/memory.ts'
import { ADMIN } from '../testing/rig.ts'
import type { EntryToWrite, MemoryAt, MemoryProvider, MemoryQuery, MemoryWrite } from './memory-provider.ts'

/** What every place of entries does alike. */
export interface ProviderWorld {
  provider: MemoryProvider
  /** Completes the spec of a memory of this provider. */
  spec: JsonObject
}

let made = 0

export function memoryProviderSuite(name: string, open: () => Promise<ProviderWorld>): void {
  describe(name, () => {
    let world: ProviderWorld
    beforeEach(async () => {
      world = await open()
    })

    const newPlace = (more: JsonObject = {}, scope = 'shared'): MemoryAt => ({
      namespace: 'acme/default',
      memory: `m${++made}`,
      scope,
      spec: readMemory({ scope: 'shared', ...world.spec, ...more }),
      user: { caller: ADMIN, agent: null },
    })
    const entry = (key: string, text = `about ${key}`, metadata: JsonObject = {}): EntryToWrite => ({
      key,
      text,
      metadata,
    })
    const put = (at: MemoryAt, entries: EntryToWrite[], more: Partial<MemoryWrite> = {}) =>
      world.provider.put(at, { entries, replaces: null, writtenBy: 'agent/a', once: null, ...more })
    const search = (at: MemoryAt, query: string, more: Partial<MemoryQuery> = {}) =>
      world.provider.search(at, { query, by: 'auto', limit: 10, minScore: 0, ...more })
    const list = (at: MemoryAt, more: { prefix?: string; cursor?: string | null; limit?: number } = {}) =>
      world.provider.list(at, { prefix: '', cursor: null, limit: 100, ...more })
    const keys = (entries: { key: string }[]) => entries.map(({ key }) => key)

    test('an entry is read as it was written, and is told as replaced when it was there', async () => {
      const at = newPlace()
      const metadata = { of: 'Müller', list: [1, null, { deep: true }] }
      expect(await put(at, [entry('a/b c', 'two\nlines', metadata)])).toEqual({
        kind: 'written',
        replaced: [],
        removed: 0,
      })
      expect(await world.provider.get(at, 'a/b c')).toMatchObject({
        scope: 'shared',
        key: 'a/b c',
        text: 'two\nlines',
        metadata,
        expiresAt: null,
        updatedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      })
      expect(await put(at, [entry('a/b c', 'new'), entry('d')])).toMatchObject({ replaced: ['a/b c'] })
      expect(await world.provider.get(at, 'a/b c')).toMatchObject({ text: 'new', metadata: {} })
      expect(await world.provider.get(at, 'nowhere')).toBeNull()
    })

    test('what is taken in replaces what was taken in of the same source, and nothing beside it', async () => {
      const at = newPlace()
      const source = (n: number) => Array.from({ length: n }, (_, i) => entry(`doc/chunk-000${i + 1}`, `piece ${i}`))
      await put(at, [entry('doc/other'), ...source(3)])
      expect(await put(at, source(2), { replaces: 'doc/chunk-' })).toMatchObject({ removed: 1 })
      expect(keys((await list(at)).entries)).toEqual(['doc/chunk-0001', 'doc/chunk-0002', 'doc/other'])
    })

    test('more than goes at once is written whole', async () => {
      const at = newPlace()
      const all = Array.from({ length: 450 }, (_, i) => entry(`k${String(i).padStart(4, '0')}`))
      expect(await put(at, all)).toMatchObject({ kind: 'written' })
      expect(keys((await list(at, { limit: 500 })).entries)).toEqual(keys(all))
    })

    test('is listed page by page, by prefix', async () => {
      const at = newPlace()
      await put(
        at,
        ['b/1', 'a/1', 'a/2', 'a/3', 'a'].map((key) => entry(key)),
      )
      const first = await list(at, { prefix: 'a/', limit: 2 })
      expect(keys(first.entries)).toEqual(['a/1', 'a/2'])
      const second = await list(at, { prefix: 'a/', limit: 2, cursor: first.next })
      expect([keys(second.entries), second.next]).toEqual([['a/3'], null])
    })

    test('is found by words, the best first, as many as are wanted', async () => {
      const at = newPlace()
      await put(at, [entry('one', 'a red fox runs'), entry('two', 'a red car'), entry('three', 'green grass')])
      const { entries, warnings } = await search(at, 'red fox', { by: 'keyword' })
      expect(keys(entries)).toEqual(['one', 'two'])
      expect(entries[0]).toMatchObject({ text: 'a red fox runs', score: 1 })
      expect(warnings).toEqual([])
      expect(keys((await search(at, 'red fox', { by: 'keyword', limit: 1 })).entries)).toEqual(['one'])
      expect(keys((await search(at, 'red fox', { by: 'keyword', minScore: 0.8 })).entries)).toEqual(['one'])
    })

    test('is deleted by key and by prefix', async () => {
      const at = newPlace()
      await put(
        at,
        ['a/1', 'a/2', 'b'].map((key) => entry(key)),
      )
      expect(await world.provider.delete(at, { keys: ['b', 'nowhere'] })).toBe(1)
      expect(await world.provider.delete(at, { prefix: 'a/' })).toBe(2)
      expect((await list(at)).entries).toEqual([])
    })

    test('is not seen from another namespace, another memory or another scope', async () => {
      const at = newPlace({}, 'agent/a')
      await put(at, [entry('k', 'a red fox')])
      for (const other of [
        { ...at, namespace: 'beta/default' },
        { ...at, memory: `${at.memory}0` },
        { ...at, scope: 'agent/b' },
      ]) {
        expect(await world.provider.get(other, 'k')).toBeNull()
        expect((await list(other)).entries).toEqual([])
        expect((await search(other, 'fox', { by: 'keyword' })).entries).toEqual([])
        expect(await world.provider.delete(other, { prefix: '' })).toBe(0)
      }
      expect(await world.provider.get(at, 'k')).not.toBeNull()
    })

    test('lives as long as the memory says', async () => {
      const kept = newPlace({ ttl: '1h' })
      await put(kept, [entry('k')])
      const there = await world.provider.get(kept, 'k')
      expect(Date.parse(there?.expiresAt ?? '') - Date.parse(there?.updatedAt ?? '')).toBeGreaterThan(3_500_000)
    })
  })
}
