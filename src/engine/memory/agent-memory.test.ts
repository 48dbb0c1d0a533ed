import { beforeEach, describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import type { MemoryRequest } from '../../contract/exchange.ts'
import type { Bound } from '../../domain/agents/bound.ts'
import type { ToolResult } from '../../domain/agents/tool-envelope.ts'
import { type MemoryGrant, readAgent } from '../../domain/kinds/agent.ts'
import { parseResources } from '../../domain/kinds/documents.ts'
import { readMemory } from '../../domain/kinds/memory.ts'
import { definitionOf } from '../../domain/testing/definitions.ts'
import { KeyRing } from '../../store/secrets/key-ring.ts'
import { SealingKey } from '../../store/secrets/seal.ts'
import type { RunningEngine } from '../create-engine.ts'
import type { Caller } from '../engine.ts'
import { NO_SOURCES } from '../secret-sources.ts'
import { inTransaction } from '../testing/in-transaction.ts'
import { ADMIN, type EngineRig, type RigWorker, useRig } from '../testing/rig.ts'
import type { Gate } from '../agents/gate.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((given) => {
  rig = given
})
const keys = SealingKey.generate().reveal()
const secrets = {
  ring: new KeyRing({ name: 'keys.txt', read: () => Promise.resolve(keys), prepend: null }),
  sources: NO_SOURCES,
  remember: () => {},
}
beforeEach(() => {
  declared.clear()
  engine = rig.engine({ secrets })
})

const ALL: MemoryGrant[] = ['read', 'write', 'search', 'list', 'ingest']
const agentOf = (memories: { name: string; allow: MemoryGrant[] }[], more: JsonObject = {}) => ({
  spec: readAgent({ model: 'gpt', instructions: 'Be brief.', memories, ...more }),
  instructions: 'Be brief.',
  definition: null,
})
const grants = (allow: MemoryGrant[] = ALL) => ['shared', 'own', 'run'].map((name) => ({ name, allow }))

/** A step of agent `writer`, who may hand over to `helper`; `stranger` is bound as well, and not of this step. */
const boundOf = (memories: Record<string, JsonObject> = {}): Bound => ({
  agents: {
    writer: agentOf(grants(), { handoffs: ['helper'] }),
    helper: agentOf([{ name: 'shared', allow: ['read'] }]),
    stranger: agentOf(grants()),
  },
  tools: {},
  mcpServers: {},
  memories: Object.fromEntries(
    Object.entries({ shared: { scope: 'shared' }, own: { scope: 'agent' }, run: { scope: 'run' }, ...memories }).map(
      ([name, spec]) => [name, readMemory(spec)],
    ),
  ),
  workflows: {},
})

interface Held {
  worker: RigWorker
  runId: string
  session: string
  step: string
  fence: number
}
async function hold(bound = boundOf(), caller?: Caller, namespace = 'default'): Promise<Held> {
  // A step is held back while a model of its agents is not there.
  if (!declared.has(`${namespace}/gpt`)) await declare('ModelEndpoint', 'gpt', scripted([{ text: 'x' }]), namespace)
  const plain = definitionOf([{ name: 'a' }], { bound, namespace })
  const nodes = plain.nodes.map((node) => ({ ...node, kind: 'agent' as const, agent: 'writer', with: {} }))
  const { hash } = await engine.putDefinition(ADMIN, { ...plain, nodes })
  const worker = await rig.worker(engine, { backends: ['agent'], modules: [], ...(caller ? { caller } : {}) })
  const runId = await rig.start(engine, hash)
  const { step, fence } = await worker.pollFirst()
  await worker.poll()
  return { worker, runId, session: worker.session, step, fence }
}
const WORKER = { actor: 'tok_worker', role: 'worker', organisation: '*', namespaces: null, requestId: 'req' } as const
let calls = 0
const use = async (held: Held, operation: MemoryGrant, input: JsonObject, more: Partial<MemoryRequest> = {}) => {
  const { session, step, fence } = held
  const request = {
    session,
    step,
    fence,
    agent: 'writer',
    memory: 'shared',
    operation,
    input,
    call: `c${++calls}`,
    ...more,
  }
  return engine.useMemory({ ...WORKER, namespaces: null }, request)
}
const outputOf = async (asked: ReturnType<typeof use>): Promise<unknown> => {
  const { result } = await asked
  if (result?.ok !== true) throw new Error(JSON.stringify(result))
  return result.output
}
const refusalOf = async (asked: ReturnType<typeof use>): Promise<Extract<ToolResult, { ok: false }>> => {
  const { result } = await asked
  if (result?.ok !== false) throw new Error(`no refusal: ${JSON.stringify(result)}`)
  return result
}
const scripted = (replies: JsonObject[]) => ({ provider: 'mock', model: 'scripted', retry: 0, mock: { replies } })
const declared = new Set<string>()
async function declare(kind: string, name: string, spec: JsonObject, namespace = 'default'): Promise<void> {
  declared.add(`${namespace}/${name}`)
  const text = JSON.stringify({ apiVersion: 'orrery.dev/v1', kind, metadata: { name }, spec })
  const documents = parseResources(text, { file: 'm', namespace: null }).map((one) => ({ ...one, namespace }))
  await engine.resources.apply(ADMIN, documents, { dryRun: false })
}

