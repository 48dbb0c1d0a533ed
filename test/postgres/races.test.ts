import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { failureRecord } from '../../src/domain/failure.ts'
import { type AnySpec, definitionOf, type NodeSpec } from '../../src/domain/testing/definitions.ts'
import type { Db, Queryable } from '../../src/store/db.ts'
import { createRuns } from '../../src/store/runs/create-runs.ts'
import { endSessions, sweepSessions, tickSessions } from '../../src/store/sessions/sessions.ts'
import { claimSteps } from '../../src/store/steps/claim-steps.ts'
import { completeSteps, type LeasedStep } from '../../src/store/steps/complete-steps.ts'
import { heldKey } from '../../src/store/steps/held-key.ts'
import { adoptSteps } from '../../src/store/steps/find-steps.ts'
import { recordStarts } from '../../src/store/steps/record-starts.ts'
import { loadIdleSteps } from '../../src/store/steps/step-rows.ts'
import { openMigrated } from '../../src/store/testing/postgres.ts'
import { GRACE_MS, INLINE_BYTES, LEASE_MS, StoreRig, type StoredWorkflow } from '../../src/store/testing/rig.ts'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { ADMIN, engineOn } from './engine-on.ts'
import { meetingOf } from './meeting.ts'

const CONNECTIONS = 24
const ROUNDS = 25

