import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { JournalEntry, ServerEntry } from '../../domain/agents/journal.ts'
import { agentNode, definitionOf } from '../../domain/testing/definitions.ts'
import type { Db } from '../db.ts'
import { type HeldCount, holdCounters, lockCounters, makeCounters } from '../budgets/counters.ts'
import { putHolds } from '../budgets/holds.ts'
import { recordSpending } from '../budgets/spending.ts'
import { putDefinition } from '../definitions/put-definition.ts'
import { readResourceClock } from '../resources/resource-clock.ts'
import { endSessions } from '../sessions/sessions.ts'
import type { LeasedStep } from '../steps/complete-steps.ts'
import { StoreRig } from '../testing/rig.ts'
import { type AppendAt, appendAt } from './append-at.ts'
import { appendEntries, appendServerEntries } from './append-entries.ts'
import { findJournalFrom } from './find-journal-from.ts'
import { holdSteps } from './hold-steps.ts'
import { findAppended, findAskedModels, findCallOfChild, listEntries } from './read-entries.ts'

const noted = (turn: number): JournalEntry => ({ kind: 'handed_over', turn, from: 'a', to: 'b' })
const asked = (call: string, endpoint = 'gpt'): JournalEntry => ({
  ...{ kind: 'model_asked', call, turn: 1, purpose: 'turn', agent: 'writer', endpoint },
  tokens: { input: 1, output: 2 },
})
const started = (call: string, run: string): ServerEntry => ({ kind: 'child_started', call, run })

