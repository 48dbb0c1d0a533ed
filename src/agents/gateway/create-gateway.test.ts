import { describe, expect, test } from 'vitest'
import { HandClock } from '../../base/clock.ts'
import { deferred } from '../../base/deferred.ts'
import type { JsonObject } from '../../base/json.ts'
import { endOfTurn } from '../../base/turn.ts'
import { gatewayOf, say, startProviders, type World } from '../testing/gateway-rig.ts'

const mock = (replies: JsonObject[], more: JsonObject = {}): JsonObject => ({
  provider: 'mock',
  model: 'scripted',
  retry: 0,
  mock: { replies },
  ...more,
})
const world = (endpoints: World['endpoints'], more: Partial<World> = {}): World => ({ endpoints, ...more })

/** Turns the clock until the work is done; gives when it was, beside what came of it. */
async function turning<T>(clock: HandClock, work: Promise<T>, stepMs = 50): Promise<{ value: T; afterMs: number }> {
  const from = clock.now()
  const state = { isDone: false }
  const done = work.finally(() => {
    state.isDone = true
  })
  done.catch(() => {})
  for (let turns = 0; !state.isDone && turns < 20_000; turns++) {
    await endOfTurn()
    if (!state.isDone && turns % 4 === 3) clock.advance(stepMs)
  }
  return { value: await done, afterMs: clock.now() - from }
}

describe('the scripted model', () => {
  test('says the same to the same conversation, by what is asked and by turn', async () => {
    const { result } = gatewayOf(
      world({
        it: mock([
          { text: 'first' },
          { text: 'second' },
          { when: 'weather', toolCalls: [{ name: 'look', input: { at: 'Oslo' } }] },
          { when: 'value', json: { done: true } },
        ]),
      }),
    )
    const turn = { role: 'assistant' as const, text: 'x' }
    const user = { role: 'user' as const, text: 'and?' }
    for (let n = 0; n < 2; n++) {
      expect((await result('it')).text).toBe('first')
      expect((await result('it', { messages: [user, turn, user] })).text).toBe('second')
      expect((await result('it', { messages: [user, turn, user, turn, user] })).text).toBe('second')
      expect((await result('it', 'a value, please')).text).toBe('{"done":true}')
      expect(await result('it', 'how is the weather')).toMatchObject({
        finish: 'tool-calls',
        toolCalls: [{ id: 'call_1_0', name: 'look', input: { at: 'Oslo' } }],
      })
    }
  })

  test('tells what it took: as the script says, else as it is estimated, at a price', async () => {
    const usage = { inputTokens: 1_000_000, outputTokens: 500_000, cachedInputTokens: 400_000 }
    const prices = { paid: { currency: 'EUR', rows: [{ model: 'scrip*', input: 2, output: 4, cachedInput: 0.5 }] } }
    const { result } = gatewayOf(
      world(
        {
          paid: mock([{ text: 'x', usage }], { prices: 'paid' }),
          unknown: mock([{ text: 'x' }], { prices: 'paid', model: 'other' }),
          nowhere: mock([{ text: 'x' }], { prices: 'gone' }),
          free: mock([{ text: 'four letters' }]),
        },
        { prices },
      ),
    )
    expect(await result('paid')).toMatchObject({ usage, cost: { currency: 'EUR', amount: 3.4 }, warnings: [] })
    expect(await result('unknown')).toMatchObject({ cost: null, warnings: [expect.stringContaining('has no row')] })
    expect(await result('nowhere')).toMatchObject({ cost: null, warnings: [expect.stringContaining('no PriceTable')] })
    expect(await result('free')).toMatchObject({ cost: null, usage: { outputTokens: expect.any(Number) } })
  })

  test('without a reply that fits refuses the request', async () => {
    const { failure } = gatewayOf(world({ it: mock([{ when: 'never said', text: 'x' }]) }))
    expect(await failure('it')).toMatchObject({ code: 'model.request_rejected', evidence: { status: 400 } })
  })
})

