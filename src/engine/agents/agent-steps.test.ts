import { beforeEach, describe, expect, test } from 'vitest'
import type { Json, JsonObject } from '../../base/json.ts'
import { NO_DATA_RULES } from '../../domain/agents/data-rules.ts'
import { readResources } from '../../domain/kinds/documents.ts'
import { compileWorkflow } from '../../domain/manifest.ts'
import { KeyRing } from '../../store/secrets/key-ring.ts'
import type { RunningEngine } from '../create-engine.ts'
import { SealingKey } from '../../store/secrets/seal.ts'
import { NO_SOURCES } from '../secret-sources.ts'
import { inTransaction } from '../testing/in-transaction.ts'
import { ADMIN, type EngineRig, type RigWorker, useRig } from '../testing/rig.ts'
import type { Gate } from './gate.ts'

let rig: EngineRig
let engine: RunningEngine
let worker: RigWorker
useRig((given) => {
  rig = given
})

const KEYS = SealingKey.generate().reveal()
const GONE = { dryRun: false, precondition: { match: null, absent: false } }
const asked: object[] = []
const gate: Gate = {
  ...inTransaction,
  calls: () => Promise.resolve([]),
  beginning: () => Promise.resolve(null),
  models: () => Promise.resolve([]),
  dataRules: (_, at) => {
    asked.push(at)
    return Promise.resolve(NO_DATA_RULES)
  },
}

const doc = (kind: string, name: string, spec: JsonObject) => ({
  apiVersion: 'orrery.dev/v1',
  kind,
  metadata: { name },
  spec,
})
const mock = (more: JsonObject = {}) => ({
  provider: 'mock',
  model: 'm',
  mock: { replies: [{ text: 'hello' }] },
  ...more,
})
const openai = (key: string, more: JsonObject = {}) => ({
  provider: 'openai',
  model: 'm',
  credentials: { secret: 'openai', key },
  ...more,
})
const agent = (name: string, more: JsonObject = {}) =>
  doc('Agent', name, { model: 'gpt', instructions: 'Be brief.', ...more })

async function apply(...documents: object[]): Promise<void> {
  const read = readResources([{ file: 'all', text: JSON.stringify({ kind: 'List', items: documents }) }], null)
  expect(read.problems).toEqual([])
  await engine.resources.apply(ADMIN, read.documents, { dryRun: false })
}

const putTool = (name: string, more: JsonObject = {}): Promise<void> =>
  apply(doc('Tool', name, { type: 'http', description: 'd', http: { url: 'https://tools.test/' }, ...more }))
const files = (more: JsonObject = {}) => {
  const auth = { type: 'bearer', token: { secret: 'files', key: 'token' } }
  return doc('McpServer', 'files', { transport: 'http', http: { url: 'https://files.test/mcp', auth }, ...more })
}

const setSecret = (secret: string, values: Record<string, string>) =>
  engine.putSecret(ADMIN, { namespace: 'default', secret }, { values, replace: false })

async function start(steps: Json[], inputs: JsonObject = {}): Promise<string> {
  const read = compileWorkflow(doc('Workflow', 'w', { steps }))
  if (!read.ok) throw new Error(JSON.stringify(read.problems))
  const { hash } = await engine.putDefinition(ADMIN, read.definition)
  return rig.start(engine, hash, inputs)
}
const WRITE: Json = { name: 'write', agent: 'writer', with: { prompt: 'About ${{ inputs.what }}' } }

beforeEach(async () => {
  asked.length = 0
  const ring = new KeyRing({ name: 'keys.txt', read: () => Promise.resolve(KEYS), prepend: null })
  engine = rig.engine({ gate, secrets: { ring, sources: NO_SOURCES, remember: () => {} } })
  worker = await rig.worker(engine, { backends: ['agent'] })
})

const contextOf = async (a: { step: string; fence: number }, by = worker) => {
  const { step, fence } = a
  return engine.readAgentContext(by.caller, { session: by.session, step, fence })
}
const reasonOf = async (runId: string) => (await engine.getRun(ADMIN, runId)).stepList[0]?.reason

