import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import type { ModelRequest } from '../../domain/model-call.ts'
import { gatewayOf, say, startProviders } from '../testing/gateway-rig.ts'

const KEY = 'sk-the-key-of-these-tests-0123456789'
const credentials = { secret: 'provider', key: 'key' }
const secrets = { 'provider/key': KEY, 'provider/id': 'AKIAEXAMPLE', 'provider/secret': 'aws-secret-example' }

/** An endpoint of each provider at a server that speaks all of their languages. */
const ENDPOINTS: Record<string, (url: string) => JsonObject> = {
  openai: (url) => ({ provider: 'openai', model: 'gpt-4o', baseUrl: `${url}/v1`, credentials }),
  anthropic: (url) => ({ provider: 'anthropic', model: 'claude-sonnet-4-5', baseUrl: `${url}/v1`, credentials }),
  google: (url) => ({ provider: 'google', model: 'gemini-2.0-flash', baseUrl: `${url}/v1beta`, credentials }),
  'azure-openai': (url) => ({
    provider: 'azure-openai',
    model: 'gpt-4o',
    baseUrl: `${url}/openai`,
    azure: { deployment: 'our-gpt' },
    credentials,
  }),
  bedrock: (url) => ({
    provider: 'bedrock',
    model: 'anthropic.claude-3-5-sonnet-20241022-v2:0',
    baseUrl: url,
    bedrock: {
      region: 'eu-west-1',
      accessKeyId: { secret: 'provider', key: 'id' },
      secretAccessKey: { secret: 'provider', key: 'secret' },
    },
  }),
  ollama: (url) => ({ provider: 'ollama', model: 'llama3.2', baseUrl: url }),
  'openai-compatible': (url) => ({ provider: 'openai-compatible', model: 'llama', baseUrl: `${url}/v1` }),
}
const each = Object.keys(ENDPOINTS)
const worldOf = (name: string, url: string, more: JsonObject = {}) => ({
  endpoints: { it: { allowPrivateAddresses: true, retry: 0, ...ENDPOINTS[name]?.(url), ...more } },
  secrets,
})