describe('what passes', () => {
  test('is tried again after a back-off that grows, or when the provider wants', async () => {
    const clock = new HandClock(0)
    const errors = [{ code: 'unavailable' }, { code: 'rate_limited', retryAfter: '5s' }, { code: 'unavailable' }]
    const retry = { max: 3, initial: '1s', factor: 3, jitter: 0 }
    const { events } = gatewayOf(world({ it: mock([{ errors, text: 'at last' }], { retry }) }), clock)
    const { value, afterMs } = await turning(clock, events('it'))
    expect(value.flatMap((e) => (e.type === 'retrying' ? [[e.failure.code, e.delayMs, e.isVoid]] : []))).toEqual([
      ['model.unavailable', 1_000, false],
      ['model.rate_limited', 5_000, false],
      ['model.unavailable', 9_000, false],
    ])
    expect(value.at(-1)).toMatchObject({ type: 'finished', result: { text: 'at last', tried: [] } })
    expect(afterMs).toBeGreaterThanOrEqual(15_000)
  })

  test('is not waited for longer than the endpoint allows', async () => {
    const clock = new HandClock(0)
    const reply = { errors: [{ code: 'rate_limited', retryAfter: '31s' }] }
    const busy = mock([reply], { retry: { max: 5, maxDelay: '30s' }, fallbacks: ['other'] })
    const { result } = gatewayOf(world({ busy, other: mock([{ text: 'here' }]) }), clock)
    const { value, afterMs } = await turning(clock, result('busy'))
    expect(value).toMatchObject({ endpoint: 'other', tried: [{ endpoint: 'busy', tries: 1 }] })
    expect(afterMs).toBeLessThan(1_000)
  })

  test.for(['auth_failed', 'not_found', 'context_exceeded'] as const)(
    'and what does not, %s, is neither tried again nor taken elsewhere',
    async (code) => {
      const it = mock([{ errors: [{ code }], text: 'x' }], { retry: 3, fallbacks: ['other'] })
      const { failure } = gatewayOf(world({ it, other: mock([{ text: 'here' }]) }))
      const told = code === 'auth_failed' ? 'model.auth_missing' : `model.${code}`
      expect(await failure('it')).toMatchObject({ code: told, evidence: { tried: [{ endpoint: 'it', tries: 1 }] } })
    },
  )
})

describe('fallbacks', () => {
  const down = mock([{ errors: [{ code: 'unavailable' }] }])
  const good = mock([{ text: 'here' }])

  test('are asked in their order, those of fallbacks are not, and what is wrong with one is told', async () => {
    const broken = { provider: 'openai', model: 'm', credentials: { secret: 'no', key: 'k' } }
    const { failure, result } = gatewayOf(
      world({
        it: { ...down, fallbacks: ['gone', 'broken', 'second'] },
        second: { ...down, fallbacks: ['good'] },
        broken,
        good,
        whole: { ...down, fallbacks: ['broken', 'good'] },
      }),
    )
    expect(await failure('it')).toMatchObject({
      code: 'model.unavailable',
      retryable: true,
      evidence: {
        tried: [
          { endpoint: 'it', code: 'model.unavailable' },
          { endpoint: 'gone', code: 'resource.not_found', tries: 0 },
          { endpoint: 'broken', code: 'secret.not_found' },
          { endpoint: 'second', code: 'model.unavailable' },
        ],
      },
    })
    expect(await result('whole')).toMatchObject({ endpoint: 'good' })
  })

  test('are left alone when only one endpoint is meant', async () => {
    const { failure } = gatewayOf(world({ it: { ...down, fallbacks: ['good'] }, good }))
    const told = await failure('it', 'hello', { useFallbacks: false })
    expect(told).toMatchObject({ code: 'model.unavailable' })
    expect(told.evidence).not.toHaveProperty('tried')
  })

  test('of a local endpoint are local too', async () => {
    const cloud = { provider: 'openai-compatible', model: 'm', baseUrl: 'http://models.test/v1' }
    const { result, sent } = gatewayOf(
      world({ it: { ...down, local: true, fallbacks: ['cloud', 'good'] }, cloud, good }),
    )
    expect(await result('it')).toMatchObject({
      endpoint: 'good',
      tried: [{ endpoint: 'it' }, { endpoint: 'cloud', message: expect.stringContaining('not local') }],
    })
    expect(sent).toEqual([])
  })

  test('an endpoint that there is not is no failure of a model', async () => {
    expect(await gatewayOf(world({})).failure('gone')).toMatchObject({ code: 'resource.not_found' })
  })
})