describe('what a worker is sent', () => {
  test('an agent, with what it is asked and all that it can reach', async () => {
    await apply(doc('ModelEndpoint', 'gpt', mock()), agent('writer'))
    await start([WRITE], { what: 'rivers' })
    const { work } = await worker.pollFirst()
    expect(work).toMatchObject({
      kind: 'agent',
      agent: 'writer',
      input: { prompt: 'About rivers' },
      bound: { agents: { writer: { instructions: 'Be brief.', definition: null } } },
    })
  })

  test('a tool, with its input; what is no map fails before it is sent', async () => {
    await putTool('slack')
    await start([{ name: 'tell', tool: 'slack', with: { text: '${{ inputs.what }}' } }], { what: 'rivers' })
    expect((await worker.pollFirst()).work).toMatchObject({
      kind: 'tool',
      tool: 'slack',
      input: { text: 'rivers' },
      bound: { tools: { slack: { type: 'http' } } },
    })
    const runId = await start([{ name: 'tell', tool: 'slack', with: '${{ inputs.what }}' }], { what: 'rivers' })
    await worker.poll()
    expect((await engine.getRun(ADMIN, runId)).stepList[0]?.failure).toMatchObject({
      code: 'input.invalid',
      evidence: { got: 'string' },
    })
  })

  test('a route, and only the step that it picked goes on', async () => {
    await apply(doc('ModelEndpoint', 'gpt', mock()))
    const route = { model: 'gpt', question: 'Who? ${{ inputs.what }}', to: { a: 'first', b: 'second' }, fallback: 'b' }
    const below = (name: string) => ({ name, needs: ['pick'], wait: '1h' })
    const runId = await start([{ name: 'pick', route }, below('a'), below('b'), below('c')], { what: 'me' })
    const picking = await worker.pollFirst()
    expect(picking.work).toEqual({
      kind: 'route',
      model: 'gpt',
      question: 'Who? me',
      options: [
        { step: 'a', when: 'first' },
        { step: 'b', when: 'second' },
      ],
      fallback: 'b',
    })
    await worker.done(picking, { route: 'b', reason: 'because' })
    await engine.tick()
    expect(await rig.states(runId)).toEqual({ pick: 'succeeded', a: 'skipped', b: 'waiting', c: 'waiting' })
  })

  test('the same agents for each turn, activation and try', async () => {
    await apply(doc('ModelEndpoint', 'gpt', mock()), agent('writer'))
    const each = { ...(WRITE as JsonObject), with: '${{ item }}', forEach: ['x', 'y'] }
    await start([each])
    await engine.tick()
    const { assignments } = await worker.poll()
    expect(assignments.map(({ name, work }) => [name, work.kind === 'agent' && work.input])).toEqual([
      ['write[0]', 'x'],
      ['write[1]', 'y'],
    ])
  })
})

