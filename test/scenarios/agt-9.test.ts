import { describe, expect, test } from 'vitest'
import { VERSION } from '../../src/app/index.ts'
import type { JsonObject } from '../../src/base/index.ts'
import type { Assignment } from '../../src/contract/exchange.ts'
import type { WorkerEntry } from '../../src/domain/agents/journal.ts'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, type Scene, WITHIN } from './rig.ts'

const doc = (kind: string, name: string, spec: JsonObject): string =>
  JSON.stringify({ apiVersion: 'orrery.dev/v1', kind, metadata: { name }, spec })

const asked = (call: string, tokens: number): WorkerEntry => ({
  ...{ kind: 'model_asked', call, turn: 1, purpose: 'turn', agent: 'writer', endpoint: 'gpt' },
  tokens: { input: tokens, output: 0 },
})
const answered = (call: string, tokens: number): WorkerEntry => ({
  kind: 'model_answered',
  call,
  result: {
    ...{ endpoint: 'gpt', provider: 'mock', model: 'm', text: 'hi', toolCalls: [], finish: 'stop' },
    usage: {
      ...{ inputTokens: tokens, outputTokens: 0, cachedInputTokens: 0, cacheWriteTokens: 0 },
      ...{ reasoningTokens: 0, isEstimated: false },
    },
    ...{ cost: null, warnings: [], tried: [], totalMs: 1 },
  },
})

/** Workers that speak the exchange by hand, so that what they spend is known to the token. Each takes one step: none has to keep its lease for long. */
function openWorkers(scene: Scene) {
  const lane = scene.lane()
  const sessions = new Map<string, string>()
  let seq = 0
  const sessionOf = (a: Assignment): string => sessions.get(`${a.step}@${a.fence}`) ?? ''
  return {
    /** The next step that is given out. */
    async next(): Promise<Assignment> {
      const given = await eventually(
        async () => {
          const { session } = await lane.register({
            ...{ worker: `speaker-${++seq}`, version: VERSION, host: 'elsewhere', pid: 1, pidStart: null },
            ...{ clock: Date.now(), capacity: 1, labels: {}, namespaces: null, backends: ['agent'], modules: [] },
            ...{ replaces: null, held: [] },
          })
          const { assignments } = await lane.poll({ session, free: 1, held: [], draining: false })
          return assignments[0] ? { session, a: assignments[0] } : null
        },
        { ...WITHIN, what: 'a step of an agent' },
      )
      sessions.set(`${given.a.step}@${given.a.fence}`, given.session)
      return given.a
    },
    append: (a: Assignment, n: number, ...entries: WorkerEntry[]) =>
      lane.append({ session: sessionOf(a), step: a.step, fence: a.fence, n, entries }),
    report: (a: Assignment, word: JsonObject) =>
      lane.report({
        ...{ session: sessionOf(a), free: 1, draining: false },
        reports: [{ ...word, step: a.step, fence: a.fence, seq: ++seq, startedAgoMs: 1, endedAgoMs: 0 } as never], // as each kind has it
      }),
  }
}

async function openAgent(scene: Scene, budget: JsonObject) {
  const resources = [
    doc('ModelEndpoint', 'gpt', { provider: 'mock', model: 'm', mock: { replies: [{ text: 'hello' }] } }),
    doc('Agent', 'writer', { model: 'gpt', instructions: 'Be brief.' }),
    doc('Workflow', 'letters', { steps: [{ name: 'write', agent: 'writer', with: 'Go.' }] }),
    doc('Budget', 'team', budget),
  ]
  await scene.client.resources.apply(resources.join('\n---\n'))
  const worker = openWorkers(scene)
  const start = async () => (await scene.client.createRun({ workflowRef: 'letters' })).id
  return { worker, start }
}

