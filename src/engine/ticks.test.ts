import { describe, expect, test } from 'vitest'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { NO_RETRY, type NodeSpec } from '../domain/testing/definitions.ts'
import { DEFAULT_TIMES, type RunningEngine } from './create-engine.ts'
import { ADMIN, type EngineRig, one, type RigWorker, useRig } from './testing/rig.ts'

const { leaseMs, acknowledgeMs, stallMs } = DEFAULT_TIMES
let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

/** Ticks an engine every second for a while; the workers named are heard of meanwhile. */
async function pass(ms: number, options: { on?: RunningEngine; heard?: RigWorker[] } = {}): Promise<void> {
  for (let left = ms; left > 0; left -= 1_000) {
    await rig.advance(Math.min(left, 1_000))
    for (const worker of options.heard ?? []) await worker.heartbeat()
    await (options.on ?? engine).tick()
  }
}

/** A run whose first step a worker holds. */
const running = (specs = one, extra: { host?: string } = {}) => rig.startHeld(engine, specs, extra)

describe('the lease', () => {
  test('is kept by heartbeats alone, however long the step runs', async () => {
    const { worker, runId } = await running()
    await pass(3 * leaseMs, { heard: [worker] })
    expect(await rig.states(runId)).toEqual({ a: 'running' })
  })

  test('of a worker that fell silent ends, and its step waits for another', async () => {
    const { worker, runId, a } = await running()
    await pass(leaseMs + 2_000)
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
    expect((await worker.done(a)).sessionState).toBe('ended')
    const next = await rig.worker(engine)
    expect((await next.poll()).assignments).toMatchObject([{ runId, fence: 2 }])
    const view = await engine.getRun(ADMIN, runId)
    expect(view.stepList[0]?.attempts).toMatchObject([{ state: 'lost', failure: { code: 'worker.lost' } }])
  })

  test('is not held against workers that could not be heard while the store was away', async () => {
    const { worker, runId } = await running()
    await engine.tick()
    rig.faults.before = () => {
      throw new Failure('storage.unreachable', 'away')
    }
    for (let i = 0; i < 20; i++) {
      await rig.advance(1_000)
      await expect(engine.tick()).rejects.toThrow('away')
    }
    delete rig.faults.before
    // Expired by the database's clock; yet it gets one lease to be heard.
    await engine.tick()
    await pass(leaseMs - 2_000)
    expect(await rig.states(runId)).toEqual({ a: 'running' })
    await worker.heartbeat()
    await pass(leaseMs - 2_000)
    expect(await rig.states(runId)).toEqual({ a: 'running' })
    await pass(4_000)
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
  })

  test('is not held against workers that could not be heard while the server was stopped', async () => {
    const { worker, runId } = await running()
    await pass(leaseMs + 1_000, { heard: [worker] })
    // As between SIGSTOP and SIGCONT: time goes by without a tick.
    await rig.advance(2 * leaseMs)
    await engine.tick()
    await pass(leaseMs - 1_000)
    expect(await rig.states(runId)).toEqual({ a: 'running' })
    await worker.heartbeat()
    await pass(leaseMs - 1_000)
    expect(await rig.states(runId)).toEqual({ a: 'running' })
    await pass(4_000)
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
  })

  test('is not held against them either when the host slept, and its monotonic clock with it', async () => {
    let sleptMs = 0
    engine = rig.engine({
      clock: {
        now: () => rig.clock.now(),
        monotonic: () => rig.clock.monotonic() - sleptMs,
        sleep: (ms, signal) => rig.clock.sleep(ms, signal),
      },
    })
    const { worker, runId } = await running()
    await pass(leaseMs + 1_000, { heard: [worker] })
    sleptMs = 60 * 60_000
    await rig.advance(sleptMs)
    await engine.tick()
    await pass(leaseMs - 1_000)
    expect(await rig.states(runId)).toEqual({ a: 'running' })
  })

  test('is ended in time by a server whose ticks have much to do', async () => {
    const waiting: NodeSpec[] = [{ name: 'a', runsOn: { gpu: 'yes' }, queueTimeoutMs: 20_000 }]
    const runs = await rig.startMany(engine, await rig.put(engine, waiting), 12)
    const { worker, runId } = await running()
    await pass(19_000, { heard: [worker] })
    // Each run that is settled takes its time: the tick is longer than a lease, yet the server does not stand still.
    rig.faults.before = (name) => {
      if (name === 'lock_run') rig.clock.advance(1_000)
    }
    await pass(1_000)
    expect(await rig.states(runs[11] ?? '')).toEqual({ a: 'failed' })
    delete rig.faults.before
    await rig.advance(0) // the database's clock as well
    await engine.tick()
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
  })

  test('is not ended by a server that has just started', async () => {
    const { runId } = await running()
    await rig.advance(2 * leaseMs)
    const fresh = rig.engine()
    await pass(leaseMs - 1_000, { on: fresh })
    expect(await rig.states(runId)).toEqual({ a: 'running' })
    await pass(3_000, { on: fresh })
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
  })

  test('that two servers sweep at once is ended once, and the step requeued once', async () => {
    const other = rig.engine()
    const { runId } = await running()
    for (let i = 0; i < leaseMs / 1_000 + 3; i++) {
      await rig.advance(1_000)
      await Promise.all([engine.tick(), other.tick()])
    }
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
    const view = await engine.getRun(ADMIN, runId)
    expect(view.stepList[0]?.attempts).toHaveLength(1)
  })

  test('a step that takes one worker after another with it is quarantined', async () => {
    const runId = await rig.start(engine, await rig.put(engine, one))
    for (let n = 0; n < LIMITS.lossesMax; n++) {
      const worker = await rig.worker(engine)
      await engine.tick()
      expect((await worker.poll()).assignments).toMatchObject([{ runId }])
      await pass(2 * leaseMs + 2_000)
    }
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'failed', failure: { code: 'attempt.poison' } })
  })
})