describe('time', () => {
  test.for([
    ['firstToken', { timeouts: { firstToken: '2s' } }],
    ['total', { timeouts: { total: '2s' } }],
  ] as const)('a silence is ended by %s', async ([limit, more]) => {
    const clock = new HandClock(0)
    const { failure } = gatewayOf(world({ it: mock([{ text: 'late', delay: '10s' }], more) }), clock)
    const { value, afterMs } = await turning(clock, failure('it'))
    expect(value).toMatchObject({
      code: 'model.timeout',
      evidence: { endpoint: 'it', limit: `timeouts.${limit}`, limitMs: 2_000 },
    })
    expect(afterMs).toBeLessThan(3_000)
  })

  test('an answer that falls silent is ended too, and begins anew', async () => {
    const server = await startProviders({ chunkSize: 4 })
    const slow = { ttft: 0, tps: 1 }
    server.on({ sequenceIndex: 0 }, { content: 'An answer of many parts.' }, { streamingProfile: slow })
    server.on({}, { content: 'Here I am.' })
    const at = { provider: 'openai-compatible', model: 'm', baseUrl: `${server.url}/v1`, allowPrivateAddresses: true }
    const it = { ...at, timeouts: { idle: '100ms' }, retry: { max: 1, initial: '1ms' } }
    const events = await gatewayOf(world({ it })).events('it')
    expect(events.find((event) => event.type === 'retrying')).toMatchObject({
      isVoid: true,
      failure: { code: 'model.timeout', evidence: { limit: 'timeouts.idle' } },
    })
    expect(events.at(-1)).toMatchObject({ result: { text: 'Here I am.' } })
  })

  test('whoever gives up is told so, and nothing goes on', async () => {
    const clock = new HandClock(0)
    const { result } = gatewayOf(world({ it: mock([{ text: 'late', delay: '10s' }], { maxConcurrent: 1 }) }), clock)
    const gone = new AbortController()
    const asked = result('it', 'hello', { signal: gone.signal })
    asked.catch(() => {})
    await endOfTurn()
    gone.abort(new Error('enough'))
    await expect(asked).rejects.toThrow('enough')
    const { value } = await turning(clock, result('it'), 1_000)
    expect(value.text).toBe('late')
  })
})