describeWithPostgres('AGT-9: a budget is used up', (postgres) => {
  describe.each(['run', '24h', 'day'])('in the window %s', (window) => {
    test('the call is refused before it is made; the step waits, says why, and goes on when the limit is raised', async () => {
      const scene = await openScene({ dsn: await postgres.createStore() })
      const { worker, start } = await openAgent(scene, { window, limits: { tokens: 100 } })
      const run = await start()
      const first = await worker.next()
      expect(await worker.append(first, 1, asked('m1', 40))).toMatchObject({ refused: null })
      // The answer took more than was set aside for it: that is counted, and what comes next does not fit.
      const { refused } = await worker.append(first, 2, answered('m1', 90), asked('m2', 40))
      expect(refused).toMatchObject({ failure: { code: 'budget.exceeded', retryable: true } })
      await worker.report(first, { kind: 'parked', on: refused?.park as unknown as JsonObject })

      const step = await scene.stepWith(run, 'write', (s) => s.state === 'waiting')
      expect(step.reason).toMatchObject({
        code: 'budget.exceeded',
        evidence: { budgets: [{ budget: 'default/team', tokens: 90, limit: 100 }] },
      })
      const shown = await scene.orrery('runs', 'show', run)
      expect(shown.stdout).toContain('budget default/team: 90 of 100 tokens')
      expect(shown.stdout).toContain('orrery edit budget team')
      const described = await scene.orrery('describe', 'agent', 'writer')
      expect(described.stdout).toContain('withinBudget=false')
      expect((await scene.orrery('doctor')).stdout).toMatch(window === 'run' ? /default\/team/ : /90% of the window/)

      await scene.client.resources.apply(doc('Budget', 'team', { window, limits: { tokens: 200 } }))
      const again = await worker.next()
      expect(again.fence).toBe(first.fence + 1)
      expect(await worker.append(again, 1, asked('m2', 40))).toMatchObject({ refused: null })
      await worker.append(again, 2, answered('m2', 30))
      await worker.report(again, { kind: 'succeeded', output: 'done' })
      expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
      expect((await scene.orrery('costs', '--by', 'workflow')).stdout).toMatch(/letters +2 +120 +0/)
    })
  })

  test('it goes on at once when the budget is deleted, and fails where the budget says so', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const { worker, start } = await openAgent(scene, { window: 'month', limits: { tokens: 0 } })
    const run = await start()
    const first = await worker.next()
    const { refused } = await worker.append(first, 1, asked('m1', 40))
    await worker.report(first, { kind: 'parked', on: refused?.park as unknown as JsonObject })
    await scene.stepWith(run, 'write', (s) => s.state === 'waiting')
    expect((await scene.orrery('delete', 'budget', 'team')).code).toBe(0)
    const again = await worker.next()
    expect(await worker.append(again, 1, asked('m1', 40))).toMatchObject({ refused: null })

    const failing = doc('Budget', 'team', { window: 'month', limits: { tokens: 0 }, action: 'fail' })
    await scene.client.resources.apply(failing)
    expect(await worker.append(again, 2, answered('m1', 10), asked('m2', 40))).toMatchObject({
      refused: { failure: { code: 'budget.exceeded' }, park: null },
    })
  })

  test('a run with an agent waits for its budget, and ends well by itself once the limit is raised', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const reply = { text: 'hello', usage: { inputTokens: 30, outputTokens: 12 } }
    const budget = (tokens: number) => doc('Budget', 'team', { window: '24h', limits: { tokens } })
    await scene.client.resources.apply(
      [
        doc('ModelEndpoint', 'gpt', { provider: 'mock', model: 'm', mock: { replies: [reply] } }),
        doc('Agent', 'writer', { model: 'gpt', instructions: 'Be brief.', maxAnswerTokens: 50 }),
        doc('Workflow', 'letters', { steps: [{ name: 'write', agent: 'writer', with: 'Go.' }] }),
        budget(10),
      ].join('\n---\n'),
    )
    await scene.startWorker()
    const { id } = await scene.client.createRun({ workflowRef: 'letters' })
    const step = await scene.stepWith(id, 'write', (s) => s.state === 'waiting')
    expect(step.reason).toMatchObject({ code: 'budget.exceeded' })
    expect((await scene.client.listCosts()).items).toEqual([])
    await scene.client.resources.apply(budget(10_000))
    expect(await scene.ended(id)).toMatchObject({ state: 'succeeded' })
    expect((await scene.client.listCosts()).items).toMatchObject([
      { name: 'writer', calls: 1, inputTokens: 30, outputTokens: 12 },
    ])
  })
})
