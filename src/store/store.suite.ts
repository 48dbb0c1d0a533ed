import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { Failure } from '../domain/failure.ts'
import type { Db } from './db.ts'
import { checkSchema, describeSchema, readSchema } from './drift.ts'
import { listEvents } from './events/events.ts'
import { appendSegments, type LogCursor, listSegments, type NewSegment } from './logs/logs.ts'
import { createRuns, findIdempotent } from './runs/create-runs.ts'
import { findStill, rearmSteps } from './runs/read-runs.ts'
import { endSessions, markEmptied, sweepSessions, tickSessions } from './sessions/sessions.ts'
import { claimSteps } from './steps/claim-steps.ts'
import type { LeasedStep } from './steps/complete-steps.ts'
import { heldKey } from './steps/held-key.ts'
import {
  adoptSteps,
  findAttemptFates,
  findDue,
  findHeld,
  findLeaseKeys,
  findOrphans,
  FIRST_DUE,
  FIRST_STEP,
  findStopping,
} from './steps/find-steps.ts'
import { recordStarts } from './steps/record-starts.ts'
import { loadOutputs } from './steps/step-rows.ts'
import { GRACE_MS, LEASE_MS, StoreRig, type StoredWorkflow } from './testing/rig.ts'
import { findToken, putToken, revokeToken, tokenHash } from './tokens/tokens.ts'
import { pruneIdempotencyKeys } from './upkeep.ts'

