import { describe, expect, test } from 'vitest'
import { HandClock } from '../../base/clock.ts'
import type { JsonObject } from '../../base/json.ts'
import { endOfTurn } from '../../base/turn.ts'
import { Failure } from '../../domain/failure.ts'
import { gatewayOf, startProviders, type World } from '../testing/gateway-rig.ts'

const KEY = 'sk-the-key-of-these-tests-0123456789'
const credentials = { secret: 'provider', key: 'key' }
const secrets = { 'provider/key': KEY }

/** An endpoint of each provider that has embeddings, at a server that speaks all of their languages. */
const ENDPOINTS: Record<string, (url: string) => JsonObject> = {
  openai: (url) => ({ provider: 'openai', model: 'text-embedding-3-small', baseUrl: `${url}/v1`, credentials }),
  google: (url) => ({ provider: 'google', model: 'gemini-embedding-001', baseUrl: `${url}/v1beta`, credentials }),
  'azure-openai': (url) => ({
    provider: 'azure-openai',
    model: 'm',
    baseUrl: `${url}/openai`,
    azure: { deployment: 'our-vectors' },
    credentials,
  }),
  ollama: (url) => ({ provider: 'ollama', model: 'nomic-embed-text', baseUrl: url, credentials }),
  'openai-compatible': (url) => ({
    provider: 'openai-compatible',
    model: 'e5',
    baseUrl: `${url}/v1`,
    credentials,
  }),
}
const worldOf = (spec: JsonObject): World => ({
  endpoints: { it: { allowPrivateAddresses: true, retry: 0, ...spec } },
  secrets,
})
const scripted = (replies: JsonObject[], more: JsonObject = {}): World => ({
  endpoints: { it: { provider: 'mock', model: 'scripted', mock: { replies }, ...more } },
})
const failureOf = async (asked: Promise<unknown>) => {
  const failed: unknown = await asked.catch((error: unknown) => error)
  if (!(failed instanceof Failure)) throw new Error(`no failure: ${JSON.stringify(failed)}`, { cause: failed })
  return failed.toRecord()
}

describe.each(Object.keys(ENDPOINTS))('%s', (name) => {
  test('gives the vector of a text, and says what it took', async () => {
    const server = await startProviders()
    server.onEmbedding('a small dog', { embedding: [0.25, -0.5, 1] })
    const gateway = gatewayOf(worldOf(ENDPOINTS[name]?.(server.url) ?? {}))
    const told = await gateway.embed('it', ['a small dog'])
    expect(told.vectors.map((vector) => [...vector])).toEqual([[0.25, -0.5, 1]])
    expect(told).toMatchObject({ endpoint: 'it', cost: null })
    expect(gateway.sent).toHaveLength(1)
  })

  test('keeps the key out of what is told of a refusal', async () => {
    const server = await startProviders()
    server.onEmbedding(/.*/, { error: { message: `the key ${KEY} is not good`, type: 'invalid_key' }, status: 401 })
    const failure = await failureOf(gatewayOf(worldOf(ENDPOINTS[name]?.(server.url) ?? {})).embed('it', ['x']))
    expect(failure.code).toMatch(/^model\.auth_/)
    expect(JSON.stringify(failure)).not.toContain(KEY)
  })
})