describe('an agent', () => {
  test('writes, reads, searches, lists and takes in', async () => {
    const held = await hold()
    expect(await outputOf(use(held, 'write', { key: 'a', text: 'likes trains', metadata: { n: 1 } }))).toEqual({
      key: 'a',
      replaced: false,
    })
    const entry = { key: 'a', text: 'likes trains', metadata: { n: 1 }, updatedAt: expect.any(String) }
    expect(await outputOf(use(held, 'read', { key: 'a' }))).toEqual({ entry })
    expect(await outputOf(use(held, 'read', { key: 'b' }))).toEqual({ entry: null })
    expect(await outputOf(use(held, 'search', { query: 'trains' }))).toEqual({
      entries: [{ ...entry, score: 1 }],
      warnings: [],
    })
    const taken = await outputOf(use(held, 'ingest', { source: 'doc', text: 'word '.repeat(400) }))
    expect(taken).toEqual({ source: 'doc', chunks: 3, removed: 0 })
    const page = await outputOf(use(held, 'list', { limit: 3 }))
    expect(page).toMatchObject({
      entries: [{ key: 'a' }, { key: 'doc/chunk-0001' }, { key: 'doc/chunk-0002' }],
      next: expect.any(String),
    })
    const { next } = page as { next: string }
    expect(await outputOf(use(held, 'list', { cursor: next }))).toMatchObject({
      entries: [{ key: 'doc/chunk-0003' }],
      next: null,
    })
    expect(await outputOf(use(held, 'list', { prefix: 'doc/chunk-0003' }))).toMatchObject({
      entries: [{ key: 'doc/chunk-0003' }],
    })
    expect(await outputOf(use(held, 'ingest', { source: 'doc', text: 'short' }))).toMatchObject({
      chunks: 1,
      removed: 2,
    })
    // It came with the run alone: there is no such resource.
    const ref = { namespace: 'default', name: 'shared', scope: null }
    await expect(engine.memories.get(ADMIN, ref, 'a')).rejects.toMatchObject({ code: 'resource.not_found' })
  })

  test('pieces of what was taken in say where they are from', async () => {
    const held = await hold()
    await outputOf(use(held, 'ingest', { source: 'doc', text: 'x', metadata: { by: 'ann' } }))
    expect(await outputOf(use(held, 'read', { key: 'doc/chunk-0001' }))).toMatchObject({
      entry: {
        metadata: { by: 'ann', source: 'doc', chunk: 1, chunks: 1, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
      },
    })
  })

  test.each<[string, Partial<MemoryRequest>]>([
    ['a memory that is not granted', { memory: 'secret-notes' }],
    ['an operation that is not granted', { agent: 'helper', operation: 'write', input: { key: 'a', text: 'b' } }],
    ['a memory that another agent is granted', { agent: 'helper', memory: 'own' }],
    ['in the name of an agent that is not of this step', { agent: 'stranger' }],
    ['in the name of nobody', { agent: 'nobody' }],
  ])('is denied %s, and told what would grant it', async (_, more) => {
    const held = await hold()
    const refused = await refusalOf(use(held, 'read', { key: 'a' }, more))
    expect(refused).toMatchObject({ code: 'tool.permission_denied', retryable: false })
    expect(refused.evidence).toMatchObject({
      rule: `agent/${more.agent ?? 'writer'}`,
      remediation: expect.stringContaining('allow: ['),
    })
  })

  test('to whom the conversation was handed over uses what it is granted itself', async () => {
    const held = await hold()
    await outputOf(use(held, 'write', { key: 'a', text: 'b' }))
    expect(await outputOf(use(held, 'read', { key: 'a' }, { agent: 'helper' }))).toMatchObject({ entry: { text: 'b' } })
  })

  test('is told where what it asks for is wrong', async () => {
    const held = await hold()
    expect(await refusalOf(use(held, 'write', { key: 1, txt: 'b' }))).toMatchObject({
      code: 'tool.invalid_input',
      evidence: { problems: expect.arrayContaining([expect.objectContaining({ path: 'input.txt' })]) },
    })
    const large = { key: 'a', text: 'b', metadata: { x: 'y'.repeat(20_000) } }
    expect(await refusalOf(use(held, 'write', large))).toMatchObject({ code: 'request.invalid' })
    expect(await refusalOf(use(held, 'list', { cursor: 'nonsense' }))).toMatchObject({ code: 'request.invalid' })
  })

  test('is told that a memory is full', async () => {
    const held = await hold(boundOf({ shared: { scope: 'shared', maxEntries: 1 } }))
    await outputOf(use(held, 'write', { key: 'a', text: 'b' }))
    expect(await refusalOf(use(held, 'write', { key: 'b', text: 'b' }))).toMatchObject({
      code: 'memory.full',
      retryable: false,
    })
    expect(await outputOf(use(held, 'write', { key: 'a', text: 'c' }))).toMatchObject({ replaced: true })
  })
})

describe('a call', () => {
  test('that comes again is answered as it was, and writes nothing twice', async () => {
    const held = await hold()
    const first = await use(held, 'write', { key: 'a', text: 'one' }, { call: 'same' })
    await outputOf(use(held, 'write', { key: 'a', text: 'two' }))
    expect(await use(held, 'write', { key: 'a', text: 'one' }, { call: 'same' })).toEqual(first)
    expect(await outputOf(use(held, 'read', { key: 'a' }))).toMatchObject({ entry: { text: 'two' } })
  })

  test('that comes twice at once is done once', async () => {
    const held = await hold()
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => use(held, 'ingest', { source: 'd', text: 'x'.repeat(3_000) }, { call: 'same' })),
    )
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1)
    const [row] = await rig.db.query<{ n: number }>(`select count(*)::int as n from memory_call`)
    expect(row?.n).toBe(1)
  })

  test('whose answer was lost after the write is answered by another server, without writing again', async () => {
    const held = await hold()
    const first = await use(held, 'write', { key: 'a', text: 'one' }, { call: 'same' })
    await outputOf(use(held, 'write', { key: 'a', text: 'newer' }))
    engine = rig.engine({ secrets })
    expect(await use(held, 'write', { key: 'a', text: 'one' }, { call: 'same' })).toEqual(first)
    expect(await outputOf(use(held, 'read', { key: 'a' }))).toMatchObject({ entry: { text: 'newer' } })
  })

  test('of an attempt that lost its step writes nothing', async () => {
    const held = await hold()
    expect(await use({ ...held, fence: held.fence + 1 }, 'write', { key: 'a', text: 'b' })).toEqual({
      state: 'stale',
      result: null,
    })
    expect(await use({ ...held, session: 'ses_nobody' }, 'read', { key: 'a' })).toEqual({
      state: 'stale',
      result: null,
    })
    // It loses the step between the look and the write: this server has not heard of it yet.
    await rig.store.db.query(`update step set fence = fence + 1 where run_id = $1`, [held.runId])
    expect(await use(held, 'write', { key: 'a', text: 'b' })).toEqual({ state: 'stale', result: null })
    const [row] = await rig.store.db.query<{ n: number }>(`select count(*)::int as n from memory_entry`)
    expect(row?.n).toBe(0)
  })

  test('that the store cannot take is asked again, not told as an answer', async () => {
    const held = await hold()
    rig.faults.before = (name) => {
      if (name === 'put_memory_entries') throw new Error('the database is away')
    }
    await expect(use(held, 'write', { key: 'a', text: 'b' }, { call: 'same' })).rejects.toThrow('away')
    delete rig.faults.before
    expect(await outputOf(use(held, 'write', { key: 'a', text: 'b' }, { call: 'same' }))).toEqual({
      key: 'a',
      replaced: false,
    })
  })
})

