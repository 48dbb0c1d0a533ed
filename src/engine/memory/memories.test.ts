import { beforeEach, describe, expect, test } from 'vitest'
import { noMetrics } from '../../base/metrics.ts'
import type { JsonObject } from '../../base/json.ts'
import { parseResources } from '../../domain/kinds/documents.ts'
import { LIMITS } from '../../domain/limits.ts'
import { METRICS } from '../../telemetry/metric-names.ts'
import { KeyRing } from '../../store/secrets/key-ring.ts'
import { SealingKey } from '../../store/secrets/seal.ts'
import type { RunningEngine } from '../create-engine.ts'
import { NO_SOURCES } from '../secret-sources.ts'
import { MemoryServer } from '../testing/memory-server.ts'
import { ADMIN, type EngineRig, useRig } from '../testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((given) => {
  rig = given
})
const keys = SealingKey.generate().reveal()
const counted: { name: string; labels: unknown }[] = []
beforeEach(() => {
  counted.length = 0
  engine = rig.engine({
    secrets: {
      ring: new KeyRing({ name: 'keys.txt', read: () => Promise.resolve(keys), prepend: null }),
      sources: NO_SOURCES,
      remember: () => {},
    },
    metrics: {
      ...noMetrics,
      count: (name, _, labels) => void counted.push({ name, labels }),
      observe: (name, _, labels) => void counted.push({ name, labels }),
    },
  })
})

const declare = async (kind: string, name: string, spec: JsonObject) => {
  const text = JSON.stringify({ apiVersion: 'orrery.dev/v1', kind, metadata: { name }, spec })
  await engine.resources.apply(ADMIN, parseResources(text, { file: 'm', namespace: null }), { dryRun: false })
}
const at = (name = 'notes', scope: string | null = null) => ({ namespace: 'default', name, scope })
const page = { prefix: '', cursor: null, limit: 10 }
const audited = async () => {
  const all = { actor: null, action: null, object: null, outcome: null, namespace: null, since: null, cursor: null }
  const { items } = await engine.access.listAudit(ADMIN, { ...all, limit: 100 })
  return items.filter(({ action }) => !action.endsWith('.apply')).toReversed()
}

