import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/index.ts'
import type { Assignment } from '../../src/contract/exchange.ts'
import type { ParkedOn, WorkerEntry } from '../../src/domain/agents/journal.ts'
import { failureRecord } from '../../src/domain/failure.ts'
import { agentNode, boundOf, definitionOf } from '../../src/domain/testing/definitions.ts'
import { NO_DATA_RULES } from '../../src/domain/agents/data-rules.ts'
import type { RunningEngine } from '../../src/engine/index.ts'
import type { Gate } from '../../src/engine/agents/gate.ts'
import type { Db, Queryable } from '../../src/store/db.ts'
import { appendEntries } from '../../src/store/journal/append-entries.ts'
import { holdSteps } from '../../src/store/journal/hold-steps.ts'
import { wakeBudgetWaiters } from '../../src/store/steps/budget-waits.ts'
import { openMigrated } from '../../src/store/testing/postgres.ts'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { ADMIN, engineOn } from './engine-on.ts'
import { meetingOf } from './meeting.ts'

const YES = { approved: true, comment: null, inputs: null }
const NO = { ...YES, approved: false }

const asked = (call: string): WorkerEntry => ({
  ...{ kind: 'tool_asked', call, turn: 1, agent: 'writer', tool: 'pay', operation: 'write' },
  ...{ input: { to: 'x' }, repeatable: false },
})
const noted = (turn: number): WorkerEntry => ({ kind: 'handed_over', turn, from: 'a', to: 'b' })