describe('entries', () => {
  test('of an agent are there in its next run and for no other agent; those of a run are gone with it; shared ones are for all', async () => {
    const first = await hold(boundOf())
    for (const memory of ['shared', 'own', 'run'])
      await outputOf(use(first, 'write', { key: 'a', text: memory }, { memory }))
    const second = await hold({ ...boundOf(), agents: { ...boundOf().agents, helper: agentOf(grants()) } })
    const read = async (memory: string, agent = 'writer') =>
      ((await outputOf(use(second, 'read', { key: 'a' }, { memory, agent }))) as { entry: JsonObject | null }).entry?.[
        'text'
      ] ?? null
    expect(await read('shared')).toBe('shared')
    expect(await read('own')).toBe('own')
    expect(await read('own', 'helper')).toBeNull()
    expect(await read('run')).toBeNull()
  })

  test('of a run are shared with the runs below it', async () => {
    const top = await hold()
    await outputOf(use(top, 'write', { key: 'a', text: 'b' }, { memory: 'run' }))
    const below = await hold()
    await rig.store.db.query(
      `update run set parent_run = $2, parent_node = 0, parent_path = '', parent_fence = 1 where id = $1`,
      [below.runId, top.runId],
    )
    expect(await outputOf(use(below, 'read', { key: 'a' }, { memory: 'run' }))).toMatchObject({ entry: { text: 'b' } })
  })

  test('of one tenant are invisible to an agent of the same name in another', async () => {
    const ours = await hold(boundOf(), undefined, 'acme/default')
    await outputOf(use(ours, 'write', { key: 'a', text: 'b' }))
    const theirs = await hold(boundOf(), undefined, 'beta/default')
    expect(await outputOf(use(theirs, 'list', {}))).toMatchObject({ entries: [] })
  })

  test('go by ticks when their time is over, and with their run', async () => {
    const held = await hold(boundOf({ shared: { scope: 'shared', ttl: '1m' } }))
    await outputOf(use(held, 'write', { key: 'a', text: 'b' }))
    await outputOf(use(held, 'write', { key: 'a', text: 'b' }, { memory: 'run' }))
    const count = async () => (await rig.store.db.query(`select 1 from memory_entry`)).length
    await rig.advance(61_000)
    await engine.tick()
    expect(await count()).toBe(1)
    await rig.store.db.query(`update run set ended_at = clock_now() where id = $1`, [held.runId])
    await rig.advance(24 * 3_600_000)
    await engine.tick()
    await rig.advance(61_000)
    await engine.tick()
    expect(await count()).toBe(0)
  })
})

