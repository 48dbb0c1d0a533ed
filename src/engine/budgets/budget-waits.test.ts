import { beforeEach, describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import type { AppendResponse, Assignment } from '../../contract/exchange.ts'
import type { WorkerEntry } from '../../domain/agents/journal.ts'
import { parseResources } from '../../domain/kinds/documents.ts'
import { agentNode, boundOf, NO_RETRY } from '../../domain/testing/definitions.ts'
import { failureRecord } from '../../domain/failure.ts'
import type { RunningEngine } from '../create-engine.ts'
import { ADMIN, type EngineRig, type RigWorker, useRig, WORKER } from '../testing/rig.ts'

// Budgets as an agent's step meets them: through its journal.

let rig: EngineRig
let engine: RunningEngine
let worker: RigWorker
useRig((given) => {
  rig = given
})
beforeEach(async () => {
  engine = rig.engine()
  worker = await rig.worker(engine, { backends: ['agent'], modules: [] })
})

const document = (kind: string, name: string, spec: JsonObject): string =>
  JSON.stringify({ apiVersion: 'orrery.dev/v1', kind, metadata: { name }, spec })
const declare = (kind: string, name: string, spec: JsonObject) =>
  engine.resources.apply(ADMIN, parseResources(document(kind, name, spec), { file: 'm', namespace: null }), {
    dryRun: false,
  })
const limit = (tokens: number, more: JsonObject = {}) =>
  declare('Budget', 'team', { window: 'day', limits: { tokens }, ...more })

// Without the spec of an agent no endpoint has to be there.
const bound = boundOf()
async function begun(): Promise<{ runId: string; a: Assignment }> {
  // What was declared was declared before.
  await rig.advance(10)
  const runId = await rig.start(
    engine,
    await rig.put(engine, [agentNode('write', { retry: NO_RETRY })], { bound, name: 'report' }),
  )
  return { runId, a: await worker.pollFirst() }
}
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
const append = (a: Assignment, n: number, ...entries: WorkerEntry[]): Promise<AppendResponse> =>
  engine.append(WORKER, { session: worker.session, step: a.step, fence: a.fence, n, entries })
const stepOf = async (runId: string) => {
  const [step] = (await engine.getRun(ADMIN, runId)).stepList
  if (!step) throw new Error('the run has no step')
  return step
}
const spentOf = async () => {
  const { items } = await engine.listCosts(ADMIN, { by: 'agent', namespace: null, since: null, until: null, limit: 9 })
  return items.map((item) => item.inputTokens)
}

/** A step that waits because its second call does not fit. */
async function waiting(more: JsonObject = {}): Promise<{ runId: string; a: Assignment }> {
  await limit(100, more)
  const { runId, a } = await begun()
  expect(await append(a, 1, asked('m1', 50))).toMatchObject({ state: 'recorded', refused: null })
  const { refused } = await append(a, 2, answered('m1', 60), asked('m2', 50))
  if (!refused?.park) throw new Error('it was let through')
  await worker.report(a, { kind: 'parked', on: refused.park })
  return { runId, a }
}

describe('a step of an agent whose next call does not fit', () => {
  test('waits without a worker, says for what and until when, and goes on when the window moves', async () => {
    const { runId } = await waiting()
    expect((await stepOf(runId)).reason).toMatchObject({
      code: 'budget.exceeded',
      message: 'waiting for budget default/team: 60 of 100 tokens of the day are spent',
      evidence: { budgets: [{ budget: 'default/team', tokens: 60, limit: 100, until: '2026-01-02T00:00:00.000Z' }] },
      remediation: expect.stringMatching(
        /^It goes on by itself at 2026-01-02T00:00:00\.000Z or before\. .* raise the limits of default\/team \(orrery edit budget team\), or delete it\.$/,
      ),
      until: '2026-01-02T00:00:00.000Z',
    })
    expect((await engine.getRun(ADMIN, runId)).state).toBe('waiting')
    const { status } = await engine.resources.get(ADMIN, { kind: 'Budget', namespace: 'default', name: 'team' })
    expect(status.usage).toMatchObject({ tokens: 60, heldTokens: 0, waiting: 1 })
    await rig.advance(Date.UTC(2026, 0, 2) - rig.clock.now())
    worker = await rig.worker(engine, { backends: ['agent'], modules: [] })
    await engine.tick()
    const a = await worker.pollFirst()
    expect(a.fence).toBe(2)
    expect(await append(a, 1, asked('m2', 50))).toMatchObject({ refused: null })
  })

  test('goes on at once when the limit is raised, and does not when something else is changed', async () => {
    const { runId } = await waiting()
    await declare('Budget', 'other', { window: 'day', limits: { tokens: 1 }, selector: { agents: ['reader'] } })
    await engine.tick()
    expect(await rig.states(runId)).toEqual({ write: 'waiting' })
    await limit(200)
    await engine.tick()
    const a = await worker.pollFirst()
    expect(await append(a, 1, asked('m2', 50))).toMatchObject({ refused: null })
  })

  test.for<[what: string, change: () => Promise<unknown>]>([
    ['raised', () => limit(200)],
    [
      'deleted',
      () =>
        engine.resources.remove(
          ADMIN,
          { kind: 'Budget', namespace: 'default', name: 'team' },
          { precondition: { match: null, absent: false }, dryRun: false },
        ),
    ],
  ])('goes on also when it was leased and refused while the budget was being %s', async ([, change]) => {
    await limit(100)
    const { runId, a } = await begun()
    const { refused } = await append(a, 1, asked('m1', 150))
    if (!refused?.park) throw new Error('it was let through')
    const on = refused.park
    let wakes = 0
    rig.faults.before = async (name) => {
      if (name !== 'wake_budgets' || ++wakes < 2) return
      // As if it had been leased behind the first word, and refused by what was still there.
      delete rig.faults.before
      await rig.db.query(`update step set leased_at = clock_now() + interval '1 ms' where run_id = $1`, [runId])
      await worker.report(a, { kind: 'parked', on })
      expect(await rig.states(runId)).toEqual({ write: 'waiting' })
    }
    await change()
    await rig.advance(10)
    await engine.tick()
    expect((await worker.pollFirst()).fence).toBe(2)
  })

  test('is told that no waiting helps when it alone may take more than the limit', async () => {
    await limit(100)
    const { runId, a } = await begun()
    const { refused } = await append(a, 1, asked('m1', 150))
    if (!refused?.park) throw new Error('it was let through')
    await worker.report(a, { kind: 'parked', on: refused.park })
    expect((await stepOf(runId)).reason).toMatchObject({
      code: 'budget.exceeded',
      remediation: expect.stringContaining('No waiting helps: the next call may take more than a whole limit'),
    })
  })

  test('goes on at once when the budget is deleted', async () => {
    const { runId } = await waiting({ window: 'run' })
    expect((await stepOf(runId)).reason).toMatchObject({
      code: 'budget.exceeded',
      message: 'waiting for budget default/team: 60 of 100 tokens of this run are spent',
      remediation: expect.stringContaining('Nothing of it becomes free by itself'),
    })
    await engine.resources.remove(
      ADMIN,
      { kind: 'Budget', namespace: 'default', name: 'team' },
      { precondition: { match: null, absent: false }, dryRun: false },
    )
    expect((await stepOf(runId)).reason).toMatchObject({ code: 'budget' })
    await engine.tick()
    expect(await append(await worker.pollFirst(), 1, asked('m2', 50))).toMatchObject({ refused: null })
  })

  test('goes on when what it costs has changed', async () => {
    await declare('ModelEndpoint', 'gpt', {
      ...{ provider: 'mock', model: 'm', mock: { replies: [{ text: 'x' }] } },
      prices: 'prices',
    })
    const prices = (input: number) =>
      declare('PriceTable', 'prices', { currency: 'USD', rows: [{ model: 'm', input, output: 0 }] })
    await prices(1_000_000)
    await declare('Budget', 'team', { window: 'run', limits: { money: 10, currency: 'USD' } })
    const { runId, a } = await begun()
    const { refused } = await append(a, 1, asked('m1', 11))
    if (!refused?.park) throw new Error('it was let through')
    await worker.report(a, { kind: 'parked', on: refused.park })
    expect((await stepOf(runId)).reason).toMatchObject({
      message: 'waiting for budget default/team: 0 of 10 USD of this run are spent',
    })
    await prices(500_000)
    await engine.tick()
    expect(await append(await worker.pollFirst(), 1, asked('m1', 11))).toMatchObject({ refused: null })
  })

  test('does not begin to wait when the limit is raised between the answer and the report', async () => {
    await limit(10)
    const { runId, a } = await begun()
    const { refused } = await append(a, 1, asked('m1', 11))
    await limit(100)
    if (!refused?.park) throw new Error('it was let through')
    await worker.report(a, { kind: 'parked', on: refused.park })
    expect(await rig.states(runId)).not.toEqual({ write: 'waiting' })
  })

  test('holds its agent up, and shows there', async () => {
    await declare('Agent', 'writer', { model: 'gpt', instructions: 'Write.' })
    await waiting()
    const { status } = await engine.resources.get(ADMIN, { kind: 'Agent', namespace: 'default', name: 'writer' })
    expect(status.conditions.at(-1)).toMatchObject({
      type: 'withinBudget',
      status: 'false',
      reason: 'budget.exceeded',
      message: '1 step waits for budget default/team',
    })
  })

  test('fails where the budget says so: there is nothing to wait for', async () => {
    await limit(10, { action: 'fail' })
    const { a } = await begun()
    const { refused } = await append(a, 1, asked('m1', 11))
    expect(refused).toMatchObject({ failure: { code: 'budget.exceeded' }, park: null })
  })
})

describe('what a step of an agent spends', () => {
  test('counts once when an append comes again, and by whichever attempt it was made', async () => {
    const { a } = await begun()
    await append(a, 1, asked('m1', 50))
    await append(a, 2, answered('m1', 60))
    await append(a, 2, answered('m1', 60))
    expect(await spentOf()).toEqual([60])
  })

  test('that was set aside by an attempt that was lost is asked for once more by the next one', async () => {
    await limit(100)
    const { a } = await begun()
    await append(a, 1, asked('m1', 90))
    for (let second = 0; second < 20; second++) {
      await rig.advance(1_000)
      await engine.tick()
    }
    worker = await rig.worker(engine, { backends: ['agent'], modules: [] })
    const next = await worker.pollFirst()
    expect(next.fence).toBe(2)
    // The journal has the intent: the same call is made again, and its answer settles what was set aside for it.
    await append(next, 1, answered('m1', 70), asked('m2', 30))
    expect(await spentOf()).toEqual([70])
    const { status } = await engine.resources.get(ADMIN, { kind: 'Budget', namespace: 'default', name: 'team' })
    expect(status.usage).toMatchObject({ tokens: 70, heldTokens: 30 })
  })

  test('and was set aside when it ended is given back by the upkeep', async () => {
    await limit(100)
    const { a, runId } = await begun()
    await append(a, 1, asked('m1', 90))
    await worker.report(a, { kind: 'failed', failure: failureRecord('step.function_threw', 'testing') })
    expect((await engine.getRun(ADMIN, runId)).state).toBe('failed')
    await rig.advance(61_000)
    await engine.tick()
    const { status } = await engine.resources.get(ADMIN, { kind: 'Budget', namespace: 'default', name: 'team' })
    expect(status.usage).toMatchObject({ heldTokens: 0 })
  })
})
