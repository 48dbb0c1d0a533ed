import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { LIMITS } from '../../domain/limits.ts'
import type { Db } from '../db.ts'
import { StoreRig } from '../testing/rig.ts'
import { noteAlerts } from './alerts.ts'
import {
  type CountedWindow,
  countWindows,
  foldCounters,
  listWindow,
  lockCounters,
  makeCounters,
  pruneCounters,
} from './counters.ts'
import { dropHolds, type Hold, putHolds, sweepHolds } from './holds.ts'
import { findOrigins, type Origin } from './origins.ts'
import { pruneBudgetWakes, wakeBudgetWaiters } from '../steps/budget-waits.ts'
import { pruneSpending, recordSpending, type SpendingRow, sumCosts } from './spending.ts'

const HOUR_MS = 3_600_000
const T0 = Date.UTC(2026, 0, 10)

/** What was spent, what is set aside, and how windows count it; on any store with one connection, whose clock is turned. */
export function budgetSuite(name: string, open: () => Promise<Db>): void {
  describe(name, () => {
    let db: Db
    let rig: StoreRig
    beforeAll(async () => {
      db = await open()
      rig = new StoreRig(db)
    })
    afterAll(() => db.close())
    beforeEach(async () => {
      await db.query('truncate spending, spending_hold, budget_counter, budget_alert')
      await at(T0)
    })

    const at = (ms: number) => db.query(`select set_config('orrery.now', $1, false)`, [new Date(ms).toISOString()])
    const origin = (more: Partial<Origin> = {}): Origin => ({
      runId: 'run_1',
      namespace: 'default',
      rootRun: 'run_1',
      workflows: ['report'],
      labels: { team: 'a' },
      ...more,
    })
    let calls = 0
    const spent = (tokens: number, more: Partial<SpendingRow> = {}): SpendingRow => ({
      runId: 'run_1',
      node: 0,
      path: '',
      generation: 1,
      call: `c${++calls}`,
      origin: origin(),
      agent: 'writer',
      endpoint: 'gpt',
      model: 'gpt-5',
      tokens: { input: tokens - 1, output: 1, cachedInput: 0, cacheWrite: 0 },
      cost: { nanos: tokens * 10, currency: 'USD' },
      isUncovered: false,
      ...more,
    })
    const hold = (tokens: number, more: Partial<Hold> = {}): Hold => ({
      runId: 'run_1',
      node: 0,
      path: '',
      call: `c${++calls}`,
      origin: origin(),
      agent: 'writer',
      endpoint: 'gpt',
      tokens,
      cost: { nanos: tokens * 10, currency: 'USD' },
      ...more,
    })
    const window = (more: Partial<CountedWindow> = {}): CountedWindow => ({
      budget: 'res_b',
      key: 'k',
      namespace: 'default',
      selector: {},
      currency: 'USD',
      from: new Date(T0 - 24 * HOUR_MS),
      rootRun: null,
      ...more,
    })
    const count = async (w: CountedWindow) => (await countWindows(db, [w]))[0]
    /** As whoever sets aside does it: under the lock, and keeps what was counted. */
    const countAndFold = (w: CountedWindow) =>
      db.transaction(async (tx) => {
        await makeCounters(tx, [w])
        await lockCounters(tx, [w])
        const [found] = await countWindows(tx, [w])
        if (found) await foldCounters(tx, [{ ...w, fold: found.fold }])
        return found
      })

    test('what is spent counts once, however often it is written and counted', async () => {
      const row = spent(100)
      await recordSpending(db, [row, row])
      await recordSpending(db, [row])
      expect(await count(window())).toMatchObject({ tokens: 100, nanos: 1000, heldTokens: 0 })
      const first = await countAndFold(window())
      expect(first).toMatchObject({ tokens: 100, nanos: 1000 })
      await recordSpending(db, [row, spent(7)])
      // While a transaction is open anywhere in the cluster, what it may still write beside is not folded: the sum is the same, and it folds later.
      let folded = first?.fold.rows ?? 0
      for (let i = 0; i < 10_000 && folded < 2; i++) {
        const found = await countAndFold(window())
        expect(found).toMatchObject({ tokens: 107, nanos: 1070 })
        folded += found?.fold.rows ?? 0
      }
      expect(folded).toBe(2)
      expect(await countAndFold(window())).toMatchObject({ tokens: 107, nanos: 1070, fold: { rows: 0 } })
    })

    test('a step that is tried anew after a failure and makes the same call again spends again', async () => {
      const row = spent(100)
      await recordSpending(db, [row])
      await recordSpending(db, [{ ...row, generation: 2 }])
      expect(await count(window())).toMatchObject({ tokens: 200 })
    })

    test.each([
      [{ workflows: ['report'] }, 100],
      [{ workflows: ['other', 'report'] }, 100],
      [{ workflows: ['other'] }, 0],
      [{ workflows: ['below'] }, 0],
      [{ agents: ['writer'] }, 100],
      [{ agents: ['reader'] }, 0],
      [{ endpoints: ['gpt'] }, 100],
      [{ endpoints: ['claude'] }, 0],
      [{ labels: { team: 'a' } }, 100],
      [{ labels: { team: 'b' } }, 0],
      [{ labels: { team: 'a', more: 'x' } }, 0],
      [{ agents: ['writer'], endpoints: ['claude'] }, 0],
      [{}, 100],
    ])('the selector %j counts %i tokens, spent and set aside', async (selector, tokens) => {
      await recordSpending(db, [spent(100)])
      await putHolds(db, [hold(100)], HOUR_MS)
      expect(await count(window({ selector }))).toMatchObject({ tokens, heldTokens: tokens })
      await countAndFold(window({ selector }))
      await recordSpending(db, [spent(100)])
      expect(await count(window({ selector }))).toMatchObject({ tokens: 2 * tokens })
    })

    test('what runs below a run take counts for its workflow, and what of another namespace does not count', async () => {
      const below = origin({ runId: 'run_2', workflows: ['report', 'below'] })
      await recordSpending(db, [
        spent(10, { runId: 'run_2', origin: below }),
        spent(20, { runId: 'run_3', origin: origin({ namespace: 'other' }) }),
      ])
      expect(await count(window({ selector: { workflows: ['report'] } }))).toMatchObject({ tokens: 10 })
      expect(await count(window({ selector: { workflows: ['below'] } }))).toMatchObject({ tokens: 10 })
      expect(await count(window())).toMatchObject({ tokens: 10 })
    })

    test('money of another currency, and of no known price, counts as tokens alone', async () => {
      await recordSpending(db, [spent(10, { cost: { nanos: 5, currency: 'EUR' } }), spent(20, { cost: null })])
      expect(await count(window())).toMatchObject({ tokens: 30, nanos: 0 })
      expect(await count(window({ currency: 'EUR' }))).toMatchObject({ tokens: 30, nanos: 5 })
    })

    test('a rolling window lets go what has left it, counted before or not', async () => {
      const rolling = (now: number) => window({ from: new Date(now - 24 * HOUR_MS) })
      await recordSpending(db, [spent(100)])
      expect(await countAndFold(rolling(T0))).toMatchObject({ tokens: 100 })
      await at(T0 + HOUR_MS)
      await recordSpending(db, [spent(10)])
      expect(await countAndFold(rolling(T0 + 24 * HOUR_MS))).toMatchObject({ tokens: 110 })
      expect(await countAndFold(rolling(T0 + 24 * HOUR_MS + 1))).toMatchObject({ tokens: 10, nanos: 100 })
      expect(await count(rolling(T0 + 25 * HOUR_MS + 1))).toMatchObject({ tokens: 0, nanos: 0 })
      expect(await countAndFold(rolling(T0 + 50 * HOUR_MS))).toMatchObject({ tokens: 0, nanos: 0 })
    })

    test('a window of the calendar begins at nothing, and one of a run knows its own and those below it alone', async () => {
      await recordSpending(db, [spent(100), spent(5, { runId: 'run_2', origin: origin({ runId: 'run_2' }) })])
      await recordSpending(db, [spent(7, { runId: 'run_9', origin: origin({ runId: 'run_9', rootRun: 'run_9' }) })])
      expect(await count(window({ from: new Date(T0 + 1) }))).toMatchObject({ tokens: 0 })
      await putHolds(db, [hold(1), hold(2, { runId: 'run_9', origin: origin({ rootRun: 'run_9' }) })], HOUR_MS)
      const ofRun = window({ key: 'run_1', from: null, rootRun: 'run_1' })
      expect(await countAndFold(ofRun)).toMatchObject({ tokens: 105, heldTokens: 1 })
      await recordSpending(db, [spent(1)])
      expect(await countAndFold(ofRun)).toMatchObject({ tokens: 106 })
      expect(await count(window({ key: 'run_9', from: null, rootRun: 'run_9' }))).toMatchObject({
        tokens: 7,
        heldTokens: 2,
      })
    })

    test('what is set aside counts until it is given back or too old, the same call once', async () => {
      const one = hold(50)
      await putHolds(db, [one], HOUR_MS)
      await putHolds(db, [{ ...one, tokens: 60 }], HOUR_MS)
      expect(await count(window())).toMatchObject({ tokens: 0, heldTokens: 60, heldNanos: 500 })
      await dropHolds(db, [one])
      expect(await count(window())).toMatchObject({ heldTokens: 0, heldNanos: 0 })
      await putHolds(db, [one], HOUR_MS)
      await at(T0 + HOUR_MS)
      expect(await count(window())).toMatchObject({ heldTokens: 0 })
    })

    test('what is set aside for a step that has ended or is gone is given back', async () => {
      const workflow = await rig.put([{ name: 'a', runsOn: { test: crypto.randomUUID() } }])
      const runId = await rig.run(workflow)
      await putHolds(db, [hold(1, { runId }), hold(2, { runId: 'run_gone' })], HOUR_MS)
      expect(await sweepHolds(db, 10)).toBe(1)
      expect(await count(window())).toMatchObject({ heldTokens: 1 })
      await db.query(`update step set ended_at = clock_now() where run_id = $1`, [runId])
      expect(await sweepHolds(db, 10)).toBe(1)
      await db.query(`update step set ended_at = null where run_id = $1`, [runId])
      await putHolds(db, [hold(1, { runId })], HOUR_MS)
      await at(T0 + HOUR_MS + 1)
      expect(await sweepHolds(db, 10)).toBe(1)
    })

    test('a counter that is ahead of the database, as after a restore into another one, is counted anew', async () => {
      await recordSpending(db, [spent(100)])
      await countAndFold(window())
      await db.query(`update budget_counter set mark = '999999999999'::xid8, tokens = 5`)
      expect(await countAndFold(window())).toMatchObject({ tokens: 100 })
      await recordSpending(db, [spent(1)])
      expect(await countAndFold(window())).toMatchObject({ tokens: 101 })
    })

    test('what a transaction has written counts in it, and is gone when it is undone', async () => {
      await countAndFold(window())
      await db
        .transaction(async (tx) => {
          await recordSpending(tx, [spent(100)])
          expect(await countWindows(tx, [window()])).toMatchObject([{ tokens: 100 }])
          throw new Error('undone')
        })
        .catch(() => {})
      expect(await countAndFold(window())).toMatchObject({ tokens: 0 })
    })

    test('counters are forgotten and what they counted is not', async () => {
      await recordSpending(db, [spent(100)])
      await countAndFold(window())
      await noteAlerts(db, [{ budget: 'res_b', key: 'k', share: 0.8 }])
      expect(await pruneCounters(db, HOUR_MS, 10)).toBe(0)
      await at(T0 + HOUR_MS + 1)
      expect(await pruneCounters(db, HOUR_MS, 10)).toBe(1)
      expect(await countAndFold(window())).toMatchObject({ tokens: 100 })
      expect(await pruneSpending(db, 2 * HOUR_MS, 10)).toBe(0)
      await at(T0 + 3 * HOUR_MS)
      expect(await pruneSpending(db, 2 * HOUR_MS, 10)).toBe(1)
    })

    test('alerts are forgotten though there is no counter left to forget', async () => {
      await noteAlerts(
        db,
        [0.1, 0.2, 0.3].map((share) => ({ budget: 'res_b', key: 'k', share })),
      )
      await at(T0 + 2 * HOUR_MS)
      expect(await pruneCounters(db, HOUR_MS, 2)).toBe(2)
      expect(await pruneCounters(db, HOUR_MS, 2)).toBe(1)
    })

    test('when a budget let go is forgotten once no attempt runs that is older', async () => {
      await db.query('truncate budget_wake')
      const stored = await rig.put([{ name: 'a' }])
      await rig.run(stored)
      const [held] = await rig.claim(await rig.session(), stored)
      expect(held).toBeDefined()
      await wakeBudgetWaiters(db, ['default/old'])
      await at(T0 + HOUR_MS)
      await wakeBudgetWaiters(db, ['default/new'])
      await at(T0 + 1.5 * HOUR_MS)
      // Leased before both.
      expect(await pruneBudgetWakes(db, HOUR_MS, 10)).toBe(0)
      await db.query(`update step set state = 'queued', session = null where state = 'running'`)
      expect(await pruneBudgetWakes(db, HOUR_MS, 10)).toBe(1)
      expect(await db.query('select budget from budget_wake')).toEqual([{ budget: 'default/new' }])
    })

    test('what nobody can have spent fills a budget and does not keep it from being counted', async () => {
      const nanos = LIMITS.callMoneyMax * 1e9
      const many = Array.from({ length: 1_030 }, () => spent(2, { cost: { nanos, currency: 'USD' } }))
      await recordSpending(db, many)
      const found = await countAndFold(window())
      expect(found).toMatchObject({ tokens: 2_060, nanos: 9e18 })
      expect(await count(window())).toMatchObject({ tokens: 2_060, nanos: 9e18 })
    })

    test('a share is told of once', async () => {
      const alert = { budget: 'res_b', key: 'k', share: 0.8 }
      expect(await noteAlerts(db, [alert, { ...alert, share: 0.9 }])).toHaveLength(2)
      expect(await noteAlerts(db, [alert, { ...alert, key: 'next' }])).toEqual([{ ...alert, key: 'next' }])
    })

    test('a rolling window lists what was spent in it, the oldest first', async () => {
      await recordSpending(db, [spent(1), spent(9, { agent: 'other' })])
      await at(T0 + 1)
      await recordSpending(db, [spent(2, { cost: null })])
      const asked = { ...window({ selector: { agents: ['writer'] } }), from: new Date(T0) }
      expect(await listWindow(db, asked, LIMITS.pageMax)).toMatchObject([
        { tokens: 1, nanos: 10 },
        { tokens: 2, nanos: 0 },
      ])
    })

    test('costs are summed by who spent, in a time, by namespace and currency', async () => {
      const other = origin({ runId: 'run_5', namespace: 'other', rootRun: 'run_5', workflows: ['nightly', 'below'] })
      await recordSpending(db, [
        spent(10, { tokens: { input: 8, output: 2, cachedInput: 3, cacheWrite: 0 } }),
        spent(20, { agent: 'reader', cost: null }),
        spent(30, { runId: 'run_5', origin: other, model: 'claude', cost: { nanos: 7, currency: 'EUR' } }),
      ])
      await at(T0 + HOUR_MS)
      await recordSpending(db, [spent(40)])
      const asked = { by: 'agent' as const, namespaces: null, since: null, until: null, limit: 10 }
      expect(await sumCosts(db, asked)).toEqual([
        {
          namespace: 'default',
          of: 'writer',
          calls: 2,
          inputTokens: 47,
          outputTokens: 3,
          cachedInputTokens: 3,
          unpriced: 0,
          money: [{ currency: 'USD', nanos: 500 }],
        },
        expect.objectContaining({ namespace: 'other', of: 'writer', money: [{ currency: 'EUR', nanos: 7 }] }),
        expect.objectContaining({ of: 'reader', calls: 1, unpriced: 1, money: [] }),
      ])
      const of = async (more: object) => (await sumCosts(db, { ...asked, ...more })).map((sum) => sum.of)
      expect(await of({ by: 'workflow' })).toEqual(['report', 'nightly'])
      expect(await of({ by: 'namespace' })).toEqual(['default', 'other'])
      expect(await of({ by: 'model' })).toEqual(['gpt-5', 'claude'])
      expect(await of({ by: 'endpoint' })).toEqual(['gpt', 'gpt'])
      expect(await of({ by: 'run' })).toEqual(['run_1', 'run_5'])
      expect(await of({ by: 'run', limit: 1 })).toEqual(['run_1'])
      expect(await of({ by: 'run', namespaces: ['other'] })).toEqual(['run_5'])
      expect(await of({ by: 'run', since: new Date(T0 + 1) })).toEqual(['run_1'])
      expect(await of({ by: 'workflow', until: new Date(T0) })).toEqual([])
    })

    test('a run below others comes from the one at the top', async () => {
      const top = await rig.put([{ name: 'a' }], { labels: {} })
      const one = await rig.run(top)
      const two = await rig.run(await rig.put([{ name: 'b' }]))
      await db.query(`update run set labels = '{"team":"a","tier":"top"}' where id = $1`, [one])
      await db.query(`update run set parent_run = $1, labels = '{"tier":"own"}' where id = $2`, [one, two])
      const origins = await findOrigins(db, [one, two, 'run_none', two])
      expect(origins.get(one)).toMatchObject({ rootRun: one, workflows: [top.definition.name] })
      expect(origins.get(two)).toMatchObject({ rootRun: one, labels: { team: 'a', tier: 'own' } })
      expect(origins.get(two)?.workflows).toHaveLength(2)
      expect(origins.size).toBe(2)
    })
  })
}
