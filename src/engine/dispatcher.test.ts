import { describe, expect, test } from 'vitest'
import { Failure } from '../domain/failure.ts'
import type { NodeSpec } from '../domain/testing/definitions.ts'
import type { RunningEngine } from './create-engine.ts'
import { ADMIN, type EngineRig, one, type RigWorker, useRig, WORKER } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

const chain: NodeSpec[] = [{ name: 'a' }, { name: 'b', needs: ['a'] }]
const fan = (n: number): NodeSpec[] => [
  { name: 'a' },
  ...Array.from({ length: n }, (_, i): NodeSpec => ({ name: `b${i}`, needs: ['a'] })),
]
const turn = () => new Promise((resolve) => setImmediate(resolve))
/** Lets what is under way on PGlite come to rest. */
const settle = async () => {
  for (let i = 0; i < 20; i++) await turn()
  await rig.db.query('select 1')
  for (let i = 0; i < 20; i++) await turn()
}

describe('assigning', () => {
  test('a run is born leased to a worker with room, and the next poll brings it', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, one))
    expect(await rig.states(runId)).toEqual({ a: 'running' })
    const { assignments } = await worker.poll()
    expect(assignments).toMatchObject([{ step: `${runId}.0`, fence: 1, name: 'a', work: { function: 'm.work' } }])
  })

  test('a parked poll is answered when something comes', async () => {
    engine = rig.engine({ times: { pollMs: 20_000 } })
    const worker = await rig.worker(engine)
    const hash = await rig.put(engine, one)
    const poll = worker.poll()
    await settle()
    const runId = await rig.start(engine, hash)
    expect((await poll).assignments).toMatchObject([{ runId }])
  })

  test('a parked poll ends empty when its time is over', async () => {
    engine = rig.engine({ times: { pollMs: 20_000 } })
    const worker = await rig.worker(engine)
    const poll = worker.poll()
    await settle()
    await rig.advance(20_000)
    expect(await poll).toEqual({ sessionState: 'live', assignments: [], cancels: [], drain: false })
  })

  test('the report of one step brings the next', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, chain))
    const a = await worker.pollFirst()
    const reply = await worker.done(a, 1)
    expect(reply).toMatchObject({ acks: [{ outcome: 'recorded' }], assignments: [{ step: `${runId}.1` }] })
  })

  test('no worker ever has more than its capacity', async () => {
    const worker = await rig.worker(engine, { capacity: 3 })
    const hash = await rig.put(engine, fan(10))
    const run = { definition: hash, inputs: {}, labels: {}, idempotencyKey: null, fingerprint: null }
    await engine.createRuns(
      ADMIN,
      Array.from({ length: 6 }, () => run),
    )
    for (let ended = 0; ended < 66; ended++) {
      await worker.poll()
      expect(worker.held.size).toBeLessThanOrEqual(3)
      const [held] = [...worker.held.values()]
      if (!held) throw new Error(`nothing held after ${ended}`)
      await worker.done(held)
    }
    expect(
      (
        await engine.listRuns(ADMIN, {
          namespace: null,
          workflow: null,
          states: ['succeeded'],
          cursor: null,
          limit: 10,
        })
      ).items,
    ).toHaveLength(6)
  })

  test('a stale report frees no slot', async () => {
    const worker = await rig.worker(engine, { capacity: 1 })
    const runId = await rig.start(engine, await rig.put(engine, fan(3)))
    const a = await worker.pollFirst()
    const stale = { step: `${runId}.3`, fence: 9 }
    const success = { kind: 'succeeded', output: null } as const
    await worker.send([worker.reportOf(stale, success), worker.reportOf(a, success)])
    expect(worker.held.size).toBe(1)
  })

  test('a draining worker gets nothing new', async () => {
    const worker = await rig.worker(engine)
    await worker.poll({ draining: true })
    const runId = await rig.start(engine, await rig.put(engine, one))
    expect((await worker.poll({ draining: true })).assignments).toEqual([])
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
  })

  test('a step whose template cannot be filled in fails before it is sent', async () => {
    const worker = await rig.worker(engine)
    const specs: NodeSpec[] = [{ name: 'a', with: '${{ inputs.missing }}' }]
    const runId = await rig.start(engine, await rig.put(engine, specs))
    expect((await worker.poll()).assignments).toEqual([])
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({
      state: 'failed',
      failure: { code: 'expression.unresolved' },
    })
  })
})

