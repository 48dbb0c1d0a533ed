import { afterAll, beforeAll, expect, test } from 'vitest'
import { createIds, silentLog, systemClock, systemRandom } from '../../src/base/index.ts'
import { type Db, migrate, openPostgres } from '../../src/store/index.ts'
import { countWindows, lockCounters } from '../../src/store/budgets/counters.ts'
import { claimSteps } from '../../src/store/steps/claim-steps.ts'
import { completeSteps } from '../../src/store/steps/complete-steps.ts'
import { recordStarts } from '../../src/store/steps/record-starts.ts'
import { newStep, type Step } from '../../src/domain/step.ts'
import { appendAt } from '../../src/store/journal/append-at.ts'
import { appendEntries } from '../../src/store/journal/append-entries.ts'
import { holdSteps } from '../../src/store/journal/hold-steps.ts'
import { appendSegments } from '../../src/store/logs/logs.ts'
import { adoptSteps, findAttemptFates, findDue, FIRST_DUE } from '../../src/store/steps/find-steps.ts'
import { findAskedModels, listEntries } from '../../src/store/journal/read-entries.ts'
import { saveAdvance } from '../../src/store/steps/save-advance.ts'
import { loadOutputs, loadSteps } from '../../src/store/steps/step-rows.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'

const NOTED = { kind: 'handed_over', turn: 1, from: 'a', to: 'b' } as const

interface PlanNode {
  'Node Type': string
  'Relation Name'?: string
  Alias?: string
  'Index Name'?: string
  'Index Cond'?: string
  Plans?: PlanNode[]
}

const nodesOf = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(nodesOf)]

/** Catches the texts that a verb sends, without their answers. */
async function textsOf(call: (db: Db) => Promise<unknown>): Promise<string[]> {
  const texts: string[] = []
  const query = (sql: string) => {
    texts.push(sql)
    return Promise.resolve([])
  }
  await call({ query } as unknown as Db) // a verb uses nothing else of a Db
  return texts
}