describe('people', () => {
  test('write, read, search, list, take in and delete, and their writes are written down without the texts', async () => {
    await declare('Memory', 'notes', { scope: 'shared' })
    const { memories } = engine
    expect(await memories.put(ADMIN, at(), 'a/b', { text: 'a red fox', metadata: { n: 1 } })).toEqual({
      key: 'a/b',
      replaced: false,
    })
    expect(await memories.put(ADMIN, at(), 'a/b', { text: 'a red fox', metadata: { n: 1 } })).toMatchObject({
      replaced: true,
    })
    expect(await memories.get(ADMIN, at(), 'a/b')).toEqual({
      scope: 'shared',
      key: 'a/b',
      text: 'a red fox',
      metadata: { n: 1 },
      bytes: 19,
      writtenBy: 'tok_admin',
      updatedAt: '2026-01-01T00:00:00.000Z',
      expiresAt: null,
    })
    expect(await memories.search(ADMIN, at(), { query: 'fox' })).toMatchObject({
      items: [{ key: 'a/b', score: 1 }],
      warnings: [],
    })
    expect(await memories.ingest(ADMIN, at(), { source: 'doc', text: 'word '.repeat(400) })).toEqual({
      source: 'doc',
      chunks: 3,
      removed: 0,
    })
    const listed = await memories.list(ADMIN, at(), { ...page, limit: 2 })
    expect(listed.items.map(({ key, excerpt }) => [key, excerpt.length])).toEqual([
      ['a/b', 9],
      ['doc/chunk-0001', 200],
    ])
    expect((await memories.list(ADMIN, at(), { ...page, cursor: listed.next })).items).toHaveLength(2)
    expect(await memories.delete(ADMIN, at(), { prefix: 'doc/' })).toEqual({ deleted: 3 })
    expect(await memories.delete(ADMIN, at(), { keys: ['a/b'] })).toEqual({ deleted: 1 })
    await expect(memories.get(ADMIN, at(), 'a/b')).rejects.toMatchObject({
      code: 'memory.entry_not_found',
      evidence: { key: 'a/b' },
    })
    const entries = await audited()
    expect(entries.map(({ action, object, details }) => ({ action, object, details }))).toEqual([
      { action: 'memories.write', object: 'notes', details: { scope: 'shared', key: 'a/b' } },
      { action: 'memories.write', object: 'notes', details: { scope: 'shared', key: 'a/b' } },
      { action: 'memories.write', object: 'notes', details: { scope: 'shared', source: 'doc', chunks: 3 } },
      { action: 'memories.write', object: 'notes', details: { scope: 'shared', prefix: 'doc/', deleted: true } },
      { action: 'memories.write', object: 'notes', details: { scope: 'shared', keys: ['a/b'], deleted: true } },
    ])
    expect(JSON.stringify(entries)).not.toContain('fox')
  })

  test('name whose entries they mean, where they are not shared', async () => {
    const { memories } = engine
    await declare('Memory', 'shared', { scope: 'shared' })
    await declare('Memory', 'own', { scope: 'agent' })
    await declare('Memory', 'run', { scope: 'run' })
    const refused = { code: 'request.invalid' }
    await expect(memories.put(ADMIN, at('own'), 'k', { text: 't' })).rejects.toMatchObject(refused)
    await expect(memories.put(ADMIN, at('own', 'run/run_1'), 'k', { text: 't' })).rejects.toMatchObject(refused)
    await expect(memories.put(ADMIN, at('own', 'agent/NO/pe'), 'k', { text: 't' })).rejects.toMatchObject(refused)
    await expect(memories.put(ADMIN, at('run', 'agent/a'), 'k', { text: 't' })).rejects.toMatchObject(refused)
    await expect(memories.put(ADMIN, at('shared', 'agent/a'), 'k', { text: 't' })).rejects.toMatchObject(refused)
    await memories.put(ADMIN, at('own', 'agent/b'), 'k', { text: 't' })
    await memories.put(ADMIN, at('own', 'agent/a'), 'k', { text: 't' })
    const scopes = (await memories.list(ADMIN, at('own'), page)).items.map(({ scope }) => scope)
    expect(scopes).toEqual(['agent/a', 'agent/b'])
    expect((await memories.list(ADMIN, at('own', 'agent/b'), page)).items).toHaveLength(1)
  })

  test('of another tenant find nothing there, whatever they ask', async () => {
    await declare('Memory', 'notes', { scope: 'shared' })
    await engine.memories.put(ADMIN, at(), 'k', { text: 't' })
    const stranger = { ...ADMIN, organisation: 'beta', namespaces: ['beta/*'] }
    const absent = { code: 'resource.not_found' }
    await expect(engine.memories.get(stranger, at(), 'k')).rejects.toMatchObject(absent)
    await expect(engine.memories.list(stranger, at(), page)).rejects.toMatchObject(absent)
    await expect(engine.memories.search(stranger, at(), { query: 't' })).rejects.toMatchObject(absent)
    await expect(engine.memories.delete(stranger, at(), { prefix: '' })).rejects.toMatchObject(absent)
    await expect(engine.memories.put(stranger, at(), 'k', { text: 'x' })).rejects.toMatchObject(absent)
    expect(await engine.memories.get(ADMIN, at(), 'k')).toMatchObject({ text: 't' })
  })

  test('cannot fill a server with one text', async () => {
    await declare('Memory', 'notes', { scope: 'shared' })
    const text = 'x'.repeat(LIMITS.memoryIngestBytes + 1)
    await expect(engine.memories.ingest(ADMIN, at(), { source: 's', text })).rejects.toMatchObject({
      code: 'request.too_large',
      evidence: { limit: LIMITS.memoryIngestBytes },
    })
    const metadata = { x: 'y'.repeat(LIMITS.memoryMetadataBytes) }
    await expect(engine.memories.put(ADMIN, at(), 'k', { text: 't', metadata })).rejects.toMatchObject({
      code: 'request.invalid',
    })
  })
})

test('a text of megabytes is taken in whole, and what comes instead of it leaves nothing of it', async () => {
  await declare('Memory', 'notes', { scope: 'shared', ingest: { chunkSize: 5_000, overlap: 100 } })
  const line = (n: number) => `line ${n} of a long text that goes on and on.\n`
  const text = Array.from({ length: 50_000 }, (_, n) => line(n)).join('')
  const { chunks } = await engine.memories.ingest(ADMIN, at(), { source: 'book', text })
  expect(chunks).toBeGreaterThan(400)
  const found = await engine.memories.search(ADMIN, at(), { query: '49999', limit: 1 })
  expect(found.items[0]).toMatchObject({ metadata: { source: 'book', chunk: chunks, chunks } })
  expect(await engine.memories.ingest(ADMIN, at(), { source: 'book', text: 'gone' })).toEqual({
    source: 'book',
    chunks: 1,
    removed: chunks - 1,
  })
})

test('a memory that is deleted takes its entries with it: one of the same name begins empty', async () => {
  await declare('Memory', 'notes', { scope: 'shared' })
  await engine.memories.put(ADMIN, at(), 'k', { text: 't' })
  const kept = { match: null, absent: false }
  await engine.resources.remove(
    ADMIN,
    { kind: 'Memory', namespace: 'default', name: 'notes' },
    { precondition: kept, dryRun: true },
  )
  expect(await engine.memories.get(ADMIN, at(), 'k')).toMatchObject({ text: 't' })
  await engine.resources.remove(
    ADMIN,
    { kind: 'Memory', namespace: 'default', name: 'notes' },
    { precondition: kept, dryRun: false },
  )
  await expect(engine.memories.list(ADMIN, at(), page)).rejects.toMatchObject({ code: 'resource.not_found' })
  await declare('Memory', 'notes', { scope: 'shared' })
  expect((await engine.memories.list(ADMIN, at(), page)).items).toEqual([])
})

