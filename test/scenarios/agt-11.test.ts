import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import type { JsonObject } from '../../src/base/index.ts'
import type { OrreryProcess } from '../support/processes.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { doc, yamlOf } from './agents.ts'
import { openScene, type Scene, writeBelow } from './rig.ts'

const TURNS = 10

async function listen(
  answer: (request: IncomingMessage, body: string, response: ServerResponse) => void,
): Promise<string> {
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => answer(request, Buffer.concat(parts).toString(), response))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}` // listening on TCP
}

/** A model and a tool that count what they are asked, by the key of the call. The model calls the tool until it has nine results. */
async function startCounted(): Promise<{ model: string; tool: string; counts: Map<string, number> }> {
  const counts = new Map<string, number>()
  const count = (request: IncomingMessage): void => {
    const key = String(request.headers['idempotency-key'])
    counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  const model = await listen((request, body, response) => {
    count(request)
    const { messages } = JSON.parse(body) as { messages: { role: string }[] } // as every client of this API sends it
    const turn = messages.filter(({ role }) => role === 'assistant').length
    const call = {
      index: 0,
      id: `call_turn${turn}`,
      type: 'function',
      function: { name: 'look', arguments: `{"turn":${turn}}` },
    }
    const last = turn >= TURNS - 1
    const delta = last ? { role: 'assistant', content: 'All is well.' } : { role: 'assistant', tool_calls: [call] }
    const chunk = (more: JsonObject) =>
      `data: ${JSON.stringify({ id: 'x', object: 'chat.completion.chunk', created: 1, model: 'm', ...more })}\n\n`
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(chunk({ choices: [{ index: 0, delta, finish_reason: null }] }))
    response.write(chunk({ choices: [{ index: 0, delta: {}, finish_reason: last ? 'stop' : 'tool_calls' }] }))
    response.end('data: [DONE]\n\n')
  })
  const tool = await listen((request, body, response) => {
    count(request)
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ saw: JSON.parse(body) as JsonObject }))
  })
  return { model: `${model}/v1`, tool, counts }
}

/** The way of a worker to its server. At the append of each of these numbers the worker is killed: before it arrives, or before its answer does. */
async function startDeadly(
  scene: Scene,
  kills: { append: number; when: 'before' | 'after' }[],
  kill: () => void,
): Promise<string> {
  const { port } = new URL(scene.address)
  let appends = 0
  return listen((request, body, response) => {
    const isAppend = request.url === '/v1/exchange/append'
    const deadly = isAppend ? kills.find(({ append }) => append === appends + 1) : undefined
    if (isAppend) appends++
    if (deadly?.when === 'before') return kill()
    const headers = { ...request.headers, host: `127.0.0.1:${port}` } as unknown as Record<string, string> // no header here comes twice
    delete headers['content-length']
    delete headers['transfer-encoding']
    fetch(`http://127.0.0.1:${port}${request.url}`, { method: request.method ?? 'POST', headers, body })
      .then(async (answer) => {
        const text = await answer.text()
        if (deadly) return kill()
        response.writeHead(answer.status, { 'content-type': 'application/json' }).end(text)
      })
      .catch(() => response.destroy())
  })
}