describe('secrets', () => {
  test('that the agent and its models name are never kept, in any form', async () => {
    const values = { 'api-key': 'sk-secret-of-the-model', token: 'tok-secret-of-the-tool' }
    await engine.putSecret(ADMIN, { namespace: 'default', secret: 's' }, { values, replace: false })
    await declare('ModelEndpoint', 'gpt', {
      provider: 'openai',
      model: 'm',
      credentials: { secret: 's', key: 'api-key' },
    })
    const bound = boundOf({
      far: {
        scope: 'shared',
        provider: 'http',
        http: { url: 'http://x.test', credentials: { secret: 's', key: 'token' } },
      },
    })
    const held = await hold(bound)
    const base64 = Buffer.from(values.token).toString('base64')
    const text = `key ${values['api-key']} and ${base64} and ${encodeURIComponent(values.token)}`
    await outputOf(use(held, 'write', { key: `k ${values.token}`, text, metadata: { deep: [values.token] } }))
    await outputOf(use(held, 'ingest', { source: values.token, text }))
    const stored = JSON.stringify(await rig.store.db.query(`select key, body, metadata from memory_entry`))
    for (const value of [...Object.values(values), base64]) expect(stored).not.toContain(value)
    expect(stored).toContain('key [secret] and [secret] and [secret]')
  })
})