describe('a call that waits for its word', () => {
  const script = mock([{ text: 'here', delay: '1s' }], {
    maxConcurrent: 1,
    timeouts: { firstToken: '2s', total: '2s' },
  })
  const secrets = { 's/k': 'the-first-key-0123' }
  const wire = async () => {
    const server = await startProviders()
    server.on({}, { content: 'here' })
    const credentials = { secret: 's', key: 'k' }
    const baseUrl = `${server.url}/v1`
    return { provider: 'openai-compatible', model: 'm', baseUrl, allowPrivateAddresses: true, credentials }
  }
  /** Turns until everything that can happen without time has. */
  const settle = async () => {
    for (let i = 0; i < 20; i++) await endOfTurn()
  }

  test('is sent when it has it, and its time counts from then on', async () => {
    const clock = new HandClock(0)
    const word = deferred<boolean>()
    const asked = gatewayOf(world({ it: script }), clock).result('it', 'hello', { goAhead: word.promise })
    clock.advance(60_000)
    await settle()
    word.resolve(true)
    const { value } = await turning(clock, asked)
    expect(value).toMatchObject({ text: 'here', totalMs: 1_000, firstPartMs: 1_000 })
  })

  test('is not sent, and has no event, when it is not to be', async () => {
    const { events, sent } = gatewayOf(world({ it: await wire() }, { secrets }))
    const word = deferred<boolean>()
    const asked = events('it', 'hello', { goAhead: word.promise })
    await settle()
    word.resolve(false)
    expect(await asked).toEqual([])
    expect(sent).toEqual([])
  })

  test('takes no place meanwhile that another one could have', async () => {
    const clock = new HandClock(0)
    const { result, events } = gatewayOf(world({ it: script }), clock)
    const word = deferred<boolean>()
    const waiting = events('it', 'hello', { goAhead: word.promise })
    expect((await turning(clock, result('it'))).value.text).toBe('here')
    word.resolve(false)
    expect(await waiting).toEqual([])
    expect((await turning(clock, result('it'))).value.text).toBe('here')
  })

  test.for([
    [900, 'the-first-key-0123'],
    [1_100, 'the-other-key-4567'],
  ] as const)('for %i ms is sent with %s, the key of when it was made ready', async ([ms, key]) => {
    const clock = new HandClock(0)
    const keys = { ...secrets }
    const { result, sent } = gatewayOf(world({ it: await wire() }, { secrets: keys }), clock)
    const word = deferred<boolean>()
    const asked = result('it', 'hello', { goAhead: word.promise })
    await settle()
    keys['s/k'] = 'the-other-key-4567'
    clock.advance(ms)
    expect(sent).toEqual([])
    word.resolve(true)
    expect((await asked).text).toBe('here')
    expect(sent.map(({ headers }) => headers.get('authorization'))).toEqual([`Bearer ${key}`])
  })

  test('is told what is wrong with it, and that its caller gave up', async () => {
    const { failure, sent } = gatewayOf(world({ it: await wire() }))
    expect(await failure('it', 'hello', { goAhead: Promise.resolve(true) })).toMatchObject({ code: 'secret.not_found' })
    const gone = new AbortController()
    const word = deferred<boolean>()
    const { events, sent: left } = gatewayOf(world({ it: await wire() }, { secrets }))
    const asked = events('it', 'hello', { goAhead: word.promise, signal: gone.signal })
    asked.catch(() => {})
    await settle()
    gone.abort(new Error('enough'))
    word.resolve(true)
    await expect(asked).rejects.toThrow('enough')
    expect([...sent, ...left]).toEqual([])
  })
})

describe('what an endpoint allows', () => {
  test('so many calls at once, in the order in which they came', async () => {
    const clock = new HandClock(0)
    const it = mock([{ text: 'x', delay: '1s' }], { maxConcurrent: 2 })
    const { result } = gatewayOf(world({ it }), clock)
    const ended: number[] = []
    const all = Promise.all(
      [0, 1, 2, 3, 4].map(async (n) => {
        await result('it')
        ended.push(n)
      }),
    )
    const { afterMs } = await turning(clock, all)
    expect(ended).toEqual([0, 1, 2, 3, 4])
    expect(afterMs).toBeGreaterThanOrEqual(3_000)
    expect(afterMs).toBeLessThan(3_600)
  })

  test('so many requests a minute; the next ones wait, and who would wait too long goes elsewhere', async () => {
    const clock = new HandClock(0)
    const it = mock([{ text: 'x' }], { requestsPerMinute: 2, fallbacks: ['other'] })
    const { result } = gatewayOf(world({ it, other: mock([{ text: 'y' }]) }), clock)
    const all = Promise.all([0, 1, 2, 3, 4].map(() => result('it')))
    const { value, afterMs } = await turning(clock, all, 500)
    expect(value.map(({ text }) => text)).toEqual(['x', 'x', 'x', 'x', 'y'])
    expect(value[4]?.tried).toMatchObject([{ endpoint: 'it', tries: 0, code: 'model.rate_limited' }])
    expect(afterMs).toBeGreaterThanOrEqual(60_000)
  })

  test('so many tokens a minute, as they were in the end', async () => {
    const clock = new HandClock(0)
    const usage = { inputTokens: 50, outputTokens: 40 }
    const it = mock([{ text: 'x', usage }], { tokensPerMinute: 100 })
    const { result, failure } = gatewayOf(world({ it }), clock)
    // The second one begins while a tenth is left; then eight tenths of a minute are owed.
    expect((await turning(clock, result('it'))).afterMs).toBe(0)
    expect((await turning(clock, result('it'))).afterMs).toBe(0)
    const third = await turning(clock, result('it'), 500)
    expect(third.afterMs).toBeGreaterThanOrEqual(45_000)
    const large = await failure('it', { ...say('hello'), maxTokens: 1_000 })
    expect(large).toMatchObject({ code: 'model.rate_limited', evidence: { limit: 'tokensPerMinute', value: 100 } })
  })
})