describe('vectors', () => {
  test('of bedrock are asked for one by one, as it takes them', async () => {
    const gateway = gatewayOf(
      worldOf({
        provider: 'bedrock',
        model: 'amazon.titan-embed-text-v2:0',
        baseUrl: 'http://127.0.0.1:9',
        bedrock: { region: 'eu-west-1' },
        credentials,
      }),
    )
    const failure = await failureOf(gateway.embed('it', ['one', 'two']))
    expect(failure.code).toBe('model.unavailable')
    expect(gateway.sent.map(({ url }) => url)).toEqual([
      'http://127.0.0.1:9/model/amazon.titan-embed-text-v2%3A0/invoke',
    ])
    expect(JSON.parse(gateway.sent[0]?.body ?? '')).toMatchObject({ inputText: 'one' })
  })

  test('of many texts come in their order, in requests of a bounded size', async () => {
    const server = await startProviders()
    const texts = Array.from({ length: 200 }, (_, i) => `text ${i}`)
    const gateway = gatewayOf(worldOf(ENDPOINTS['openai']?.(server.url) ?? {}))
    const { vectors } = await gateway.embed('it', texts)
    expect(gateway.sent.map(({ body }) => (JSON.parse(body) as { input: string[] }).input.length)).toEqual([96, 96, 8])
    const alone = await gateway.embed('it', ['text 150'])
    expect(vectors[150]).toEqual(alone.vectors[0])
    expect(vectors).toHaveLength(200)
  })

  test('are of the model that was asked for, and the deployment of azure is that', async () => {
    const server = await startProviders()
    const gateway = gatewayOf(worldOf(ENDPOINTS['azure-openai']?.(server.url) ?? {}))
    expect(await gateway.embed('it', ['x'], 'others')).toMatchObject({ model: 'others' })
    expect(gateway.sent[0]?.url).toContain('/deployments/others/embeddings')
  })

  test('that the provider does not have are refused with what to do', async () => {
    const failure = await failureOf(
      gatewayOf({ endpoints: { it: { provider: 'anthropic', model: 'm', credentials } }, secrets }).embed('it', ['x']),
    )
    expect(failure).toMatchObject({
      code: 'model.request_rejected',
      remediation: expect.stringContaining('name an endpoint of another one'),
    })
  })

  test('leave through the door that prompts leave by', async () => {
    const spec = { provider: 'openai-compatible', model: 'e', baseUrl: 'http://169.254.169.254/v1' }
    expect(await failureOf(gatewayOf(worldOf(spec)).embed('it', ['x']))).toMatchObject({
      code: 'model.address_blocked',
    })
  })

  test('of an endpoint that is not there', async () => {
    expect(await failureOf(gatewayOf({ endpoints: {} }).embed('it', ['x']))).toMatchObject({
      code: 'resource.not_found',
    })
  })

  test('cost what the table says, tokens of the request alone', async () => {
    const world = scripted([{ text: 'x' }], { prices: 'table' })
    world.prices = { table: { currency: 'USD', rows: [{ model: '*', input: 1_000, output: 9 }] } }
    expect(await gatewayOf(world).embed('it', ['12345678'])).toMatchObject({
      inputTokens: 2,
      isEstimated: false,
      cost: { currency: 'USD', amount: 0.002 },
    })
  })

  test('that are scripted are the same each time, and near where words are shared', async () => {
    const gateway = gatewayOf(scripted([{ text: 'x' }]))
    const [a, b, c, again] = (await gateway.embed('it', ['a red fox', 'The red FOX', 'stock prices', 'a red fox']))
      .vectors
    const dot = (x: Float32Array = new Float32Array(), y: Float32Array = new Float32Array()) =>
      x.reduce((sum, n, i) => sum + n * (y[i] ?? 0), 0)
    expect(again).toEqual(a)
    expect(dot(a, b)).toBeGreaterThan(dot(a, c))
  })

  test('are asked for again when the provider is busy, and no longer than the endpoint says', async () => {
    const busy = { when: 'x', text: 'y', errors: [{ code: 'rate_limited' }, { code: 'unavailable' }] }
    const gateway = gatewayOf(scripted([busy], { retry: { max: 2, initial: '0s' } }))
    expect((await gateway.embed('it', ['x'])).vectors).toHaveLength(1)
    const once = gatewayOf(scripted([busy], { retry: { max: 1, initial: '0s' } }))
    expect(await failureOf(once.embed('it', ['x']))).toMatchObject({ code: 'model.unavailable' })
  })

  test('that take too long are given up', async () => {
    const clock = new HandClock(0)
    const slow = { when: 'x', text: 'y', delay: '1h' }
    const world = scripted([slow], { timeouts: { total: '5s' }, retry: 0 })
    const state = { isDone: false }
    const asked = failureOf(gatewayOf(world, clock).embed('it', ['x'])).finally(() => {
      state.isDone = true
    })
    while (!state.isDone) {
      await endOfTurn()
      clock.advance(1_000)
    }
    expect(await asked).toMatchObject({ code: 'model.timeout', evidence: { limit: 'timeouts.total' } })
  })

  test('are not waited for by whoever gives up', async () => {
    const gone = new AbortController()
    const asked = gatewayOf(scripted([{ when: 'x', text: 'y', delay: '1h' }])).embed(
      'it',
      ['x'],
      undefined,
      gone.signal,
    )
    gone.abort(new Error('gone'))
    await expect(asked).rejects.toThrow('gone')
  })
})