describeWithPostgres('AGT-11: a worker dies in the middle of a turn', (postgres) => {
  async function declare(scene: Scene, at: { model: string; tool: string }, tool: JsonObject = {}): Promise<void> {
    const path = writeBelow(
      scene.dir,
      'agents.yaml',
      yamlOf([
        doc('ModelEndpoint', 'gpt', {
          provider: 'openai-compatible',
          model: 'm',
          baseUrl: at.model,
          allowPrivateAddresses: true,
        }),
        doc('Tool', 'look', {
          type: 'http',
          description: 'Looks.',
          http: { url: at.tool },
          allowPrivateAddresses: true,
          ...tool,
        }),
        doc('Agent', 'writer', { model: 'gpt', instructions: 'Look until all is well.', tools: ['look'] }),
        doc('Budget', 'team', { window: 'day', limits: { tokens: 100_000_000 } }),
      ]),
    )
    const { code, stderr } = await scene.orrery('apply', '-f', path)
    if (code !== 0) throw new Error(stderr)
  }

  /** A run in which workers are killed at these appends; a new one comes each time. */
  async function runWith(scene: Scene, kills: { append: number; when: 'before' | 'after' }[]) {
    let worker: OrreryProcess | null = null
    let next: Promise<unknown> = Promise.resolve()
    const start = async (): Promise<void> => {
      worker = await scene.startWorker({ server: way })
    }
    const kill = (): void => {
      const dead = worker
      worker = null
      next = Promise.resolve(dead?.kill9()).then(start)
    }
    const way = await startDeadly(scene, kills, kill)
    await start()
    const run = await scene.start([{ name: 'write', agent: 'writer', with: { prompt: 'go' } }])
    const ended = await scene.ended(run)
    await next
    await (worker as OrreryProcess | null)?.kill9()
    return ended
  }

  test(
    'at any boundary of the journal: what was completed is not made again, what was in flight is, with its key',
    { timeout: 600_000 },
    async () => {
      const scene = await openScene({ dsn: await postgres.createStore() })
      const expected = 2 * TURNS - 1
      for (let append = 1; append <= 2 * TURNS; append += 2)
        for (const [first, second] of [
          ['before', 'after'],
          ['after', 'before'],
        ] as const) {
          const servers = await startCounted()
          await declare(scene, servers)
          const ended = await runWith(scene, [
            { append, when: first },
            { append: append + 2, when: second },
          ])
          const at = `${first} append ${append}, ${second} append ${append + 2}`
          expect({ at, state: ended.state, output: ended.stepList[0]?.output }).toEqual({
            at,
            state: 'succeeded',
            output: { text: 'All is well.' },
          })
          const counted = [...servers.counts.values()]
          expect({ at, calls: counted.length }).toEqual({ at, calls: expected })
          // Two deaths: at most one call each was made again.
          expect({
            at,
            again: counted.reduce((sum, n) => sum + n, 0) - expected <= 2,
            most: Math.max(...counted) <= 3,
          }).toEqual({ at, again: true, most: true })
        }
      // Each answer is counted once, however often it was asked for, and nothing stays set aside.
      const costs = await scene.orrery('costs', '--by', 'run', '--output', 'json')
      const { items } = JSON.parse(costs.stdout) as {
        items: { calls: number; inputTokens: number; outputTokens: number }[]
      }
      expect(items.map(({ calls }) => calls)).toEqual(Array.from({ length: 2 * TURNS }, () => TURNS))
      const spent = items.reduce((sum, { inputTokens, outputTokens }) => sum + inputTokens + outputTokens, 0)
      const budget = await scene.orrery('get', 'budget', 'team', '--output', 'json')
      expect(JSON.parse(budget.stdout)).toMatchObject({ status: { usage: { tokens: spent, heldTokens: 0 } } })
    },
  )

  test('and a call that is not repeatable waits for a person, who says whether it was made', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const servers = await startCounted()
    await declare(scene, servers, { repeatable: false })
    let worker: OrreryProcess | null = null
    let again: Promise<unknown> = Promise.resolve()
    // The third append has the result of the first call: it was made, and nobody knows.
    const way = await startDeadly(scene, [{ append: 3, when: 'before' }], () => {
      again = Promise.resolve(worker?.kill9()).then(() => scene.startWorker())
    })
    worker = await scene.startWorker({ server: way })
    const run = await scene.start([{ name: 'write', agent: 'writer', with: { prompt: 'go' } }])
    await scene.stepWith(run, 'write', ({ state }) => state === 'waiting')
    await again
    const { items } = await scene.client.listApprovals({ states: ['pending'] })
    expect(items).toHaveLength(1)
    expect([...servers.counts.entries()].filter(([key]) => key.includes('call_turn0'))).toEqual([
      [expect.stringContaining('call_turn0'), 1],
    ])
    const approved = await scene.orrery('runs', 'approve', run, 'write')
    expect(approved.code).toBe(0)
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
    // The person said yes: it was made again, with the same key.
    const counted = [...servers.counts.entries()]
    expect(counted.filter(([, n]) => n > 1)).toEqual([[expect.stringContaining('call_turn0'), 2]])
  })
})
