import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turnOfLoop } from 'node:timers/promises'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { createToolRunner, type McpClients, type ToolDriver } from '../agents/index.ts'
import { startProviders } from '../agents/testing/gateway-rig.ts'
import { type Clock, HandClock, type JsonObject, seededRandom, silentLog, systemClock } from '../base/index.ts'
import type { Assignment } from '../contract/exchange.ts'
import type { Bound } from '../domain/agents/bound.ts'
import { failureRecord } from '../domain/failure.ts'
import { readAgent } from '../domain/kinds/agent.ts'
import { readModelEndpoint } from '../domain/kinds/model-endpoint.ts'
import { readMcpServer } from '../domain/kinds/mcp-server.ts'
import { readMemory } from '../domain/kinds/memory.ts'
import { readTool } from '../domain/kinds/tool.ts'
import { createAgentRuntime } from './agent-runtime.ts'
import { loopHeartbeats } from './heartbeats.ts'
import { agentStep, ScriptedServer } from './scripted-server.ts'
import { createWorker, type Worker } from './worker.ts'

const workers: Worker[] = []
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()))
})

const echo: ToolDriver = { call: async (_, { input }) => ({ ok: true, output: { echo: input } }) }

function workerOf(
  server: ScriptedServer,
  {
    driver = echo,
    clock = systemClock,
    capacity = 4,
    name = 'w1',
    mcp,
    workdir = null,
  }: {
    driver?: ToolDriver
    clock?: Clock
    capacity?: number
    name?: string
    mcp?: McpClients
    workdir?: string | null
  } = {},
): Worker {
  const log = silentLog
  const random = seededRandom(1)
  const worker = createWorker({
    lane: server,
    backend: null,
    agents: {
      ...createAgentRuntime({ clock, random, log, version: '0', path: null, workdir }),
      tools: createToolRunner({ clock, random, drivers: { http: driver } }),
      ...(mcp ? { mcp } : {}),
    },
    modules: {},
    name,
    version: '0.1.0',
    capacity,
    labels: {},
    namespaces: null,
    host: 'host',
    pid: 1,
    pidStart: null,
    stateDir: null,
    startHeartbeats: loopHeartbeats({ lane: server, clock, log }),
    clock,
    random,
    log,
    env: {},
  })
  workers.push(worker)
  return worker
}

async function until(condition: () => boolean, clock: Clock = systemClock): Promise<void> {
  for (let i = 0; i < 20_000; i++) {
    if (condition()) return
    if (clock instanceof HandClock) clock.advance(20)
    else await clock.sleep(1)
    for (let turns = 0; turns < 3; turns++) await turnOfLoop()
  }
  throw new Error('the state never came')
}

const boundOf = (agent: JsonObject = {}, tools: Record<string, JsonObject> = { look: {} }): Bound => {
  const spec = readAgent({ model: 'gpt', instructions: 'Write.', tools: Object.keys(tools), ...agent })
  return {
    agents: { writer: { spec, instructions: 'Write.', definition: null } },
    tools: Object.fromEntries(
      Object.entries(tools).map(([name, given]) => [name, readTool({ type: 'http', description: 'Looks.', ...given })]),
    ),
    mcpServers: {},
    memories: {},
    workflows: {},
  }
}

function serverWith(replies: JsonObject[], ...steps: Omit<Assignment, 'fence'>[]): ScriptedServer {
  const server = new ScriptedServer()
  if (replies.length > 0)
    server.context.endpoints = { gpt: readModelEndpoint({ provider: 'mock', model: 'm', mock: { replies } }) }
  const free = { rules: [], egress: [] }
  server.context.rules = { '': free, writer: free }
  server.add(...steps)
  return server
}

const TURNS: JsonObject[] = [
  { text: 'I look.', toolCalls: [{ name: 'look', input: { at: 1 } }] },
  { toolCalls: [{ name: 'look', input: { at: 2 } }] },
  { text: 'All is well.' },
]
const kindsOf = (server: ScriptedServer, step = 'run_1.write') =>
  server.step(step).journal.map(({ entry }) => entry.kind)
const linesOf = (server: ScriptedServer, step = 'run_1.write') =>
  [...server.step(step).logs.values()]
    .filter(({ stream }) => stream === 'agent')
    .flatMap(({ text }) => text.trimEnd().split('\n'))
    .map((line) => JSON.parse(line) as JsonObject)