describe('what a step of agents uses as it is now', () => {
  test('endpoints with their fallbacks, prices, and values of what they and its tools name, and of nothing else', async () => {
    await apply(
      doc('ModelEndpoint', 'gpt', openai('a', { fallbacks: ['spare'], prices: 'paid' })),
      doc('ModelEndpoint', 'spare', openai('b')),
      doc('ModelEndpoint', 'judge', mock()),
      doc('Tool', 'slack', {
        type: 'http',
        description: 'd',
        http: { url: 'https://slack.test/' },
        auth: { type: 'bearer', token: { secret: 'slack', key: 'token' } },
      }),
      doc('Tool', 'read', { type: 'mcp', description: 'd', mcp: { server: 'files', tool: 'read' } }),
      doc('ModelEndpoint', 'other', openai('c')),
      doc('PriceTable', 'paid', { currency: 'EUR', rows: [{ model: '*', input: 1, output: 2 }] }),
      files(),
      agent('writer', {
        tools: ['slack', 'read'],
        handoffs: ['editor'],
        check: { model: 'judge', criteria: 'good' },
      }),
      agent('editor', { delegates: ['below'] }),
      agent('below', { model: 'other' }),
    )
    await setSecret('openai', { a: 'value-a', b: 'value-b', c: 'value-c' })
    await setSecret('files', { token: 'value-t', other: 'value-o' })
    await setSecret('slack', { token: 'value-s' })
    const runId = await start([WRITE], { what: 'rivers' })
    const { state, context } = await contextOf(await worker.pollFirst())
    expect(state).toBe('held')
    expect(Object.keys(context?.endpoints ?? {}).sort()).toEqual(['gpt', 'judge', 'spare'])
    expect(context?.prices).toEqual({ paid: { currency: 'EUR', rows: [{ model: '*', input: 1, output: 2 }] } })
    expect(context?.secrets.map(({ secret, key, value }) => `${secret}/${key}=${value}`).sort()).toEqual([
      'files/token=value-t',
      'openai/a=value-a',
      'openai/b=value-b',
      'slack/token=value-s',
    ])
    expect(context?.missing).toEqual([])
    expect(context?.rules).toEqual({ writer: NO_DATA_RULES, editor: NO_DATA_RULES })
    expect(asked).toEqual([
      { namespace: 'default', workflow: 'w', runId, agent: 'writer' },
      { namespace: 'default', workflow: 'w', runId, agent: 'editor' },
    ])
  })

  test('what it is given is written down, and kept nowhere', async () => {
    await apply(doc('ModelEndpoint', 'gpt', openai('a')), agent('writer'))
    await setSecret('openai', { a: 'the-value-itself' })
    await start([WRITE], { what: 'rivers' })
    const a = await worker.pollFirst()
    expect(JSON.stringify(a)).not.toContain('the-value-itself')
    await contextOf(a)
    const audit = await rig.db.query<{ object: string; details: JsonObject }>(
      `select object, details from audit where action = 'secrets.use'`,
    )
    expect(audit).toEqual([
      { object: 'openai', details: { key: 'a', as: 'credentials of model endpoint gpt', step: a.step, worker: 'w' } },
    ])
    for (const table of ['step', 'attempt', 'event', 'audit', 'definition'])
      expect(JSON.stringify(await rig.db.query(`select * from ${table}`))).not.toContain('the-value-itself')
  })

  test('a route, and a tool that needs nothing', async () => {
    await apply(doc('ModelEndpoint', 'gpt', openai('a')))
    await putTool('slack')
    await setSecret('openai', { a: 'value-a' })
    await start([{ name: 'tell', tool: 'slack' }])
    const tool = (await contextOf(await worker.pollFirst())).context
    expect([tool?.secrets, tool?.endpoints, tool?.rules]).toEqual([[], {}, { '': NO_DATA_RULES }])
    const route = { model: 'gpt', question: 'q', to: { a: 'x' } }
    await start([
      { name: 'pick', route },
      { name: 'a', needs: ['pick'], wait: '1h' },
    ])
    const { context } = await contextOf(await worker.pollFirst())
    expect(context?.secrets).toEqual([{ secret: 'openai', key: 'a', value: 'value-a' }])
  })

  test('is for the attempt that holds the step alone', async () => {
    await apply(doc('ModelEndpoint', 'gpt', mock()), agent('writer'))
    await start([WRITE], { what: 'x' })
    const a = await worker.pollFirst()
    const other = await rig.worker(engine, { worker: 'other', backends: ['agent'] })
    const stale = { state: 'stale', context: null }
    expect(await contextOf(a, other)).toEqual(stale)
    expect(await contextOf({ ...a, fence: 2 })).toEqual(stale)
    await worker.done(a, { text: 'x' })
    expect(await contextOf(a)).toEqual(stale)
    const plain = await rig.worker(engine, { worker: 'plain' })
    await rig.start(engine, await rig.put(engine, [{ name: 'a' }]))
    await expect(contextOf(await plain.pollFirst(), plain)).rejects.toMatchObject({ code: 'request.invalid' })
  })

  test('what is gone meanwhile is told, and its version moves with every change', async () => {
    await apply(doc('ModelEndpoint', 'gpt', openai('a')), agent('writer'))
    await setSecret('openai', { a: 'value-a' })
    await start([WRITE], { what: 'x' })
    const a = await worker.pollFirst()
    const versions: (string | undefined)[] = []
    const look = async () => {
      const { context } = await contextOf(a)
      versions.push(context?.version)
      return context
    }
    await look()
    expect((await look())?.version).toBe(versions[0])
    await setSecret('openai', { a: 'value-b' })
    expect((await look())?.secrets).toEqual([{ secret: 'openai', key: 'a', value: 'value-b' }])
    await engine.deleteSecret(ADMIN, { namespace: 'default', secret: 'openai' }, { keys: null })
    const without = await look()
    expect(without?.secrets).toEqual([])
    expect(without?.missing).toMatchObject([{ secret: 'openai', key: 'a', failure: { code: 'secret.not_found' } }])
    await engine.resources.remove(ADMIN, { kind: 'ModelEndpoint', namespace: 'default', name: 'gpt' }, GONE)
    expect((await look())?.endpoints).toEqual({})
    expect(new Set(versions.slice(1)).size).toBe(4)
  })
})