describe.each(each)('%s', (name) => {
  test('streams a text and tells what it took', async () => {
    const server = await startProviders({ chunkSize: 5 })
    const usage = { prompt_tokens: 11, completion_tokens: 7, input_tokens: 11, output_tokens: 7 }
    const gemini = { promptTokenCount: 11, candidatesTokenCount: 7, totalTokenCount: 18 }
    server.onMessage('hello', { content: 'Good morning to you all.', usage: { ...usage, ...gemini } })
    const events = await gatewayOf(worldOf(name, server.url)).events('it')
    const texts = events.flatMap((event) => (event.type === 'text' ? [event.text] : []))
    expect(texts.join('')).toBe('Good morning to you all.')
    expect(texts.length).toBeGreaterThan(1)
    expect(events.at(-1)).toMatchObject({
      type: 'finished',
      result: {
        endpoint: 'it',
        text: 'Good morning to you all.',
        finish: 'stop',
        toolCalls: [],
        usage: { inputTokens: expect.any(Number), outputTokens: expect.any(Number), isEstimated: false },
      },
    })
    expect(server.getRequests()).toHaveLength(1)
  })

  test('is told of tools, asks for one by the name that we know, and is told what it gave', async () => {
    const server = await startProviders()
    const asked = { name: 'weather_look_up', arguments: '{"city":"Oslo"}', id: 'call_1' }
    server.on({ hasToolResult: false }, { toolCalls: [asked] })
    server.on({ hasToolResult: true }, { content: 'It rains in Oslo.' })
    const tools = [
      {
        name: 'weather.look up',
        description: 'The weather of a city.',
        inputSchema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
      },
    ]
    const gateway = gatewayOf(worldOf(name, server.url))
    const question = { role: 'user' as const, text: 'How is the weather in Oslo?' }
    const events = await gateway.events('it', { messages: [question], tools })
    const [call] = events.flatMap((event) => (event.type === 'tool-call' ? [event.call] : []))
    expect(call).toMatchObject({ name: 'weather.look up', input: { city: 'Oslo' } })
    expect(events.at(-1)).toMatchObject({ result: { finish: 'tool-calls', toolCalls: [call] } })
    const { text } = await gateway.result('it', {
      tools,
      messages: [
        question,
        { role: 'assistant', toolCalls: call ? [call] : [] },
        { role: 'tool', callId: call?.id ?? '', name: 'weather.look up', output: { sky: 'grey' } },
      ],
    })
    expect(text).toBe('It rains in Oslo.')
    const [first, second] = server.getRequests().map(({ body }) => JSON.stringify(body))
    expect(first).toContain('weather_look_up')
    expect(first).toContain('The weather of a city.')
    expect(second).toContain('grey')
  })

  test('is refused with a failure of the catalogue, with what the provider said and without the key', async () => {
    const server = await startProviders()
    const refuse = (on: string, status: number, message: string, more: object = {}) =>
      server.onMessage(on, { error: { message, type: 'some_error', ...more }, status })
    const key = name === 'bedrock' ? secrets['provider/secret'] : KEY
    refuse('key', 401, `Incorrect API key provided: ${key}.`)
    refuse('model', 404, 'The model does not exist.', { code: 'model_not_found' })
    refuse('many', 429, 'Slow down.')
    refuse('down', 503, 'Overloaded.')
    refuse('long', 400, 'prompt is too long: 208310 tokens > 200000 maximum')
    refuse('odd', 400, 'messages: something is odd')
    const gateway = gatewayOf(worldOf(name, server.url))
    const isOpen = /ollama|compatible/.test(name)
    const codes: Record<string, string> = {}
    for (const what of ['key', 'model', 'many', 'down', 'long', 'odd']) {
      const failure = await gateway.failure('it', what)
      codes[what] = failure.code
      expect(failure.evidence).toMatchObject({ endpoint: 'it', provider: name, status: expect.any(Number) })
      if (what === 'key')
        expect(failure.evidence?.['answer']).toBe(`Incorrect API key provided: ${isOpen ? KEY : '[secret]'}.`)
      if (what === 'long') expect(failure.evidence).toMatchObject({ limitTokens: 200_000, requestTokens: 208_310 })
    }
    expect(codes).toEqual({
      key: isOpen ? 'model.auth_missing' : 'model.auth_failed',
      model: 'model.not_found',
      many: 'model.rate_limited',
      down: 'model.unavailable',
      long: 'model.context_exceeded',
      odd: 'model.request_rejected',
    })
  })

  test('that breaks off in the middle of its answer has not answered', async () => {
    const server = await startProviders({ chunkSize: 4 })
    server.onMessage('hello', { content: 'A long answer that is never told to its end.' }, { truncateAfterChunks: 4 })
    const failure = await gatewayOf(worldOf(name, server.url)).failure('it')
    expect(failure.code).toBe('model.unavailable')
  })

  test.for([
    ['answers with an error', { dropRate: 1 }, 'model.unavailable'],
    ['answers with what is no answer', { malformedRate: 1 }, 'model.unavailable'],
    ['hangs up', { disconnectRate: 1 }, 'model.unavailable'],
    ['says to come later', { rateLimitRate: 1 }, 'model.rate_limited'],
    ['says nothing in time', { latencyMs: 10_000 }, 'model.timeout'],
  ] as const)('that %s is told by its code', async ([, chaos, code]) => {
    const server = await startProviders({ chaos })
    server.onMessage('hello', { content: 'Here I am.' })
    const failure = await gatewayOf(worldOf(name, server.url, { timeouts: { firstToken: '300ms' } })).failure('it')
    expect(failure).toMatchObject({ code, retryable: true, evidence: { endpoint: 'it' } })
  })

  test('that is not there at all is unavailable', async () => {
    const server = await startProviders()
    const { url } = server
    await server.stop()
    const failure = await gatewayOf(worldOf(name, url)).failure('it')
    expect(failure).toMatchObject({ code: 'model.unavailable', evidence: { code: 'ECONNREFUSED' }, retryable: true })
  })
})