describe('a step of an agent', () => {
  test('runs its turns on a worker, journaled, with what it does in the log', async () => {
    const server = serverWith(TURNS, agentStep('write', { input: { prompt: 'go' }, bound: boundOf() }))
    await workerOf(server).start()
    await until(() => server.allEnded)
    expect(server.step('run_1.write').end).toMatchObject({ kind: 'succeeded', output: { text: 'All is well.' } })
    expect(kindsOf(server).filter((kind) => kind === 'model_answered')).toHaveLength(3)
    const lines = linesOf(server)
    expect(lines.filter(({ type }) => type === 'turn')).toMatchObject([
      { turn: 1, endpoint: 'gpt' },
      { turn: 2 },
      { turn: 3 },
    ])
    expect(lines.filter(({ type }) => type === 'tool')).toMatchObject([
      { tool: 'look', input: { at: 1 } },
      { input: { at: 2 } },
    ])
    expect(lines.filter(({ type }) => type === 'tool_result')).toMatchObject([{ ok: true }, { ok: true }])
    expect(lines.flatMap(({ type, text }) => (type === 'text' ? [text] : [])).join('|')).toBe('I look.|All is well.')
  })

  test('holds its output against the schema of the step as well', async () => {
    const outputSchema = { type: 'object', required: ['n'] }
    const server = serverWith([{ text: 'x' }], agentStep('write', { bound: boundOf(), outputSchema }))
    await workerOf(server).start()
    await until(() => server.allEnded)
    expect(server.step('run_1.write').end).toMatchObject({
      kind: 'failed',
      failure: { code: 'output.schema_violation' },
    })
  })

  test('that waits is given back without a try, and goes on when what it waits for has come', async () => {
    const server = serverWith(TURNS, agentStep('write', { bound: boundOf() }))
    const { journal } = server.step('run_1.write')
    server.verdictOf = ({ call }) => ({
      verdict: { verdict: 'approval', rule: 'r', approvers: null, expiresMs: null },
      approval: `apr_${call}`,
    })
    // A person is quick: the word is there when the step is given back.
    server.pause = async (call) => {
      const decided = new Set(journal.flatMap(({ entry }) => (entry.kind === 'decided' ? [entry.call] : [])))
      if (call !== 'report') return
      for (const { entry, fence } of [...journal]) {
        if (entry.kind !== 'verdict' || entry.approval === null || decided.has(entry.call)) continue
        const word = {
          about: 'call',
          state: 'approved',
          by: 'ann',
          comment: null,
          at: '',
          input: null,
          output: null,
        } as const
        const { call: of, approval } = entry
        journal.push({
          seq: journal.length + 1,
          n: 0,
          fence,
          at: '',
          entry: { kind: 'decided', call: of, approval, ...word },
        })
      }
    }
    await workerOf(server, { capacity: 1 }).start()
    await until(() => server.allEnded)
    expect(server.step('run_1.write').end).toMatchObject({ kind: 'succeeded' })
    expect(server.step('run_1.write').parks).toMatchObject([{ type: 'approvals' }, { type: 'approvals' }])
    expect(JSON.stringify(server.requestsOf('report'))).toContain(
      String.raw`{\"type\":\"waiting\",\"on\":\"approvals\"}`,
    )
  })

  test('stops in the middle of an answer when its run is canceled', async () => {
    const server = serverWith([{ text: 'late', delay: '1h' }], agentStep('write', { bound: boundOf() }))
    const worker = workerOf(server)
    await worker.start()
    await until(() => kindsOf(server).includes('model_asked'))
    server.cancel('run_1.write', 'run.canceled')
    await until(() => server.allEnded)
    expect(server.step('run_1.write').end).toMatchObject({ kind: 'canceled' })
    await until(() => worker.stats().held === 0)
  })

  test('is over when its time is', async () => {
    const clock = new HandClock(0)
    const server = serverWith(
      [{ text: 'late', delay: '1h' }],
      agentStep('write', { bound: boundOf(), timeoutMs: 5_000 }),
    )
    await workerOf(server, { clock }).start()
    await until(() => server.allEnded, clock)
    expect(server.step('run_1.write').end).toMatchObject({ kind: 'failed', failure: { code: 'step.timed_out' } })
  })

  test('is given back at its next boundary by a worker that drains, and goes on elsewhere', async () => {
    const began = Promise.withResolvers<void>()
    const go = Promise.withResolvers<void>()
    const calls: string[] = []
    const driver: ToolDriver = {
      call: async (_, { idempotencyKey }) => {
        calls.push(idempotencyKey)
        began.resolve()
        await go.promise
        return { ok: true, output: 1 }
      },
    }
    const server = serverWith(TURNS, agentStep('write', { bound: boundOf() }))
    const first = workerOf(server, { driver })
    await first.start()
    await began.promise
    const drained = first.drain()
    go.resolve()
    await drained
    expect(kindsOf(server).at(-1)).toBe('tool_answered')
    await workerOf(server, { driver, name: 'w2' }).start()
    await until(() => server.allEnded)
    expect(server.step('run_1.write').end).toMatchObject({ kind: 'succeeded' })
    expect(new Set(calls).size).toBe(calls.length)
    expect(calls).toHaveLength(2)
  })

  test('goes on from its journal when its session was lost', async () => {
    const server = serverWith(TURNS, agentStep('write', { bound: boundOf() }))
    let isLost = false
    const driver: ToolDriver = {
      call: async () => {
        if (!isLost) {
          isLost = true
          const [live] = [...server.sessions].filter(([, state]) => state === 'live')
          if (live) server.endSession(live[0])
        }
        return { ok: true, output: 1 }
      },
    }
    await workerOf(server, { driver }).start()
    await until(() => server.allEnded)
    const step = server.step('run_1.write')
    expect(step.end).toMatchObject({ kind: 'succeeded', output: { text: 'All is well.' } })
    expect(step.fence).toBe(2)
    const answered = step.journal.flatMap(({ entry }) => (entry.kind === 'model_answered' ? [entry.call] : []))
    expect(answered).toEqual(['t1', 't2', 't3'])
  })

  test('fails with why a secret is not there', async () => {
    const server = serverWith([], agentStep('write', { bound: boundOf() }))
    const credentials = { secret: 'keys', key: 'openai' }
    server.context.endpoints = { gpt: readModelEndpoint({ provider: 'openai', model: 'gpt', credentials }) }
    const failure = failureRecord('secret.key_not_found', 'resolving', { evidence: { secret: 'keys' } })
    server.context.missing = [{ ...credentials, failure }]
    await workerOf(server).start()
    await until(() => server.allEnded)
    expect(server.step('run_1.write').end).toMatchObject({ kind: 'failed', failure: { code: 'secret.key_not_found' } })
  })
})

