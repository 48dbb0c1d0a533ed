import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createEgress } from '../../agents/index.ts'
import { HandClock, systemClock, type Clock } from '../../base/clock.ts'
import { endOfTurn } from '../../base/turn.ts'
import { readMemory } from '../../domain/kinds/memory.ts'
import { MemoryServer } from '../testing/memory-server.ts'
import { ADMIN } from '../testing/rig.ts'
import { createHttpProvider } from './http-provider.ts'
import { memoryProviderSuite } from './memory-provider.suite.ts'
import type { MemoryAt } from './memory-provider.ts'

const KEY = 'the-key-of-the-service-0123'

function providerOf(clock: Clock = systemClock) {
  const egress = createEgress()
  onTestFinished(() => egress.close())
  return createHttpProvider({ clock, egress, credentials: async ({ spec }) => (spec.http?.credentials ? KEY : null) })
}

let server: MemoryServer
memoryProviderSuite('a service as a provider of memories', async () => {
  server = await MemoryServer.start()
  return { provider: providerOf(), spec: { provider: 'http', http: { url: server.url, allowPrivateAddresses: true } } }
})

const at = (http: object): MemoryAt => ({
  namespace: 'default',
  memory: 'm',
  scope: 'run/run_1',
  spec: readMemory({ scope: 'run', provider: 'http', http: { allowPrivateAddresses: true, ...http } as never }),
  user: { caller: ADMIN, agent: null },
})
const credentials = { secret: 's', key: 'k' }
const write = (name: string | null) => ({
  entries: [{ key: 'k', text: 't', metadata: {} }],
  replaces: null,
  writtenBy: 'w',
  once:
    name === null
      ? null
      : { runId: 'run_1', node: 0, path: '', call: name, session: 's', fence: 1, result: () => null },
})

