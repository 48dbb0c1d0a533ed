import { describe, expect, test } from 'vitest'
import type { Json } from '../base/json.ts'
import type { Assignment } from '../contract/exchange.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import type { AnySpec } from '../domain/testing/definitions.ts'
import { DEFAULT_TIMES, type RunningEngine } from './create-engine.ts'
import { ADMIN, type EngineRig, type RigWorker, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

const reviewed = (maxTurns = 2): AnySpec[] => [
  { name: 'topic' },
  {
    name: 'draft',
    needs: ['topic'],
    refs: ['topic', 'draft', 'review'],
    with: { topic: '${{ steps.topic.output }}', last: '${{ steps.draft.output }}', said: '${{ steps.review.output }}' },
    next: ['review'],
    maxTurns,
  },
  {
    name: 'review',
    refs: ['draft', 'review'],
    with: { turn: '${{ turn.index }}', text: '${{ steps.draft.output }}' },
    next: [{ step: 'draft', if: "steps.review.output != 'good'" }],
    maxTurns,
  },
  { name: 'publish', needs: ['review'], refs: ['review', 'draft'], with: { text: '${{ steps.draft.output }}' } },
]

const inputOf = (a: Assignment): Json => (a.work.kind === 'function' ? a.work.input : null)

async function started(specs = reviewed()) {
  const worker = await rig.worker(engine)
  const runId = await rig.start(engine, await rig.put(engine, specs))
  await engine.tick()
  return { worker, runId }
}

/** Takes what is queued next. */
async function take(worker: RigWorker): Promise<Assignment> {
  await engine.tick()
  return worker.pollFirst()
}

async function goRound(worker: RigWorker, outputs: readonly Json[]): Promise<[string, Json][]> {
  const seen: [string, Json][] = []
  for (const output of outputs) {
    const a = await take(worker)
    seen.push([a.name, inputOf(a)])
    await worker.done(a, output)
  }
  await engine.tick()
  return seen
}

describe('a graph that goes round', () => {
  test('gives each turn what came before it on its way, and to what follows the last', async () => {
    const { worker, runId } = await started()
    expect(await goRound(worker, ['rain', 'one', 'bad', 'two', 'good', 'sent'])).toEqual([
      ['topic', null],
      ['draft[0]', { topic: 'rain', last: null, said: null }],
      ['review[0]', { turn: 0, text: 'one' }],
      ['draft[1]', { topic: 'rain', last: 'one', said: 'bad' }],
      ['review[1]', { turn: 1, text: 'two' }],
      ['publish', { text: 'two' }],
    ])
    const view = await engine.getRun(ADMIN, runId)
    expect(view).toMatchObject({ state: 'succeeded', steps: { total: 8, open: 0, bad: 0 } })
    expect(view.stepList.map((s) => [s.name, s.state, s.output, s.activations])).toEqual([
      ['topic', 'succeeded', 'rain', null],
      ['draft', 'succeeded', 'two', { total: 2, succeeded: 2, failed: 0 }],
      ['review', 'succeeded', 'good', { total: 2, succeeded: 2, failed: 0 }],
      ['publish', 'succeeded', 'sent', null],
    ])
  })

  test('every turn keeps who ran it, also once it was followed', async () => {
    const { worker, runId } = await started()
    await goRound(worker, ['rain', 'one', 'bad', 'two', 'good', 'sent'])
    const { items } = await engine.listSteps(ADMIN, runId, { cursor: null, limit: 10 })
    const turns = items.filter((s) => s.name.endsWith(']'))
    expect(turns.map((s) => s.name)).toEqual(['draft[0]', 'draft[1]', 'review[0]', 'review[1]'])
    for (const turn of turns) expect(turn.worker, turn.name).toEqual(expect.any(String))
  })

  test('takes an output that is too large for its row round as well', async () => {
    const { worker, runId } = await started()
    const large = 'x'.repeat(LIMITS.inlineOutputBytes + 1)
    const seen = await goRound(worker, ['rain', large, 'good', 'sent'])
    expect(seen.slice(2)).toEqual([
      ['review[0]', { turn: 0, text: large }],
      ['publish', { text: large }],
    ])
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test('goes on through another server: what was not followed is in the rows', async () => {
    const { worker, runId } = await started()
    await worker.done(await take(worker))
    await worker.done(await take(worker), 'one')
    const other = rig.engine()
    worker.moveTo(other)
    await other.tick()
    const [review] = (await worker.poll()).assignments
    expect(review?.name).toBe('review[0]')
    expect(await rig.states(runId)).toMatchObject({ draft: 'waiting', 'draft[0]': 'succeeded', review: 'waiting' })
  })

  test('every step of it says why it does not go on', async () => {
    const { worker, runId } = await started()
    const before = (await engine.getRun(ADMIN, runId)).stepList
    expect(before.map((s) => s.reason?.code)).toEqual(['starting', 'dependency', 'dependency', 'dependency'])
    expect(before[2]?.reason?.message).toContain('waiting for topic')
    await worker.done(await take(worker))
    await take(worker)
    const [, draft, review, publish] = (await engine.getRun(ADMIN, runId)).stepList
    expect(draft?.reason).toMatchObject({
      code: 'activations',
      message: '1 of at most 2 turns taken, 1 under way',
      evidence: { maxTurns: 2, joined: ['review'] },
    })
    expect(review?.reason).toMatchObject({ code: 'activations', message: '0 of at most 2 turns taken, 0 under way' })
    expect(publish?.reason?.code).toBe('dependency')
    const { items } = await engine.listSteps(ADMIN, runId, { cursor: null, limit: 10 })
    expect(items.find((s) => s.name === 'draft[0]')?.reason?.code).toMatch(/^(starting|running)$/)
  })

  test('whose turns are used up fails, and a retry goes on where it stopped', async () => {
    const { worker, runId } = await started()
    await goRound(worker, ['rain', 'one', 'bad', 'two', 'bad'])
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({
      state: 'failed',
      failure: { code: 'turns.used_up', evidence: { maxTurns: 2, turns: { draft: 2, review: 2 }, after: 'review[1]' } },
    })
    await engine.retryRun(ADMIN, runId)
    expect(await goRound(worker, ['three', 'good', 'sent'])).toMatchObject([
      ['draft[2]', { last: 'two', said: 'bad' }],
      ['review[2]', { turn: 2, text: 'three' }],
      ['publish', { text: 'three' }],
    ])
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded', epoch: 2, failure: null })
  })

  test('a turn is skipped by its index; the step itself, and a turn that was followed, are not', async () => {
    const { worker, runId } = await started()
    await goRound(worker, ['rain', 'one'])
    const failure = new Failure('step.function_threw', 'testing').toRecord()
    await worker.report(await take(worker), { kind: 'failed', failure })
    await engine.tick()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'failed' })
    await expect(engine.skipStep(ADMIN, runId, 'review', 'good')).rejects.toMatchObject({
      code: 'step.not_skippable',
      remediation: expect.stringContaining("'review[0]'") as string,
    })
    await engine.skipStep(ADMIN, runId, 'review[0]', 'bad')
    expect(await goRound(worker, ['two', 'good', 'sent'])).toMatchObject([
      ['draft[1]', { said: 'bad' }],
      ['review[1]', {}],
      ['publish', { text: 'two' }],
    ])
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test('a turn whose failure was taken for success and followed cannot be skipped or retried any more', async () => {
    const { worker, runId } = await started([
      { name: 'a', onFailure: 'continue', next: [{ step: 'a', if: 'turn.index < 1' }] },
    ])
    const failure = new Failure('step.function_threw', 'testing').toRecord()
    await worker.report(await take(worker), { kind: 'failed', failure })
    await engine.tick()
    await worker.poll()
    expect(await rig.states(runId)).toMatchObject({ 'a[0]': 'failed', 'a[1]': 'running' })
    await expect(engine.skipStep(ADMIN, runId, 'a[0]', null)).rejects.toMatchObject({ code: 'step.not_skippable' })
    await expect(engine.retryStep(ADMIN, runId, 'a[0]')).rejects.toMatchObject({ code: 'step.not_failed' })
  })

  test('a cancel ends it, and a retry goes on', async () => {
    const { worker, runId } = await started()
    await goRound(worker, ['rain', 'one'])
    await engine.cancelRun(ADMIN, runId)
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'canceled' })
    await engine.retryRun(ADMIN, runId)
    expect(await goRound(worker, ['good', 'sent'])).toMatchObject([
      ['review[0]', {}],
      ['publish', { text: 'one' }],
    ])
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test('its time is up with that of the run', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, reviewed(), { timeoutMs: 60_000 }))
    await goRound(worker, ['rain', 'one'])
    await rig.advance(60_000)
    await worker.heartbeat()
    await engine.tick()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'failed', failure: { code: 'run.timed_out' } })
  })

  test('nudge finds nothing to do where nothing is owed', async () => {
    const { worker, runId } = await started()
    await goRound(worker, ['rain', 'one'])
    const before = await rig.states(runId)
    await engine.nudgeRun(ADMIN, runId)
    expect(await rig.states(runId)).toEqual(before)
  })

  test('is not taken for stalled while it waits: before it may begin, and while a turn is under way', async () => {
    const runId = await rig.start(engine, await rig.put(engine, reviewed()))
    const passLong = async () => {
      await rig.advance(DEFAULT_TIMES.stallMs + 60_000)
      await engine.tick()
    }
    await passLong()
    expect(await rig.states(runId)).toMatchObject({ topic: 'queued', draft: 'pending', review: 'pending' })
    await goRound(await rig.worker(engine), ['rain', 'one'])
    await passLong()
    expect(await rig.states(runId)).toMatchObject({ draft: 'waiting', 'draft[0]': 'succeeded', 'review[0]': 'queued' })
    const armed = { message: 'stalled run armed again', fields: { runId, steps: expect.any(Number) as number } }
    expect(rig.logged).not.toContainEqual(armed)
    // A turn whose end nobody followed is such a stall.
    await rig.db.query(`update step set state = 'succeeded' where run_id = $1 and node = 2 and path <> ''`, [runId])
    await rig.db.query(`update step set ok = 1 where run_id = $1 and node = 2 and path = ''`, [runId])
    await rig.db.query(`update run set open = open - 1, active = 0 where id = $1`, [runId])
    await passLong()
    expect(rig.logged).toContainEqual(armed)
    expect(await rig.states(runId)).toMatchObject({ 'review[0]': 'succeeded', 'draft[1]': 'queued' })
  })

  test('questions and runs below are asked and started once a turn', async () => {
    await rig.put(engine, [{ name: 'inner' }], { name: 'below' })
    const specs: AnySpec[] = [
      {
        name: 'ask',
        kind: 'approval',
        message: 'Turn ${{ turn.index }}?',
        approvers: null,
        expiresMs: null,
        onExpiry: 'deny',
        fields: null,
        next: ['child'],
      },
      {
        name: 'child',
        kind: 'workflow',
        ref: { name: 'below' },
        with: {},
        next: [{ step: 'ask', if: 'turn.index < 1' }],
      },
    ]
    const { worker, runId } = await started(specs)
    for (const turn of [0, 1]) {
      await engine.tick()
      expect((await engine.getRun(ADMIN, runId)).stepList[0]?.state).toBe('waiting')
      const asked = await rig.db.query<{ id: string; message: string }>(
        `select id, message from approval where run_id = $1 and state = 'pending'`,
        [runId],
      )
      expect(asked.map((a) => a.message)).toEqual([`Turn ${turn}?`])
      await engine.decideApproval(ADMIN, asked[0]?.id ?? '', { approved: true, comment: null, inputs: null })
      await engine.tick()
      await worker.done(await take(worker), turn)
      await engine.tick()
      await engine.tick()
    }
    const view = await engine.getRun(ADMIN, runId)
    expect(view).toMatchObject({ state: 'succeeded', steps: { total: 6 } })
    expect(view.stepList[1]?.output).toEqual({ inner: 1 })
  })
})