test('what an agent gave is kept when the directory of its tools cannot be removed', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'orrery-test-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  const workdir = join(dir, 'work')
  mkdirSync(workdir)
  const driver: ToolDriver = {
    call: async (_, __, env) => {
      await env.workdir()
      rmSync(workdir, { recursive: true })
      writeFileSync(workdir, 'a file now')
      return { ok: true, output: 1 }
    },
  }
  const server = serverWith(
    [{ toolCalls: [{ name: 'look', input: {} }] }, { text: 'done' }],
    agentStep('write', { bound: boundOf() }),
  )
  await workerOf(server, { driver, workdir }).start()
  await until(() => server.allEnded)
  expect(server.step('run_1.write').end).toMatchObject({ kind: 'succeeded', output: { text: 'done' } })
  expect(linesOf(server)).toContainEqual({ type: 'note', text: expect.stringContaining('could not be removed') })
})

test('a Tool that is one tool of an MCP server is tried again and looked at as its own spec says', async () => {
  const asked: (boolean | undefined)[] = []
  const mcp: McpClients = {
    tools: async () => [],
    call: async (_, tool, __, { repeatable }) => {
      asked.push(repeatable)
      if (asked.length === 1) return { ok: false, code: 'mcp.unreachable', reason: 'nobody is there', retryable: true }
      return { ok: true, output: tool }
    },
    close: async () => {},
  }
  const spec = {
    type: 'mcp',
    mcp: { server: 'far', tool: 'find' },
    operation: 'write',
    retry: { max: 1, initial: '1ms' },
  }
  const bound = boundOf({}, { look: { ...spec, outputSchema: { type: 'number' } } })
  bound.mcpServers = { far: readMcpServer({ transport: 'http', http: { url: 'https://far.example/mcp' } }) }
  const server = serverWith(
    [{ toolCalls: [{ name: 'look', input: {} }] }, { text: 'done' }],
    agentStep('write', { bound }),
  )
  await workerOf(server, { mcp }).start()
  await until(() => server.allEnded)
  expect(asked).toEqual([false, false])
  const results = server
    .step('run_1.write')
    .journal.flatMap(({ entry }) => (entry.kind === 'tool_answered' ? [entry.result] : []))
  expect(results).toMatchObject([{ ok: false, code: 'tool.invalid_output' }])
})