describeWithPostgres('two connections', (postgres) => {
  let one: Db
  let two: Db
  let rig: StoreRig
  beforeAll(async () => {
    const dsn = await postgres.createStore()
    one = await openMigrated(dsn, CONNECTIONS)
    two = await openMigrated(dsn, CONNECTIONS)
    rig = new StoreRig(one)
  })
  afterAll(async () => {
    await one.close()
    await two.close()
  })

  const blocked = (count: number) => meetingOf(one, two).blocked(count)
  const inOrder = <T>(runId: string, works: (() => Promise<T>)[]) => meetingOf(one, two).inOrder(runId, works)
  const whileOpen = <A, B>(first: (tx: Queryable) => Promise<A>, second: () => Promise<B>) =>
    meetingOf(one, two).whileOpen(first, second)

  const complete = (db: Queryable, steps: LeasedStep[]) =>
    completeSteps(
      db,
      steps.map((s) => rig.done(s)),
      [],
      { inlineOutputBytes: INLINE_BYTES, graceMs: GRACE_MS },
    )

  const put = (specs: NodeSpec[]) => {
    const runsOn = { test: crypto.randomUUID() }
    return rig.put(specs.map((s) => ({ runsOn, ...s })))
  }
  /** A run with every step that is queued leased to one session, by name. */
  async function leased(specs: NodeSpec[]) {
    const workflow = await put(specs)
    const runId = await rig.run(workflow)
    const session = await rig.session()
    const steps = await rig.claim(session, workflow)
    const named = (name: string) => {
      const step = steps.find((s) => workflow.definition.nodes[s.node]?.name === name)
      if (!step) throw new Error(`${name} is not leased`)
      return step
    }
    return { workflow, runId, session, named, steps }
  }

  /** What must hold of a run at rest: counters are what its steps say, events have no gap. */
  async function expectSound(runId: string, workflow: StoredWorkflow): Promise<void> {
    const steps = Object.values(await rig.steps(runId, workflow))
    const of = (...states: string[]) => steps.filter((s) => states.includes(s.state)).length
    const run = await rig.runRow(runId)
    expect({ open: run.open, active: run.active, bad: run.bad, total: run.total }).toEqual({
      open: of('pending', 'queued', 'running', 'waiting'),
      active: of('queued', 'running'),
      bad: of('failed', 'blocked'),
      total: steps.length,
    })
    const seqs = await rig.eventSeqs(runId)
    expect(seqs).toEqual(seqs.map((_, i) => i + 1))
  }

  const join: NodeSpec[] = [{ name: 'a' }, { name: 'b' }, { name: 'c', needs: ['a', 'b'] }]

  describe('completions', () => {
    test('two of the same join at once fire it once', async () => {
      const { workflow, runId, named } = await leased(join)
      const [first, second] = await inOrder(runId, [
        () => complete(one, [named('a')]),
        () => complete(two, [named('b')]),
      ])
      expect([first?.queued.length, second?.queued.length]).toEqual([0, 1])
      expect(await rig.steps(runId, workflow)).toMatchObject({ c: { state: 'queued', ok: 2 } })
      await expectSound(runId, workflow)
    })

    test('the same completion twice at once is recorded once', async () => {
      const { workflow, runId, named } = await leased(join)
      const both = await inOrder(runId, [() => complete(one, [named('a')]), () => complete(two, [named('a')])])
      expect(both.map((r) => r?.done.size)).toEqual([1, 0])
      expect(await rig.steps(runId, workflow)).toMatchObject({ c: { state: 'pending', ok: 1 } })
      await expectSound(runId, workflow)
    })

    test('batches that hit one join several times at once lose none', async () => {
      const needs = Array.from({ length: 12 }, (_, i) => `n${i}`)
      const specs = [...needs.map((name): NodeSpec => ({ name })), { name: 'join', needs }]
      const { workflow, runId, steps } = await leased(specs)
      await inOrder(runId, [() => complete(one, steps.slice(0, 6)), () => complete(two, steps.slice(6))])
      expect(await rig.steps(runId, workflow)).toMatchObject({ join: { state: 'queued', ok: 12 } })
      await expectSound(runId, workflow)
    })

    test('many single ones of one run from two servers lose no update of its counters', async () => {
      const specs = Array.from({ length: 40 }, (_, i): NodeSpec => ({ name: `n${i}` }))
      const { workflow, runId, steps } = await leased(specs)
      await Promise.all(steps.map((s, i) => complete(i % 2 === 0 ? one : two, [s])))
      expect(await rig.runRow(runId)).toMatchObject({ state: 'succeeded', open: 0, active: 0 })
      expect(await rig.eventSeqs(runId)).toHaveLength(41)
      await expectSound(runId, workflow)
    })

    test('batches over the same runs in opposite order never lock each other out', async () => {
      const workflow = await put([{ name: 'a' }, { name: 'b' }, { name: 'c', needs: ['a', 'b'] }, { name: 'd' }])
      const session = await rig.session()
      for (let round = 0; round < ROUNDS; round++) {
        const runs = await Promise.all(Array.from({ length: 20 }, () => rig.run(workflow)))
        const steps = await rig.claim(session, workflow, 500)
        const of = (node: number) => steps.filter((s) => s.node === node)
        const results = await Promise.all([
          complete(one, of(0)),
          complete(two, of(1).toReversed()),
          recordStarts(
            one,
            of(3)
              .toReversed()
              .map((s) => ({ ...s, startedAgoMs: 0 })),
          ),
          complete(two, of(3)),
        ])
        expect(results[0].done.size + results[1].done.size + results[3].done.size).toBe(60)
        if (round === 0) for (const runId of runs) await expectSound(runId, workflow)
        await complete(one, await rig.claim(session, workflow, 500))
      }
    })

    test('a start and the end of one attempt at once: that it began is told once', async () => {
      for (const isReversed of [false, true]) {
        const { runId, named } = await leased([{ name: 'a' }])
        const works = [
          async () => void (await recordStarts(two, [{ ...named('a'), startedAgoMs: 5 }])),
          async () => void (await complete(one, [named('a')])),
        ]
        await inOrder(runId, isReversed ? works.toReversed() : works)
        const told = await rig.transitions(runId)
        expect(told.filter((t) => t === 'a>running')).toHaveLength(1)
        expect(told.filter((t) => t === 'run>running')).toHaveLength(1)
        expect(told.at(-1)).toBe('run>succeeded')
      }
    })
  })

  describe('a completion and what else moves the run', () => {
    test('a cancel first: the success is kept as evidence by the slow path; a cancel second: it is recorded', async () => {
      for (const isCancelFirst of [true, false]) {
        const { workflow, runId, named } = await leased([{ name: 'a' }, { name: 'b', needs: ['a'] }])
        const engine = engineOn(two, 'srv_cancel', { seed: 2 })
        const done: number[] = []
        const works = [
          async () => void (await engine.cancelRun(ADMIN, runId)),
          async () => void done.push((await complete(one, [named('a')])).done.size),
        ]
        await inOrder(runId, isCancelFirst ? works : works.toReversed())
        expect(done).toEqual([isCancelFirst ? 0 : 1])
        expect(await rig.steps(runId, workflow)).toMatchObject(
          isCancelFirst
            ? { a: { state: 'running' }, b: { state: 'canceled' } }
            : { a: { state: 'succeeded' }, b: { state: 'canceled' } },
        )
        expect(await rig.runRow(runId)).toMatchObject({ stop: 'cancel', ended: !isCancelFirst })
        await expectSound(runId, workflow)
      }
    })

    test('a failure of the other need, in either order: the join is blocked and the counters hold', async () => {
      for (const isReversed of [false, true]) {
        const engine = engineOn(two, 'srv_fail', { seed: 2 })
        const workflow = await put(join)
        const runId = await rig.run(workflow)
        const worker = await engine.register(
          { ...ADMIN, role: 'worker' },
          {
            worker: 'w',
            version: '0',
            host: 'h',
            pid: 1,
            pidStart: null,
            clock: 0,
            capacity: 9,
            labels: workflow.definition.nodes[0]?.runsOn ?? {},
            namespaces: null,
            backends: ['function'],
            modules: ['m'],
            replaces: null,
            held: [],
          },
        )
        const [a, b] = await rig.claim(worker.session, workflow)
        if (!a || !b) throw new Error('not leased')
        const failure = failureRecord('step.function_threw', 'testing')
        const report = { step: `${runId}.1`, fence: 1, seq: 1, startedAgoMs: null, endedAgoMs: 0 }
        const request = { session: worker.session, free: 1, draining: false }
        const works = [
          async () => void (await complete(one, [a])),
          async () =>
            void (await engine.report(ADMIN, { ...request, reports: [{ ...report, kind: 'failed', failure }] })),
        ]
        await inOrder(runId, isReversed ? works.toReversed() : works)
        expect(await rig.steps(runId, workflow)).toMatchObject({
          a: { state: 'succeeded' },
          b: { state: 'failed' },
          c: { state: 'blocked' },
        })
        expect(await rig.runRow(runId)).toMatchObject({ state: 'failed', ended: true })
        await expectSound(runId, workflow)
      }
    })

    test('its session ends and is swept while it waits: the step is recorded or requeued, never both', async () => {
      for (const isReversed of [false, true]) {
        const { workflow, runId, session, named } = await leased([{ name: 'a' }, { name: 'b', needs: ['a'] }])
        const engine = engineOn(two, 'srv_sweep', { seed: 2 })
        let recorded = 0
        const completion = async () => void (recorded += (await complete(one, [named('a')])).done.size)
        const sweep = async () => {
          await endSessions(two, [session], 'worker.lost')
          // The word of a session that has ended is refused without waiting for anybody.
          if (isReversed) await completion()
          await engine.tick()
        }
        await inOrder(runId, isReversed ? [sweep] : [completion, sweep])
        const { a, b } = await rig.steps(runId, workflow)
        expect([a?.state, b?.state]).toEqual(recorded === 1 ? ['succeeded', 'queued'] : ['queued', 'pending'])
        if (isReversed) expect(recorded).toBe(0)
        await expectSound(runId, workflow)
        // Whatever came of it, the old word counts for nothing once another holds the step.
        const next = await rig.session()
        const [again] = await rig.claim(next, workflow)
        expect(again?.session).toBe(next)
        expect((await complete(one, [named('a')])).done.size).toBe(0)
      }
    })

    test('its step is adopted by a new session while it waits: only one of the two may speak', async () => {
      const { workflow, runId, session, named } = await leased([{ name: 'a' }])
      const to = await rig.session()
      const step = named('a')
      const [adopted, late] = await whileOpen(
        (tx) => adoptSteps(tx, { from: session, to, steps: [step] }),
        () => complete(two, [step]),
      )
      expect(adopted).toHaveLength(1)
      expect(late.done.size).toBe(0)
      expect((await complete(one, [{ ...step, session: to }])).done).toEqual(
        new Set([heldKey({ ...step, session: to })]),
      )
      await expectSound(runId, workflow)
    })
  })

  describe('sweeps', () => {
    test('of two servers at once requeue a step once and count one loss', async () => {
      const { workflow, runId, session } = await leased([{ name: 'a' }])
      await endSessions(one, [session], 'worker.lost')
      const [a, b] = [engineOn(one, 'srv_a', { seed: 2 }), engineOn(two, 'srv_b', { seed: 2 })]
      await inOrder(runId, [() => a.tick(), () => b.tick()])
      expect(await one.query('select state, losses from step where run_id = $1', [runId])).toEqual([
        { state: 'queued', losses: 1 },
      ])
      expect(await one.query('select fence, state from attempt where run_id = $1', [runId])).toEqual([
        { fence: 1, state: 'lost' },
      ])
      await expectSound(runId, workflow)
    })

    test('spare a session that is renewed at the same moment', async () => {
      const session = await rig.session()
      await one.query(`update session set expires_at = clock_now() - interval '1 s' where id = $1`, [session])
      const seen = [{ session, held: 0, draining: false }]
      const server = {
        server: 'srv_x',
        version: '0',
        address: null,
        known: [],
        tokens: [],
        leaseMs: LEASE_MS,
        deafMs: null,
        lookouts: new Map(),
        asksRunning: true,
      }
      const [, swept] = await whileOpen(
        (tx) => tickSessions(tx, { ...server, seen }),
        () => sweepSessions(two, [session]),
      )
      expect(swept).toEqual([])
    })
  })

  describe('claims', () => {
    test('one that is under way hides its steps from another, which does not wait', async () => {
      const workflow = await put([{ name: 'a' }, { name: 'b' }, { name: 'c' }])
      await rig.run(workflow)
      const [mine, yours] = [await rig.session(), await rig.session()]
      const claim = (db: Queryable, session: string, limit: number) =>
        claimSteps(db, { session, queues: [...new Set(workflow.queues)], limit, from: '', graceMs: GRACE_MS })
      const [first, second] = await one.transaction(async (tx) => [
        await claim(tx, mine, 2),
        await claim(two, yours, 3),
      ])
      expect(first?.map((s) => s.node)).toEqual([0, 1])
      expect(second?.map((s) => s.node)).toEqual([2])
    })

    test('many at once never give one step to two', async () => {
      const workflow = await put(Array.from({ length: 10 }, (_, i): NodeSpec => ({ name: `n${i}` })))
      for (let i = 0; i < 12; i++) await rig.run(workflow)
      const sessions = await Promise.all(Array.from({ length: 8 }, () => rig.session()))
      const queues = [...new Set(workflow.queues)]
      const got: string[] = []
      for (let round = 0; got.length < 120 && round < 50; round++) {
        const batches = await Promise.all(
          sessions.map((session, i) =>
            claimSteps(i % 2 === 0 ? one : two, { session, queues, limit: 7, from: '', graceMs: GRACE_MS }),
          ),
        )
        got.push(...batches.flat().map((s) => `${s.runId}.${s.node}@${s.fence}`))
      }
      expect(got).toHaveLength(120)
      expect(new Set(got).size).toBe(120)
    })

    test('one that is under way when its run is canceled: the step runs until its worker confirms', async () => {
      const workflow = await put([{ name: 'a' }, { name: 'b' }])
      const runId = await rig.run(workflow)
      const session = await rig.session()
      const engine = engineOn(two, 'srv_claim', { seed: 2 })
      await whileOpen(
        (tx) => claimSteps(tx, { session, queues: workflow.queues.slice(0, 1), limit: 1, from: '', graceMs: GRACE_MS }),
        () => engine.cancelRun(ADMIN, runId),
      )
      expect(await rig.steps(runId, workflow)).toMatchObject({ a: { state: 'running' }, b: { state: 'canceled' } })
      expect(await rig.runRow(runId)).toMatchObject({ stop: 'cancel', open: 1, active: 1, ended: false })
      await expectSound(runId, workflow)
    })

    test('one that comes while a cancel is under way takes nothing', async () => {
      const workflow = await put([{ name: 'a' }])
      const runId = await rig.run(workflow)
      const session = await rig.session()
      await one.transaction(async (tx) => {
        await loadIdleSteps(tx, runId)
        expect(await new StoreRig(two).claim(session, workflow)).toEqual([])
      })
    })
  })

  describe('deciding', () => {
    const ask: AnySpec = {
      name: 'ship',
      kind: 'approval',
      message: 'Ship?',
      approvers: null,
      expiresMs: null,
      onExpiry: 'deny',
      fields: null,
    }

    /** A run that waits for an approval, at either of two servers. */
    async function asked() {
      const engines = [engineOn(one, 'srv_one', { seed: 2 }), engineOn(two, 'srv_two', { seed: 2 })] as const
      const definition = definitionOf([ask], { name: `ask-${crypto.randomUUID()}` })
      const { hash } = await engines[0].putDefinition(ADMIN, definition)
      const [outcome] = await engines[0].createRuns(ADMIN, [
        { definition: hash, inputs: {}, labels: {}, idempotencyKey: null, fingerprint: null },
      ])
      const runId = outcome?.runId ?? ''
      const filter = { namespace: null, states: ['pending' as const], runId, step: null, cursor: null, limit: 1 }
      let id = ''
      await eventually(
        async () => {
          await engines[0].tick()
          id = (await engines[0].listApprovals(ADMIN, filter)).items[0]?.id ?? ''
          return id !== ''
        },
        { withinMs: 40_000, what: 'the approval' },
      )
      return { engines, runId, id }
    }
    const wish = (approved: boolean) => ({ approved, comment: null, inputs: null })

    test('one approval from two servers at once: exactly one decision wins, and the other learns which', async () => {
      for (const first of [true, false]) {
        const { engines, runId, id } = await asked()
        const decide = (at: 0 | 1, approved: boolean) => () =>
          engines[at].decideApproval(ADMIN, id, wish(approved)).then(
            (view) => view.state as string,
            (error: unknown) => error,
          )
        const [won, lost] = await inOrder<unknown>(runId, [decide(0, first), decide(1, !first)])
        expect(won).toBe(first ? 'approved' : 'denied')
        expect(lost).toMatchObject({ code: 'approval.already_decided', evidence: { state: won } })
        const view = await engines[1].getRun(ADMIN, runId)
        expect(view).toMatchObject({
          state: first ? 'succeeded' : 'failed',
          stepList: [{ output: { approved: first, by: 'tok_admin' } }],
        })
      }
    })

    test('an approval and a cancel at once: whichever is first counts', async () => {
      const { engines, runId, id } = await asked()
      const [canceled, decided] = await inOrder<unknown>(runId, [
        () => engines[0].cancelRun(ADMIN, runId).then((run) => run.state),
        () => engines[1].decideApproval(ADMIN, id, wish(true)).catch((error: unknown) => error),
      ])
      expect(canceled).toBe('canceled')
      expect(decided).toMatchObject({ code: 'approval.already_decided', evidence: { state: 'canceled' } })
    })
  })

  describe('starting', () => {
    const keyed = (workflow: StoredWorkflow, key: string) =>
      rig.rowOf(workflow, { idempotency: { scope: 'tok', key, fingerprint: 'f' } })

    test('with the same idempotency key twice at once makes one run', async () => {
      const workflow = await put([{ name: 'a' }])
      const key = crypto.randomUUID()
      const [mine, yours] = [keyed(workflow, key), keyed(workflow, key)]
      const [first, second] = await whileOpen(
        (tx) => createRuns(tx, [mine], GRACE_MS),
        () => createRuns(two, [yours], GRACE_MS),
      )
      expect([first.created.size, second.created.size]).toEqual([1, 0])
      expect(await one.query('select 1 from run where id = $1', [yours.id])).toEqual([])
    })

    test('again when the first was rolled back makes the second', async () => {
      const workflow = await put([{ name: 'a' }])
      const key = crypto.randomUUID()
      let second: Promise<{ created: Set<string> }> | null = null
      const first = one.transaction(async (tx) => {
        await createRuns(tx, [keyed(workflow, key)], GRACE_MS)
        second = createRuns(two, [keyed(workflow, key)], GRACE_MS)
        await blocked(1)
        throw new Error('on purpose')
      })
      await expect(first).rejects.toThrow('on purpose')
      expect(await second).toMatchObject({ created: { size: 1 } })
    })

    test('the same keys in opposite order from two servers never lock each other out', async () => {
      const workflow = await put([{ name: 'a' }])
      for (let round = 0; round < ROUNDS; round++) {
        const keys = Array.from({ length: 30 }, () => crypto.randomUUID())
        const [x, y] = await Promise.all([
          createRuns(
            one,
            keys.map((k) => keyed(workflow, k)),
            GRACE_MS,
          ),
          createRuns(
            two,
            keys.toReversed().map((k) => keyed(workflow, k)),
            GRACE_MS,
          ),
        ])
        expect(x.created.size + y.created.size).toBe(keys.length)
      }
    })
  })
})