describe('an embedding', () => {
  const embedding = { endpoint: 'small' }

  test('is asked of the endpoint as it is at the moment; a search goes on without it, a write does not', async () => {
    await declare('ModelEndpoint', 'small', scripted([{ text: 'x' }]))
    const held = await hold(boundOf({ shared: { scope: 'shared', embedding } }))
    await outputOf(use(held, 'write', { key: 'a', text: 'a red fox' }))
    expect(await outputOf(use(held, 'search', { query: 'the fox' }))).toMatchObject({
      entries: [{ key: 'a' }],
      warnings: [],
    })
    await declare('ModelEndpoint', 'small', scripted([{ when: 'fox', errors: [{ code: 'unavailable' }] }]))
    expect(await outputOf(use(held, 'search', { query: 'the fox' }))).toMatchObject({
      entries: [{ key: 'a' }],
      warnings: [expect.stringContaining('model.unavailable')],
    })
    expect(await refusalOf(use(held, 'ingest', { source: 'd', text: 'another fox' }))).toMatchObject({
      code: 'model.unavailable',
      retryable: true,
    })
    expect(await refusalOf(use(held, 'write', { key: 'b', text: 'another fox' }))).toMatchObject({
      code: 'model.unavailable',
    })
    expect(await outputOf(use(held, 'list', {}))).toMatchObject({ entries: [{ key: 'a' }] })
  })

  test('are counted for the agent in its run, and asked of the budgets before', async () => {
    await declare('ModelEndpoint', 'small', scripted([{ text: 'x' }]))
    const held = await hold(boundOf({ shared: { scope: 'shared', embedding } }))
    const by = (group: 'agent' | 'run' | 'workflow') =>
      engine.listCosts(ADMIN, { by: group, namespace: null, since: null, until: null, limit: 10 })
    const text = 'a red fox'.repeat(8)
    await outputOf(use(held, 'write', { key: 'a', text }))
    await outputOf(use(held, 'search', { query: text }))
    expect((await by('agent')).items).toMatchObject([{ name: 'writer', calls: 2, inputTokens: 36 }])
    expect((await by('run')).items).toMatchObject([{ name: held.runId, calls: 2 }])
    expect((await by('workflow')).items).toMatchObject([{ name: 'test', calls: 2 }])
    await declare('Budget', 'writers', { window: 'run', limits: { tokens: 40 }, selector: { agents: ['writer'] } })
    expect(await refusalOf(use(held, 'ingest', { source: 'd', text }))).toMatchObject({ code: 'budget.exceeded' })
    expect(await refusalOf(use(held, 'write', { key: 'b', text }))).toMatchObject({ code: 'budget.exceeded' })
    expect(await outputOf(use(held, 'search', { query: text }))).toMatchObject({
      entries: [{ key: 'a' }],
      warnings: [expect.stringContaining('budget.exceeded')],
    })
    // Not those of the agent.
    const memory = { apiVersion: 'orrery.dev/v1', kind: 'Memory', metadata: { name: 'shared' } }
    const spec = { provider: 'store', scope: 'shared', embedding }
    const documents = parseResources(JSON.stringify({ ...memory, spec }), { file: 'm', namespace: null })
    await engine.resources.apply(ADMIN, documents, { dryRun: false })
    const ref = { namespace: 'default', name: 'shared', scope: null }
    await engine.memories.put(ADMIN, ref, 'c', { text })
    expect((await by('agent')).items).toMatchObject([
      { name: 'writer', calls: 2 },
      { name: '', calls: 1, inputTokens: 18 },
    ])
    expect(await rig.db.query('select 1 from spending_hold')).toEqual([])
  })

  test('of an endpoint that the rules do not let the agent ask is not asked for', async () => {
    const asked: unknown[] = []
    const denies: Gate = {
      ...inTransaction,
      calls: (_, all) => Promise.resolve(all.map(() => ({ verdict: 'allow', rule: 'default' }))),
      beginning: () => Promise.resolve(null),
      models: (_, all) => {
        asked.push(...all)
        return Promise.resolve(
          all.map(() => ({
            caps: [],
            failure: {
              code: 'policy.denied',
              message: 'asking it',
              remediation: 'Ask a local one.',
              retryable: false,
            },
          })),
        )
      },
      dataRules: () => Promise.reject(new Error('nobody asks')),
    }
    engine = rig.engine({ secrets, gate: denies })
    await declare('ModelEndpoint', 'small', scripted([{ text: 'x' }]))
    const held = await hold(boundOf({ shared: { scope: 'shared', embedding } }))
    expect(await refusalOf(use(held, 'write', { key: 'a', text: 'b' }))).toMatchObject({ code: 'policy.denied' })
    const { runId } = held
    expect(asked).toEqual([{ namespace: 'default', workflow: 'test', runId, agent: 'writer', endpoint: 'small' }])
  })
})
