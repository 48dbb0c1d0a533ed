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

describe('what a person asks a model', () => {
  const reply = (more: JsonObject = {}) => ({
    ...{ provider: 'mock', model: 'scripted', retry: 0, defaults: { maxTokens: 20 } },
    mock: { replies: [{ text: 'yes', usage: { inputTokens: 30, outputTokens: 10 } }] },
    ...more,
  })
  const costs = async (by: 'agent' | 'workflow' | 'endpoint' | 'run') => {
    const { items } = await engine.listCosts(ADMIN, { by, namespace: null, since: null, until: null, limit: 10 })
    return items.map(({ name, calls, inputTokens, outputTokens, costs: money }) => {
      return { name, calls, tokens: inputTokens + outputTokens, money: money.map(({ amount }) => amount) }
    })
  }
  const used = async (name: string) => {
    const { status } = await engine.resources.get(ADMIN, { kind: 'Budget', namespace: 'default', name })
    return [status.usage?.tokens, status.usage?.heldTokens]
  }

  test('is counted for the namespace and the endpoint, and for no agent, workflow or run', async () => {
    await declare('PriceTable', 'paid', { currency: 'EUR', rows: [{ model: '*', input: 100_000, output: 0 }] })
    await declare('ModelEndpoint', 'it', reply({ prices: 'paid' }))
    await ask('it')
    await ask('it')
    for (const by of ['agent', 'workflow', 'run'] as const)
      expect(await costs(by)).toEqual([{ name: '', calls: 2, tokens: 80, money: [6] }])
    expect(await costs('endpoint')).toEqual([{ name: 'it', calls: 2, tokens: 80, money: [6] }])
  })

  test('is asked of the budgets before: one that is used up refuses it at once, whatever it does with steps', async () => {
    await declare('ModelEndpoint', 'it', reply())
    for (const action of ['wait', 'fail']) {
      await declare('Budget', action, {
        window: 'day',
        limits: { tokens: 60 },
        action,
        selector: { endpoints: ['it'] },
      })
      await declare('Budget', 'other', { window: 'day', limits: { tokens: 0 }, selector: { agents: ['writer'] } })
    }
    expect(await ask('it')).toMatchObject({ text: 'yes' })
    expect(await used('wait')).toEqual([40, 0])
    await expect(ask('it')).rejects.toMatchObject({
      code: 'budget.exceeded',
      message: expect.stringMatching(/^asking it: of the 60 tokens that budget default\/\w+ allows/),
      evidence: { agent: null, endpoint: 'it' },
      remediation: expect.stringMatching(/^Run it again after .* or raise limits.tokens of Budget default/),
    })
    expect(await used('wait')).toEqual([40, 0])
    expect(await costs('endpoint')).toMatchObject([{ calls: 1 }])
  })

  test('counts in no budget of the window of a run: it is none', async () => {
    await declare('ModelEndpoint', 'it', reply())
    await declare('Budget', 'each', { window: 'run', limits: { tokens: 1 } })
    expect(await ask('it')).toMatchObject({ text: 'yes' })
  })

  test('is refused where a budget of money knows no price for it', async () => {
    await declare('ModelEndpoint', 'it', reply())
    await declare('Budget', 'money', { window: 'day', limits: { money: 5, currency: 'EUR' } })
    await expect(ask('it')).rejects.toMatchObject({ code: 'budget.price_unknown', evidence: { endpoint: 'it' } })
  })

  test('is counted where it was answered: budgets are asked about a fallback when it is its turn', async () => {
    const down = { fallbacks: ['spare'], mock: { replies: [{ errors: [{ code: 'unavailable' }] }] } }
    await declare('ModelEndpoint', 'it', reply(down))
    await declare('ModelEndpoint', 'spare', reply())
    await declare('Budget', 'all', { window: 'day', limits: { tokens: 1_000 } })
    expect(await ask('it')).toMatchObject({ endpoint: 'spare' })
    expect(await costs('endpoint')).toMatchObject([{ name: 'spare', calls: 1 }])
    await declare('Budget', 'spare', { window: 'day', limits: { tokens: 0 }, selector: { endpoints: ['spare'] } })
    await expect(ask('it')).rejects.toMatchObject({ code: 'budget.exceeded', evidence: { endpoint: 'spare' } })
    expect(await used('all')).toEqual([40, 0])
  })

  test('and nobody answers gives back what was set aside for it; while it is under way nobody else does', async () => {
    await declare('Budget', 'all', { window: 'day', limits: { tokens: 1_000 } })
    await declare('ModelEndpoint', 'down', reply({ mock: { replies: [{ errors: [{ code: 'unavailable' }] }] } }))
    await expect(ask('down')).rejects.toMatchObject({ code: 'model.unavailable' })
    expect(await used('all')).toEqual([0, 0])
    await declare('ModelEndpoint', 'it', reply())
    const at = { namespace: 'default', name: 'it' }
    const { signal } = new AbortController()
    const events = await engine.askModel(ADMIN, at, { prompt: 'x'.repeat(40) }, signal)
    expect(await used('all')).toEqual([0, 30])
    await rig.advance(61_000)
    await engine.tick()
    expect(await used('all')).toEqual([0, 30])
    await resultOf(events)
    expect(await used('all')).toEqual([40, 0])
    expect(await rig.db.query('select 1 from spending_hold')).toEqual([])
  })
})