describe('what gets lost', () => {
  test('an assignment whose reply was lost is sent again with the next poll', async () => {
    const worker = await rig.worker(engine)
    await rig.start(engine, await rig.put(engine, one))
    const [lost] = await worker.losePoll()
    expect((await worker.poll()).assignments).toEqual([lost])
    expect((await worker.poll()).assignments).toEqual([])
  })

  test('a poll that was cut carries nothing away', async () => {
    engine = rig.engine({ times: { pollMs: 20_000 } })
    const worker = await rig.worker(engine)
    const hash = await rig.put(engine, one)
    const cut = new AbortController()
    const poll = worker.poll({ signal: cut.signal })
    await settle()
    cut.abort()
    const runId = await rig.start(engine, hash)
    expect((await poll).assignments).toEqual([])
    expect((await worker.poll()).assignments).toMatchObject([{ runId }])
  })

  test('a poll that a newer one replaced carries nothing away', async () => {
    engine = rig.engine({ times: { pollMs: 20_000 } })
    const worker = await rig.worker(engine)
    const hash = await rig.put(engine, one)
    const [older, newer] = [worker.poll(), worker.poll()]
    await settle()
    const runId = await rig.start(engine, hash)
    expect((await older).assignments).toEqual([])
    expect((await newer).assignments).toMatchObject([{ runId }])
  })

  test('an assignment in the lost reply of a report is sent to the poll that is parked', async () => {
    engine = rig.engine({ times: { pollMs: 20_000 } })
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, chain))
    const a = await worker.pollFirst()
    const poll = worker.poll()
    await settle()
    expect((await worker.done(a)).assignments).toHaveLength(1)
    worker.held.clear()
    await engine.tick()
    await rig.advance(2_000)
    await engine.tick()
    expect((await poll).assignments).toMatchObject([{ step: `${runId}.1` }])
  })

  test('an attempt that ended at another server is not sent again, and its slot is free', async () => {
    const other = rig.engine()
    const worker = await rig.worker(engine, { capacity: 1 })
    const hash = await rig.put(engine, one)
    await rig.start(engine, hash)
    const [lost] = await worker.losePoll()
    worker.moveTo(other)
    const [again] = (await worker.poll()).assignments
    if (!again) throw new Error('not sent by the other server')
    expect(again).toEqual(lost)
    await worker.done(again)
    worker.moveTo(engine)
    expect((await worker.poll()).assignments).toEqual([])
    const second = await rig.start(engine, hash)
    expect((await worker.poll()).assignments).toMatchObject([{ runId: second }])
  })

  test('a confirmed attempt that ended at another server gives its slot back', async () => {
    const other = rig.engine()
    const worker = await rig.worker(engine, { capacity: 1 })
    const hash = await rig.put(engine, one)
    await rig.start(engine, hash)
    const a = await worker.pollFirst()
    await worker.poll()
    worker.moveTo(other)
    await worker.done(a)
    worker.moveTo(engine)
    await rig.advance(3_000)
    await worker.poll()
    const second = await rig.start(engine, hash)
    expect((await worker.poll()).assignments).toMatchObject([{ runId: second }])
  })

  test('what a worker holds and does not own any more is to be stopped', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, one))
    const a = await worker.pollFirst()
    await rig.advance(2_000)
    const foreign = { step: a.step, fence: 7 }
    const { cancels } = await worker.poll({ held: [a, foreign, { step: 'nonsense', fence: 1 }] })
    expect(cancels).toEqual([{ ...foreign, reason: 'attempt.stale_lease' }])
    expect(await rig.states(runId)).toEqual({ a: 'running' })
  })

  test('a worker is told of a cancel, again until it confirms', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, chain))
    const a = await worker.pollFirst()
    await engine.cancelRun(ADMIN, runId)
    for (let i = 0; i < 2; i++) {
      await engine.tick()
      expect((await worker.poll()).cancels).toEqual([{ step: a.step, fence: 1, reason: 'run.canceled' }])
    }
    expect((await worker.report(a, { kind: 'canceled' })).acks).toMatchObject([{ outcome: 'recorded' }])
    expect((await worker.report(a, { kind: 'canceled' })).acks).toMatchObject([{ outcome: 'duplicate' }])
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'canceled' })
  })
})

