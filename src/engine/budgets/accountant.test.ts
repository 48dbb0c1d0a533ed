import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { HandClock } from '../../base/clock.ts'
import { silentLog } from '../../base/log.ts'
import { noMetrics } from '../../base/metrics.ts'
import type { JsonObject } from '../../base/json.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { Db } from '../../store/db.ts'
import { sweepHolds } from '../../store/budgets/holds.ts'
import { deleteResources, putResources } from '../../store/resources/put-resources.ts'
import { openInMemory } from '../../store/testing/embedded.ts'
import { StoreRig } from '../../store/testing/rig.ts'
import { Accountant } from './accountant.ts'
import type { ReserveWish, Spent } from './budgets.ts'

const HOUR_MS = 3_600_000
const T0 = Date.UTC(2026, 0, 10, 12)

describe('budgets', () => {
  let db: Db
  let rig: StoreRig
  let accountant: Accountant
  let counted: Record<string, number>
  let told: { message: string; fields: unknown }[]
  let run: string
  let workflow: string
  let version = 0
  const clock = new HandClock(T0)
  beforeAll(async () => {
    db = await openInMemory()
    rig = new StoreRig(db)
  })
  afterAll(() => db.close())
  beforeEach(async () => {
    await db.query('truncate spending, spending_hold, budget_counter, budget_alert, resource, run, step')
    await at(T0)
    counted = {}
    told = []
    accountant = new Accountant({
      clock,
      log: { ...silentLog, warn: (message: string, fields?: unknown) => void told.push({ message, fields }) },
      metrics: {
        ...noMetrics,
        count: (name, by = 1, labels = {}) => {
          const key = [name, ...Object.values(labels)].join(' ')
          counted[key] = (counted[key] ?? 0) + by
        },
      },
    })
    const stored = await rig.put([{ name: 'write' }])
    workflow = stored.definition.name
    run = await rig.run(stored)
  })

  const at = (ms: number) => db.query(`select set_config('orrery.now', $1, false)`, [new Date(ms).toISOString()])
  const put = async (kind: string, name: string, spec: JsonObject, namespace = 'default') => {
    const rows = await db.query<{ v: number }>(
      `select resource_version as v from resource where kind = $1 and name = $2`,
      [kind, name],
    )
    const [written] = await putResources(db, [
      {
        ...{ kind, namespace, name, spec, labels: {}, annotations: {}, status: {} },
        ...{ uid: `res_${name}_${rows.length > 0 ? 'again' : ''}`, generation: 1 },
        ...{ resource_version: ++version, first_version: version, replaces: rows[0]?.v ?? 0 },
      },
    ])
    if (!written) throw new Error('not written')
  }
  /** The same resource with another spec: its uid stays. */
  const change = (name: string, spec: JsonObject) =>
    db.query(`update resource set spec = $2, resource_version = $3 where name = $1`, [
      name,
      JSON.stringify(spec),
      ++version,
    ])
  const budget = (name: string, limits: JsonObject, more: JsonObject = {}) =>
    put('Budget', name, { window: 'day', limits, ...more })
  const priced = async (endpoint: string, currency = 'USD') => {
    await put('ModelEndpoint', endpoint, {
      provider: 'mock',
      model: 'm',
      mock: { replies: [{ text: 'x' }] },
      prices: `${endpoint}-prices`,
    })
    await put('PriceTable', `${endpoint}-prices`, { currency, rows: [{ model: 'm', input: 1_000, output: 1_000 }] })
  }

  let calls = 0
  const wish = (tokens: number, more: Partial<ReserveWish> = {}): ReserveWish => ({
    ...{ runId: run, node: 0, path: '', fence: 1, generation: 0, call: `c${++calls}` },
    ...{ namespace: 'default', workflow, agent: 'writer', endpoint: 'gpt' },
    tokens: { input: tokens, output: 0 },
    ...more,
  })
  const tookOf = (w: ReserveWish, tokens: number, more: Partial<Spent> = {}): Spent => ({
    ...w,
    usage: {
      ...{ inputTokens: tokens, outputTokens: 0, cachedInputTokens: 0, cacheWriteTokens: 0 },
      ...{ reasoningTokens: 0, isEstimated: false },
    },
    cost: { currency: 'USD', amount: tokens / 1000 },
    ...more,
  })
  const reserve = (...wishes: ReserveWish[]) => db.transaction((tx) => accountant.reserve(tx, wishes))
  const settle = (...spent: Spent[]) => db.transaction((tx) => accountant.settle(tx, spent))
  /** Makes a call: sets aside, then settles. */
  const call = async (tokens: number, more: Partial<ReserveWish> = {}) => {
    const one = wish(tokens, more)
    const [refused] = await reserve(one)
    if (!refused) await settle(tookOf(one, tokens))
    return refused
  }

  test('nothing is asked for where there is no budget, and what is spent is written down all the same', async () => {
    expect(await call(1_000_000)).toBeNull()
    await budget('b', { tokens: 1_000_001 })
    expect(await call(2)).toMatchObject({ failure: { code: 'budget.exceeded' } })
    expect(await call(1)).toBeNull()
  })

  describe('what a policy lets a run use', () => {
    const caps = [{ rule: 'policy/bounds', uid: 'res_bounds', version: 1, tokens: 100 }]

    test('is counted for the run and those below it, and refused beforehand', async () => {
      expect(await call(60, { caps })).toBeNull()
      expect(await call(41, { caps })).toMatchObject({
        failure: {
          code: 'policy.denied',
          evidence: { rule: 'policy/bounds', part: 'maxTokens', limit: 100, spent: 60, wanted: 41 },
          remediation: expect.stringContaining('spec.maxTokens of policy/bounds'),
        },
        park: null,
      })
      const below = await rig.run(await rig.put([{ name: 'below' }]))
      await db.query(
        `update run set parent_run = $2, depth = 1, parent_node = 0, parent_path = '', parent_fence = 1 where id = $1`,
        [below, run],
      )
      expect(await call(41, { caps, runId: below, agent: 'other', endpoint: 'claude' })).toMatchObject({
        failure: { code: 'policy.denied' },
      })
      expect(await call(40, { caps, runId: below })).toBeNull()
      expect(await call(100, { caps, runId: await rig.run(await rig.put([{ name: 'else' }])) })).toBeNull()
      // One that is raised holds at once.
      expect(await call(1, { caps })).toMatchObject({ failure: { code: 'policy.denied' } })
      expect(
        await call(1, { caps: [{ rule: 'policy/bounds', uid: 'res_bounds', version: 1, tokens: 101 }] }),
      ).toBeNull()
    })

    test('is set aside: of calls side by side no more pass than fit', async () => {
      const answers = await reserve(...Array.from({ length: 8 }, () => wish(30, { caps })))
      expect(answers.filter((one) => one === null)).toHaveLength(3)
    })

    test('stands beside budgets, and nothing passes a cap of nothing', async () => {
      await budget('team', { tokens: 50 })
      expect(await call(51, { caps })).toMatchObject({ failure: { code: 'budget.exceeded' } })
      const none = [{ rule: 'policy/broken', uid: 'res_broken', version: 1, tokens: 0 }]
      expect(await call(1, { caps: none })).toMatchObject({ failure: { code: 'policy.denied' } })
    })
  })

  test('a call is refused before it is made, with what is spent, when it goes on and what would help', async () => {
    await budget('team', { tokens: 100 })
    expect(await call(95)).toBeNull()
    const refused = await call(6)
    expect(refused?.failure).toMatchObject({
      code: 'budget.exceeded',
      message:
        'asking gpt for agent writer: of the 100 tokens that budget default/team allows in the day, 95 are spent; this call may take 6',
      evidence: {
        budgets: [{ budget: 'default/team', of: 'tokens', limit: 100, spent: 95, held: 0, wanted: 6 }],
        resumesAt: '2026-01-11T00:00:00.000Z',
      },
      remediation:
        'It goes on by itself at 2026-01-11T00:00:00.000Z or before. To go on at once, raise limits.tokens of Budget default/team (orrery edit budget team), or delete the budget.',
      retryable: true,
    })
    expect(refused?.park).toMatchObject({ type: 'budget', budgets: ['default/team'], retryAfterMs: 12 * HOUR_MS })
    expect(await call(5)).toBeNull()
    expect(counted['orrery_budget_refusals_total wait']).toBe(1)
  })

  test('of calls that are asked for at once no more pass than fit, one after another', async () => {
    await budget('b', { tokens: 100 })
    const answers = await reserve(wish(40), wish(40), wish(40), wish(20), wish(1))
    expect(answers.map((answer) => answer === null)).toEqual([true, true, false, true, false])
    // Others may take less than was set aside for them: it is asked again soon.
    expect(answers[2]?.park).toMatchObject({ retryAfterMs: LIMITS.holdRetryMs })
  })

  test('what a call did not need is free again, what it took beyond is counted, and a call that failed costs nothing', async () => {
    await budget('b', { tokens: 100 })
    const [one, two, three] = [wish(50), wish(30), wish(20)]
    expect(await reserve(one, two, three)).toEqual([null, null, null])
    await settle(tookOf(one, 10), { ...two, usage: null, cost: null }, tookOf(three, 25))
    expect(await call(66)).not.toBeNull()
    expect(await call(65)).toBeNull()
  })

  test('settling twice, and asking for the same call again, counts once', async () => {
    await budget('b', { tokens: 100 })
    const one = wish(60)
    expect(await reserve(one)).toEqual([null])
    expect(await reserve(one)).toEqual([null])
    await settle(tookOf(one, 60))
    await settle(tookOf(one, 60))
    expect(await call(40)).toBeNull()
    expect(await call(1)).not.toBeNull()
  })

  test('what a lost attempt had set aside is free when its call is asked again, its step has ended, or its time is over', async () => {
    await budget('b', { tokens: 100 })
    const lost = wish(90)
    await reserve(lost)
    expect(await call(20)).not.toBeNull()
    // The next attempt makes the same call.
    expect(await reserve(lost)).toEqual([null])
    await db.query(`update step set ended_at = clock_now() where run_id = $1`, [run])
    await sweepHolds(db, 10)
    expect(await reserve(lost)).toEqual([null])
    await at(T0 + LIMITS.holdMs)
    expect(await call(100)).toBeNull()
  })

  test('deleting runs, or the budget itself, resets nothing', async () => {
    await budget('b', { tokens: 100 })
    await call(90)
    await db.query('truncate run, step')
    expect(await call(20)).not.toBeNull()
    await deleteResources(db, [
      { kind: 'Budget', namespace: 'default', name: 'b', replaces: version, resource_version: ++version },
    ])
    expect(await call(5)).toBeNull()
    await budget('b', { tokens: 100 })
    expect(await call(6)).not.toBeNull()
    expect(await call(5)).toBeNull()
  })

  test('a changed budget keeps what was spent: with other limits, and with another selector or window', async () => {
    await budget('b', { tokens: 100 })
    await call(60, { agent: 'writer' })
    await call(40, { agent: 'reader' })
    expect(await call(1)).not.toBeNull()
    await change('b', { window: 'day', limits: { tokens: 101 } })
    expect(await call(1)).toBeNull()
    await change('b', { window: 'month', selector: { agents: ['reader'] }, limits: { tokens: 50 } })
    expect(await call(11, { agent: 'reader' })).not.toBeNull()
    expect(await call(10, { agent: 'reader' })).toBeNull()
    expect(await call(1_000)).toBeNull()
  })

  test('every budget that a call counts in has to let it pass, and each selects by all that it names', async () => {
    await budget('all', { tokens: 100 })
    await budget('writer', { tokens: 10 }, { selector: { agents: ['writer'], endpoints: ['gpt'] } })
    expect(await call(11)).toMatchObject({ park: { budgets: ['default/writer'] } })
    expect(await call(11, { endpoint: 'claude' })).toBeNull()
    expect(await call(90)).toMatchObject({ park: { budgets: ['default/all', 'default/writer'], retryAfterMs: null } })
    await budget('other', { tokens: 0 }, { selector: { workflows: ['other'], labels: { team: 'a' } } })
    expect(await call(10)).toBeNull()
  })

  test('of a call that asks for more than a whole limit it says that no waiting helps', async () => {
    await budget('b', { tokens: 100 }, { window: 'day' })
    const refused = await call(101)
    expect(refused?.park).toMatchObject({ retryAfterMs: null })
    expect(refused?.failure.remediation).toContain('No waiting helps: this call may take more than a whole limit')
  })

  test('the window of the run counts it with the runs below it, and waits for a higher limit alone', async () => {
    await budget('b', { tokens: 100 }, { window: 'run' })
    const below = await rig.run(await rig.put([{ name: 'part' }]))
    await db.query(`update run set parent_run = $1 where id = $2`, [run, below])
    const apart = await rig.run(await rig.put([{ name: 'part' }]))
    expect(await call(60)).toBeNull()
    expect(await call(40, { runId: below })).toBeNull()
    const refused = await call(1, { runId: below })
    expect(refused?.park).toMatchObject({ retryAfterMs: null })
    expect(refused?.failure.remediation).toContain('Nothing of it becomes free by itself')
    expect(await call(100, { runId: apart })).toBeNull()
  })

  test('the last 24 hours are free again to the millisecond when enough has left them', async () => {
    await budget('b', { tokens: 100 }, { window: '24h' })
    await call(30)
    await at(T0 + HOUR_MS)
    await call(70)
    await at(T0 + 2 * HOUR_MS)
    expect((await call(30))?.park).toMatchObject({ retryAfterMs: 22 * HOUR_MS + 1 })
    expect((await call(31))?.park).toMatchObject({ retryAfterMs: 23 * HOUR_MS + 1 })
    await at(T0 + 24 * HOUR_MS)
    expect(await call(30)).not.toBeNull()
    await at(T0 + 24 * HOUR_MS + 1)
    expect(await call(30)).toBeNull()
  })

  test.each([
    ['day', 'UTC', '2026-01-11T00:00:00Z'],
    ['day', 'Europe/Berlin', '2026-01-10T23:00:00Z'],
    ['week', 'UTC', '2026-01-12T00:00:00Z'],
    ['month', 'America/New_York', '2026-02-01T05:00:00Z'],
  ])('the %s of %s begins anew at %s', async (window, timeZone, until) => {
    await budget('b', { tokens: 100 }, { window, timeZone })
    await call(100)
    await at(Date.parse(until) - 1)
    expect((await call(1))?.park).toMatchObject({ retryAfterMs: 1 })
    await at(Date.parse(until))
    expect(await call(100)).toBeNull()
  })

  test('action fail lets the step fail', async () => {
    await budget('b', { tokens: 1 }, { action: 'fail' })
    const refused = await call(2)
    expect(refused).toMatchObject({ failure: { code: 'budget.exceeded' }, park: null })
    expect(refused?.failure.remediation).toMatch(/^Raise limits\.tokens of Budget default\/b/)
    await call(1)
    expect((await call(1))?.failure.remediation).toMatch(/^Run it again after 2026-01-11T00:00:00\.000Z, or raise/)
    expect(counted['orrery_budget_refusals_total fail']).toBe(2)
  })

  test('money counts by the price table of the endpoint, what is set aside as what is spent', async () => {
    await priced('gpt')
    await budget('b', { money: 0.1, currency: 'USD' })
    expect(await reserve(wish(60), wish(41), wish(40))).toMatchObject([
      null,
      { failure: { evidence: { budgets: [{ of: 'money', limit: 0.1, held: 0.06, wanted: 0.041, currency: 'USD' }] } } },
      null,
    ])
  })

  test.each([
    ['no endpoint', () => Promise.resolve()],
    ['an endpoint in another currency', () => priced('gpt', 'EUR')],
    [
      'an endpoint without prices',
      () => put('ModelEndpoint', 'gpt', { provider: 'mock', model: 'm', mock: { replies: [{ text: 'x' }] } }),
    ],
  ])(
    'a price that is not known, %s, is refused and not waited for, unless the budget allows it',
    async (_, prepare) => {
      await prepare()
      await budget('b', { money: 1, currency: 'USD' })
      expect(await call(1)).toMatchObject({
        failure: { code: 'budget.price_unknown', evidence: { budget: 'default/b', currency: 'USD', endpoint: 'gpt' } },
        park: null,
      })
      await change('b', { window: 'day', limits: { money: 1, currency: 'USD' }, unknownPrice: 'allow' })
      expect(await call(1)).toBeNull()
    },
  )

  test('a share of a limit is told of once in a window, also beside another server', async () => {
    await budget('b', { tokens: 100 }, { alerts: [0.5, 0.9] })
    const other = new Accountant({ clock, log: silentLog, metrics: noMetrics })
    await call(50)
    expect(told).toEqual([])
    await call(10)
    await call(10)
    await db.transaction((tx) => other.reserve(tx, [wish(1)]))
    expect(told).toEqual([
      {
        message: 'budget reached a share of its limit that it tells of',
        fields: { budget: 'default/b', window: 'day', alert: 0.5, used: 0.5 },
      },
    ])
    await call(25)
    await call(1)
    expect(told).toHaveLength(2)
    expect(counted['orrery_budget_alerts_total']).toBe(2)
    await at(T0 + 24 * HOUR_MS)
    await call(60)
    await call(1)
    expect(told).toHaveLength(3)
  })

  test('a rolling window tells again of a share when it was below it in between', async () => {
    await budget('b', { tokens: 100 }, { window: '24h', alerts: [0.5] })
    const spend = async () => {
      await call(60)
      await call(1)
    }
    await spend()
    expect(told).toHaveLength(1)
    await at(T0 + 25 * HOUR_MS)
    await spend()
    expect(told).toHaveLength(2)
  })

  test('tokens and money are measured, and calls without a price', async () => {
    const [one, two] = [wish(5), wish(6)]
    const usage = {
      ...{ inputTokens: 10, outputTokens: 4, cachedInputTokens: 3, cacheWriteTokens: 0 },
      ...{ reasoningTokens: 0, isEstimated: false },
    }
    await settle(tookOf(one, 0, { usage, cost: { currency: 'EUR', amount: 0.25 } }), tookOf(two, 1, { cost: null }))
    expect(counted).toEqual({
      'orrery_tokens_total input': 11,
      'orrery_tokens_total output': 4,
      'orrery_tokens_total cached_input': 3,
      'orrery_cost_total EUR': 0.25,
      orrery_calls_unpriced_total: 1,
    })
  })

  test('what is told again is measured once', async () => {
    const one = wish(5)
    await settle(tookOf(one, 5), tookOf(one, 5))
    await settle(tookOf(one, 5))
    expect(counted['orrery_tokens_total input']).toBe(5)
  })

  test('a counter that was forgotten while it is known is made again', async () => {
    await budget('b', { tokens: 100 })
    await call(90)
    await db.query('truncate budget_counter')
    expect(await call(11)).not.toBeNull()
    expect(await call(10)).toBeNull()
  })
})