describe('a neighbour whose process is gone', () => {
  test('loses its steps at the next tick, long before its lease ends', async () => {
    let alive: boolean | null = true
    engine = rig.engine({ isAlive: () => alive })
    const { runId } = await running(one, { host: 'here' })
    await engine.tick()
    expect(await rig.states(runId)).toEqual({ a: 'running' })
    alive = false
    await engine.tick()
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
  })

  test('of another host, or that nobody can tell of, keeps them', async () => {
    engine = rig.engine({ isAlive: () => false })
    const { runId } = await running(one, { host: 'elsewhere' })
    await engine.tick()
    expect(await rig.states(runId)).toEqual({ a: 'running' })
    const unsure = rig.engine({ isAlive: () => null, host: 'elsewhere' })
    await unsure.tick()
    expect(await rig.states(runId)).toEqual({ a: 'running' })
  })

  test('is found by a server that starts on its host', async () => {
    const { runId } = await running(one, { host: 'here' })
    const fresh = rig.engine({ isAlive: () => false })
    await fresh.tick()
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
  })
})

describe('an assignment that is not confirmed', () => {
  test('is given to another while its worker lives', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, one))
    await worker.losePoll()
    await pass(acknowledgeMs + 1_000, { heard: [worker] })
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
    const view = await engine.getRun(ADMIN, runId)
    expect(view.stepList[0]?.attempts).toMatchObject([{ failure: { code: 'attempt.never_acknowledged' } }])
  })

  test('also when the worker never polled for it', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, one))
    await pass(acknowledgeMs + 1_000, { heard: [worker] })
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
  })

  test('is left alone by a server that the worker has left', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, one))
    await worker.losePoll()
    const other = rig.engine()
    worker.moveTo(other)
    await worker.poll()
    for (let i = 0; i < 20; i++) {
      await rig.advance(1_000)
      await worker.poll()
      await Promise.all([engine.tick(), other.tick()])
    }
    expect(await rig.states(runId)).toEqual({ a: 'running' })
    expect([...worker.held.keys()]).toEqual([`${runId}.0@1`])
  })

  test('is not called late by a server that was stopped, and could not hear that it was', async () => {
    const worker = await rig.worker(engine)
    await pass(leaseMs + 1_000, { heard: [worker] })
    const runId = await rig.start(engine, await rig.put(engine, one))
    await worker.pollFirst()
    await rig.advance(acknowledgeMs + 1_000)
    await worker.heartbeat()
    await engine.tick()
    expect(await rig.states(runId)).toEqual({ a: 'running' })
    await worker.poll()
    await pass(leaseMs + 1_000, { heard: [worker] })
    expect(await rig.states(runId)).toEqual({ a: 'running' })
  })

  test('is not called late by a server that has heard of its worker only now', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, one))
    await worker.losePoll()
    const other = rig.engine()
    worker.moveTo(other)
    await worker.heartbeat()
    await other.tick()
    expect(await rig.states(runId)).toEqual({ a: 'running' })
  })
})