/** Journals, on any store. */
export function journalSuite(name: string, open: () => Promise<Db>): void {
  describe(name, () => {
    let db: Db
    let rig: StoreRig
    let made = 0
    beforeAll(async () => {
      db = await open()
      rig = new StoreRig(db)
    })
    afterAll(() => db.close())

    /** A step of an agent that a session holds. */
    async function lease(): Promise<LeasedStep> {
      const workflow = await rig.put([{ name: 'a', runsOn: { test: `journal-${++made}` } }])
      await rig.run(workflow)
      const [step] = await rig.claim(await rig.session(), workflow)
      if (!step) throw new Error('nothing was leased')
      return step
    }
    const append = (step: LeasedStep, n: number, ...entries: JournalEntry[]) =>
      appendEntries(db, [{ ...step, n, entries }])
    const page = async (step: LeasedStep, more: Partial<Parameters<typeof listEntries>[1]> = {}) =>
      listEntries(db, { ...step, from: 1, limit: 100, bytes: 1_000_000, counting: true, ...more })
    const seqs = async (step: LeasedStep) => (await page(step)).map((e) => e.seq)

    test('an agent has a queue of its own kind', async () => {
      const hash = await putDefinition(db, definitionOf([agentNode('write')], { name: 'journal-queue' }))
      const [row] = await db.query<{ backend: string }>(
        `select q.requirements->>'backend' as backend from definition_node n join queue q on q.id = n.queue_id where n.definition = $1`,
        [hash],
      )
      expect(row?.backend).toBe('agent')
    })

    test('entries are numbered from 1 without a gap, by whoever they were written', async () => {
      const step = await lease()
      expect(await append(step, 1, noted(1), noted(2))).toEqual([2])
      await appendServerEntries(db, step.runId, [
        { ...step, entry: started('c', 'run_1') },
        { ...step, entry: started('d', 'run_2') },
      ])
      expect(await append(step, 2, noted(3))).toEqual([1])
      expect((await page(step)).map(({ seq, fence, entry }) => [seq, fence, entry.kind])).toEqual([
        [1, 1, 'handed_over'],
        [2, 1, 'handed_over'],
        [3, 1, 'child_started'],
        [4, 1, 'child_started'],
        [5, 1, 'handed_over'],
      ])
    })

    test('the same number again is not written again, but for what is new at its end', async () => {
      const step = await lease()
      await append(step, 1, noted(1))
      await appendServerEntries(db, step.runId, [{ ...step, entry: started('c', 'run_1') }])
      expect(await append(step, 1, noted(1))).toEqual([0])
      expect(await append(step, 1, noted(1), noted(2))).toEqual([1])
      await append(step, 2, noted(3))
      expect(await append(step, 1, noted(1), noted(2), noted(9))).toEqual([0])
      expect(await seqs(step)).toEqual([1, 2, 3, 4])
      expect(await findAppended(db, { ...step, n: 1 })).toEqual([noted(1), noted(2)])
    })

    test('many at once each have their own numbers', async () => {
      const steps = [await lease(), await lease(), await lease()]
      expect(
        await appendEntries(
          db,
          steps.map((step, i) => ({ ...step, n: 1, entries: [noted(1), noted(i)].slice(i % 2) })),
        ),
      ).toEqual([2, 1, 2])
      expect(await Promise.all(steps.map(seqs))).toEqual([[1, 2], [1], [1, 2]])
    })

    test.each(['another fence', 'another session', 'a step that was given back', 'a session that has ended'])(
      'under %s nothing is held',
      async (what) => {
        const step = await lease()
        const attempt = {
          ...step,
          fence: what === 'another fence' ? step.fence + 1 : step.fence,
          session: what === 'another session' ? await rig.session() : step.session,
        }
        if (what === 'a step that was given back')
          await db.query(`update step set state = 'queued', session = null where run_id = $1`, [step.runId])
        if (what === 'a session that has ended') await endSessions(db, [step.session], 'worker.lost')
        expect(await db.transaction((tx) => holdSteps(tx, [attempt]))).toEqual([])
        // Its session is looked at by the one statement, the rest by both.
        if (what !== 'a session that has ended') expect(await append(attempt, 1, noted(1))).toEqual([0])
      },
    )

    describe('at a version of the resources', () => {
      const at = async (...appends: AppendAt[]) => {
        const { version } = await readResourceClock(db)
        const said = await appendAt(db, version, appends)
        expect(said.version).toBe(version)
        return said.outcomes
      }
      const origin = { namespace: 'default', workflows: ['top', 'w'], labels: { team: 'a' } }
      const ended = (call: string, runId: string) => ({
        call,
        spending: {
          origin: { ...origin, runId, rootRun: runId },
          ...{ endpoint: 'other', model: 'm' },
          ...{
            tokens: { input: 3, output: 4, cachedInput: 1, cacheWrite: 2 },
            cost: { nanos: 5, currency: 'EUR' },
            isUncovered: false,
          },
        },
      })

      test('entries of many are written behind what is there, each under its own hold', async () => {
        const [one, two, lost] = [await lease(), await lease(), await lease()]
        await append(two, 1, noted(1))
        await db.query(`update step set state = 'queued', session = null where run_id = $1`, [lost.runId])
        expect(
          await at(
            { ...one, n: 1, entries: [noted(1), noted(2)], ended: [] },
            { ...two, n: 2, entries: [noted(2)], ended: [] },
            { ...lost, n: 1, entries: [noted(1)], ended: [] },
          ),
        ).toEqual(['recorded', 'recorded', null])
        expect(await Promise.all([one, two, lost].map(seqs))).toEqual([[1, 2], [1, 2], []])
        expect((await page(one)).map(({ fence, entry }) => [fence, entry])).toEqual([
          [1, noted(1)],
          [1, noted(2)],
        ])
      })

      test.each(['another fence', 'another session', 'a session that has ended'])(
        'under %s nothing is written',
        async (what) => {
          const step = await lease()
          if (what === 'a session that has ended') await endSessions(db, [step.session], 'worker.lost')
          const fence = what === 'another fence' ? step.fence + 1 : step.fence
          const session = what === 'another session' ? await rig.session() : step.session
          expect(await at({ ...step, fence, session, n: 1, entries: [noted(1)], ended: [] })).toEqual([null])
          expect(await seqs(step)).toEqual([])
        },
      )

      test('a number that came before is known, and nothing is written for it', async () => {
        const step = await lease()
        await append(step, 1, noted(1))
        await appendServerEntries(db, step.runId, [{ ...step, entry: started('c', 'run_1') }])
        const again = { ...step, n: 1, entries: [noted(1), noted(2)], ended: [ended('m1', step.runId)] }
        expect(await at(again)).toEqual(['known'])
        expect(await at({ ...step, n: 2, entries: [noted(3)], ended: [] })).toEqual(['recorded'])
        expect(await at(again)).toEqual(['known'])
        expect(await seqs(step)).toEqual([1, 2, 3])
      })

      test('at another version nothing is written, and it is told which', async () => {
        const step = await lease()
        await append(step, 1, asked('m1'))
        const { version } = await readResourceClock(db)
        const one = { ...step, n: 2, entries: [noted(1)], ended: [ended('m1', step.runId)] }
        expect(await appendAt(db, version + 1, [one])).toEqual({ version, countsHold: true, outcomes: [null] })
        expect(await seqs(step)).toEqual([1])
        expect(await db.query(`select 1 from spending where run_id = $1`, [step.runId])).toEqual([])
      })

      describe('by a count', () => {
        let budget = 0
        const count = async (): Promise<HeldCount> => {
          const key = { budget: `res_${++budget}`, key: 'k' }
          await makeCounters(db, [key])
          const [locked] = await db.transaction((tx) => lockCounters(tx, [key]))
          const [row] = await db.query<{ mark: string }>(`select pg_snapshot_xmin(pg_current_snapshot())::text as mark`)
          if (!locked || !row) throw new Error('not counted')
          const counts = { namespace: `ns-${budget}`, selector: {}, rootRun: null }
          return { ...locked, ...counts, mark: row.mark, until: null }
        }
        const holdOf = (call: string, step: LeasedStep, tokens = 5) => ({
          ...{ call, agent: 'writer', endpoint: 'gpt', tokens, cost: { nanos: 6, currency: 'EUR' } },
          origin: { ...origin, runId: step.runId, rootRun: step.runId },
        })
        const holdsOf = (step: LeasedStep) =>
          db.query(
            `select call, namespace, root_run = run_id as top, workflows, labels, agent, endpoint, tokens, nanos, currency,
                    extract(epoch from expires_at - clock_now())::int as seconds
               from spending_hold where run_id = $1 order by call`,
            [step.runId],
          )
        const setAside = async (steps: LeasedStep[], counts: HeldCount[], n = 1) => {
          const { version } = await readResourceClock(db)
          const appends = steps.map((step) => ({ ...step, n, entries: [asked('m1')], ended: [] }))
          const holds = steps.map((step) => [holdOf('m1', step)])
          return appendAt(db, version, appends, { counts, holds, forMs: 60_000 })
        }

        test('what may be spent is set aside with the entries of many', async () => {
          const [one, two, lost] = [await lease(), await lease(), await lease()]
          await endSessions(db, [lost.session], 'worker.lost')
          const counts = [await count(), await count()]
          expect(await setAside([one, lost, two], counts)).toMatchObject({
            countsHold: true,
            outcomes: ['recorded', null, 'recorded'],
          })
          expect(await Promise.all([one, two, lost].map(seqs))).toEqual([[1], [1], []])
          expect(await holdsOf(one)).toEqual([
            {
              ...{ call: 'm1', namespace: 'default', top: true, workflows: ['top', 'w'], labels: { team: 'a' } },
              ...{ agent: 'writer', endpoint: 'gpt', tokens: 5, nanos: 6, currency: 'EUR', seconds: 60 },
            },
          ])
          expect(await holdsOf(two)).toHaveLength(1)
          expect(await holdsOf(lost)).toEqual([])
          // The count still holds: who sets aside by it has not counted anew.
          expect(await setAside([one], counts, 2)).toMatchObject({ countsHold: true, outcomes: ['recorded'] })
        })

        test('what ended is given back in the same statement, and a number that came before sets nothing aside', async () => {
          const step = await lease()
          const counts = [await count()]
          await setAside([step], counts)
          const { version } = await readResourceClock(db)
          const next = { ...step, n: 2, entries: [asked('m2')], ended: [ended('m1', step.runId)] }
          const aside = { counts, holds: [[holdOf('m2', step, 7)]], forMs: 60_000 }
          expect((await appendAt(db, version, [next], aside)).outcomes).toEqual(['recorded'])
          expect(await holdsOf(step)).toMatchObject([{ call: 'm2', tokens: 7 }])
          expect(await db.query(`select call from spending where run_id = $1`, [step.runId])).toEqual([{ call: 'm1' }])
          const again = { ...aside, holds: [[holdOf('m3', step)]] }
          expect((await appendAt(db, version, [next], again)).outcomes).toEqual(['known'])
          expect(await holdsOf(step)).toHaveLength(1)
        })

        test.each<[string, (count: HeldCount) => Promise<unknown>]>([
          ['somebody else has counted', (one) => db.transaction((tx) => lockCounters(tx, [one]))],
          [
            'more was spent than was set aside',
            ({ namespace }) => {
              const { spending, call } = ended('m', 'run_x')
              const spent = { ...spending, origin: { ...spending.origin, namespace }, isUncovered: true }
              return recordSpending(db, [
                { runId: namespace, node: 0, path: '', generation: 0, call, agent: 'a', ...spent },
              ])
            },
          ],
          ['its counter is gone', ({ budget }) => db.query(`delete from budget_counter where budget = $1`, [budget])],
          ['its window is over', (one) => Promise.resolve(Object.assign(one, { until: Date.now() - 86_400_000 }))],
        ])('that does not hold, because %s, nothing is written', async (_, happen) => {
          const step = await lease()
          const [good, bad] = [await count(), await count()]
          await happen(bad)
          expect(await setAside([step], [good, bad])).toMatchObject({ countsHold: false, outcomes: [null] })
          expect(await seqs(step)).toEqual([])
          expect(await holdsOf(step)).toEqual([])
          expect(await setAside([step], [good])).toMatchObject({ countsHold: true, outcomes: ['recorded'] })
        })

        test('what was spent as it was set aside, before, or elsewhere leaves it as it is', async () => {
          const step = await lease()
          const [before] = await db.query<{ xid: string }>(`select pg_current_xact_id()::text as xid`)
          const made = await count()
          const selector = { agents: ['writer'] }
          const one = { ...made, selector, mark: String(BigInt(before?.xid ?? '0') + 1_000n) }
          const { spending } = ended('m', 'run_x')
          const row = { node: 0, path: '', generation: 0, call: 'm', agent: 'a' }
          const inside = { ...spending, origin: { ...spending.origin, namespace: one.namespace } }
          await recordSpending(db, [
            { ...row, ...inside, runId: one.namespace },
            { ...row, ...inside, runId: `${one.namespace}-before`, agent: 'writer', isUncovered: true },
            { ...row, ...spending, runId: `${one.namespace}-other`, isUncovered: true },
          ])
          expect(await setAside([step], [one])).toMatchObject({ countsHold: true, outcomes: ['recorded'] })
        })

        type Where = {
          agent?: string
          of: 'a day' | 'a run'
          rootRun?: string
          isElsewhere?: boolean
          isKnown?: boolean
        }
        test.each<[string, Where, boolean]>([
          ['of another agent', { agent: 'a', of: 'a day' }, true],
          ['of its agent', { of: 'a day' }, false],
          ['in another namespace', { of: 'a day', isElsewhere: true }, true],
          ['in another run', { of: 'a run', rootRun: 'run_other' }, true],
          ['in its run', { of: 'a run' }, false],
          ['in its run, and had set aside,', { of: 'a run', isKnown: true }, true],
          ['in its run, by another agent,', { agent: 'a', of: 'a run' }, true],
          ['below its run in another namespace', { of: 'a run', isElsewhere: true, isKnown: true }, false],
        ])('what somebody spent %s ends it, or does not', async (_, where, holds) => {
          const { agent = 'writer', of, rootRun = 'run_mine', isElsewhere = false, isKnown = false } = where
          const step = await lease()
          const made = await count()
          const { spending } = ended('m', rootRun)
          const namespace = isElsewhere ? 'elsewhere' : made.namespace
          const spent = { ...spending, origin: { ...spending.origin, namespace }, isUncovered: !isKnown }
          const key = { runId: made.namespace, node: 0, path: '', generation: 0, call: 'm' }
          await recordSpending(db, [{ ...key, ...spent, agent }])
          const one = { ...made, selector: { agents: ['writer'] }, rootRun: of === 'a run' ? 'run_mine' : null }
          expect(await setAside([step], [one])).toMatchObject({ countsHold: holds })
        })

        test('holds when nothing is asked of it: at another version, and for attempts that have lost their steps', async () => {
          const step = await lease()
          const one = await count()
          await db.transaction((tx) => lockCounters(tx, [one]))
          const { version } = await readResourceClock(db)
          const append = { ...step, n: 1, entries: [asked('m1')], ended: [] }
          const aside = { counts: [one], holds: [[holdOf('m1', step)]], forMs: 60_000 }
          expect(await appendAt(db, version + 1, [append], aside)).toEqual({
            version,
            countsHold: true,
            outcomes: [null],
          })
          await endSessions(db, [step.session], 'worker.lost')
          expect(await appendAt(db, version, [append], aside)).toEqual({ version, countsHold: true, outcomes: [null] })
        })

        test('made for nothing but to look at it ends none', async () => {
          const step = await lease()
          const one = await count()
          expect(await db.transaction((tx) => holdCounters(tx, [one]))).toEqual([
            { budget: one.budget, key: one.key, countId: one.countId },
          ])
          expect(await setAside([step], [one])).toMatchObject({ countsHold: true })
        })
      })

      test('what a call took is written down once for whom the journal says asked, and what was set aside is given back', async () => {
        const step = await lease()
        await append(step, 1, asked('m1'), asked('m2'))
        const hold = { ...step, agent: 'writer', endpoint: 'gpt', tokens: 9, cost: null }
        const run = { ...origin, runId: step.runId, rootRun: step.runId }
        const holds = ['m1', 'm2', 'm3'].map((call) => ({ ...hold, call, origin: run }))
        await putHolds(db, holds, 60_000)
        expect(
          await at({
            ...{ ...step, n: 2, entries: [noted(1)] },
            ended: [ended('m1', step.runId), { call: 'm2', spending: null }, ended('unheard', step.runId)],
          }),
        ).toEqual(['recorded'])
        await at({ ...step, n: 3, entries: [noted(2)], ended: [ended('m1', step.runId)] })
        const spent = await db.query(
          `select call, generation, namespace, root_run = run_id as top, workflows, labels, agent, endpoint, model, input_tokens, output_tokens,
                  cached_input_tokens, cache_write_tokens, nanos, currency
             from spending where run_id = $1`,
          [step.runId],
        )
        expect(spent).toEqual([
          {
            ...{
              call: 'm1',
              generation: 0,
              namespace: 'default',
              top: true,
              workflows: ['top', 'w'],
              labels: { team: 'a' },
            },
            ...{ agent: 'writer', endpoint: 'other', model: 'm', input_tokens: 3, output_tokens: 4 },
            ...{ cached_input_tokens: 1, cache_write_tokens: 2, nanos: 5, currency: 'EUR' },
          },
        ])
        const left = await db.query(`select call from spending_hold where run_id = $1`, [step.runId])
        expect(left).toEqual([{ call: 'm3' }])
      })
    })

    test('a step that is held says which journal counts', async () => {
      const step = await lease()
      await db.query(`update step set journal_from = 3 where run_id = $1`, [step.runId])
      expect(await db.transaction((tx) => holdSteps(tx, [step]))).toMatchObject([{ fence: 1, journalFrom: 3 }])
      expect(await findJournalFrom(db, step)).toBe(3)
      expect(await findJournalFrom(db, { ...step, node: 7 })).toBeNull()
    })

    test('a page has so many entries, and about so many bytes; what counts no more is left out', async () => {
      const step = await lease()
      for (let n = 1; n <= 5; n++) await append(step, n, noted(n))
      expect((await page(step, { from: 2, limit: 2 })).map((e) => e.seq)).toEqual([2, 3])
      expect(await page(step, { bytes: 40 })).toHaveLength(1)
      expect(await page(step, { bytes: 90 })).toHaveLength(2)
      await db.query(`update step set journal_from = 1 where run_id = $1`, [step.runId])
      expect(await page(step)).toEqual([])
      expect(await page(step, { counting: false })).toHaveLength(5)
    })

    test('the last intent to ask a model, and the call of a run below, are found by name', async () => {
      const step = await lease()
      await append(step, 1, asked('m1'), asked('m1', 'other'), asked('m2'))
      await appendServerEntries(db, step.runId, [{ ...step, entry: started('c', 'run_1') }])
      const found = await findAskedModels(db, [
        { ...step, call: 'm1' },
        { ...step, call: 'no' },
        { ...step, call: 'm2' },
      ])
      expect(found.map((entry) => entry?.endpoint ?? null)).toEqual(['other', null, 'gpt'])
      expect(await findCallOfChild(db, { ...step, child: 'run_1' })).toBe('c')
      expect(await findCallOfChild(db, { ...step, child: 'run_2' })).toBeNull()
    })
  })
}
