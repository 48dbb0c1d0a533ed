import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { LIMITS } from '../limits.ts'
import { readResources } from './documents.ts'
import { memoryKind, readMemory, roomOf, searchOf } from './memory.ts'

const problemsOf = (spec: JsonObject) => {
  const text = JSON.stringify({ apiVersion: 'orrery.dev/v1', kind: 'Memory', metadata: { name: 'it' }, spec })
  const { problems } = readResources([{ text, file: 'm.json' }], null)
  return problems.map(({ path, message, line }) => (line === 1 ? `${path} ${message}` : 'no place'))
}
const http = { url: 'https://memory.example' }

describe('a Memory', () => {
  test.for<[what: string, spec: JsonObject, problem: RegExp]>([
    ['without a scope', {}, /^spec\.scope/],
    ['of an unknown scope', { scope: 'world' }, /^spec\.scope must be one of run, agent, shared/],
    ['with a key mistyped', { scope: 'run', tll: '1h' }, /^spec\.tll/],
    ['at a provider that is nowhere', { scope: 'run', provider: 'http' }, /^spec\.http is required for http/],
    ['in the store and elsewhere', { scope: 'run', http }, /^spec\.http is for the provider http/],
    [
      'with a password in the address',
      { scope: 'run', provider: 'http', http: { url: 'https://me:pw@memory.example' } },
      /^spec\.http\.url must have no user/,
    ],
    [
      'elsewhere with vectors of ours',
      { scope: 'run', provider: 'http', http, embedding: { endpoint: 'e' } },
      /^spec\.embedding is for the provider store/,
    ],
    [
      'elsewhere with limits of ours',
      { scope: 'run', provider: 'http', http, maxEntries: 5 },
      /^spec\.maxEntries is for the provider store/,
    ],
    [
      'searched by vectors it has not',
      { scope: 'run', search: { by: 'vector' } },
      /^spec\.search\.by needs an embedding/,
    ],
    [
      'whose pieces hardly move on',
      { scope: 'run', ingest: { chunkSize: 300, overlap: 151 } },
      /^spec\.ingest\.overlap must be half of chunkSize at most/,
    ],
    ['that forgets at once', { scope: 'run', ttl: '0s' }, /^spec\.ttl must be longer than nothing/],
    ['without an end', { scope: 'run', maxEntries: LIMITS.memoryEntriesMax + 1 }, /^spec\.maxEntries/],
  ])('%s is refused', ([, spec, problem]) => {
    expect(problemsOf(spec)).toEqual([expect.stringMatching(problem)])
  })

  test('is read with what it does not say', () => {
    expect(problemsOf({ scope: 'shared' })).toEqual([])
    const spec = readMemory({ scope: 'shared', ttl: '1h' })
    expect(spec).toEqual({
      scope: 'shared',
      provider: 'store',
      ttl: 3_600_000,
      ingest: { chunkSize: 1_000, overlap: 200 },
      search: { limit: 10, by: 'auto', minScore: 0 },
    })
    expect(roomOf(spec)).toEqual({ maxEntries: LIMITS.memoryEntries, maxBytes: LIMITS.memoryBytes })
    expect(roomOf({ maxEntries: 3, maxBytes: 2_048 })).toEqual({ maxEntries: 3, maxBytes: 2_048 })
  })

  test('is searched by meaning where it has an embedding, and elsewhere as the provider likes', () => {
    const spec = readMemory({ scope: 'shared' })
    expect(searchOf(spec, 'auto')).toBe('keyword')
    expect(searchOf({ ...spec, embedding: { endpoint: 'e' } }, 'auto')).toBe('vector')
    expect(searchOf({ ...spec, embedding: { endpoint: 'e' } }, 'keyword')).toBe('keyword')
    expect(searchOf({ provider: 'http' }, 'auto')).toBe('auto')
  })

  test('is listed with what sets it apart', () => {
    const resource = {
      spec: { scope: 'run', ttl: '1h', embedding: { endpoint: 'small' } },
      status: { phase: 'ready' },
      metadata: { generation: 1 },
    }
    expect(memoryKind.columns.map(({ text }) => text(resource))).toEqual(['run', 'store', 'small', '1h'])
  })
})