describeWithPostgres('plans that are pinned on empty tables', (pg) => {
  let db: Db
  beforeAll(async () => {
    db = openPostgres({ dsn: await pg.createDatabase(), connections: 1, log: silentLog })
    await migrate(db, { version: '0.0.0' })
  })
  afterAll(() => db.close())

  const planOf = async (sql: string): Promise<PlanNode[]> => {
    const types = new Set([...sql.matchAll(/\$(\d+)/g)].map((m) => Number(m[1])))
    await db.query(`prepare probe as ${sql}`)
    try {
      const rows = await db.query<{ 'QUERY PLAN': { Plan: PlanNode }[] }>(
        `explain (format json) execute probe(${[...types].map(() => 'null').join(', ')})`,
      )
      return nodesOf(rows[0]?.['QUERY PLAN'][0]?.Plan ?? { 'Node Type': 'none' })
    } finally {
      await db.query('deallocate probe')
    }
  }

  const ids = createIds(systemClock, systemRandom)
  const result: Step = { ...newStep({ node: 0, path: '' }, 0), state: 'queued' }
  const saved = {
    run: { id: 'r', stop: null, open: 1, active: 1, bad: 0, total: 1, failure: null },
    changed: [result],
    created: [],
    attempts: [{ node: 0, path: '', fence: 1, state: 'lost' as const, session: 's', failure: null }],
    outputs: [{ node: 0, path: '', output: null }],
  }
  const step = { runId: ids.make('run'), node: 0, path: '', session: 'x', fence: 1 }
  const next = { node: 1, name: 'b', queueId: 1, decided: false, timeoutMs: null, queueTimeoutMs: null }
  const told = { definition: 'd', worker: 'w', facts: { name: 'a', dependents: [next] } }

  test.each([
    [
      'complete_steps',
      (d: Db) =>
        completeSteps(d, [{ ...step, ...told, output: 'null', startedAgoMs: 0, endedAgoMs: 0 }], [], {
          inlineOutputBytes: 8_192,
          graceMs: 1,
        }),
    ],
    [
      'complete_leaves',
      (d: Db) => {
        const leaf = { ...step, ...told, facts: { name: 'a', dependents: [] } }
        const word = { output: 'null', startedAgoMs: 0, endedAgoMs: 0 }
        return completeSteps(d, [{ ...leaf, ...word }], [], { inlineOutputBytes: 8_192, graceMs: 1 })
      },
    ],
    ['record_starts', (d: Db) => recordStarts(d, [{ ...step, startedAgoMs: 0 }])],
    ['load_steps', (d: Db) => loadSteps(d, step.runId, [step])],
    ['load_outputs', (d: Db) => loadOutputs(d, [step])],
    ['append_segments', (d: Db) => appendSegments(d, [{ ...step, index: 1, stream: 'stdout', agoMs: 0, text: '' }])],
    ['hold_steps', (d: Db) => holdSteps(d, [step])],
    ['append_entries', (d: Db) => appendEntries(d, [{ ...step, n: 1, entries: [NOTED] }])],
    ['append_at', (d: Db) => appendAt(d, 1, [{ ...step, n: 1, entries: [NOTED], ended: [] }])],
    [
      'append_and_settle_at',
      (d: Db) => appendAt(d, 1, [{ ...step, n: 1, entries: [NOTED], ended: [{ call: 'm', spending: null }] }]),
    ],
    ['find_attempt_fates', (d: Db) => findAttemptFates(d, [step])],
    ['adopt_steps', (d: Db) => adoptSteps(d, { from: 'a', to: 'b', steps: [step] })],
    [
      'save_advance',
      (d: Db) =>
        saveAdvance(d, step.runId, saved, { state: 'running', ended: false, epoch: 1, cancelRequested: false }, [], 1),
    ],
  ])('%s reaches steps by their whole key and runs by theirs', async (_name, call) => {
    const nodes: PlanNode[] = []
    for (const text of await textsOf(call)) nodes.push(...(await planOf(text)))
    // An activation's siblings are reached by run and node: `load_outputs` gathers them.
    const reads = nodes.filter(
      (n) => n['Relation Name'] === 'step' && n['Node Type'] !== 'ModifyTable' && n.Alias !== 'c',
    )
    expect(reads.length).toBeGreaterThan(0)
    for (const read of reads) {
      expect(read).toMatchObject({ 'Node Type': 'Index Scan', 'Index Name': 'step_pkey' })
      for (const column of ['run_id', 'node', 'path']) expect(read['Index Cond']).toContain(column)
    }
    for (const read of nodes.filter((n) => n['Relation Name'] === 'run' && n['Node Type'] !== 'ModifyTable')) {
      expect(read['Node Type']).toMatch(/^(Index Scan|Index Only Scan|Bitmap Heap Scan)$/)
      if (read['Node Type'] !== 'Bitmap Heap Scan') expect(read['Index Cond']).toContain('id')
    }
  })

  test.each([
    ['append_entries', (d: Db) => appendEntries(d, [{ ...step, n: 1, entries: [NOTED] }])],
    ['append_at', (d: Db) => appendAt(d, 1, [{ ...step, n: 1, entries: [NOTED], ended: [] }])],
    [
      'append_and_settle_at',
      (d: Db) => appendAt(d, 1, [{ ...step, n: 1, entries: [NOTED], ended: [{ call: 'm', spending: null }] }]),
    ],
    ['list_entries', (d: Db) => listEntries(d, { ...step, from: 1, limit: 10, bytes: 10, counting: true })],
    ['find_asked_models', (d: Db) => findAskedModels(d, [{ ...step, call: 'm' }])],
  ])('%s reaches journals by their activation', async (_name, call) => {
    const nodes: PlanNode[] = []
    for (const text of await textsOf(call)) nodes.push(...(await planOf(text)))
    const reads = nodes.filter((n) => n['Relation Name']?.startsWith('journal') && n['Node Type'] !== 'ModifyTable')
    expect(reads.length).toBeGreaterThan(0)
    for (const read of reads) {
      expect(read['Node Type']).toMatch(/^Index (Only )?Scan$/)
      for (const column of ['run_id', 'node', 'path']) expect(read['Index Cond']).toContain(column)
    }
  })

  test('find_due begins at its place in the order of what is due, and stops', async () => {
    const [text = ''] = await textsOf((d) => findDue(d, { after: FIRST_DUE, limit: 10 }))
    const nodes = await planOf(text)
    const walk = nodes.find((n) => n['Relation Name'] === 'step')
    expect(walk).toMatchObject({ 'Node Type': 'Index Scan', 'Index Name': 'step_due' })
    expect(walk?.['Index Cond']).toMatch(/due_at.* >=? .*\$2/)
    expect(walk?.['Index Cond']).toMatch(/due_at <= /)
    // A whole sort would read everything that is due for each page.
    expect(nodes.map((n) => n['Node Type'])).not.toContain('Sort')
  })

  test('claim_steps walks the queue in order and stops', async () => {
    const nodes = await planOf(
      (await textsOf((d) => claimSteps(d, { session: 's', queues: [1], limit: 10, from: '', graceMs: 1 })))[0] ?? '',
    )
    const walk = nodes.find((n) => n['Index Name'] === 'step_queued')
    expect(walk?.['Index Cond']).toContain('queue_id')
    const lock = nodes.findIndex((n) => n['Node Type'] === 'LockRows')
    // A sort below the lock would read and lock the whole queue.
    expect(nodesOf(nodes[lock] ?? { 'Node Type': 'none' }).map((n) => n['Node Type'])).not.toContain('Sort')
    expect(nodes.filter((n) => n['Relation Name'] === 'step' && n['Node Type'] === 'Tid Scan').length).toBe(1)
  })

  test('windows of budgets are counted from what is new to them, and a new one from its time on', async () => {
    const window = { budget: 'b', key: 'k', namespace: 'n', selector: {}, currency: null, from: new Date(0) }
    const [time = ''] = await textsOf((d) => countWindows(d, [{ ...window, rootRun: null }]))
    const [run = ''] = await textsOf((d) => countWindows(d, [{ ...window, from: null, rootRun: 'r' }]))
    const readsOf = async (text: string, relation: string) =>
      (await planOf(text))
        .filter((n) => n['Relation Name'] === relation && n['Index Name'] !== undefined)
        .map((n) => [n['Index Name'] ?? '', n['Index Cond'] ?? ''] as const)
    const ofTime = await readsOf(time, 'spending_default')
    expect(ofTime.map(([index]) => index).toSorted()).toEqual([
      'spending_default_at_namespace_idx',
      'spending_default_at_namespace_idx',
      'spending_default_namespace_xid_idx',
    ])
    for (const [index, condition] of ofTime)
      expect(condition).toContain(index === 'spending_default_namespace_xid_idx' ? '(xid >= ' : '(at >= ')
    const ofRun = await readsOf(run, 'spending_default')
    expect(ofRun.map(([index]) => index)).toContain('spending_default_root_run_xid_idx')
    for (const text of [time, run])
      expect((await readsOf(text, 'spending_hold')).map(([index]) => index)).toEqual(['spending_hold_by_namespace'])
    const [lock = ''] = await textsOf((d) => lockCounters(d, [{ budget: 'b', key: 'k' }]))
    expect(new Set((await readsOf(lock, 'budget_counter')).map(([index]) => index))).toEqual(
      new Set(['budget_counter_pkey']),
    )
  })
})