describeWithPostgres('two connections at one journal', (postgres) => {
  let one: Db
  let two: Db
  let engines: RunningEngine[]
  let made = 0
  beforeAll(async () => {
    const dsn = await postgres.createStore()
    one = await openMigrated(dsn, 12)
    two = await openMigrated(dsn, 12)
    const gate: Gate = {
      allowedAt: (_, asked) =>
        Promise.resolve(
          asked.map(({ calls, models }) =>
            calls.length === 0 ? { verdicts: [], caps: models.map(() => []), isCapping: false } : null,
          ),
        ),
      models: (_, models) => Promise.resolve(models.map(() => ({ failure: null, caps: [] }))),
      dataRules: () => Promise.resolve(NO_DATA_RULES),
      beginning: () => Promise.resolve(null),
      calls: (_, calls) =>
        Promise.resolve(
          calls.map(() => ({ verdict: 'approval', rule: 'role/test', approvers: null, expiresMs: 3_600_000 })),
        ),
    }
    engines = [engineOn(one, 'srv_1', { seed: 1, gate }), engineOn(two, 'srv_2', { seed: 2, gate })]
  })
  afterAll(async () => {
    await one.close()
    await two.close()
  })

  const first = (): RunningEngine => engines[0] as RunningEngine // made before all
  const second = (): RunningEngine => engines[1] as RunningEngine

  /** A step that a worker of the first server holds. */
  async function held() {
    const runsOn = { test: crypto.randomUUID() }
    const definition = definitionOf([agentNode('write', { runsOn })], { bound: boundOf(), name: `j${made++}` })
    const { hash } = await first().putDefinition(ADMIN, definition)
    const who = { worker: 'w', version: '0', host: 'there', pid: 1, pidStart: null, clock: systemClock.now() }
    const offer = { capacity: 4, labels: runsOn, namespaces: null, backends: ['agent' as const], modules: [] }
    const { session } = await first().register(ADMIN, { ...who, ...offer, replaces: null, held: [] })
    const run = { definition: hash, inputs: {}, labels: {}, idempotencyKey: null, fingerprint: null }
    const [outcome] = await first().createRuns(ADMIN, [run])
    const runId = outcome?.kind === 'created' ? outcome.runId : ''
    const a = await poll(session)
    const key = { runId, node: 0, path: '', session, fence: a.fence }
    return { runId, session, a, key }
  }

  async function poll(session: string): Promise<Assignment> {
    let found: Assignment | undefined
    await eventually(
      async () => {
        const request = { session, free: 4, held: [], draining: false }
        found = (await first().poll(ADMIN, request, new AbortController().signal)).assignments[0]
        return found !== undefined
      },
      { withinMs: 20_000, what: 'an assignment' },
    )
    if (!found) throw new Error('nothing was assigned')
    return found
  }

  type Held = Awaited<ReturnType<typeof held>>
  const append = (engine: RunningEngine, { session, a }: Held, n: number, ...entries: WorkerEntry[]) =>
    engine.append(ADMIN, { session, step: a.step, fence: a.fence, n, entries })
  const report = ({ session, a }: Held, body: { kind: 'returned' } | { kind: 'parked'; on: ParkedOn }) =>
    second().report(ADMIN, {
      ...{ session, free: 0, draining: false },
      reports: [{ step: a.step, fence: a.fence, seq: 1, startedAgoMs: 2, endedAgoMs: 1, ...body }],
    })
  const seqs = async (runId: string) =>
    (await one.query<{ seq: number }>(`select seq from journal where run_id = $1 order by seq`, [runId])).map(
      (r) => r.seq,
    )
  const kinds = async (runId: string) =>
    (await one.query<{ kind: string }>(`select kind from journal where run_id = $1 order by seq`, [runId])).map(
      (r) => r.kind,
    )
  const stateOf = async (runId: string) =>
    (await one.query<{ state: string }>(`select state from step where run_id = $1`, [runId]))[0]?.state
  const approvalIn = async (runId: string) => {
    const rows = await one.query<{ id: string; state: string }>(`select id, state from approval where run_id = $1`, [
      runId,
    ])
    return rows[0] ?? { id: '', state: 'missing' }
  }
  /** As the first server writes, in a transaction that the test holds open. */
  const write = async (tx: Queryable, { key }: Held, n: number, entries: WorkerEntry[]) => {
    const [step] = await holdSteps(tx, [key])
    return step ? appendEntries(tx, [{ ...key, n, entries }]) : null
  }

  test('the same append twice at once is written once, and both are told that it is recorded', async () => {
    const h = await held()
    const [written, answer] = await meetingOf(one, two).whileOpen(
      (tx) => write(tx, h, 1, [noted(1), noted(2)]),
      () => append(second(), h, 1, noted(1), noted(2)),
    )
    expect(written).toEqual([2])
    expect(answer).toMatchObject({ state: 'recorded' })
    expect(await seqs(h.runId)).toEqual([1, 2])
  })

  test('appends from everywhere leave no gap', async () => {
    const h = await held()
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, i) => append(i % 2 ? first() : second(), h, 1 + (i % 20), noted(i))),
    )
    expect(new Set(answers.map((a) => a.state))).toEqual(new Set(['recorded']))
    const found = await seqs(h.runId)
    expect(found).toEqual(found.map((_, i) => i + 1))
  })

  test('an append first: the step is given back behind it; the step first: nothing is written any more', async () => {
    const h = await held()
    await meetingOf(one, two).whileOpen(
      (tx) => write(tx, h, 1, [noted(1)]),
      () => report(h, { kind: 'returned' }),
    )
    expect(await seqs(h.runId)).toEqual([1])
    const other = await held()
    const [, answer] = await meetingOf(one, two).whileOpen(
      async (tx) => {
        await tx.query(`select 1 from step where run_id = $1 for update`, [other.runId])
        await tx.query(`update step set state = 'queued', session = null where run_id = $1`, [other.runId])
      },
      () => append(second(), other, 1, noted(1)),
    )
    expect(answer).toMatchObject({ state: 'stale' })
    expect(await seqs(other.runId)).toEqual([])
  })

  test('who writes without holding the step writes nothing', async () => {
    const h = await held()
    await report(h, { kind: 'returned' })
    expect(await appendEntries(one, [{ ...h.key, n: 1, entries: [noted(1)] }])).toEqual([0])
    expect(await seqs(h.runId)).toEqual([])
  })

  test('a decision that comes while an append is written stands behind it', async () => {
    const h = await held()
    await append(first(), h, 1, asked('c1'))
    const { id } = await approvalIn(h.runId)
    await meetingOf(one, two).whileOpen(
      (tx) => write(tx, h, 2, [noted(1)]),
      () => second().decideApproval(ADMIN, id, YES),
    )
    expect(await kinds(h.runId)).toEqual(['tool_asked', 'verdict', 'handed_over', 'decided'])
    expect(await seqs(h.runId)).toEqual([1, 2, 3, 4])
  })

  test('of two decisions at once exactly one counts, and it is the one that is journaled', async () => {
    for (const isReversed of [false, true]) {
      const h = await held()
      await append(first(), h, 1, asked('c1'))
      const { id } = await approvalIn(h.runId)
      await report(h, { kind: 'parked', on: { type: 'approvals', approvals: [id] } })
      const decide = (engine: RunningEngine, wish: typeof YES) => () =>
        engine.decideApproval(ADMIN, id, wish).then(
          (view): string => view.state,
          (error: { code?: string }) => error.code ?? String(error),
        )
      const works = [decide(first(), YES), decide(second(), NO)]
      const outcomes = await meetingOf(one, two).inOrder(h.runId, isReversed ? works.toReversed() : works)
      const won = isReversed ? 'denied' : 'approved'
      // Whose answer comes first says nothing: the one that won has still to say so to others.
      expect(outcomes.toSorted()).toEqual(['approval.already_decided', won].toSorted())
      expect(await approvalIn(h.runId)).toMatchObject({ state: won })
      expect((await kinds(h.runId)).filter((kind) => kind === 'decided')).toHaveLength(1)
      expect(['queued', 'running']).toContain(await stateOf(h.runId))
    }
  })

  test('a decision and the expiry at once: one of them, told once, and the step goes on', async () => {
    const h = await held()
    await append(first(), h, 1, asked('c1'))
    const { id } = await approvalIn(h.runId)
    await report(h, { kind: 'parked', on: { type: 'approvals', approvals: [id] } })
    await one.query(`update approval set expires_at = clock_now() where id = $1`, [id])
    await one.query(`update step set due_at = clock_now() where run_id = $1`, [h.runId])
    const outcomes = await Promise.allSettled([first().decideApproval(ADMIN, id, YES), second().tick(), first().tick()])
    expect(outcomes[0]).toMatchObject({ status: 'rejected' })
    await eventually(async () => (await approvalIn(h.runId)).state === 'expired', {
      withinMs: 20_000,
      what: 'the expiry',
    })
    expect((await kinds(h.runId)).filter((kind) => kind === 'decided')).toHaveLength(1)
    expect(['queued', 'running']).toContain(await stateOf(h.runId))
  })

  test('a cancel leaves no approval open, whichever way it meets the append that asks for it', async () => {
    const h = await held()
    await append(first(), h, 1, asked('c1'))
    const { id } = await approvalIn(h.runId)
    await meetingOf(one, two).inOrder<unknown>(h.runId, [
      () => second().cancelRun(ADMIN, h.runId),
      () => report(h, { kind: 'parked', on: { type: 'approvals', approvals: [id] } }),
    ])
    expect(await stateOf(h.runId)).toBe('canceled')
    expect(await approvalIn(h.runId)).toMatchObject({ state: 'canceled' })
    expect(await append(first(), h, 2, asked('c2'))).toMatchObject({ state: 'stale' })
  })

  describe('a budget that is given more', () => {
    const on: ParkedOn = {
      ...{ type: 'budget', budgets: ['default/b'], retryAfterMs: null },
      failure: failureRecord('step.function_threw', 'used up'),
    }

    test('while a step begins to wait for it wakes the step', async () => {
      for (const isWakeFirst of [true, false]) {
        const h = await held()
        if (isWakeFirst)
          await meetingOf(one, two).whileOpen(
            (tx) => wakeBudgetWaiters(tx, ['default/b']),
            () => report(h, { kind: 'parked', on }),
          )
        else {
          await report(h, { kind: 'parked', on })
          expect(await stateOf(h.runId)).toBe('waiting')
          expect(await wakeBudgetWaiters(two, ['default/b'])).toBe(1)
          await eventually(
            async () => {
              await first().tick()
              return (await stateOf(h.runId)) !== 'waiting'
            },
            { withinMs: 20_000, what: 'the step to go on' },
          )
        }
        expect(['queued', 'running']).toContain(await stateOf(h.runId))
      }
    })
  })
})
