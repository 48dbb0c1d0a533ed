import { beforeEach, describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { noMetrics } from '../../base/metrics.ts'
import { silentLog } from '../../base/log.ts'
import { systemClock } from '../../base/clock.ts'
import { parseResources } from '../../domain/kinds/documents.ts'
import { kindOf } from '../../domain/kinds/registry.ts'
import { LIMITS } from '../../domain/limits.ts'
import { diagnoseServer } from '../../diagnose/index.ts'
import type { RunningEngine } from '../create-engine.ts'
import type { Caller } from '../engine.ts'
import { ADMIN, type EngineRig, one, useRig } from '../testing/rig.ts'
import { Accountant } from './accountant.ts'
import type { ReserveWish } from './budgets.ts'

const HOUR_MS = 3_600_000

let rig: EngineRig
let engine: RunningEngine
let accountant: Accountant
let measured: Record<string, number>
let run: string
useRig((given) => {
  rig = given
})
beforeEach(async () => {
  measured = {}
  const note = (name: string, value: number, labels: Record<string, string> = {}) =>
    (measured[[name, ...Object.values(labels)].join(' ')] = value)
  accountant = new Accountant({ clock: systemClock, log: silentLog, metrics: noMetrics })
  engine = rig.engine({ metrics: { ...noMetrics, gauge: note, count: (name, by = 1) => void note(name, by) } })
  run = await rig.start(engine, await rig.put(engine, one, { name: 'report' }))
})

const narrow: Caller = { ...ADMIN, namespaces: ['other'] }
async function declare(kind: string, name: string, spec: JsonObject): Promise<void> {
  const text = JSON.stringify({ apiVersion: 'orrery.dev/v1', kind, metadata: { name }, spec })
  await engine.resources.apply(ADMIN, parseResources(text, { file: 'm', namespace: null }), { dryRun: false })
}
const get = (kind: 'Budget' | 'Agent', name: string) =>
  engine.resources.get(ADMIN, { kind, namespace: 'default', name })

let calls = 0
async function spend(tokens: number, more: Partial<ReserveWish> & { price?: number } = {}): Promise<void> {
  const { price, ...of } = more
  const wish = {
    ...{
      runId: run,
      node: 0,
      path: '',
      fence: 1,
      generation: 0,
      call: `c${++calls}`,
      namespace: 'default',
      workflow: 'report',
    },
    ...{ agent: 'writer', endpoint: 'gpt', tokens: { input: tokens, output: 0 } },
    ...of,
  }
  const usage = { inputTokens: tokens, outputTokens: 0, cachedInputTokens: 0, cacheWriteTokens: 0 }
  await rig.db.transaction((tx) =>
    accountant.settle(tx, [
      {
        ...wish,
        usage: { ...usage, reasoningTokens: 0, isEstimated: false },
        cost: price === undefined ? null : { currency: 'USD', amount: price },
        model: 'gpt-5',
      },
    ]),
  )
}
const agent = { model: 'gpt', instructions: 'Write.' }
/** Rounds of what keeps time until the upkeep has been. */
const upkeep = async () => {
  await rig.advance(61_000)
  await engine.tick()
}

describe('a Budget', () => {
  test('shows what is spent, what is allowed and when it begins anew', async () => {
    await declare('Budget', 'team', { window: 'day', limits: { tokens: 1_000, money: 2, currency: 'USD' } })
    await spend(250, { price: 1.2 })
    const view = await get('Budget', 'team')
    expect(view.status).toMatchObject({
      phase: 'ready',
      usage: {
        tokens: 250,
        heldTokens: 0,
        money: 1.2,
        heldMoney: 0,
        share: 0.6,
        from: '2026-01-01T00:00:00.000Z',
        until: '2026-01-02T00:00:00.000Z',
      },
    })
    expect(view.status.conditions.at(-1)).toMatchObject({
      type: 'withinLimit',
      status: 'true',
      reason: 'within',
      message: '60% of it is used',
    })
    const shown = Object.fromEntries(kindOf('Budget').columns.map((column) => [column.title, column.text(view)]))
    expect(shown).toEqual({
      WINDOW: 'day',
      SPENT: '250 tokens, 1.2 USD',
      LIMIT: '1000 tokens, 2 USD',
      USED: '60%',
      RESETS: '2026-01-02T00:00:00.000Z',
      WAITING: '0',
      PHASE: 'ready',
    })
    const { items } = await engine.resources.list(
      ADMIN,
      { kind: 'Budget', namespace: null, name: null, terms: [] },
      { cursor: null, limit: 10 },
    )
    expect(items[0]?.status.usage?.tokens).toBe(250)
  })

  test.each([
    ['run', 'with each run', '-'],
    ['24h', '24h after each call', '5%'],
  ])('of the window %s says that it resets %s', async (window, resets, used) => {
    await declare('Budget', 'b', { window, limits: { tokens: 100 } })
    await spend(5)
    const view = await get('Budget', 'b')
    const text = (title: string) =>
      kindOf('Budget')
        .columns.find((column) => column.title === title)
        ?.text(view)
    expect([text('RESETS'), text('USED')]).toEqual([resets, used])
  })

  test('says that it is near its limit and used up, since it was told of', async () => {
    await declare('Budget', 'b', { window: 'day', limits: { tokens: 100 }, alerts: [0.5, 1] })
    await spend(60)
    await upkeep()
    expect(await get('Budget', 'b')).toMatchObject({ status: { phase: 'near' } })
    await rig.advance(HOUR_MS)
    await spend(40)
    await upkeep()
    const { status } = await get('Budget', 'b')
    expect(status.phase).toBe('exceeded')
    expect(status.conditions.at(-1)).toEqual({
      type: 'withinLimit',
      status: 'false',
      reason: 'budget.exceeded',
      message: 'it is used up, until 2026-01-02T00:00:00.000Z',
      since: expect.stringMatching(/^2026-01-01T01:0/),
    })
  })

  test('shows on the agents that it holds up, and on no others', async () => {
    for (const name of ['writer', 'reader']) await declare('Agent', name, agent)
    await declare('Budget', 'b', {
      ...{ window: 'day', limits: { tokens: 100 } },
      selector: { agents: ['writer'], workflows: ['report'] },
    })
    await spend(99)
    expect((await get('Agent', 'writer')).status.conditions).toHaveLength(1)
    await spend(1)
    expect((await get('Agent', 'writer')).status.conditions.at(-1)).toMatchObject({
      type: 'withinBudget',
      status: 'false',
      reason: 'budget.exceeded',
      message: 'budget default/b is used up for runs of report, until 2026-01-02T00:00:00.000Z',
    })
    expect((await get('Agent', 'reader')).status.conditions).toHaveLength(1)
    await declare('Budget', 'b', { window: 'day', limits: { tokens: 101 }, selector: { agents: ['writer'] } })
    expect((await get('Agent', 'writer')).status.conditions).toHaveLength(1)
  })
})

describe('the upkeep', () => {
  test('tells of what the last calls reached, and measures budgets', async () => {
    await declare('Budget', 'b', { window: 'day', limits: { tokens: 100 } })
    await declare('Budget', 'c', { window: 'day', limits: { tokens: 1_000 } })
    await spend(90)
    await upkeep()
    expect(rig.logged).toContainEqual({
      message: 'budget reached a share of its limit that it tells of',
      fields: { budget: 'default/b', window: 'day', alert: 0.8, used: 0.9 },
    })
    expect(measured).toMatchObject({
      'orrery_budgets within': 1,
      'orrery_budgets near': 1,
      'orrery_budgets used_up': 0,
      orrery_budget_used_ratio: 0.9,
      orrery_budget_alerts_total: 1,
    })
  })

  describe('tells those who watch budgets', () => {
    const version = async () => (await get('Budget', 'b')).metadata.resourceVersion
    const alerted = async () => (await get('Budget', 'b')).status.conditions.find(({ type }) => type === 'alerted')
    /** A tick that is no upkeep. */
    const tick = async () => {
      await rig.advance(1_000)
      await engine.tick()
    }

    test('of a share that was reached, as of every other change, with what is used by then', async () => {
      await declare('Budget', 'b', { window: 'day', limits: { tokens: 100 } })
      await upkeep()
      const since = Number(await version())
      const stop = new AbortController()
      const which = { kind: 'Budget' as const, namespace: 'default', name: null, terms: [] }
      const watch = engine.resources.watch(ADMIN, which, since, stop.signal)[Symbol.asyncIterator]()
      const next = watch.next()
      await spend(90)
      await upkeep()
      await rig.advance(1_000)
      const { value } = await next
      expect(value).toMatchObject({
        type: 'modified',
        resource: {
          metadata: { name: 'b', generation: 1 },
          status: {
            phase: 'near',
            usage: { tokens: 90 },
            conditions: [
              { type: 'ready' },
              { type: 'alerted', status: 'true', reason: 'near', message: '80% of it were used' },
              { type: 'withinLimit', status: 'true', reason: 'near' },
            ],
          },
        },
      })
      stop.abort()
      await watch.return?.()
    })

    test('with the tick after a call that was asked about reached it', async () => {
      await declare('Budget', 'b', { window: 'day', limits: { tokens: 100 } })
      await declare('ModelEndpoint', 'gpt', {
        ...{ provider: 'mock', model: 'm', defaults: { maxTokens: 1 } },
        mock: { replies: [{ text: 'hi', usage: { inputTokens: 1, outputTokens: 1 } }] },
      })
      await upkeep()
      await spend(85)
      const ask = { prompt: 'x' }
      const { signal } = new AbortController()
      for await (const _ of await engine.askModel(ADMIN, { namespace: 'default', name: 'gpt' }, ask, signal));
      await tick()
      expect(await alerted()).toMatchObject({ reason: 'near' })
    })

    test('once each, however many servers look, and of the next share again', async () => {
      await declare('Budget', 'b', { window: 'day', limits: { tokens: 100 }, alerts: [0.5, 1] })
      await spend(60)
      await upkeep()
      const first = await version()
      expect(await alerted()).toMatchObject({ reason: 'near', message: '50% of it were used' })
      const other = rig.engine()
      await other.tick()
      await upkeep()
      expect(await version()).toBe(first)
      await spend(60)
      await upkeep()
      expect(await version()).not.toBe(first)
      expect(await alerted()).toMatchObject({ reason: 'budget.exceeded', message: '100% of it were used' })
    })

    test('of the run whose window it is, and of nothing any more once the budget was changed', async () => {
      await declare('Budget', 'b', { window: 'run', limits: { tokens: 100 } })
      await rig.advance(1_000)
      await spend(80)
      const wish = { namespace: 'default', workflow: 'report', agent: 'writer', endpoint: 'gpt' }
      const key = { runId: run, node: 0, path: '', fence: 1, generation: 0, call: 'next' }
      const tokens = { input: 1, output: 0 }
      await rig.db.transaction((tx) => accountant.reserve(tx, [{ ...wish, ...key, tokens }]))
      await upkeep()
      expect(await alerted()).toMatchObject({ message: `80% of it were used by ${run} and the runs below it` })
      await declare('Budget', 'b', { window: 'run', limits: { tokens: 1_000 } })
      expect(await alerted()).toBeUndefined()
      await upkeep()
      expect(await alerted()).toBeUndefined()
    })
  })

  test('looks at all budgets, however many there are', async () => {
    for (let i = 0; i < 45; i++) await declare('Budget', `b${i}`, { window: 'day', limits: { tokens: 100 } })
    await upkeep()
    expect(measured['orrery_budgets within']).toBe(45)
  })
})

describe('costs', () => {
  const asked = { by: 'agent' as const, namespace: null, since: null, until: null, limit: 10 }

  test('are summed by who spent, those of a namespace that the caller may not see left out', async () => {
    await spend(10, { price: 0.5 })
    await spend(20)
    await spend(5, { agent: 'reader', price: 0.25 })
    expect(await engine.listCosts(ADMIN, asked)).toEqual({
      by: 'agent',
      items: [
        {
          ...{ namespace: 'default', name: 'writer', calls: 2, inputTokens: 30, outputTokens: 0 },
          ...{ cachedInputTokens: 0, costs: [{ currency: 'USD', amount: 0.5 }], unpriced: 1 },
        },
        expect.objectContaining({ name: 'reader', costs: [{ currency: 'USD', amount: 0.25 }], unpriced: 0 }),
      ],
      more: false,
    })
    expect(await engine.listCosts(ADMIN, { ...asked, limit: 1 })).toMatchObject({
      items: [{ name: 'writer' }],
      more: true,
    })
    expect(await engine.listCosts(ADMIN, { ...asked, by: 'workflow' })).toMatchObject({ items: [{ name: 'report' }] })
    expect(await engine.listCosts(ADMIN, { ...asked, by: 'namespace' })).toMatchObject({ items: [{ name: 'default' }] })
    expect((await engine.listCosts(narrow, asked)).items).toEqual([])
    expect((await engine.listCosts(narrow, { ...asked, namespace: 'default' })).items).toEqual([])
    const later = new Date(rig.clock.now() + 1).toISOString()
    expect((await engine.listCosts(ADMIN, { ...asked, since: later })).items).toEqual([])
    expect((await engine.listCosts(ADMIN, { ...asked, until: later })).items).toHaveLength(2)
  })
})

describe('the doctor', () => {
  const rows = async (caller: Caller = ADMIN) =>
    diagnoseServer(await engine.examine(caller)).filter((row) => row.check === 'budgets')

  test('warns of budgets that are nearly used up, count nothing, or refuse what has no price', async () => {
    expect(await rows()).toEqual([])
    await declare('Budget', 'fine', { window: 'day', limits: { tokens: 1_000 } })
    await declare('Budget', 'near', { window: 'day', limits: { tokens: 100 }, alerts: [0.5] })
    await declare('Budget', 'idle', { window: 'run', limits: { tokens: 1 }, selector: { agents: ['nobody'] } })
    await declare('Budget', 'half', {
      ...{ window: 'run', limits: { tokens: 1 } },
      selector: { endpoints: ['gpt', 'none'] },
    })
    await declare('ModelEndpoint', 'gpt', { provider: 'mock', model: 'm', mock: { replies: [{ text: 'x' }] } })
    await declare('Budget', 'money', { window: 'day', limits: { money: 1, currency: 'EUR' } })
    await spend(60)
    expect(await rows()).toEqual([
      expect.objectContaining({ subject: 'default/fine', status: 'pass', message: '6% of the window day is used' }),
      expect.objectContaining({
        subject: 'default/half',
        code: 'resource.not_found',
        message: 'its selector names none of endpoints, which is not there',
      }),
      expect.objectContaining({
        subject: 'default/idle',
        code: 'resource.not_found',
        message: 'counts nothing: its selector names nobody of agents, which is not there',
      }),
      expect.objectContaining({
        subject: 'default/money',
        code: 'budget.price_unknown',
        evidence: { endpoints: ['gpt'], currency: 'EUR' },
      }),
      expect.objectContaining({
        subject: 'default/near',
        status: 'warn',
        code: 'budget.exceeded',
        message: '60% of the window day is used',
        evidence: { used: 0.6, alert: 0.5, until: '2026-01-02T00:00:00.000Z' },
      }),
    ])
    expect(await rows(narrow)).toEqual([])
    await spend(60)
    expect((await rows()).find((row) => row.subject === 'default/near')?.message).toContain('its calls wait or fail')
  })
})

test('a budget that a later build wrote keeps nobody from the others, nor from what the upkeep does', async () => {
  await declare('Budget', 'later', { window: 'day', limits: { tokens: 1_000 } })
  await declare('Budget', 'team', { window: 'day', limits: { tokens: 1_000 } })
  await declare('Agent', 'writer', agent)
  await rig.db.query(
    `update resource set spec = '{"from": "the future"}', resource_version = resource_version + 100 where name = 'later'`,
  )
  await spend(900)
  await upkeep()
  expect(measured).toMatchObject({ 'orrery_budgets near': 1 })
  expect((await get('Budget', 'team')).status.usage).toMatchObject({ tokens: 900 })
  expect((await get('Agent', 'writer')).kind).toBe('Agent')
  expect(rig.logged.map(({ message }) => message)).toContain('budget cannot be read')
})

describe('what budgets keep', () => {
  const count = async (table: string) =>
    (await rig.db.query<{ n: number }>(`select count(*)::int as n from ${table}`))[0]?.n

  test('is forgotten when it is too old, however much it is: as much at once as a tick has time for, the rest with the next ticks', async () => {
    const { tickItemsMax, pruneBatchesMax } = LIMITS
    const atOnce = tickItemsMax * pruneBatchesMax
    await rig.db.query(
      `insert into spending (run_id, node, path, generation, call, namespace, root_run, workflows, labels, agent, endpoint, model, input_tokens,
                             output_tokens, cached_input_tokens, cache_write_tokens, at)
       select 'run_old', 0, '', 0, 'c' || n, 'default', 'run_old', '{}', '{}', 'a', 'e', 'm', 1, 0, 0, 0, clock_now() - interval '401 days'
         from generate_series(1, $1::int) as n`,
      [atOnce + tickItemsMax + 7],
    )
    await rig.db.query(
      `insert into budget_wake (budget, at) select 'default/b' || n, clock_now() - interval '2 hours' from generate_series(1, $1::int) as n`,
      [2 * tickItemsMax + 1],
    )
    await spend(5)
    await upkeep()
    expect(await count('budget_wake')).toBe(0)
    expect(await count('spending')).toBe(tickItemsMax + 8)
    await engine.tick()
    expect(await count('spending')).toBe(1)
    await engine.tick()
    expect(await count('spending')).toBe(1)
  })
})