describe('what is due', () => {
  test('a back-off that is over queues its step, and the tick says when the next is', async () => {
    const retry = { ...NO_RETRY, max: 1, initialMs: 700 }
    const { worker, runId, a } = await running([{ name: 'a', retry }])
    const failure = new Failure('step.function_threw', 'testing').toRecord()
    await worker.report(a, { kind: 'failed', failure })
    expect(await rig.states(runId)).toEqual({ a: 'waiting' })
    expect(await engine.tick()).toBe(700)
    await rig.advance(700)
    await engine.tick()
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
    expect((await worker.poll()).assignments).toMatchObject([{ fence: 2, tries: 1 }])
  })

  test('a queued step that nobody took in time fails', async () => {
    const runId = await rig.start(engine, await rig.put(engine, [{ name: 'a', queueTimeoutMs: 3_000 }]))
    await pass(2_000)
    expect(await rig.states(runId)).toEqual({ a: 'queued' })
    await pass(1_000)
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'failed', failure: { code: 'dispatch.expired' } })
  })

  test('a running step whose worker lives and lets the deadline pass is timed out', async () => {
    const { worker, runId } = await running([{ name: 'a', timeoutMs: 1_000 }])
    await pass(1_000 + DEFAULT_TIMES.deadlineGraceMs, { heard: [worker] })
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'failed', failure: { code: 'step.timed_out' } })
  })

  test('a decision that was put off by an outage is made by the next tick', async () => {
    const specs: NodeSpec[] = [{ name: 'a' }, { name: 'b', needs: ['a'], if: 'true' }]
    const { worker, runId, a } = await running(specs)
    rig.faults.before = (name) => {
      if (name === 'lock_run') throw new Failure('storage.unreachable', 'away')
    }
    await worker.done(a)
    expect(await rig.states(runId)).toEqual({ a: 'succeeded', b: 'pending' })
    delete rig.faults.before
    await engine.tick()
    expect(await rig.states(runId)).toMatchObject({ b: expect.stringMatching(/queued|running/) as string })
  })
})

describe('runs that cannot be settled', () => {
  const page = LIMITS.tickItemsMax
  const impatient: NodeSpec[] = [{ name: 'a', queueTimeoutMs: 1_000 }]

  test('do not hold up the others', async () => {
    const [bad = '', good = ''] = await rig.startMany(engine, await rig.put(engine, impatient), 2)
    await rig.breakRuns([bad])
    await pass(1_000)
    expect(await rig.states(good)).toEqual({ a: 'failed' })
  })

  test('do not starve what is due behind them, and are looked at again', async () => {
    const hash = await rig.put(engine, impatient)
    const bad = await rig.startMany(engine, hash, page)
    await rig.advance(1)
    const good = await rig.start(engine, hash)
    const { mend } = await rig.breakRuns(bad)
    await pass(3_000)
    expect(await rig.states(good)).toEqual({ a: 'failed' })
    await mend()
    await pass(2_000)
    expect(await rig.states(bad[0] ?? '')).toEqual({ a: 'failed' })
  })

  test('do not starve what lost its worker behind them, and are looked at again', async () => {
    const worker = await rig.worker(engine, { capacity: page + 1 })
    const runs = await rig.startMany(engine, await rig.put(engine, one), page + 1)
    while (worker.held.size <= page) await worker.pollFirst()
    const { mend } = await rig.breakRuns(runs.slice(0, page))
    await pass(leaseMs + 4_000)
    expect(await rig.states(runs[page] ?? '')).toEqual({ a: 'queued' })
    await mend()
    await pass(2_000)
    expect(await rig.states(runs[0] ?? '')).toEqual({ a: 'queued' })
  })

  test('are told of once, with their number, and again when they fail otherwise', async () => {
    const runs = await rig.startMany(engine, await rig.put(engine, impatient), 8)
    await rig.breakRuns(runs)
    await pass(5_000)
    const told = (count: number, code: string) => ({
      message: 'runs could not be settled',
      fields: { count, runs: runs.slice(0, 5), err: { code } },
    })
    expect(rig.logged).toMatchObject([told(8, 'definition.not_found')])
    rig.faults.before = (name) => {
      if (name === 'lock_run') throw new Failure('storage.unreachable', 'away')
    }
    await pass(2_000)
    expect(rig.logged).toMatchObject([told(8, 'definition.not_found'), told(8, 'storage.unreachable')])
  })
})