describe('addresses', () => {
  const at = (baseUrl: string, more: JsonObject = {}) => ({
    provider: 'openai-compatible',
    model: 'm',
    retry: 0,
    baseUrl,
    ...more,
  })

  test('that may not be called are told as such, whatever the provider', async () => {
    const { failure } = gatewayOf(
      world({
        near: at('http://127.0.0.1:1/v1'),
        metadata: at('http://169.254.169.254/v1', { allowPrivateAddresses: true }),
        far: at('http://8.8.8.8/v1', { local: true }),
        ollama: { provider: 'ollama', model: 'm', retry: 0, baseUrl: 'http://127.0.0.1:1' },
      }),
    )
    expect(await failure('near')).toMatchObject({
      code: 'model.address_blocked',
      evidence: { endpoint: 'near', why: 'is loopback or private' },
    })
    expect(await failure('metadata')).toMatchObject({ code: 'model.address_blocked' })
    expect(await failure('far')).toMatchObject({ evidence: { why: 'is public, and the endpoint is local' } })
    expect(await failure('ollama')).toMatchObject({ code: 'model.unavailable' })
  })
})

describe('keys', () => {
  test('are taken as they are at each call, and never shown', async () => {
    const server = await startProviders()
    server.on({}, { content: 'Your key is the-first-key-0123, or the-other-key-4567.' })
    const it = {
      provider: 'openai-compatible',
      model: 'm',
      baseUrl: `${server.url}/v1`,
      allowPrivateAddresses: true,
      credentials: { secret: 's', key: 'k' },
    }
    const secrets: Record<string, string> = { 's/k': 'the-first-key-0123' }
    const { result, failure, sent } = gatewayOf(world({ it }, { secrets }))
    expect((await result('it')).text).toBe('Your key is [secret], or the-other-key-4567.')
    secrets['s/k'] = 'the-other-key-4567'
    expect((await result('it')).text).toBe('Your key is the-first-key-0123, or [secret].')
    expect(sent.map(({ headers }) => headers.get('authorization'))).toEqual([
      'Bearer the-first-key-0123',
      'Bearer the-other-key-4567',
    ])
    secrets['s/k'] = ' \n'
    expect(await failure('it')).toMatchObject({ code: 'model.auth_missing', evidence: { secret: 's', key: 'k' } })
    delete secrets['s/k']
    expect(await failure('it')).toMatchObject({ code: 'secret.not_found', evidence: { endpoint: 'it' } })
  })
})

describe('what the provider may keep', () => {
  const messages = [
    { role: 'system' as const, text: 'Instructions.' },
    { role: 'user' as const, text: 'hello' },
  ]
  const marksOf = async (spec: JsonObject) => {
    const server = await startProviders()
    server.on({}, { content: 'x' })
    const it = { allowPrivateAddresses: true, credentials: { secret: 's', key: 'k' }, ...spec }
    const baseUrl = spec['provider'] === 'bedrock' ? server.url : `${server.url}/v1`
    const gateway = gatewayOf(world({ it: { ...it, baseUrl } }, { secrets: { 's/k': 'key' } }))
    await gateway.result('it', { messages })
    return gateway.sent[0]?.body.match(/cache_control|cachePoint/g)?.length ?? 0
  }

  test('is marked where the provider wants marks, and where the manifest does not say no', async () => {
    const anthropic = { provider: 'anthropic', model: 'claude-sonnet-4-5' }
    expect(await marksOf(anthropic)).toBe(2)
    expect(await marksOf({ ...anthropic, promptCaching: false })).toBe(0)
    const bedrock = { provider: 'bedrock', bedrock: { region: 'eu-west-1' } }
    expect(await marksOf({ ...bedrock, model: 'anthropic.claude-3-5-sonnet-20241022-v2:0' })).toBe(2)
    expect(await marksOf({ ...bedrock, model: 'meta.llama3-8b' })).toBe(0)
    expect(await marksOf({ provider: 'openai', model: 'gpt-4o' })).toBe(0)
  })
})
