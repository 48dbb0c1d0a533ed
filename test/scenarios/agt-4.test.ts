import { describe, expect, test } from 'vitest'
import { startProviders } from '../../src/agents/testing/gateway-rig.ts'
import { openModels } from './models.ts'

/** As each provider says it. */
const SAYS = {
  'openai-compatible':
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9051 tokens. Please reduce the length of the messages.",
  anthropic: 'prompt is too long: 9051 tokens > 8192 maximum',
  google: 'The input token count (9051) exceeds the maximum number of tokens allowed (8192).',
}

describe('AGT-4: the request is longer than the model takes', () => {
  test('is told with both sizes, is not tried again, and goes to no fallback', async () => {
    const { up, declare, refused } = await openModels()
    await up.client.putSecret('default', 'provider', { values: { key: 'any-key-at-all' } })
    const credentials = { secret: 'provider', key: 'key' }
    for (const [provider, message] of Object.entries(SAYS)) {
      const server = await startProviders()
      server.on({}, { error: { message, type: 'invalid_request_error' }, status: 400 })
      const baseUrl = `${server.url}/${provider === 'google' ? 'v1beta' : 'v1'}`
      await declare('small', { provider, model: 'm', baseUrl, credentials, fallbacks: ['other'] })
      await declare('other', { provider, model: 'm', baseUrl, credentials })
      expect(await refused('small')).toMatchObject({
        code: 'model.context_exceeded',
        retryable: false,
        evidence: { provider, limitTokens: 8192, requestTokens: 9051, answer: message },
      })
      expect(server.getRequests()).toHaveLength(1)
    }
  })

  test('where the provider tells no sizes, what is known here is told', async () => {
    const { declare, refused } = await openModels()
    const server = await startProviders()
    server.on({}, { error: { message: 'Input is too long for requested model.' }, status: 400 })
    await declare('small', { provider: 'ollama', model: 'm', baseUrl: server.url })
    const failure = await refused('small', { system: 'x'.repeat(4_000) })
    expect(failure).toMatchObject({ code: 'model.context_exceeded', evidence: { estimatedTokens: 1_002 } })
  })
})
