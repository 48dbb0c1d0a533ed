import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { HandClock, seededRandom, silentLog } from '../../src/base/index.ts'
import { SerialQueue } from '../../src/base/serial-queue.ts'
import { noMetrics } from '../../src/base/metrics.ts'
import type { JsonObject } from '../../src/base/json.ts'
import { Accountant } from '../../src/engine/budgets/accountant.ts'
import type { ReserveWish, Spent } from '../../src/engine/budgets/budgets.ts'
import { ResourcesAt } from '../../src/engine/resources/resources-at.ts'
import type { JournalEntry } from '../../src/domain/agents/journal.ts'
import { appendAt } from '../../src/store/journal/append-at.ts'
import { readResourceClock } from '../../src/store/resources/resource-clock.ts'
import type { LeasedStep } from '../../src/store/steps/complete-steps.ts'
import { budgetSuite } from '../../src/store/budgets/budgets.suite.ts'
import type { Db } from '../../src/store/db.ts'
import { putResources } from '../../src/store/resources/put-resources.ts'
import { openMigrated } from '../../src/store/testing/postgres.ts'
import { StoreRig } from '../../src/store/testing/rig.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'

const CONNECTIONS = 12

describeWithPostgres('budgets with one connection', (postgres) => {
  // Its clock is turned, which is a setting of the connection.
  budgetSuite('budgets on PostgreSQL', async () => openMigrated(await postgres.createStore(), 1))
})