describe('what is sent', () => {
  const requestsOf = async (name: string, more: JsonObject, request: ModelRequest = say('hello')) => {
    const server = await startProviders()
    server.onMessage('hello', { content: '{"city":"Oslo"}' })
    const gateway = gatewayOf(worldOf(name, server.url, more))
    const result = await gateway.result('it', request)
    const [sent] = gateway.sent
    const body = JSON.stringify(server.getRequests()[0]?.body)
    return { url: sent?.url, headers: Object.fromEntries(sent?.headers ?? []), body, result }
  }

  test('opens with the key, and with nothing that lies about in the environment', async () => {
    vi.stubEnv('OPENAI_API_KEY', 'of-the-environment')
    vi.stubEnv('AWS_BEARER_TOKEN_BEDROCK', 'of-the-environment')
    vi.stubEnv('AWS_SESSION_TOKEN', 'of-the-environment')
    onTestFinished(() => void vi.unstubAllEnvs())
    expect((await requestsOf('openai', {})).headers['authorization']).toBe(`Bearer ${KEY}`)
    expect((await requestsOf('anthropic', {})).headers['x-api-key']).toBe(KEY)
    expect((await requestsOf('google', {})).headers['x-goog-api-key']).toBe(KEY)
    expect((await requestsOf('openai-compatible', {})).headers['authorization']).toBeUndefined()
    expect((await requestsOf('openai-compatible', { credentials })).headers['authorization']).toBe(`Bearer ${KEY}`)
    const signed = await requestsOf('bedrock', {})
    expect(signed.headers['authorization']).toMatch(/^AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE.*eu-west-1/)
    expect(signed.headers['x-amz-security-token']).toBeUndefined()
    const session = await requestsOf('bedrock', {
      bedrock: {
        region: 'us-east-1',
        accessKeyId: { secret: 'provider', key: 'id' },
        secretAccessKey: { secret: 'provider', key: 'secret' },
        sessionToken: { secret: 'provider', key: 'key' },
      },
    })
    expect(session.headers['x-amz-security-token']).toBe(KEY)
    expect(session.headers['authorization']).toContain('us-east-1')
    const token = await requestsOf('bedrock', { bedrock: { region: 'eu-west-1' }, credentials })
    expect(token.headers['authorization']).toBe(`Bearer ${KEY}`)
  })

  test("has the endpoint's defaults, and what the request says instead", async () => {
    const defaults = { temperature: 0.25, topP: 0.5, maxTokens: 99, seed: 7, stop: ['END'] }
    const { body } = await requestsOf('openai-compatible', { defaults })
    expect(JSON.parse(body)).toMatchObject({
      model: 'llama',
      temperature: 0.25,
      top_p: 0.5,
      max_tokens: 99,
      seed: 7,
      stop: ['END'],
    })
    const own = { ...say('hello'), temperature: 1, topP: 0.9, maxTokens: 5, seed: 8, stop: ['STOP'] }
    expect(JSON.parse((await requestsOf('openai-compatible', { defaults }, own)).body)).toMatchObject({
      temperature: 1,
      top_p: 0.9,
      max_tokens: 5,
      seed: 8,
      stop: ['STOP'],
    })
  })

  test('goes to the deployment and version of Azure that the manifest names', async () => {
    const { url, headers } = await requestsOf('azure-openai', {
      azure: { deployment: 'mine', apiVersion: '2025-01-01' },
    })
    expect(url).toMatch(/\/openai\/deployments\/mine\/chat\/completions\?api-version=2025-01-01$/)
    expect(headers['api-key']).toBe(KEY)
  })

  test('asks for JSON of a schema, and the answer is held against it', async () => {
    const schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }
    for (const name of each) {
      const { result } = await requestsOf(name, {}, { ...say('hello'), output: { schema } })
      expect(result.output).toEqual({ value: { city: 'Oslo' }, problems: [] })
    }
    const output = { schema: { ...schema, required: ['town'] } }
    const { body, result } = await requestsOf('openai', {}, { ...say('hello'), output })
    expect(body).toContain('json_schema')
    expect(result.output?.problems).toEqual([expect.stringContaining('town')])
  })

  test('forces a tool where the request does', async () => {
    const tools = [{ name: 'look.up', inputSchema: { type: 'object' } }]
    const choices: Record<string, string> = {}
    for (const toolChoice of ['auto', 'none', 'required', { tool: 'look.up' }] as const) {
      const { body } = await requestsOf('openai', {}, { ...say('hello'), tools, toolChoice })
      choices[JSON.stringify(toolChoice)] = JSON.stringify(JSON.parse(body).tool_choice)
    }
    expect(Object.values(choices)).toEqual([
      '"auto"',
      '"none"',
      '"required"',
      '{"type":"function","function":{"name":"look_up"}}',
    ])
  })
})