describe('leases whose answer was lost', () => {
  const failOnce = (name: string) => {
    rig.faults.after = (asked) => {
      if (asked !== name) return
      delete rig.faults.after
      throw new Failure('storage.unreachable', 'the connection was lost')
    }
  }

  test('a claim that was done and not heard of is found again', async () => {
    const runId = await rig.start(engine, await rig.put(engine, one))
    const worker = await rig.worker(engine)
    failOnce('claim_steps')
    await expect(worker.poll()).rejects.toThrow('connection was lost')
    expect(await rig.states(runId)).toEqual({ a: 'running' })
    await rig.advance(3_000)
    await engine.tick()
    expect((await worker.poll()).assignments).toMatchObject([{ runId, fence: 1 }])
  })

  test('continuations of a completion that was done and not heard of are found again', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, chain))
    const a = await worker.pollFirst()
    failOnce('complete_steps')
    await expect(worker.done(a)).rejects.toThrow('connection was lost')
    expect((await worker.done(a)).acks).toMatchObject([{ outcome: 'duplicate' }])
    expect(await rig.states(runId)).toEqual({ a: 'succeeded', b: 'running' })
    await rig.advance(3_000)
    await engine.tick()
    expect((await worker.poll()).assignments).toMatchObject([{ step: `${runId}.1`, fence: 1 }])
    await worker.poll()
    for (let i = 0; i < 17; i++) {
      await rig.advance(1_000)
      await worker.heartbeat()
      await engine.tick()
    }
    expect(await rig.states(runId)).toEqual({ a: 'succeeded', b: 'running' })
  })

  test('a step that is born leased and cannot be handed on yet is found again', async () => {
    const worker = await rig.worker(engine)
    const specs: NodeSpec[] = [...one, { name: 'b', needs: ['a'], refs: ['a'], with: '${{ steps.a.output }}' }]
    const runId = await rig.start(engine, await rig.put(engine, specs))
    const a = await worker.pollFirst()
    rig.faults.before = (asked) => {
      if (asked === 'load_outputs') throw new Failure('storage.unreachable', 'the connection was lost')
    }
    // It was recorded: that its successor could not be sent is no matter of the report.
    expect((await worker.done(a, 'x')).acks).toMatchObject([{ outcome: 'recorded' }])
    delete rig.faults.before
    await rig.advance(3_000)
    await engine.tick()
    expect((await worker.poll()).assignments).toMatchObject([{ step: `${runId}.1`, work: { input: 'x' } }])
  })

  test('a server that leased and died before it sent leaves its leases to the one that the worker goes to', async () => {
    const other = rig.engine()
    const worker = await rig.worker(engine)
    worker.moveTo(other)
    await worker.heartbeat()
    const runId = await rig.start(engine, await rig.put(engine, one))
    expect(await rig.states(runId)).toEqual({ a: 'running' })
    for (let i = 0; i < 5; i++) {
      await rig.advance(4_000)
      await worker.heartbeat()
      await other.tick()
    }
    expect((await worker.poll()).assignments).toMatchObject([{ runId, fence: 1 }])
  })

  test('a server that leased to a worker which just left at another loses nothing: somebody else gets it, and it is no loss', async () => {
    const other = rig.engine()
    const worker = await rig.worker(engine)
    worker.moveTo(other)
    await worker.heartbeat()
    const runId = await rig.start(engine, await rig.put(engine, one))
    expect(await rig.states(runId)).toEqual({ a: 'running' })
    expect((await worker.leave()).sessionState).toBe('ended')
    await other.tick()
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
    const next = await rig.worker(other, { worker: 'next' })
    expect((await next.poll()).assignments).toMatchObject([{ runId, fence: 2 }])
    const view = await engine.getRun(ADMIN, runId)
    expect(view.stepList).toMatchObject([{ losses: 0, tries: 0, attempts: [{ fence: 1, state: 'parked' }] }])
  })

  test.each(['the former life first', 'the new life first'])(
    'two lives of a worker that report one command together: the word of the one that holds it counts, %s',
    async (order) => {
      const other = rig.engine()
      const former = await rig.worker(other)
      const runId = await rig.start(other, await rig.put(other, one))
      const held = await former.pollFirst()
      // Its next life opened its session at another server; this one has not heard that the former one has ended.
      const life = await rig.worker(engine, { replaces: former.session, held: [...former.held.values()] })
      life.moveTo(other)
      await life.heartbeat()
      const say = (worker: RigWorker) => worker.done(held, worker === life ? 'new' : 'former')
      const pair = order === 'the new life first' ? [life, former] : [former, life]
      const replies = await Promise.all(pair.map(say))
      const outcomeOf = (worker: RigWorker) => replies[pair.indexOf(worker)]?.acks[0]?.outcome
      expect(outcomeOf(life)).toBe('recorded')
      expect(outcomeOf(former)).not.toBe('recorded')
      expect((await engine.getRun(ADMIN, runId)).stepList).toMatchObject([
        { state: 'succeeded', output: 'new', fence: 1 },
      ])
    },
  )

  test('slots promised to a statement that failed are free again', async () => {
    const worker = await rig.worker(engine, { capacity: 1 })
    const hash = await rig.put(engine, chain)
    const away = (name: string) => {
      rig.faults.before = (asked) => {
        if (asked === name) throw new Failure('storage.unreachable', 'away')
      }
    }
    away('create_runs')
    await expect(rig.start(engine, hash)).rejects.toThrow('away')
    delete rig.faults.before
    const runId = await rig.start(rig.engine(), hash)
    away('claim_steps')
    await engine.tick().catch(() => {})
    await expect(worker.poll()).rejects.toThrow('away')
    delete rig.faults.before
    expect((await worker.poll()).assignments).toMatchObject([{ runId }])
  })
})

