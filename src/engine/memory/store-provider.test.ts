import { expect, test } from 'vitest'
import { Failure } from '../../domain/failure.ts'
import { readMemory } from '../../domain/kinds/memory.ts'
import { ADMIN, type EngineRig, useRig } from '../testing/rig.ts'
import { memoryProviderSuite } from './memory-provider.suite.ts'
import type { EntryToWrite, MemoryAt, MemoryProvider } from './memory-provider.ts'
import { createStoreProvider } from './store-provider.ts'

let rig: EngineRig
useRig((given) => {
  rig = given
})

/** Vectors by hand: the first letters of the alphabet in the text. */
const handMade = (texts: readonly string[]) => ({
  provider: 'mock' as const,
  model: 'hand',
  vectors: texts.map((text) => Float32Array.from([...'abcdefgh'], (letter) => text.split(letter).length - 1)),
})
let fallbacks = 0
let embedded: string[][] = []
function providerOf(embed?: () => never): MemoryProvider {
  fallbacks = 0
  embedded = []
  return createStoreProvider({
    db: rig.db,
    embed: async (_, texts) => {
      embedded.push([...texts])
      return embed ? embed() : handMade(texts)
    },
    onFallback: () => fallbacks++,
  })
}

memoryProviderSuite('the store as a provider of memories', async () => ({ provider: providerOf(), spec: {} }))
memoryProviderSuite('the store with an embedding', async () => ({
  provider: providerOf(),
  spec: { embedding: { endpoint: 'e' } },
}))

const at = (spec: object = {}): MemoryAt => ({
  namespace: 'default',
  memory: 'm',
  scope: 'shared',
  spec: readMemory({ scope: 'shared', ...spec }),
  user: { caller: ADMIN, agent: null },
})
const entry = (key: string, text = 'x'): EntryToWrite => ({ key, text, metadata: {} })
const write = (provider: MemoryProvider, place: MemoryAt, ...entries: EntryToWrite[]) =>
  provider.put(place, { entries, replaces: null, writtenBy: 'w', once: null })
const query = { query: 'aab', by: 'auto' as const, limit: 10, minScore: 0 }
const withVectors = { embedding: { endpoint: 'e' } }

test('what is near in meaning is found though no word is shared', async () => {
  const provider = providerOf()
  await write(provider, at(withVectors), entry('near', 'aaab'), entry('far', 'hhh'))
  const { entries, warnings } = await provider.search(at(withVectors), query)
  expect([entries.map(({ key }) => key), warnings]).toEqual([['near', 'far'], []])
  expect(entries[0]?.score).toBeGreaterThan(0.9)
  expect((await provider.search(at(withVectors), { ...query, minScore: 0.5 })).entries).toHaveLength(1)
  expect((await provider.search(at(withVectors), { ...query, by: 'keyword' })).entries).toEqual([])
})

test('what was written before there was an embedding is told of, not passed over in silence', async () => {
  const provider = providerOf()
  await write(provider, at(), entry('old', 'aab'))
  await write(provider, at(withVectors), entry('new', 'aab'))
  expect(await provider.search(at(withVectors), query)).toMatchObject({
    entries: [{ key: 'new' }],
    warnings: [expect.stringContaining('1 entries have no vector of this model')],
  })
})

test('when the model does not answer, words are searched and it is said; nothing is written without its vectors', async () => {
  await write(providerOf(), at(withVectors), entry('one', 'aab'))
  const down = providerOf(() => {
    throw new Failure('model.unavailable', 'asking the model')
  })
  expect(await down.search(at(withVectors), query)).toMatchObject({
    entries: [{ key: 'one', score: 1 }],
    warnings: ['searched by words, because there is no vector (model.unavailable): asking the model'],
  })
  expect(fallbacks).toBe(1)
  await expect(write(down, at(withVectors), entry('two'))).rejects.toMatchObject({ code: 'model.unavailable' })
  expect(await down.get(at(withVectors), 'two')).toBeNull()
})

test('a search by meaning of a memory without an embedding is refused', async () => {
  await expect(providerOf().search(at(), { ...query, by: 'vector' })).rejects.toMatchObject({ code: 'request.invalid' })
})

test('a full memory refuses what is too much and keeps what it has; replacing takes no room', async () => {
  const provider = providerOf()
  const small = at({ maxEntries: 2 })
  await write(provider, small, entry('a'), entry('b'))
  await expect(write(provider, small, entry('b'), entry('c'))).rejects.toMatchObject({
    code: 'memory.full',
    evidence: { entries: 3, maxEntries: 2 },
  })
  expect(await write(provider, small, entry('a', 'new'), entry('b'))).toMatchObject({ kind: 'written' })
  const heavy = at({ maxBytes: 1_024 })
  await expect(write(provider, heavy, entry('b', 'x'.repeat(1_100)))).rejects.toMatchObject({
    code: 'memory.full',
    evidence: { maxBytes: 1_024 },
  })
  expect(await provider.get(heavy, 'b')).toMatchObject({ text: 'x' })
  const replacing = { entries: [entry('a/chunk-0001')], replaces: '', writtenBy: 'w', once: null }
  expect(await provider.put(small, replacing)).toMatchObject({ kind: 'written', removed: 2 })
})

test('what has expired makes room', async () => {
  const provider = providerOf()
  const brief = at({ maxEntries: 1, ttl: '1m' })
  await write(provider, brief, entry('a'))
  await rig.advance(60_000)
  expect(await write(provider, brief, entry('b'))).toMatchObject({ kind: 'written' })
  expect((await provider.list(brief, { prefix: '', cursor: null, limit: 10 })).entries.map(({ key }) => key)).toEqual([
    'b',
  ])
})

test('a cursor that was not given out is refused', async () => {
  const page = { prefix: '', cursor: 'nonsense', limit: 10 }
  await expect(providerOf().list(at(), page)).rejects.toMatchObject({ code: 'request.invalid' })
})

test('vectors are asked for once a write, however many entries it has', async () => {
  const provider = providerOf()
  await write(provider, at(withVectors), entry('a', 'aa'), entry('b', 'bb'))
  expect(embedded).toEqual([['aa', 'bb']])
})