describe('a run in which nothing moves', () => {
  test('is armed again when a step was forgotten, and says so', async () => {
    const specs: NodeSpec[] = [{ name: 'a' }, { name: 'b', needs: ['a'] }, { name: 'c', needs: ['b'] }]
    const runId = await rig.start(engine, await rig.put(engine, specs))
    await rig.db.query(`update step set state = 'succeeded' where run_id = $1 and node = 0`, [runId])
    await rig.db.query(`update step set ok = 1 where run_id = $1 and node = 1`, [runId])
    await rig.db.query(`update run set open = 2, active = 0 where id = $1`, [runId])
    await rig.advance(stallMs + 60_000)
    await engine.tick()
    expect(await rig.states(runId)).toEqual({ a: 'succeeded', b: 'queued', c: 'pending' })
    expect(rig.logged).toContainEqual({ message: 'stalled run armed again', fields: { runId, steps: 1 } })
  })

  test('is blocked when what it needs can never come', async () => {
    const specs: NodeSpec[] = [{ name: 'a' }, { name: 'b', needs: ['a'] }]
    const runId = await rig.start(engine, await rig.put(engine, specs))
    const failure = JSON.stringify(new Failure('step.function_threw', 'testing').toRecord())
    await rig.db.query(`update step set state = 'failed', failure = $2::jsonb where run_id = $1 and node = 0`, [
      runId,
      failure,
    ])
    await rig.db.query(`update step set bad = 1 where run_id = $1 and node = 1`, [runId])
    await rig.db.query(`update run set open = 1, active = 0, bad = 1 where id = $1`, [runId])
    await rig.advance(stallMs + 60_000)
    await engine.tick()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'failed' })
    expect(await rig.states(runId)).toEqual({ a: 'failed', b: 'blocked' })
  })
})

describe('at rest', () => {
  test('a tick is one statement', async () => {
    await engine.tick()
    const asked: string[] = []
    rig.faults.before = (name) => void asked.push(name)
    for (let i = 0; i < 5; i++) {
      await rig.advance(1_000)
      await engine.tick()
    }
    expect(asked).toEqual(Array(5).fill('tick_sessions'))
  })
})

describe('a queue that another server made', () => {
  test('is known after the next tick, which asks nothing more when there is none', async () => {
    const asked: string[] = []
    rig.faults.before = (name) => void asked.push(name)
    const other = rig.engine()
    await other.tick()
    await other.tick()
    const worker = await rig.worker(other, { labels: { gpu: 'yes' } })
    await worker.poll()
    const specs: NodeSpec[] = [{ name: 'a', runsOn: { gpu: 'yes', made: String(rig.clock.now()) } }]
    const labels = { gpu: 'yes', made: String(rig.clock.now()) }
    const able = await rig.worker(other, { worker: 'able', labels })
    await able.poll()
    const runId = await rig.start(engine, await rig.put(engine, specs))
    await other.tick()
    expect((await able.poll()).assignments).toMatchObject([{ step: `${runId}.0` }])
    asked.length = 0
    await other.tick()
    expect(asked.filter((name) => name === 'list_queues')).toEqual([])
  })
})