describe('sessions', () => {
  test('a token may not speak for the session of another, whether this server knows it or not', async () => {
    const worker = await rig.worker(engine)
    const intruder = { ...WORKER, actor: 'tok_other' }
    const signal = new AbortController().signal
    for (const server of [engine, rig.engine()]) {
      const { session } = worker
      const poll = { session, free: 1, held: [], draining: false }
      await expect(server.poll(intruder, poll, signal)).rejects.toMatchObject({ code: 'client.forbidden' })
      const report = { session, free: 1, draining: false, reports: [] }
      await expect(server.report(intruder, report)).rejects.toMatchObject({ code: 'client.forbidden' })
      await expect(server.heartbeat(intruder, { session, clock: 0 })).rejects.toMatchObject({
        code: 'client.forbidden',
      })
    }
    expect((await worker.poll()).sessionState).toBe('live')
  })

  test('a worker that restarts takes over what still runs and ends its former session', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, chain))
    const a = await worker.pollFirst()
    const next = await rig.worker(engine, { replaces: worker.session, held: [a, { step: a.step, fence: 5 }] })
    expect([...next.held.keys()]).toEqual([`${runId}.0@1`])
    expect((await worker.poll()).sessionState).toBe('ended')
    expect((await worker.done(a)).acks).toMatchObject([{ outcome: 'stale' }])
    expect((await next.done(a)).acks).toMatchObject([{ outcome: 'recorded' }])
  })

  test('nobody can end the session of another token by replacing it', async () => {
    const worker = await rig.worker(engine)
    await rig.worker(engine, { replaces: worker.session, caller: { ...WORKER, actor: 'tok_other' } })
    expect((await worker.poll()).sessionState).toBe('live')
  })
})