describe('a memory at a service', () => {
  test('is used with the secret that it names, the use of which is written down', async () => {
    const server = await MemoryServer.start()
    await engine.putSecret(
      ADMIN,
      { namespace: 'default', secret: 'm' },
      { values: { key: 'the-key-0123\n' }, replace: false },
    )
    const http = { url: server.url, allowPrivateAddresses: true, credentials: { secret: 'm', key: 'key' } }
    await declare('Memory', 'notes', { scope: 'shared', provider: 'http', http, ttl: '1h' })
    await engine.memories.put(ADMIN, at(), 'k', { text: 't' })
    expect(server.asked[0]?.headers.authorization).toBe('Bearer the-key-0123')
    expect(server.asked[0]?.body).toMatchObject({
      namespace: 'default',
      memory: 'notes',
      scope: 'shared',
      entries: [{ key: 'k', text: 't', metadata: {}, expiresAt: '2026-01-01T01:00:00.000Z' }],
    })
    expect(await engine.memories.check(ADMIN, at())).toEqual({ provider: 'http', numbers: null })
    expect((await audited()).filter(({ action }) => action === 'secrets.use')).toMatchObject([
      { object: 'm', details: { key: 'key', as: 'credentials', memory: 'notes' } },
      { object: 'm' },
    ])
  })

  test('whose secret is nowhere is told so', async () => {
    const http = { url: 'https://memory.example', credentials: { secret: 'none', key: 'key' } }
    await declare('Memory', 'notes', { scope: 'shared', provider: 'http', http })
    await expect(engine.memories.check(ADMIN, at())).rejects.toMatchObject({
      code: 'secret.not_found',
      evidence: { memory: 'notes', tried: expect.any(Array) },
    })
  })
})

test('whether a memory can be used is found out by asking its model', async () => {
  await declare('Memory', 'notes', { scope: 'shared', embedding: { endpoint: 'small', model: 'other' } })
  await expect(engine.memories.check(ADMIN, at())).rejects.toMatchObject({ code: 'resource.not_found' })
  await declare('ModelEndpoint', 'small', { provider: 'mock', model: 'scripted', mock: { replies: [{ text: 'x' }] } })
  expect(await engine.memories.check(ADMIN, at())).toEqual({ provider: 'store', numbers: 256 })
  await engine.memories.put(ADMIN, at(), 'k', { text: 't' })
  const [row] = await rig.db.query<{ embedded_by: string }>(`select embedded_by from memory_entry`)
  expect(row?.embedded_by).toBe('mock other 256')
  await declare('Memory', 'plain', { scope: 'shared' })
  expect(await engine.memories.check(ADMIN, at('plain'))).toEqual({ provider: 'store', numbers: null })
})

test('what is counted has a name in the table, with its labels', async () => {
  await declare('Memory', 'notes', { scope: 'shared' })
  await engine.memories.put(ADMIN, at(), 'k', { text: 't' })
  await engine.memories.get(ADMIN, at(), 'nowhere').catch(() => undefined)
  await engine.memories.put(ADMIN, at(), 'k', { text: 't', metadata: { x: 'y'.repeat(20_000) } }).catch(() => undefined)
  const mine = counted.filter(({ name }) => name.startsWith('orrery_memory'))
  expect(mine).toEqual([
    { name: 'orrery_memory_calls_total', labels: { operation: 'write', result: 'ok' } },
    { name: 'orrery_memory_call_seconds', labels: { operation: 'write' } },
    { name: 'orrery_memory_calls_total', labels: { operation: 'read', result: 'ok' } },
    { name: 'orrery_memory_call_seconds', labels: { operation: 'read' } },
  ])
  for (const { name } of mine) expect(Object.keys(METRICS)).toContain(name)
})

test('searches that fell back to words and entries whose time was over are counted', async () => {
  await declare('ModelEndpoint', 'small', { provider: 'mock', model: 'm', mock: { replies: [{ text: 'x' }] } })
  await declare('Memory', 'notes', { scope: 'shared', ttl: '1m', embedding: { endpoint: 'small' } })
  await engine.memories.put(ADMIN, at(), 'k', { text: 'a red fox' })
  await declare('ModelEndpoint', 'small', { provider: 'ollama', model: 'm', baseUrl: 'http://127.0.0.1:1', retry: 0 })
  expect((await engine.memories.search(ADMIN, at(), { query: 'fox' })).warnings).toHaveLength(1)
  expect(counted).toContainEqual({ name: 'orrery_memory_fallbacks_total', labels: undefined })
  await rig.advance(120_000)
  await engine.tick()
  expect(counted).toContainEqual({ name: 'orrery_memory_pruned_total', labels: undefined })
})