/** What every store must do: PGlite in process, PostgreSQL over the wire. `open` gives an empty, migrated one. */
export function storeSuite(name: string, open: () => Promise<Db>): void {
  describe(name, () => {
    let db: Db
    let rig: StoreRig
    beforeAll(async () => {
      db = await open()
      rig = new StoreRig(db)
    })
    afterAll(() => db.close())

    const only = (steps: LeasedStep[]): LeasedStep => {
      const [step] = steps
      if (!step || steps.length > 1) throw new Error(`${steps.length} steps were leased, not one`)
      return step
    }
    /** A run of a workflow with its first step leased. */
    const leased = async (workflow: StoredWorkflow) => {
      const runId = await rig.run(workflow)
      const session = await rig.session()
      const step = (await rig.claim(session, workflow)).find((s) => s.runId === runId)
      if (!step) throw new Error('not claimed')
      return { runId, session, step }
    }
    const single = () => rig.put([{ name: 'a' }], { labels: { of: crypto.randomUUID() } })
    /** A workflow whose steps no other test's claims see. */
    const own = (specs: Parameters<StoreRig['put']>[0], extra: Parameters<StoreRig['put']>[1] = {}) =>
      rig.put(
        specs.map((s) => ({ runsOn: { test: crypto.randomUUID() }, ...s })),
        extra,
      )

    describe('definitions', () => {
      test('are kept once under the hash of their content', async () => {
        const spec = [{ name: 'a' }, { name: 'b', needs: ['a'] }]
        const [one, two] = [await rig.put(spec, { name: 'same' }), await rig.put(spec, { name: 'same' })]
        expect(one).toEqual(two)
        expect((await rig.put(spec, { name: 'other' })).hash).not.toBe(one.hash)
        // Equal requirements wait in one queue.
        expect(new Set(one.queues).size).toBe(1)
      })

      test('the same definition from two at once is kept once', async () => {
        const spec = [{ name: 'a', runsOn: { race: 'yes' } }]
        const both = await Promise.all([rig.put(spec, { name: 'race' }), rig.put(spec, { name: 'race' })])
        expect(both[0]).toEqual(both[1])
      })
    })

    describe('creating runs', () => {
      test('many at once, each with its own steps, first event and counters', async () => {
        const workflow = await own([{ name: 'a' }, { name: 'b', needs: ['a'] }])
        const rows = [rig.rowOf(workflow), rig.rowOf(workflow), rig.rowOf(workflow)]
        const { created } = await createRuns(db, rows, GRACE_MS)
        expect([...created].sort()).toEqual(rows.map((r) => r.id))
        for (const { id } of rows) {
          expect(await rig.steps(id, workflow)).toMatchObject({ a: { state: 'queued' }, b: { state: 'pending' } })
          expect(await rig.runRow(id)).toMatchObject({ state: 'pending', open: 2, active: 1, total: 2 })
          expect(await rig.eventSeqs(id)).toEqual([1])
        }
      })

      test('a root is born leased to a live session, and queued when the session has ended', async () => {
        const workflow = await own([{ name: 'a', timeoutMs: 1_000 }, { name: 'b' }])
        const [live, ended] = [await rig.session(), await rig.session()]
        await endSessions(db, [ended], 'worker.left')
        const rows = [live, ended].map((session) => rig.rowOf(workflow, { born: { node: 0, session } }))
        const result = await createRuns(db, rows, GRACE_MS)
        expect(result.leased).toEqual([{ runId: rows[0]?.id, node: 0, session: live }])
        const steps = await rig.steps(rows[0]?.id ?? '', workflow)
        expect(steps).toMatchObject({ a: { state: 'running', fence: 1, session: live }, b: { state: 'queued' } })
        expect(steps['a']?.due_at).not.toBeNull()
        expect(await rig.steps(rows[1]?.id ?? '', workflow)).toMatchObject({ a: { state: 'queued', fence: 0 } })
      })

      test('an idempotency key makes one run, also when it comes twice in one batch', async () => {
        const workflow = await single()
        const idempotency = { scope: 'tok', key: crypto.randomUUID(), fingerprint: 'f' }
        const rows = [rig.rowOf(workflow, { idempotency }), rig.rowOf(workflow, { idempotency })]
        const { created } = await createRuns(db, rows, GRACE_MS)
        expect(created.size).toBe(1)
        const again = await createRuns(db, [rig.rowOf(workflow, { idempotency })], GRACE_MS)
        expect(again.created.size).toBe(0)
        expect(await findIdempotent(db, [idempotency])).toEqual([{ ...idempotency, runId: [...created][0] }])
        // The same key of another token is another key.
        const other = rig.rowOf(workflow, { idempotency: { ...idempotency, scope: 'tok_2' } })
        expect((await createRuns(db, [other], GRACE_MS)).created.size).toBe(1)
      })

      test('keys are forgotten when they are old', async () => {
        const key = { scope: 'old', key: crypto.randomUUID(), fingerprint: 'f' }
        await createRuns(db, [rig.rowOf(await single(), { idempotency: key })], GRACE_MS)
        await db.query(`update idempotency_key set created_at = created_at - interval '2 days' where scope = 'old'`)
        expect(await pruneIdempotencyKeys(db, 86_400_000, 100)).toBe(1)
        expect(await findIdempotent(db, [key])).toEqual([])
      })
    })

    describe('claiming', () => {
      test('takes the oldest first, no more than the limit, and nothing twice', async () => {
        const workflow = await own([{ name: 'a' }])
        const runs = [await rig.run(workflow), await rig.run(workflow), await rig.run(workflow)]
        const session = await rig.session()
        expect((await rig.claim(session, workflow, 2)).map((s) => s.runId)).toEqual(runs.slice(0, 2))
        expect((await rig.claim(session, workflow, 2)).map((s) => s.runId)).toEqual(runs.slice(2))
        expect(await rig.claim(session, workflow, 2)).toEqual([])
        expect(await rig.steps(runs[0] ?? '', workflow)).toMatchObject({ a: { state: 'running', session, fence: 1 } })
      })

      test('looks at nothing before the low-water mark, and only at the queues that are asked for', async () => {
        const workflow = await own([{ name: 'a' }, { name: 'b' }])
        const [first, second] = [await rig.run(workflow), await rig.run(workflow)]
        const session = await rig.session()
        const [queue] = workflow.queues
        const claim = { session, queues: [queue ?? 0], limit: 9, from: second, graceMs: GRACE_MS }
        expect((await claimSteps(db, claim)).map((s) => [s.runId, s.node])).toEqual([[second, 0]])
        expect(await rig.steps(first, workflow)).toMatchObject({ a: { state: 'queued' }, b: { state: 'queued' } })
      })

      test('several queues share one limit', async () => {
        const workflow = await own([{ name: 'a' }, { name: 'b' }, { name: 'c' }])
        await rig.run(workflow)
        expect(await rig.claim(await rig.session(), workflow, 2)).toHaveLength(2)
      })

      test('a session that has ended gets nothing', async () => {
        const workflow = await own([{ name: 'a' }])
        const runId = await rig.run(workflow)
        const session = await rig.session()
        await endSessions(db, [session], 'worker.lost')
        expect(await rig.claim(session, workflow)).toEqual([])
        expect(await rig.steps(runId, workflow)).toMatchObject({ a: { state: 'queued', fence: 0 } })
      })

      test('what a step needs comes with it: inputs only when its work reads them', async () => {
        const workflow = await own([{ name: 'a', with: '${{ inputs.x }}' }, { name: 'b' }])
        await rig.run(workflow, { x: 7 })
        const steps = await rig.claim(await rig.session(), workflow)
        expect(steps.map((s) => s.inputs)).toEqual([{ x: 7 }, null])
      })
    })

    describe('completing', () => {
      test('records the output, readies what depends on it, counts, writes one event, ends the run', async () => {
        const workflow = await own([{ name: 'a' }, { name: 'b', needs: ['a'] }])
        const { runId, session, step } = await leased(workflow)
        const first = await rig.complete([rig.done(step, { x: 1 })])
        expect(first.done).toEqual(new Set([heldKey(step)]))
        expect(first.queued).toEqual([workflow.queues[1]])
        expect(await rig.steps(runId, workflow)).toMatchObject({
          a: { output: { x: 1 } },
          b: { state: 'queued', ok: 1 },
        })
        expect(await rig.runRow(runId)).toMatchObject({ state: 'running', open: 1, active: 1 })
        const second = await rig.complete([rig.done(only(await rig.claim(session, workflow)))])
        expect(second.ended).toEqual([{ runId, state: 'succeeded' }])
        expect(await rig.runRow(runId)).toMatchObject({ state: 'succeeded', open: 0, active: 0, ended: true })
        expect(await rig.eventSeqs(runId)).toEqual([1, 2, 3])
        expect(await rig.transitions(runId)).toEqual([
          'run>pending',
          'run>running',
          'a>running',
          'a>succeeded',
          'b>queued',
          'b>running',
          'b>succeeded',
          'run>succeeded',
        ])
      })

      test('leases what became ready to the session that reported, within its room', async () => {
        const runsOn = { test: crypto.randomUUID() }
        const needs = ['a']
        const workflow = await rig.put([
          { name: 'a', runsOn },
          { name: 'b', needs, runsOn },
          { name: 'c', needs, runsOn },
          { name: 'd', needs, runsOn: { test: 'elsewhere' } },
        ])
        const { runId, session, step } = await leased(workflow)
        const room = { session, slots: 1, queues: [workflow.queues[0] ?? 0] }
        const result = await rig.complete([rig.done(step)], [room])
        expect(result.leased).toMatchObject([{ runId, node: 1, fence: 1, session }])
        expect(await rig.steps(runId, workflow)).toMatchObject({
          b: { state: 'running', session, fence: 1 },
          c: { state: 'queued', session: null },
          d: { state: 'queued', session: null },
        })
      })

      test('a decided successor is left to the pure function, with a due time should nobody look', async () => {
        const workflow = await own([{ name: 'a' }, { name: 'b', needs: ['a'], if: 'true' }])
        const { runId, session, step } = await leased(workflow)
        const room = { session, slots: 9, queues: workflow.queues }
        expect(await rig.complete([rig.done(step)], [room])).toMatchObject({ leased: [], owed: [{ runId, node: 1 }] })
        expect(
          (await findDue(db, { after: FIRST_DUE, limit: 1_000 })).some((d) => d.runId === runId && d.node === 1),
        ).toBe(true)
      })

      test('both needs of a join in one batch fire it once', async () => {
        const runsOn = { test: crypto.randomUUID() }
        const workflow = await rig.put([
          { name: 'a', runsOn },
          { name: 'b', runsOn },
          { name: 'c', runsOn, needs: ['a', 'b'] },
        ])
        const runId = await rig.run(workflow)
        const session = await rig.session()
        const result = await rig.complete((await rig.claim(session, workflow)).map((s) => rig.done(s)))
        expect(result.queued).toHaveLength(1)
        expect(await rig.steps(runId, workflow)).toMatchObject({ c: { state: 'queued', ok: 2 } })
        expect(await rig.runRow(runId)).toMatchObject({ open: 1, active: 1 })
      })

      test('steps of many runs in one batch: each run has its own counters and event', async () => {
        const workflow = await own([{ name: 'a' }])
        const runs = await Promise.all(Array.from({ length: 5 }, () => rig.run(workflow)))
        const steps = await rig.claim(await rig.session(), workflow)
        const result = await rig.complete(steps.toReversed().map((s) => rig.done(s)))
        expect(result.ended.map((e) => e.runId).sort()).toEqual(runs.sort())
        for (const runId of runs) expect(await rig.eventSeqs(runId)).toEqual([1, 2])
      })

      test.each([
        ['another fence', { fence: 2 }],
        ['a session that never had it', { session: 'ses_other' }],
        ['a step that does not exist', { node: 77 }],
        ['an activation that does not exist', { path: '00001' }],
        ['a run that does not exist', { runId: 'run_none' }],
      ])('%s writes nothing', async (_, wrong) => {
        const workflow = await own([{ name: 'a' }])
        const { runId, step } = await leased(workflow)
        expect((await rig.complete([{ ...rig.done(step), ...wrong }])).done.size).toBe(0)
        expect(await rig.steps(runId, workflow)).toMatchObject({ a: { state: 'running', output: null } })
        expect(await rig.eventSeqs(runId)).toEqual([1])
      })

      test('one bad item does not keep the others of its batch from being recorded', async () => {
        const workflow = await own([{ name: 'a' }])
        const { runId, step } = await leased(workflow)
        const result = await rig.complete([
          { ...rig.done(step), fence: 9 },
          rig.done(step),
          { ...rig.done(step), node: 5 },
        ])
        expect(result.done).toEqual(new Set([heldKey(step)]))
        expect(await rig.runRow(runId)).toMatchObject({ state: 'succeeded', open: 0, active: 0 })
      })

      test('a session that has ended cannot report', async () => {
        const workflow = await own([{ name: 'a' }])
        const { runId, session, step } = await leased(workflow)
        await endSessions(db, [session], 'worker.lost')
        expect((await rig.complete([rig.done(step)])).done.size).toBe(0)
        expect(await rig.steps(runId, workflow)).toMatchObject({ a: { state: 'running' } })
      })

      test('the same report twice is recorded once', async () => {
        const workflow = await own([{ name: 'a' }, { name: 'b', needs: ['a'] }])
        const { runId, step } = await leased(workflow)
        await rig.complete([rig.done(step, 'first')])
        expect((await rig.complete([rig.done(step, 'second')])).done.size).toBe(0)
        expect(await rig.steps(runId, workflow)).toMatchObject({ a: { output: 'first' }, b: { ok: 1 } })
        expect(await findAttemptFates(db, [step])).toMatchObject([{ mine: true, state: 'succeeded' }])
      })

      test('a run that has ended or is being stopped is left to the pure function', async () => {
        const workflow = await own([{ name: 'a' }])
        const { runId, session, step } = await leased(workflow)
        await db.query(`update run set stop = 'cancel' where id = $1`, [runId])
        expect((await rig.complete([rig.done(step)])).done.size).toBe(0)
        expect(await findStopping(db, [session])).toEqual([{ runId, node: 0, path: '', fence: 1, session }])
        expect(await findAttemptFates(db, [step])).toMatchObject([{ mine: true, state: 'running', stopping: true }])
        await db.query(`update run set stop = null, ended_at = clock_now() where id = $1`, [runId])
        expect((await rig.complete([rig.done(step)])).done.size).toBe(0)
      })

      test('a large output has a table of its own and reads the same', async () => {
        const workflow = await own([{ name: 'a' }, { name: 'b' }])
        const { runId, session } = await leased(workflow)
        const text = 'ä'.repeat(6_000)
        for (const held of await findHeld(db, [session]))
          await rig.complete([rig.done(held, held.node === 0 ? text : 1)])
        expect(await rig.steps(runId, workflow)).toMatchObject({
          a: { output: null, output_large: true },
          b: { output: 1, output_large: false },
        })
        const outputs = await loadOutputs(db, [
          { runId, node: 0 },
          { runId, node: 1 },
        ])
        expect(outputs.map((o) => o.output)).toEqual([text, 1])
      })
    })

    describe('starts', () => {
      test('are recorded once, under session and fence, with one event', async () => {
        const workflow = await own([{ name: 'a' }])
        const { runId, step } = await leased(workflow)
        const start = { ...step, startedAgoMs: 5 }
        const wrong = { ...start, fence: 2 }
        expect(await recordStarts(db, [start, wrong])).toEqual(new Set([heldKey(step)]))
        expect(await recordStarts(db, [start])).toEqual(new Set([heldKey(step)]))
        expect(await rig.transitions(runId)).toEqual(['run>pending', 'run>running', 'a>running'])
        await rig.complete([rig.done(step)])
        // That it began is told once.
        expect((await rig.transitions(runId)).slice(3)).toEqual(['a>succeeded', 'run>succeeded'])
      })
    })

    describe('sessions', () => {
      const tick = (
        server: string,
        seen: string[],
        known = seen,
        tokens: string[] = [],
        asked: { lookouts?: ReadonlyMap<number, string>; asksRunning?: boolean } = {},
      ) =>
        tickSessions(db, {
          server,
          version: '0',
          address: null,
          seen: seen.map((session) => ({ session, held: 0, draining: false })),
          known,
          tokens,
          leaseMs: LEASE_MS,
          deafMs: null,
          lookouts: asked.lookouts ?? new Map(),
          asksRunning: asked.asksRunning ?? true,
        })
      test('of the tokens asked about, those that are revoked, expired or unknown are told', async () => {
        for (const id of ['good', 'revoked', 'expired'])
          await putToken(db, { id, name: id, secret: `secret-${id}`, role: 'worker', namespaces: null })
        await revokeToken(db, 'revoked')
        await db.query(`update token set expires_at = clock_now() - interval '1 s' where id = 'expired'`)
        const hashes = ['good', 'revoked', 'expired', 'unknown'].map((id) => tokenHash(`secret-${id}`))
        const { badTokens } = await tick('srv_1', [], [], hashes)
        expect(badTokens.toSorted()).toEqual(hashes.slice(1).toSorted())
      })

      test('whether a step runs is told', async () => {
        await db.query(`update step set state = 'canceled' where state = 'running'`)
        expect((await tick('srv_1', [])).hasRunning).toBe(false)
        const workflow = await rig.put([{ name: 'a' }])
        await rig.run(workflow)
        await rig.claim(await rig.session(), workflow)
        expect((await tick('srv_1', [])).hasRunning).toBe(true)
        expect((await tick('srv_1', [], [], [], { asksRunning: false })).hasRunning).toBeNull()
      })

      test('of the queues asked about those are told that hold something, from the run on that is named', async () => {
        const workflow = await own([{ name: 'a' }])
        const runId = await rig.run(workflow)
        const [step] = await db.query<{ queue_id: number }>(`select queue_id from step where run_id = $1`, [runId])
        const queue = step?.queue_id ?? 0
        const queued = async (from: string) =>
          (await tick('srv_1', [], [], [], { lookouts: new Map([[queue, from]]) })).queued
        expect(await queued('')).toEqual([queue])
        expect(await queued(runId)).toEqual([queue])
        expect(await queued(`${runId}z`)).toEqual([])
        expect((await tick('srv_1', [])).queued).toEqual([])
      })

      test('what a session held that ended is looked for until it holds nothing and has been over for an hour', async () => {
        const workflow = await own([{ name: 'a' }])
        const runId = await rig.run(workflow)
        const session = await rig.session()
        await rig.claim(session, workflow)
        await endSessions(db, [session], 'worker.lost')
        const orphans = async () =>
          (await findOrphans(db, { after: FIRST_STEP, limit: 100 })).filter((o) => o.session === session)
        await db.query(`update session set ended_at = clock_now() - interval '2 hours' where id = $1`, [session])
        await markEmptied(db)
        expect(await orphans()).toMatchObject([{ runId, code: 'worker.lost' }])
        expect((await tick('srv_1', [])).hasOrphans).toBe(true)
        await db.query(`update step set state = 'canceled' where run_id = $1`, [runId])
        await db.query(`update session set ended_at = clock_now() where id = $1`, [session])
        const emptied = async () =>
          (await db.query<{ emptied: boolean }>(`select emptied from session where id = $1`, [session]))[0]?.emptied
        await markEmptied(db)
        expect(await emptied()).toBe(false)
        await db.query(`update session set ended_at = clock_now() - interval '2 hours' where id = $1`, [session])
        await markEmptied(db)
        expect(await emptied()).toBe(true)
      })

      test('a step that nobody needs any more is told of, whatever its run does', async () => {
        const workflow = await own([{ name: 'a' }])
        const runId = await rig.run(workflow)
        const session = await rig.session()
        await rig.claim(session, workflow)
        expect(await findStopping(db, [session])).toEqual([])
        await db.query(`update step set stopping = true where run_id = $1`, [runId])
        expect(await findStopping(db, [session])).toMatchObject([{ runId, node: 0, session }])
      })

      const expire = (id: string) =>
        db.query(`update session set expires_at = clock_now() - interval '1 s' where id = $1`, [id])

      test('a tick renews those that were heard of and names those whose lease ran out', async () => {
        const [heard, silent] = [await rig.session(), await rig.session()]
        await expire(heard)
        await expire(silent)
        const row = await tick('srv_1', [heard])
        expect(row.expired).toContain(silent)
        expect(row.expired).not.toContain(heard)
        expect((await tick('srv_1', [])).expired).not.toContain(heard)
        await endSessions(db, [heard, silent], 'worker.left')
      })

      test('a tick names the sessions of this server that are gone', async () => {
        const [live, ended] = [await rig.session(), await rig.session()]
        await endSessions(db, [ended], 'worker.lost')
        expect((await tick('srv_1', [], [live, ended, 'ses_unknown'])).gone.sort()).toEqual(
          [ended, 'ses_unknown'].sort(),
        )
      })

      test('a session that has ended cannot be renewed', async () => {
        const session = await rig.session()
        await endSessions(db, [session], 'worker.lost')
        expect((await tick('srv_1', [session])).gone).toEqual([session])
      })

      test('servers see each other', async () => {
        await tick('srv_1', [])
        expect((await tick('srv_2', [])).servers).toBe(2)
      })

      test('the sweep spares a lease that was renewed meanwhile', async () => {
        const [renewed, expired] = [await rig.session(), await rig.session()]
        await expire(expired)
        expect(await sweepSessions(db, [renewed, expired])).toEqual([expired])
        expect(await sweepSessions(db, [renewed, expired])).toEqual([])
      })

      test('what an ended session holds is found, with the reason', async () => {
        const workflow = await own([{ name: 'a' }])
        const { runId, session, step } = await leased(workflow)
        await endSessions(db, [session], 'worker.restarted')
        const orphans = (await findOrphans(db, { after: FIRST_STEP, limit: 100 })).filter((o) => o.runId === runId)
        expect(orphans).toMatchObject([{ node: 0, path: '', fence: step.fence, session, code: 'worker.restarted' }])
      })

      test('pages that go on behind the last one come to each due step and each orphan once, though none of them moves', async () => {
        const names = [{ name: 'a' }, { name: 'b' }, { name: 'c' }]
        const due = await rig.run(await own(names.map((n) => ({ ...n, if: 'true' })))) // at one instant
        const { runId: orphaned, session } = await leased(await own(names))
        await endSessions(db, [session], 'worker.lost')
        const found: string[] = []
        for (let at = FIRST_DUE, page = [at]; page.length > 0; at = page[0] ?? at) {
          page = await findDue(db, { after: at, limit: 1 })
          found.push(...page.filter((s) => s.runId === due).map((s) => `due ${s.node}`))
        }
        for (let at = FIRST_STEP, page = [at]; page.length > 0; at = page[0] ?? at) {
          page = await findOrphans(db, { after: at, limit: 1 })
          found.push(...page.filter((s) => s.runId === orphaned).map((s) => `orphan ${s.node}`))
        }
        expect(found).toEqual(['due 0', 'due 1', 'due 2', 'orphan 0', 'orphan 1', 'orphan 2'])
      })

      test('adoption moves what the former session still holds under that fence, while both live', async () => {
        const workflow = await own([{ name: 'a' }, { name: 'b' }])
        const { runId, session: from } = await leased(workflow)
        const to = await rig.session()
        const steps = [
          { runId, node: 0, path: '', fence: 1 },
          { runId, node: 1, path: '', fence: 7 },
        ]
        expect(await adoptSteps(db, { from, to, steps })).toEqual(steps.slice(0, 1))
        expect(await findHeld(db, [to])).toMatchObject([{ runId, node: 0, session: to }])
        await endSessions(db, [from], 'worker.restarted')
        const late = [{ runId, node: 1, path: '', fence: 1 }]
        expect(await adoptSteps(db, { from, to, steps: late })).toEqual([])
      })

      test('leases are listed once they are old enough', async () => {
        const workflow = await own([{ name: 'a' }])
        const { runId, session } = await leased(workflow)
        expect(await findLeaseKeys(db, { sessions: [session], olderThanMs: 60_000 })).toEqual([])
        await db.query(`update step set leased_at = leased_at - interval '1 hour' where run_id = $1`, [runId])
        expect(await findLeaseKeys(db, { sessions: [session], olderThanMs: 60_000 })).toMatchObject([
          { runId, node: 0, path: '', fence: 1, session, begun: false },
        ])
      })
    })

    describe('repair', () => {
      test('steps that could run and were forgotten are armed again, others are not', async () => {
        const workflow = await own([{ name: 'a' }, { name: 'b', needs: ['a'] }, { name: 'c', needs: ['a'] }])
        const runId = await rig.run(workflow)
        await db.query(`update step set ok = 1 where run_id = $1 and node = 1`, [runId])
        await db.query(`update run set moved_at = moved_at - interval '1 hour' where id = $1`, [runId])
        expect((await findStill(db, { stillMs: 60_000, after: '', limit: 500 })).some((r) => r.id === runId)).toBe(true)
        expect(await rearmSteps(db, runId, [])).toEqual([{ node: 1, path: '' }])
        expect(await rearmSteps(db, runId, [])).toEqual([])
      })

      test('steps of a ring are, unless one of them waits for something', async () => {
        const workflow = await own([{ name: 'x' }, { name: 'a', needs: ['x'], next: ['b'] }, { name: 'b' }])
        const runId = await rig.run(workflow)
        const rings = [[1, 2]]
        const both = [
          { node: 1, path: '' },
          { node: 2, path: '' },
        ]
        const set = async (columns: string, nodes: number[]) => {
          await db.query(`update step set due_at = null, ${columns} where run_id = $1 and node = any($2::int[])`, [
            runId,
            nodes,
          ])
          return (await rearmSteps(db, runId, rings)).sort((p, q) => p.node - q.node)
        }
        expect(await set('ok = 0', [1, 2])).toEqual([])
        expect(await set('bad = 1', [1])).toEqual([{ node: 1, path: '' }])
        expect(await set('bad = 0, ok = need', [1, 2])).toEqual(both)
        expect(await set(`state = 'waiting', waits = 'children', ok = 0, total = 1`, [1, 2])).toEqual([])
        await set('ok = 1', [1])
        expect(await set('total = 0', [2])).toEqual(both)
        expect(await set('ok = total', [1, 2])).toEqual(both)
      })
    })

    describe('events and logs', () => {
      test('events are read after a number, a page at a time', async () => {
        const workflow = await own([{ name: 'a' }])
        const { runId, step } = await leased(workflow)
        await recordStarts(db, [{ ...step, startedAgoMs: 0 }])
        await rig.complete([rig.done(step)])
        expect((await listEvents(db, runId, 0, 2)).map((e) => e.seq)).toEqual([1, 2])
        expect((await listEvents(db, runId, 2, 2)).map((e) => e.seq)).toEqual([3])
      })

      const segment = (step: LeasedStep, index: number, extra: Partial<NewSegment> = {}): NewSegment => ({
        ...step,
        index,
        stream: 'stdout',
        agoMs: 0,
        text: `line ${index}\n`,
        ...extra,
      })

      test('segments are kept once, and only from whoever holds the step', async () => {
        const workflow = await own([{ name: 'a' }])
        const { runId, step } = await leased(workflow)
        const kept = await appendSegments(db, [segment(step, 1), segment(step, 2), segment(step, 1, { text: 'again' })])
        expect(kept).toEqual(new Set([heldKey(step)]))
        expect((await appendSegments(db, [segment(step, 3, { fence: 2 })])).size).toBe(0)
        expect((await appendSegments(db, [segment(step, 3, { session: 'ses_other' })])).size).toBe(0)
        await appendSegments(db, [segment(step, 2, { text: 'again' })])
        const rows = await listSegments(db, { runId, node: null, path: null, after: null, limit: 10 })
        expect(rows.map((r) => r.body)).toEqual(['line 1\n', 'line 2\n'])
      })

      test('a cursor gives out everything once, whatever the page', async () => {
        const workflow = await own([{ name: 'a' }, { name: 'b' }])
        const { runId, session } = await leased(workflow)
        const held = await findHeld(db, [session])
        for (let i = 1; i <= 4; i++)
          await appendSegments(
            db,
            held.flatMap((h) => [segment(h, 2 * i), segment(h, 2 * i + 1)]),
          )
        const all: string[] = []
        let after: LogCursor | null = null
        for (;;) {
          const page = await listSegments(db, { runId, node: null, path: null, after, limit: 3 })
          const last = page.at(-1)
          if (!last) break
          all.push(...page.map((r) => `${r.node} ${r.body}`))
          after = { ...last, recordedAt: last.recorded_at.getTime() }
        }
        expect(all).toHaveLength(16)
        expect(new Set(all).size).toBe(16)
      })
    })

    describe('tokens', () => {
      const admin = { name: 'a', role: 'admin', namespaces: null } as const

      test('are found by their secret until they are revoked or expire', async () => {
        await putToken(db, { ...admin, id: 'tok_1', secret: 'one' })
        await putToken(db, { ...admin, id: 'tok_2', secret: 'two', role: 'worker', namespaces: ['x'] })
        expect(await findToken(db, 'one')).toEqual({ id: 'tok_1', role: 'admin', organisation: '*', reach: null })
        expect(await findToken(db, 'two')).toEqual({
          id: 'tok_2',
          role: 'worker',
          organisation: 'default',
          reach: ['x'],
        })
        expect(await findToken(db, 'three')).toBeNull()
        expect(await revokeToken(db, 'tok_1')).toBe(true)
        expect(await revokeToken(db, 'tok_1')).toBe(false)
        expect(await findToken(db, 'one')).toBeNull()
        await db.query(`update token set expires_at = clock_now() - interval '1 ms' where id = 'tok_2'`)
        expect(await findToken(db, 'two')).toBeNull()
      })

      test('the same secret is kept once, and nowhere in clear', async () => {
        await putToken(db, { ...admin, id: 'tok_3', secret: 'same-secret' })
        await putToken(db, { ...admin, id: 'tok_4', secret: 'same-secret' })
        expect((await findToken(db, 'same-secret'))?.id).toBe('tok_3')
        expect(JSON.stringify(await db.query('select * from token'))).not.toContain('same-secret')
      })
    })

    describe('the schema', () => {
      test('is the one that is written down', async () => {
        expect(await describeSchema(db)).toEqual(await readSchema())
        await checkSchema(db, silentLog)
      })

      test('what is missing refuses to start, what is added is told', async () => {
        const warned: unknown[] = []
        const log = { ...silentLog, warn: (_: string, fields?: unknown) => void warned.push(fields) }
        await db.query('create index by_hand on run (workflow)')
        await checkSchema(db, log)
        expect(warned).toEqual([{ extra: [expect.stringContaining('index by_hand') as string] }])
        await db.query('drop index by_hand')
        await db.query('drop index session_live')
        const error: unknown = await checkSchema(db, log).catch((e: unknown) => e)
        expect(error).toBeInstanceOf(Failure)
        expect(error).toMatchObject({
          code: 'storage.schema_drift',
          evidence: { missing: [expect.stringContaining('index session_live') as string] },
        })
        await db.query(`create index session_live on session (id) where state = 'live'`)
        await checkSchema(db, log)
      })
    })

    describe('transactions', () => {
      test('one that throws leaves nothing', async () => {
        const workflow = await own([{ name: 'a' }])
        const row = rig.rowOf(workflow)
        const work = db.transaction(async (tx) => {
          await createRuns(tx, [row], GRACE_MS)
          throw new Error('on purpose')
        })
        await expect(work).rejects.toThrow('on purpose')
        expect(await db.query('select 1 from run where id = $1', [row.id])).toEqual([])
      })

      test('numbers, times and nulls come back as they are', async () => {
        const [row] = await db.query(
          `select 9007199254740991::bigint as big, '2026-01-02T03:04:05.678Z'::timestamptz as at, null::text as nothing, '{"a":[1]}'::jsonb as json`,
        )
        expect(row).toEqual({
          big: Number.MAX_SAFE_INTEGER,
          at: new Date('2026-01-02T03:04:05.678Z'),
          nothing: null,
          json: { a: [1] },
        })
      })
    })
  })
}