describe('a step whose model endpoint or secret is not there', () => {
  test('is given to nobody, says why, and goes on by itself', async () => {
    await apply(doc('ModelEndpoint', 'gpt', openai('a')), agent('writer'))
    const runId = await start([WRITE], { what: 'x' })
    expect((await worker.poll()).assignments).toEqual([])
    expect(await reasonOf(runId)).toMatchObject({
      code: 'dispatch.endpoint_not_ready',
      evidence: { namespace: 'default', endpoint: 'gpt', lacks: 'secret', secret: 'openai', key: 'a' },
      remediation: expect.stringContaining('orrery secret set openai a=… -n default'),
    })
    await setSecret('openai', { a: 'value-a' })
    await engine.tick()
    expect((await worker.pollFirst()).name).toBe('write')
    expect(await reasonOf(runId)).not.toMatchObject({ code: 'dispatch.endpoint_not_ready' })
  })

  test('an endpoint that was deleted', async () => {
    const gpt = doc('ModelEndpoint', 'gpt', mock())
    await apply(gpt, agent('writer'))
    const first = await start([WRITE], { what: 'x' })
    await worker.done(await worker.pollFirst(), { text: 'x' })
    await engine.resources.remove(ADMIN, { kind: 'ModelEndpoint', namespace: 'default', name: 'gpt' }, GONE)
    await engine.createRuns(ADMIN, [
      {
        definition: (await engine.getRun(ADMIN, first)).definition,
        inputs: { what: 'y' },
        labels: {},
        idempotencyKey: null,
        fingerprint: null,
      },
    ])
    await rig.advance(5_000)
    expect((await worker.poll()).assignments).toEqual([])
    const { items } = await engine.listRuns(ADMIN, {
      namespace: null,
      workflow: null,
      states: ['pending', 'waiting', 'running'],
      cursor: null,
      limit: 10,
    })
    expect(await reasonOf(items[0]?.id ?? '')).toMatchObject({
      code: 'dispatch.endpoint_not_ready',
      evidence: { endpoint: 'gpt', lacks: 'endpoint' },
      remediation: expect.stringContaining('There is no model endpoint gpt in namespace default'),
    })
    await apply(gpt)
    await engine.tick()
    expect((await worker.pollFirst()).name).toBe('write')
  })

  test('holds up nothing else, of the same worker and behind it', async () => {
    await apply(
      doc('ModelEndpoint', 'gpt', openai('a')),
      doc('ModelEndpoint', 'free', mock()),
      agent('writer'),
      agent('free', { model: 'free' }),
    )
    const held = await start([WRITE], { what: 'x' })
    expect((await worker.poll()).assignments).toEqual([])
    await start([{ name: 'free', agent: 'free', with: 'x' }])
    await engine.tick()
    expect((await worker.pollFirst()).name).toBe('free')
    expect(await rig.states(held)).toEqual({ write: 'queued' })
  })

  test('what an MCP server of it lacks counts too, unless it can be left out', async () => {
    const gpt = doc('ModelEndpoint', 'gpt', mock())
    await apply(gpt, files(), agent('writer', { mcpServers: [{ name: 'files' }] }))
    const runId = await start([WRITE], { what: 'x' })
    expect((await worker.poll()).assignments).toEqual([])
    expect(await reasonOf(runId)).toMatchObject({
      code: 'dispatch.endpoint_not_ready',
      evidence: { lacks: 'secret', secret: 'files', key: 'token' },
    })
    for (const documents of [
      [agent('writer', { mcpServers: [{ name: 'files', optional: true }] })],
      [files({ optional: true })],
    ]) {
      await apply(...documents)
      await start([WRITE], { what: 'y' })
      const a = await worker.pollFirst()
      expect((await contextOf(a)).context?.missing).toMatchObject([{ secret: 'files' }])
      await apply(files(), agent('writer', { mcpServers: [{ name: 'files' }] }))
    }
  })

  test('one that waits for another step is not leased along with its end', async () => {
    await apply(doc('ModelEndpoint', 'gpt', openai('a')), agent('writer'))
    await putTool('ping')
    const runId = await start(
      [
        { name: 'first', tool: 'ping' },
        { ...(WRITE as JsonObject), needs: ['first'] },
      ],
      { what: 'x' },
    )
    const first = await worker.pollFirst()
    const { assignments } = await worker.done(first, {})
    expect(assignments).toEqual([])
    expect((await worker.poll()).assignments).toEqual([])
    expect(await rig.states(runId)).toEqual({ first: 'succeeded', write: 'queued' })
    await setSecret('openai', { a: 'value-a' })
    await engine.tick()
    expect((await worker.pollFirst()).name).toBe('write')
  })

  test('that waited too long says so as the cause', async () => {
    await apply(doc('ModelEndpoint', 'gpt', openai('a')), agent('writer'))
    const runId = await start([{ ...(WRITE as JsonObject), queueTimeout: '1m' }], { what: 'x' })
    await worker.poll()
    await rig.advance(61_000)
    await engine.tick()
    expect((await engine.getRun(ADMIN, runId)).failure).toMatchObject({
      code: 'dispatch.expired',
      cause: { code: 'dispatch.endpoint_not_ready' },
    })
  })

  test('is looked for once a tick while it is missing, and not again while it is there', async () => {
    await apply(doc('ModelEndpoint', 'gpt', openai('a')), agent('writer'))
    await start([WRITE], { what: 'x' })
    await worker.poll()
    const looked: string[] = []
    rig.faults.before = (name) => {
      if (name === 'find_unready') looked.push(name)
    }
    for (let i = 0; i < 3; i++) await worker.poll()
    expect(looked).toHaveLength(0)
    await engine.tick()
    expect(looked).toHaveLength(1)
    await setSecret('openai', { a: 'value-a' })
    await engine.tick()
    expect((await worker.poll()).assignments).toHaveLength(1)
    expect(looked).toHaveLength(2)
    await engine.tick()
    await engine.tick()
    expect(looked).toHaveLength(2)
  })
})
