import { beforeEach, describe, expect, test } from 'vitest'
import { resultOf } from '../agents/index.ts'
import type { JsonObject } from '../base/json.ts'
import { parseResources } from '../domain/kinds/documents.ts'
import type { RunningEngine } from './create-engine.ts'
import { ADMIN, type EngineRig, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((given) => {
  rig = given
})
beforeEach(() => {
  engine = rig.engine()
})

async function declare(kind: string, name: string, spec: JsonObject): Promise<void> {
  const text = JSON.stringify({ apiVersion: 'orrery.dev/v1', kind, metadata: { name }, spec })
  await engine.resources.apply(ADMIN, parseResources(text, { file: 'm', namespace: null }), { dryRun: false })
}
const mock = (text: string, more: JsonObject = {}) => ({
  provider: 'mock',
  model: 'scripted',
  mock: { replies: [{ text, usage: { inputTokens: 1_000_000, outputTokens: 0 } }] },
  ...more,
})
const ask = async (name: string, more: object = {}) => {
  const { signal } = new AbortController()
  const at = { namespace: 'default', name }
  return resultOf(await engine.askModel(ADMIN, at, { prompt: 'the prompt itself', ...more }, signal))
}

describe('asking a model', () => {
  test('takes endpoint, fallbacks and prices as they are at the moment', async () => {
    await declare('ModelEndpoint', 'it', mock('first', { prices: 'paid' }))
    expect(await ask('it')).toMatchObject({ text: 'first', cost: null, warnings: [expect.stringContaining('paid')] })
    await declare('PriceTable', 'paid', { currency: 'EUR', rows: [{ model: '*', input: 3, output: 1 }] })
    await declare('ModelEndpoint', 'it', mock('second', { prices: 'paid' }))
    expect(await ask('it')).toMatchObject({ text: 'second', cost: { currency: 'EUR', amount: 3 } })
    const down = { retry: 0, fallbacks: ['it'], mock: { replies: [{ errors: [{ code: 'unavailable' }] }] } }
    await declare('ModelEndpoint', 'down', mock('', down))
    expect(await ask('down')).toMatchObject({ endpoint: 'it', text: 'second' })
    await expect(ask('down', { useFallbacks: false })).rejects.toMatchObject({ code: 'model.unavailable' })
    await expect(ask('itt')).rejects.toMatchObject({ code: 'resource.not_found', evidence: { nearest: 'it' } })
  })

  test('is written down before it is done, with the secrets it takes and without the prompt', async () => {
    const credentials = { secret: 'openai', key: 'api-key' }
    await declare('ModelEndpoint', 'gpt', { provider: 'openai', model: 'm', credentials })
    await expect(ask('gpt')).rejects.toMatchObject({
      code: 'secret.not_found',
      evidence: { endpoint: 'gpt', tried: expect.arrayContaining(['store default/openai/api-key: no such secret']) },
    })
    const all = { actor: null, action: null, object: null, outcome: null, namespace: null, since: null, cursor: null }
    const { items } = await engine.access.listAudit(ADMIN, { ...all, limit: 100 })
    expect(items.map(({ action, object }) => `${action} ${object}`)).toEqual(
      expect.arrayContaining(['modelendpoints.ask gpt', 'secrets.use openai']),
    )
    expect(JSON.stringify(items)).not.toContain('the prompt itself')
  })
})

test('the secrets of a fallback are written down when it is its turn, and not before', async () => {
  const key = (secret: string) => ({ provider: 'openai', model: 'm', credentials: { secret, key: 'k' } })
  await declare('ModelEndpoint', 'gpt', key('openai'))
  await declare('ModelEndpoint', 'spare', key('unused'))
  const down = {
    retry: 0,
    fallbacks: ['gpt', 'good', 'spare'],
    mock: { replies: [{ errors: [{ code: 'unavailable' }] }] },
  }
  await declare('ModelEndpoint', 'down', mock('', down))
  await declare('ModelEndpoint', 'good', mock('here'))
  const uses = async () => {
    const all = { actor: null, action: null, object: null, outcome: null, namespace: null, since: null, cursor: null }
    const { items } = await engine.access.listAudit(ADMIN, { ...all, action: 'secrets.use', limit: 100 })
    return items.map(({ object, details }) => ({ object, details }))
  }
  await expect(ask('down', { useFallbacks: false })).rejects.toMatchObject({ code: 'model.unavailable' })
  expect(await uses()).toEqual([])
  expect(await ask('down')).toMatchObject({ endpoint: 'good', text: 'here' })
  expect(await uses()).toEqual([{ object: 'openai', details: { key: 'k', as: 'credentials', endpoint: 'gpt' } }])
})

test('the doctor is told what endpoints name in vain', async () => {
  await declare('ModelEndpoint', 'whole', mock('x', { fallbacks: ['other'] }))
  await declare('ModelEndpoint', 'other', mock('x', { fallbacks: ['gone'], prices: 'none' }))
  await declare('ModelEndpoint', 'gpt', { provider: 'openai', model: 'm', credentials: { secret: 's', key: 'k' } })
  const { models } = await engine.examine(ADMIN)
  expect(models).toMatchObject([
    { endpoint: 'default/gpt', secrets: [{ code: 'secret.not_found', evidence: { endpoint: 'gpt' } }], dangling: [] },
    {
      endpoint: 'default/other',
      secrets: [],
      dangling: [
        { field: 'fallbacks', name: 'gone' },
        { field: 'prices', name: 'none' },
      ],
    },
    { endpoint: 'default/whole', secrets: [], dangling: [] },
  ])
})