test('a memory is used at the server, under the name of the call', async () => {
  const bound = boundOf({ memories: [{ name: 'notes', allow: ['read'] }] })
  bound.memories = { notes: readMemory({ scope: 'run' }) }
  const server = serverWith(
    [{ toolCalls: [{ name: 'notes.read', input: { key: 'a' } }] }, { text: 'done' }],
    agentStep('write', { bound }),
  )
  server.remembered.set('notes.read', { ok: true, output: { entry: null } })
  await workerOf(server).start()
  await until(() => server.allEnded)
  const asked = server.requests.filter(({ call }) => call === 'memory').map(({ request }) => request)
  expect(asked).toMatchObject([
    {
      agent: 'writer',
      memory: 'notes',
      operation: 'read',
      input: { key: 'a' },
      call: expect.stringMatching(/^1\/call_/),
    },
  ])
  const results = server
    .step('run_1.write')
    .journal.flatMap(({ entry }) => (entry.kind === 'tool_answered' ? [entry.result] : []))
  expect(results).toEqual([{ ok: true, output: { entry: null } }])
})

test('a step that calls a tool, and one that picks a way', async () => {
  const bound = boundOf()
  const server = serverWith(
    [{ json: { route: 'tech', reason: 'an error' } }],
    { ...agentStep('notify'), work: { kind: 'tool', tool: 'look', input: { to: 'all' }, bound } },
    {
      ...agentStep('triage'),
      work: {
        kind: 'route',
        model: 'gpt',
        question: 'It broke.',
        options: [{ step: 'tech', when: 'errors' }],
        fallback: null,
      },
    },
  )
  await workerOf(server).start()
  await until(() => server.allEnded)
  expect(server.step('run_1.notify').end).toMatchObject({ kind: 'succeeded', output: { echo: { to: 'all' } } })
  expect(server.step('run_1.triage').end).toMatchObject({
    kind: 'succeeded',
    output: { route: 'tech', reason: 'an error' },
  })
})

test('a worker without agents does not offer to run them', async () => {
  const server = new ScriptedServer()
  const worker = createWorker({
    lane: server,
    backend: null,
    modules: {},
    name: 'plain',
    version: '0',
    capacity: 1,
    labels: {},
    namespaces: null,
    host: 'h',
    pid: 1,
    pidStart: null,
    stateDir: null,
    startHeartbeats: loopHeartbeats({ lane: server, clock: systemClock, log: silentLog }),
    clock: systemClock,
    random: seededRandom(1),
    log: silentLog,
    env: {},
  })
  workers.push(worker)
  await worker.start()
  const [register] = server.requests.filter(({ call }) => call === 'register')
  expect(register?.request).toMatchObject({ backends: ['function'] })
})

test('five hundred agents on one worker: what it holds is bounded, and all of them end', async () => {
  const many = 500
  const bound = boundOf({}, { look: {} })
  const text = 'word '.repeat(40)
  const server = serverWith(
    [
      { text, toolCalls: [{ name: 'look', input: {} }] },
      { text, toolCalls: [{ name: 'look', input: { n: 2 } }] },
      { text: 'done' },
    ],
    ...Array.from({ length: many }, (_, i) => agentStep(`a${i}`, { bound })),
  )
  let running = 0
  let most = 0
  const driver: ToolDriver = {
    call: async () => {
      most = Math.max(most, ++running)
      await turnOfLoop()
      running--
      return { ok: true, output: 'x'.repeat(10_000) }
    },
  }
  const before = process.memoryUsage().heapUsed
  const worker = workerOf(server, { driver, capacity: many })
  await worker.start()
  let heap = 0
  await until(() => {
    heap = Math.max(heap, process.memoryUsage().heapUsed - before)
    return server.allEnded
  })
  expect([...server.steps.values()].every(({ end }) => end?.kind === 'succeeded')).toBe(true)
  expect(most).toBeLessThanOrEqual(many)
  // About 1 MB an agent, the journal of the server for tests included.
  expect(heap).toBeLessThan(512 * 1024 * 1024)
  await until(() => worker.stats().held === 0)
}, 60_000)

test('a provider that nobody here wrote is asked with the key of the call', async () => {
  const provider = await startProviders()
  provider.addFixture({ match: { turnIndex: 0 }, response: { toolCalls: [{ name: 'look', arguments: '{"at":1}' }] } })
  provider.addFixture({ match: { turnIndex: 1 }, response: { content: 'All is well.' } })
  const server = serverWith([], agentStep('write', { input: 'go', bound: boundOf() }))
  server.context.endpoints = {
    gpt: readModelEndpoint({
      provider: 'openai-compatible',
      model: 'gpt',
      baseUrl: `${provider.url}/v1`,
      allowPrivateAddresses: true,
    }),
  }
  await workerOf(server).start()
  await until(() => server.allEnded)
  expect(server.step('run_1.write').end).toMatchObject({ kind: 'succeeded', output: { text: 'All is well.' } })
  const keys = provider.getRequests().map(({ headers }) => headers['idempotency-key'])
  expect(keys).toEqual(['run_1.write@1/t1', 'run_1.write@1/t2'])
})
