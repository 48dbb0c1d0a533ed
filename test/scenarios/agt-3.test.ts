import { describe, expect, test } from 'vitest'
import { startProviders } from '../../src/agents/testing/gateway-rig.ts'
import type { ModelEvent } from '../../src/domain/model-call.ts'
import { freeAddress, openModels } from './models.ts'

const refusal = (status: number, message: string) => ({ error: { message, type: 'error' }, status })

describe('AGT-3: the provider does not answer', () => {
  test('a rate limit is waited out for as long as the provider asks', async () => {
    const { up, declare, orrery } = await openModels()
    const server = await startProviders()
    server.on({ sequenceIndex: 0 }, { ...refusal(429, 'Slow down.'), retryAfter: 1 })
    server.on({}, { content: 'Here I am.' })
    await declare('busy', { provider: 'openai-compatible', model: 'm', baseUrl: `${server.url}/v1` })
    const events: ModelEvent[] = []
    for await (const event of up.client.askModel('default', 'busy', { prompt: 'hello' })) events.push(event)
    expect(events[0]).toMatchObject({ type: 'retrying', delayMs: 1_000, failure: { code: 'model.rate_limited' } })
    expect(events.at(-1)).toMatchObject({ type: 'finished', result: { text: 'Here I am.', tried: [] } })
    expect(server.getRequests()).toHaveLength(2)
    server.resetMatchCounts()
    const told = await orrery('models', 'ask', 'busy', 'hello')
    expect(told.stderr).toContain('model.rate_limited: asking busy in 1.0s')
    expect(told.stdout).toBe('Here I am.\n')
  })

  test('what does not pass goes to the fallbacks in their order', async () => {
    const { declare, ask } = await openModels()
    const server = await startProviders()
    server.on({ model: 'down' }, refusal(503, 'Overloaded.'))
    server.on({ model: 'slow' }, { content: 'Too late.' }, { latency: 10_000 })
    server.on({ model: 'good' }, { content: 'Here I am.' })
    const at = { provider: 'openai-compatible', baseUrl: `${server.url}/v1` }
    await declare('first', { ...at, model: 'down', fallbacks: ['gone', 'refused', 'slow', 'good', 'never'] })
    await declare('refused', { ...at, model: 'm', baseUrl: await freeAddress() })
    await declare('slow', { ...at, model: 'slow', timeouts: { firstToken: '100ms' } })
    await declare('good', { ...at, model: 'good' })
    await declare('never', { ...at, model: 'good' })
    expect(await ask('first')).toMatchObject({
      endpoint: 'good',
      text: 'Here I am.',
      tried: [
        { endpoint: 'first', tries: 2, code: 'model.unavailable', message: 'Overloaded.' },
        { endpoint: 'gone', tries: 0, code: 'resource.not_found' },
        { endpoint: 'refused', tries: 2, code: 'model.unavailable', message: expect.stringContaining('ECONNREFUSED') },
        { endpoint: 'slow', tries: 2, code: 'model.timeout' },
      ],
    })
  })

  test('and when none answers the failure is one that may be tried again', async () => {
    const { declare, refused, orrery } = await openModels()
    const server = await startProviders()
    server.on({ model: 'busy' }, { ...refusal(429, 'Slow down.'), retryAfter: 3600 })
    server.on({ model: 'slow' }, { content: 'Too late.' }, { latency: 10_000 })
    const at = { provider: 'openai-compatible', baseUrl: `${server.url}/v1` }
    const refusedAt = await freeAddress()
    await declare('busy', { ...at, model: 'busy', fallbacks: ['away'] })
    await declare('away', { ...at, model: 'm', baseUrl: refusedAt })
    await declare('slow', { ...at, model: 'slow', retry: 0, timeouts: { firstToken: '100ms' } })
    expect(await refused('busy')).toMatchObject({
      code: 'model.rate_limited',
      retryable: true,
      evidence: {
        retryAfterMs: 3_600_000,
        tried: [
          { endpoint: 'busy', tries: 1, code: 'model.rate_limited' },
          { endpoint: 'away', tries: 2, code: 'model.unavailable' },
        ],
      },
    })
    expect(await refused('away')).toMatchObject({
      code: 'model.unavailable',
      retryable: true,
      evidence: { code: 'ECONNREFUSED', address: refusedAt },
    })
    expect((await orrery('models', 'test', 'slow')).code).toBe(124)
    expect(await refused('slow')).toMatchObject({
      code: 'model.timeout',
      retryable: true,
      evidence: { limit: 'timeouts.firstToken', limitMs: 100 },
    })
  })

  test('an address that may not be called is no provider that is down', async () => {
    const { declare, refused } = await openModels()
    const metadata = { provider: 'openai-compatible', model: 'm', baseUrl: 'http://169.254.169.254/v1' }
    await declare('metadata', { ...metadata, allowPrivateAddresses: true })
    await declare('private', { ...metadata, baseUrl: await freeAddress(), allowPrivateAddresses: false })
    expect(await refused('metadata')).toMatchObject({ code: 'model.address_blocked' })
    expect(await refused('private')).toMatchObject({
      code: 'model.address_blocked',
      evidence: { endpoint: 'private', address: '127.0.0.1', why: 'is loopback or private' },
      remediation: expect.stringContaining('allowPrivateAddresses: true'),
    })
  })
})
