import { describe, expect, test } from 'vitest'
import { openModels, startMockLlm } from './models.ts'

const error = (status: number, message: string, code: string) => ({
  status,
  content: JSON.stringify({ error: { message, type: 'invalid_request_error', param: null, code } }),
})
const answer = {
  status: 200,
  content: JSON.stringify({
    id: 'c1',
    object: 'chat.completion',
    model: 'gpt-4o-mini',
    choices: [{ index: 0, message: { role: 'assistant', content: 'Here I am.' }, finish_reason: 'stop' }],
  }),
}

describe('AGT-2: the provider does not have the model', () => {
  test('its answer is shown, with the nearest model that is configured, or the provider that has it', async () => {
    const { declare, refused, ask, orrery } = await openModels()
    const baseUrl = await startMockLlm([
      { match: '@', response: answer },
      {
        match: "body.model == 'gpt-4o-mni' || body.model == 'claude-sonnet-4-5'",
        response: error(404, 'The model does not exist or you do not have access to it.', 'model_not_found'),
      },
    ])
    const compatible = { provider: 'openai-compatible', baseUrl }
    await declare('right', { ...compatible, model: 'gpt-4o-mini' })
    await declare('wrong', { ...compatible, model: 'gpt-4o-mni' })
    expect(await ask('right')).toMatchObject({ text: 'Here I am.', model: 'gpt-4o-mini' })
    expect(await refused('wrong')).toMatchObject({
      code: 'model.not_found',
      evidence: {
        endpoint: 'wrong',
        provider: 'openai-compatible',
        model: 'gpt-4o-mni',
        answer: 'The model does not exist or you do not have access to it.',
        nearest: 'gpt-4o-mini',
      },
      remediation: expect.stringContaining('Did you mean gpt-4o-mini, which endpoint right has?'),
    })

    const credentials = { secret: 'claude', key: 'key' }
    await declare('claude', { provider: 'anthropic', model: 'claude-sonnet-4-5', credentials })
    await declare('astray', { ...compatible, model: 'claude-sonnet-4-5' })
    expect(await refused('astray')).toMatchObject({
      code: 'model.not_found',
      evidence: { nearest: 'claude' },
      remediation: expect.stringContaining('Endpoint claude has a model of this name at the provider anthropic'),
    })
    const shown = await orrery('models', 'ask', 'wrong', 'hello')
    expect(shown.stderr).toContain('The model does not exist')
    expect(shown.stderr).toContain('Did you mean gpt-4o-mini')
  })

  test('an endpoint that was never declared is told by its nearest name', async () => {
    const { declare, refused } = await openModels()
    await declare('scripted', { provider: 'mock', model: 'm', mock: { replies: [{ text: 'hello' }] } })
    expect(await refused('scriptd')).toMatchObject({
      code: 'resource.not_found',
      evidence: { nearest: 'scripted' },
    })
  })
})