describe('a service', () => {
  test('is told the credentials as a bearer token, or in the header that the memory names', async () => {
    server = await MemoryServer.start()
    await providerOf().get(at({ url: server.url, credentials }), 'k')
    await providerOf().get(at({ url: server.url, credentials, header: 'X-Key' }), 'k')
    await providerOf().get(at({ url: server.url }), 'k')
    expect(server.asked.map(({ headers }) => [headers.authorization, headers['x-key']])).toEqual([
      [`Bearer ${KEY}`, undefined],
      [undefined, KEY],
      [undefined, undefined],
    ])
  })

  test('is told whose entries, and the name of a write, by which it does it once', async () => {
    server = await MemoryServer.start()
    const provider = providerOf()
    await provider.put(at({ url: `${server.url}/` }), write('c1'))
    await provider.put(at({ url: server.url }), write('c1'))
    await provider.put(at({ url: server.url }), write(null))
    expect(server.asked.map(({ path, headers, body }) => [path, headers['idempotency-key'], body.scope])).toEqual([
      ['/put', 'run_1.0./c1/0', 'run/run_1'],
      ['/put', 'run_1.0./c1/0', 'run/run_1'],
      ['/put', undefined, 'run/run_1'],
    ])
  })

  test('is asked whether it is there', async () => {
    server = await MemoryServer.start()
    await providerOf().ping(at({ url: server.url }))
    expect(server.asked.map(({ path }) => path)).toEqual(['/ping'])
  })

  test.each<[number, string]>([
    [401, 'memory.auth_failed'],
    [403, 'memory.auth_failed'],
    [404, 'memory.contract_broken'],
    [302, 'memory.contract_broken'],
    [429, 'memory.unavailable'],
    [503, 'memory.unavailable'],
    [507, 'memory.full'],
  ])('that answers %d is %s, told with what it said and without the key', async (status, code) => {
    server = await MemoryServer.start()
    server.answer = (_, response) => {
      response.statusCode = status
      response.setHeader('location', 'http://127.0.0.1:1/')
      response.end(`no, ${KEY}`)
      return true
    }
    const failed = await providerOf()
      .get(at({ url: server.url, credentials }), 'k')
      .catch((error: unknown) => error)
    expect(failed).toMatchObject({ code, evidence: { status, answer: 'no, [secret]' } })
    expect(server.asked).toHaveLength(1)
  })

  test.each<[string, string, unknown]>([
    ['no JSON', 'get', 'hello'],
    ['nothing of what was asked', 'get', {}],
    ['an entry without a time', 'get', { entry: { key: 'k', text: 't' } }],
    [
      'a text that is too long',
      'get',
      { entry: { key: 'k', text: 'x'.repeat(100_001), updatedAt: '2026-01-01T00:00:00Z' } },
    ],
    [
      'more than was ever asked for',
      'search',
      {
        entries: Array.from({ length: 101 }, () => ({
          key: 'k',
          text: 't',
          score: 1,
          updatedAt: '2026-01-01T00:00:00Z',
        })),
      },
    ],
    ['a number that counts nothing', 'delete', { deleted: -1 }],
  ])('that answers %s breaks the contract', async (_, verb, answer) => {
    server = await MemoryServer.start()
    server.answer = (__, response) => {
      response.end(typeof answer === 'string' ? answer : JSON.stringify(answer))
      return true
    }
    const provider = providerOf()
    const place = at({ url: server.url })
    const asked =
      verb === 'get'
        ? provider.get(place, 'k')
        : verb === 'search'
          ? provider.search(place, { query: 'q', by: 'auto', limit: 10, minScore: 0 })
          : provider.delete(place, { prefix: '' })
    await expect(asked).rejects.toMatchObject({ code: 'memory.contract_broken' })
  })

  test('gives no more than is wanted, nothing below the least score and nothing that has expired, whatever it answers', async () => {
    server = await MemoryServer.start()
    const one = { text: 't', metadata: {}, updatedAt: '2026-01-01T00:00:00Z' }
    server.answer = (_, response) => {
      response.end(
        JSON.stringify({
          entries: [
            { ...one, key: 'a', score: 0.9 },
            { ...one, key: 'gone', score: 0.9, expiresAt: '2026-01-01T00:00:00Z' },
            { ...one, key: 'low', score: 0.1 },
            { ...one, key: 'b', score: 0.9 },
            { ...one, key: 'c', score: 0.9 },
          ],
          warnings: ['slow today'],
        }),
      )
      return true
    }
    const found = await providerOf().search(at({ url: server.url }), {
      query: 'q',
      by: 'auto',
      limit: 2,
      minScore: 0.5,
    })
    expect([found.entries.map(({ key }) => key), found.warnings]).toEqual([['a', 'b'], ['slow today']])
  })

  test('that does not answer in time is given up', async () => {
    server = await MemoryServer.start()
    server.answer = () => true
    const clock = new HandClock(0)
    const state = { isDone: false }
    const asked = providerOf(clock)
      .get(at({ url: server.url, timeout: '5s' }), 'k')
      .finally(() => {
        state.isDone = true
      })
    asked.catch(() => {})
    while (!state.isDone) {
      await endOfTurn()
      clock.advance(100)
    }
    await expect(asked).rejects.toMatchObject({
      code: 'memory.unavailable',
      evidence: { reason: 'no answer in 5000 ms' },
    })
  })

  test('that is not there is told with where it was looked for', async () => {
    const closed = createServer()
    await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve))
    const { port } = closed.address() as AddressInfo // it listened on a port
    await new Promise((resolve) => closed.close(resolve))
    await expect(providerOf().get(at({ url: `http://127.0.0.1:${port}` }), 'k')).rejects.toMatchObject({
      code: 'memory.unavailable',
      evidence: { url: `http://127.0.0.1:${port}/get`, reason: expect.stringContaining('ECONNREFUSED') },
    })
  })

  test('at a private address is called only where the memory says so, and the metadata of a cloud never', async () => {
    server = await MemoryServer.start()
    const near = providerOf().get(at({ url: server.url, allowPrivateAddresses: false }), 'k')
    await expect(near).rejects.toMatchObject({
      code: 'model.address_blocked',
      remediation: expect.stringContaining('spec.http.url'),
    })
    const metadata = providerOf().get(at({ url: 'http://169.254.169.254' }), 'k')
    await expect(metadata).rejects.toMatchObject({ code: 'model.address_blocked' })
    expect(server.asked).toEqual([])
  })
})
