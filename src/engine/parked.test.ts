import { describe, expect, test } from 'vitest'
import type { AnySpec } from '../domain/testing/definitions.ts'
import type { RunningEngine } from './create-engine.ts'
import type { Caller } from './engine.ts'
import { ADMIN, type EngineRig, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

const timer = (duration: string): AnySpec => ({ name: 'nap', kind: 'wait', for: { type: 'duration', duration } })
const event = (extra: { match?: string; timeoutMs?: number } = {}): AnySpec => ({
  name: 'paid',
  kind: 'wait',
  for: { type: 'event', name: 'paid', match: extra.match ?? null, timeoutMs: extra.timeoutMs ?? null },
})
const question = (extra: Partial<Extract<AnySpec, { kind: 'approval' }>> = {}): AnySpec => ({
  name: 'ship',
  kind: 'approval',
  message: 'Ship ${{ inputs.what }}?',
  approvers: null,
  expiresMs: null,
  onExpiry: 'deny',
  fields: null,
  ...extra,
})
const after = (...needs: string[]): AnySpec => ({ name: 'after', needs })

async function start(specs: AnySpec[], inputs = {}): Promise<string> {
  const runId = await rig.start(engine, await rig.put(engine, specs), inputs)
  await engine.tick()
  return runId
}

describe('a step that waits for a time', () => {
  test('holds no worker, says until when, and goes on by itself', async () => {
    const runId = await start([timer('30s'), after('nap')])
    const view = await engine.getRun(ADMIN, runId)
    expect(view).toMatchObject({
      state: 'waiting',
      waitsOn: [{ step: 'nap', kind: 'timer', until: '2026-01-01T00:00:30.000Z' }],
      stepList: [{ state: 'waiting', kind: 'wait', reason: { code: 'timer' } }, { state: 'pending' }],
    })
    await rig.advance(29_000)
    await engine.tick()
    expect(await rig.states(runId)).toEqual({ nap: 'waiting', after: 'pending' })
    await rig.advance(1_000)
    await engine.tick()
    expect(await rig.states(runId)).toEqual({ nap: 'succeeded', after: 'queued' })
  })

  test('keeps its time through another server: the timer is a row', async () => {
    const runId = await start([timer('30s')])
    const other = rig.engine()
    await rig.advance(30_000)
    await other.tick()
    expect(await other.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test('that is over already does not wait', async () => {
    const at = { type: 'until', at: '${{ inputs.at }}' } as const
    const runId = await start([{ name: 'nap', kind: 'wait', for: at }], { at: '2020-01-01T00:00:00Z' })
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test('fails when the expression gives no time', async () => {
    const at = { type: 'until', at: '${{ inputs.at }}' } as const
    const runId = await start([{ name: 'nap', kind: 'wait', for: at }], { at: 'tomorrow' })
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({
      state: 'failed',
      failure: { code: 'wait.time_invalid', evidence: { key: 'until', value: 'tomorrow' } },
    })
  })
})

describe('a step that waits for an event', () => {
  const send = (runId: string, payload: unknown, key: string | null = null) =>
    engine.sendEvent(ADMIN, runId, { name: 'paid', payload: payload as never, key })

  test('takes the first that matches, with its payload as the output; others are kept', async () => {
    const runId = await start([event({ match: 'event.payload.amount > 10' }), after('paid')])
    expect(await send(runId, { amount: 5 })).toMatchObject({ state: 'kept', step: null })
    expect(await send(runId, 'no amount')).toMatchObject({ state: 'kept' })
    expect(await send(runId, { amount: 12 })).toMatchObject({ state: 'taken', step: 'paid' })
    const view = await engine.getRun(ADMIN, runId)
    expect(view.stepList).toMatchObject([{ state: 'succeeded', output: { amount: 12 } }, { state: 'queued' }])
  })

  test('takes one that came before it began to wait', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(
      engine,
      await rig.put(engine, [{ name: 'first' }, { ...event(), needs: ['first'] } as AnySpec]),
    )
    await send(runId, { early: true })
    const first = await worker.pollFirst()
    await worker.done(first)
    await engine.tick()
    expect((await engine.getRun(ADMIN, runId)).stepList[1]).toMatchObject({
      state: 'succeeded',
      output: { early: true },
    })
  })

  test('takes an event once: of two that wait each needs its own', async () => {
    const runId = await start([event(), { ...event(), name: 'again' }])
    await send(runId, 1)
    expect(await rig.states(runId)).toEqual({ paid: 'succeeded', again: 'waiting' })
    await send(runId, 2)
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test('sees an event that is sent again under its key once; another under that key is refused', async () => {
    const runId = await start([event(), { ...event(), name: 'again' }])
    const first = await send(runId, 1, 'order-1')
    expect(await send(runId, 1, 'order-1')).toEqual(first)
    expect(await rig.states(runId)).toEqual({ paid: 'succeeded', again: 'waiting' })
    await expect(send(runId, 2, 'order-1')).rejects.toMatchObject({ code: 'idempotency.key_reused' })
    await send(runId, 2)
    await expect(send(runId, 3)).rejects.toMatchObject({ code: 'run.finished' })
    expect(await send(runId, 1, 'order-1')).toEqual(first)
  })

  test('fails when none comes in time, and a retry waits anew', async () => {
    const runId = await start([event({ timeoutMs: 5_000 })])
    await rig.advance(5_000)
    await engine.tick()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({
      state: 'failed',
      failure: { code: 'wait.timed_out', evidence: { event: 'paid', timeoutMs: 5_000 } },
    })
    await engine.retryRun(ADMIN, runId)
    await engine.tick()
    await send(runId, 'now')
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test('is not kept without end, nor when it is too large, nor under an impossible name', async () => {
    const runId = await start([timer('1h')])
    await rig.db.query(
      `insert into sent_event (run_id, id, name, payload, sent_at, sent_by) select $1, 'evt_' || i, 'x', 'null', clock_now(), 'me' from generate_series(1, 1000) i`,
      [runId],
    )
    await expect(send(runId, 1)).rejects.toMatchObject({ code: 'event.limit_reached' })
    await expect(send(runId, 'x'.repeat(300_000))).rejects.toMatchObject({ code: 'request.too_large' })
    const bad = { name: 'a b', payload: null, key: null }
    await expect(engine.sendEvent(ADMIN, runId, bad)).rejects.toMatchObject({ code: 'request.invalid' })
  })
})

describe('an approval', () => {
  const pending = async (runId: string) => {
    const filter = { namespace: null, states: ['pending' as const], runId, step: null, cursor: null, limit: 10 }
    const [approval] = (await engine.listApprovals(ADMIN, filter)).items
    if (!approval) throw new Error('nothing is asked')
    return approval
  }
  const decide = (id: string, approved: boolean, extra: { caller?: Caller; inputs?: object | null } = {}) =>
    engine.decideApproval(extra.caller ?? ADMIN, id, {
      approved,
      comment: 'because',
      inputs: (extra.inputs ?? null) as never,
    })

  test('asks, waits in a row, and who decided, when and why is the output of its step', async () => {
    const runId = await start([question(), after('ship')], { what: 'v2' })
    const asked = await pending(runId)
    expect(asked).toMatchObject({ step: 'ship', message: 'Ship v2?', state: 'pending', run: runId, workflow: 'test' })
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({
      state: 'waiting',
      waitsOn: [{ step: 'ship', kind: 'approval', on: asked.id }],
      stepList: [{ reason: { code: 'approval', message: expect.stringContaining('Ship v2?') as string } }, {}],
    })
    await decide(asked.id, true)
    expect((await engine.getRun(ADMIN, runId)).stepList).toMatchObject([
      {
        state: 'succeeded',
        output: {
          approved: true,
          by: 'tok_admin',
          comment: 'because',
          at: expect.stringMatching(/^2026-01-01T/) as string,
        },
      },
      { state: 'queued' },
    ])
    expect(await engine.getApproval(ADMIN, asked.id)).toMatchObject({ state: 'approved', decidedBy: 'tok_admin' })
  })

  test('that is denied fails its step; a retry asks anew', async () => {
    const runId = await start([question()], { what: 'v2' })
    const first = await pending(runId)
    await decide(first.id, false)
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({
      state: 'failed',
      failure: { code: 'approval.denied', evidence: { by: 'tok_admin', comment: 'because' } },
      stepList: [{ output: { approved: false } }],
    })
    await engine.retryRun(ADMIN, runId)
    await engine.tick()
    const second = await pending(runId)
    expect(second.id).not.toBe(first.id)
    await expect(decide(first.id, true)).rejects.toMatchObject({ code: 'approval.already_decided' })
    await decide(second.id, true)
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test.each([
    ['deny', { state: 'failed', failure: { code: 'approval.expired' } }],
    ['approve', { state: 'succeeded', stepList: [{ output: { approved: true, by: null, expired: true } }] }],
  ] as const)('RUN-7: that nobody decides: after its time %s counts', async (onExpiry, expected) => {
    const runId = await start([question({ expiresMs: 60_000, onExpiry })], { what: 'v2' })
    const asked = await pending(runId)
    await rig.advance(60_000)
    await engine.tick()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject(expected)
    expect(await engine.getApproval(ADMIN, asked.id)).toMatchObject({ state: 'expired' })
    await expect(decide(asked.id, true)).rejects.toMatchObject({
      code: 'approval.already_decided',
      evidence: { state: 'expired' },
    })
  })

  test('RUN-17: a wrong, a foreign and a decided one are told apart, and nothing changes', async () => {
    const runId = await start([question()], { what: 'v2' })
    const { id } = await pending(runId)
    const stranger: Caller = { ...ADMIN, namespaces: ['other'] }
    await expect(decide('apr_00000000000000000000000000', true)).rejects.toMatchObject({ code: 'approval.not_found' })
    await expect(decide(id, true, { caller: stranger })).rejects.toMatchObject({ code: 'approval.not_found' })
    expect(await pending(runId)).toMatchObject({ id })
    await decide(id, true)
    await expect(decide(id, false)).rejects.toMatchObject({
      code: 'approval.already_decided',
      evidence: { state: 'approved', by: 'tok_admin' },
    })
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test('is for its approvers alone: by the name of a token or by role', async () => {
    await rig.db.query(
      `insert into token (id, name, hash, role, created_at) values ('tok_ann', 'ann', 'h', 'admin', clock_now())`,
    )
    const runId = await start([question({ approvers: ['ann'] })], { what: 'v2' })
    const { id } = await pending(runId)
    await expect(decide(id, true)).rejects.toMatchObject({
      code: 'approval.not_eligible',
      evidence: { approvers: ['ann'], you: 'tok_admin' },
    })
    expect(await decide(id, true, { caller: { ...ADMIN, actor: 'tok_ann' } })).toMatchObject({ decidedBy: 'ann' })
    const byRole = await start([question({ approvers: ['admin'] })], { what: 'v3' })
    expect(await decide((await pending(byRole)).id, true)).toMatchObject({ state: 'approved' })
  })

  test('takes the inputs that it asks for, with defaults, and refuses others', async () => {
    const fields = {
      type: 'object',
      properties: { percent: { type: 'number' }, note: { default: 'none' } },
      required: ['percent'],
    }
    const runId = await start([question({ fields })], { what: 'v2' })
    const { id } = await pending(runId)
    await expect(decide(id, true, { inputs: { percent: 'many' } })).rejects.toMatchObject({ code: 'input.invalid' })
    await decide(id, true, { inputs: { percent: 5 } })
    expect((await engine.getRun(ADMIN, runId)).stepList[0]).toMatchObject({
      output: { approved: true, inputs: { percent: 5, note: 'none' } },
    })
    const plain = await start([question()], { what: 'v2' })
    const asked = await pending(plain)
    await expect(decide(asked.id, true, { inputs: { a: 1 } })).rejects.toMatchObject({ code: 'input.invalid' })
  })

  test('RUN-5: whose row is gone is named as the reason, and asked for again by itself', async () => {
    const runId = await start([question()], { what: 'v2' })
    const { id } = await pending(runId)
    await rig.db.query(`delete from approval`)
    expect((await engine.getRun(ADMIN, runId)).stepList[0]?.reason).toMatchObject({ code: 'approval.missing' })
    await rig.advance(61_000)
    await engine.tick()
    expect(await pending(runId)).toMatchObject({ id, message: 'Ship v2?' })
    await decide(id, true)
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test('of a run that is canceled, or whose step is skipped, is no longer owed', async () => {
    const canceled = await start([question()], { what: 'v2' })
    const one = await pending(canceled)
    await engine.cancelRun(ADMIN, canceled)
    expect(await engine.getApproval(ADMIN, one.id)).toMatchObject({ state: 'canceled' })
    await expect(decide(one.id, true)).rejects.toMatchObject({ code: 'approval.already_decided' })
    const skipped = await start([question()], { what: 'v2' })
    const two = await pending(skipped)
    await engine.skipStep(ADMIN, skipped, 'ship', { approved: true })
    expect(await engine.getApproval(ADMIN, two.id)).toMatchObject({ state: 'canceled' })
    expect(await engine.getRun(ADMIN, skipped)).toMatchObject({ state: 'succeeded' })
  })
})

describe('RUN-16: a nudge', () => {
  test('moves what was forgotten, and says so', async () => {
    const runId = await start([timer('30s'), after('nap')])
    await rig.db.query(`update step set due_at = null where run_id = $1`, [runId])
    const nudged = await engine.nudgeRun(ADMIN, runId)
    expect(nudged.changed).toEqual([
      { of: 'nap', to: 'succeeded' },
      { of: 'after', to: 'queued' },
    ])
  })

  test('of a run that only waits changes nothing and says what it waits for', async () => {
    const runId = await start([event(), after('paid')])
    const before = await rig.states(runId)
    expect(await engine.nudgeRun(ADMIN, runId)).toMatchObject({
      run: { id: runId, state: 'waiting' },
      changed: [],
      waiting: [
        { step: 'paid', reason: { code: 'event' } },
        { step: 'after', reason: { code: 'dependency' } },
      ],
    })
    expect(await rig.states(runId)).toEqual(before)
  })

  test('of a run that has ended is refused', async () => {
    const runId = await start([timer('0s')])
    await expect(engine.nudgeRun(ADMIN, runId)).rejects.toMatchObject({ code: 'run.finished' })
  })
})