describeWithPostgres('budgets with many connections', (postgres) => {
  /** Two servers over one database. */
  let servers: { db: Db; accountant: Accountant }[]
  let rig: StoreRig
  let run: string
  const clock = new HandClock(0)
  let workflow: string
  let version = 0
  beforeAll(async () => {
    const dsn = await postgres.createStore()
    const open = async () => ({
      db: await openMigrated(dsn, CONNECTIONS),
      accountant: new Accountant({ clock, log: silentLog, metrics: noMetrics }),
    })
    servers = [await open(), await open()]
    rig = new StoreRig(serverOf(0).db)
    const stored = await rig.put([{ name: 'write' }])
    workflow = stored.definition.name
    run = await rig.run(stored)
  })
  afterAll(async () => {
    for (const { db } of servers) await db.close()
  })
  beforeEach(() => serverOf(0).db.query('truncate spending, spending_hold, budget_counter, budget_alert, resource'))

  const serverOf = (n: number) => {
    const server = servers[n % servers.length]
    if (!server) throw new Error('no server')
    return server
  }
  const budget = async (name: string, spec: JsonObject) => {
    const names = { kind: 'Budget', namespace: 'default', name, spec, labels: {}, annotations: {}, status: {} }
    const versions = { generation: 1, resource_version: ++version, first_version: version, replaces: 0 }
    await putResources(serverOf(0).db, [{ ...names, ...versions, uid: `res_${name}_${version}` }])
  }
  let calls = 0
  const wish = (tokens: number, agent = 'writer'): ReserveWish => ({
    ...{ runId: run, node: 0, path: '', fence: 1, generation: 0, call: `c${++calls}` },
    ...{ namespace: 'default', workflow, agent, endpoint: 'gpt' },
    tokens: { input: tokens, output: 0 },
  })
  const tookOf = (one: ReserveWish, tokens: number): Spent => ({
    ...one,
    usage: {
      ...{ inputTokens: tokens, outputTokens: 0, cachedInputTokens: 0, cacheWriteTokens: 0 },
      ...{ reasoningTokens: 0, isEstimated: false },
    },
    cost: null,
    model: 'm',
  })
  const reserve = async (n: number, ...wishes: ReserveWish[]) => {
    const { db, accountant } = serverOf(n)
    return db.transaction((tx) => accountant.reserve(tx, wishes))
  }
  const settle = async (n: number, ...spent: Spent[]) => {
    const { db, accountant } = serverOf(n)
    await db.transaction((tx) => accountant.settle(tx, spent))
  }
  /** Counts are kept of windows that a server knows for a minute. */
  const makeKnown = async () => {
    for (const n of [0, 1]) await reserve(n, wish(0))
    await clock.advance(60_000)
  }
  const keyOf = ({ runId, node, path, fence }: LeasedStep) => ({ runId, node, path, fence })
  const modelAsked = ({ call, agent, endpoint, tokens }: ReserveWish): JournalEntry => ({
    ...{ kind: 'model_asked', call, turn: 1, purpose: 'turn', agent, endpoint, tokens },
  })
  const passed = (answers: readonly unknown[]) => answers.filter((answer) => answer === null).length
  const many = <T>(count: number, work: (n: number) => Promise<T>) =>
    Promise.all(Array.from({ length: count }, (_, n) => work(n)))

  test.each(['run', '24h', 'day'])(
    'of 50 calls at once for a limit of 10 exactly 10 pass: window %s',
    async (window) => {
      await budget('b', { window, limits: { tokens: 10 } })
      const answers = await many(50, (n) => reserve(n, wish(1)))
      expect(passed(answers.flat())).toBe(10)
      expect(passed((await many(50, (n) => reserve(n, wish(1)))).flat())).toBe(0)
    },
  )

  test('what is spent and what is set aside never pass the limit, whatever settles meanwhile', async () => {
    await budget('b', { window: 'day', limits: { tokens: 2_000 } })
    const random = seededRandom(3)
    const { db } = serverOf(0)
    let asked = 0
    const worker = async (n: number) => {
      for (let i = 0; i < 25; i++) {
        const one = wish(1 + Math.floor(random.next() * 60))
        const [refused] = await reserve(n, one)
        asked++
        const [sum] = await db.query<{ all: number }>(
          `select (select coalesce(sum(input_tokens), 0) from spending)::int + (select coalesce(sum(tokens), 0) from spending_hold)::int as all`,
        )
        expect(sum?.all).toBeLessThanOrEqual(2_000)
        if (!refused) await settle(n + 1, tookOf(one, Math.floor(random.next() * (one.tokens.input + 1))))
      }
    }
    await many(10, worker)
    expect(asked).toBe(250)
    // What nobody counted twice: the whole rest fits, and not one more.
    const [sum] = await db.query<{ all: number }>(`select coalesce(sum(input_tokens), 0)::int as all from spending`)
    const rest = 2_000 - (sum?.all ?? 0)
    expect(passed(await reserve(0, wish(rest + 1)))).toBe(0)
    expect(passed(await reserve(0, wish(rest)))).toBe(1)
  })

  test('what is set aside in one statement, beside transactions of two servers, never passes the limit', async () => {
    await budget('b', { window: 'day', limits: { tokens: 3_000 }, alerts: [] })
    const random = seededRandom(5)
    await makeKnown()
    const { db } = serverOf(0)
    const { version: at } = await readResourceClock(db)
    const servedBy = { statement: 0, transaction: 0 }
    const turns = [new SerialQueue(), new SerialQueue()] as const
    const ask = async (n: number, step: LeasedStep, appends: number, one: ReserveWish): Promise<boolean> => {
      const server = serverOf(n)
      const { call, agent, endpoint, tokens, namespace } = one
      const asked = [{ call, agent, endpoint, tokens, caps: [] }]
      const use = { ...step, namespace, workflow, asked, ended: [], isCapping: false }
      const [known] = await server.accountant.knownAt(server.db, new ResourcesAt(server.db, at), [use])
      const counts = known && server.accountant.take(known)
      if (counts) {
        const { holds } = known
        expect(holds).toHaveLength(1)
        const append = { ...step, n: appends, entries: [modelAsked(one)], ended: [] }
        const said = await appendAt(server.db, at, [append], { counts, holds: [holds], forMs: 60_000 })
        if (said.countsHold) {
          server.accountant.written(use, known)
          servedBy.statement++
          return true
        }
        server.accountant.outdated(counts)
      }
      servedBy.transaction++
      return passed(await reserve(n, one)) === 1
    }
    const worker = async (n: number) => {
      const stored = await rig.put([{ name: 'a', runsOn: { test: `aside-${n}` } }])
      await rig.run(stored)
      const [step] = await rig.claim(await rig.session(), stored)
      if (!step) throw new Error('nothing was leased')
      for (let i = 1; i <= 30; i++) {
        const one = { ...wish(1 + Math.floor(random.next() * 30)), ...keyOf(step) }
        const server = i % 10 === n ? 1 : 0
        const isAside = await (turns[server] ?? turns[0]).add(() => ask(server, step, i, one))
        const [sum] = await db.query<{ all: number }>(
          `select (select coalesce(sum(input_tokens), 0) from spending)::int + (select coalesce(sum(tokens), 0) from spending_hold)::int as all`,
        )
        expect(sum?.all).toBeLessThanOrEqual(3_000)
        if (isAside && i % 3 > 0) await settle(server, tookOf(one, Math.floor(random.next() * (one.tokens.input + 1))))
      }
    }
    await many(10, worker)
    expect(servedBy.statement).toBeGreaterThan(30)
    expect(servedBy.transaction).toBeGreaterThan(10)
    const [sum] = await db.query<{ all: number }>(
      `select (select coalesce(sum(input_tokens), 0) from spending)::int + (select coalesce(sum(tokens), 0) from spending_hold)::int as all`,
    )
    const rest = 3_000 - (sum?.all ?? 0)
    expect(passed(await reserve(0, wish(rest + 1)))).toBe(0)
    expect(passed(await reserve(0, wish(rest)))).toBe(1)
  })

  test('calls that count in several budgets, asked for in any order, wait for each other and never for ever', async () => {
    const agents = Array.from({ length: 6 }, (_, i) => `agent-${i}`)
    await budget('all', { window: 'day', limits: { tokens: 300 } })
    for (const agent of agents)
      await budget(agent, { window: 'day', selector: { agents: [agent] }, limits: { tokens: 60 } })
    const answers = await many(40, (n) => {
      const order = agents.map((_, i) => agents[(i * (n % 2 === 0 ? 1 : 5) + n) % agents.length] ?? '')
      return reserve(n, ...order.map((agent) => wish(3, agent)))
    })
    expect(passed(answers.flat())).toBe(100)
    const rows = await serverOf(0).db.query<{ tokens: number }>(
      `select sum(tokens)::int as tokens from spending_hold group by agent`,
    )
    expect(rows.every(({ tokens }) => tokens <= 60)).toBe(true)
  })

  test('a budget that is made while calls are under way misses nothing of what they took', async () => {
    const { db, accountant } = serverOf(0)
    await db.transaction(async (tx) => {
      await accountant.settle(tx, [tookOf(wish(0), 40)])
      await budget('b', { window: 'day', limits: { tokens: 100 } }) // on another connection
      expect(passed(await reserve(1, wish(10)))).toBe(1)
      await settle(1, tookOf(wish(0), 30))
    })
    // 40 by the older transaction, which had not ended when it was first counted; 30 by the younger; 10 set aside.
    expect(passed(await reserve(1, wish(21)))).toBe(0)
    expect(passed(await reserve(0, wish(20)))).toBe(1)
  })
})
