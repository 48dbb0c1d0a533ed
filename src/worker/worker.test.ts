import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turnOfLoop } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { type Clock, HandClock, type Log, seededRandom, silentLog, systemClock } from '../base/index.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import type { FunctionContext } from '../sdk/index.ts'
import { loopHeartbeats } from './heartbeats.ts'
import { functionStep, ScriptedServer } from './scripted-server.ts'
import { createWorker, type Worker, type WorkerDeps } from './worker.ts'

const workers: Worker[] = []
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()))
})

function workerOf(server: ScriptedServer, more: Partial<WorkerDeps> = {}): Worker {
  const clock = more.clock ?? systemClock
  const log = more.log ?? silentLog
  const worker = createWorker({
    lane: server,
    backend: null,
    modules: {},
    name: 'w1',
    version: '0.1.0',
    capacity: 4,
    labels: {},
    namespaces: null,
    host: 'host',
    pid: 1,
    pidStart: null,
    stateDir: null,
    startHeartbeats: loopHeartbeats({ lane: server, clock, log }),
    clock,
    random: seededRandom(1),
    log,
    env: {},
    ...more,
  })
  workers.push(worker)
  return worker
}

/** Waits for a state; a hand-turned clock is turned on the way. */
async function until(condition: () => boolean, clock: Clock = systemClock): Promise<void> {
  for (let i = 0; i < 20_000; i++) {
    if (condition()) return
    if (clock instanceof HandClock) clock.advance(20)
    else await clock.sleep(1)
    for (let turns = 0; turns < 3; turns++) await turnOfLoop()
  }
  throw new Error('the state never came')
}

function logOf(): { log: Log; lines: string[] } {
  const lines: string[] = []
  const add: Log['info'] = (message, fields) => void lines.push(`${message} ${String(fields?.['code'] ?? '')}`.trim())
  const log: Log = { debug: () => {}, info: add, warn: add, error: add, child: () => log }
  return { log, lines }
}

async function inStateDir(use: (dir: string) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'orrery-worker-'))
  try {
    await use(dir)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** Runs until its signal aborts; `stubborn` never listens. */
function sleepers() {
  const started: string[] = []
  const aborted: string[] = []
  const finish = new Map<string, (value: string) => void>()
  const sleep = (_: unknown, { step, signal }: FunctionContext) =>
    new Promise((resolve, reject) => {
      started.push(step)
      finish.set(step, resolve)
      signal.addEventListener('abort', () => {
        aborted.push(step)
        reject(new Error('aborted'))
      })
    })
  const stubborn = (_: unknown, { step }: FunctionContext) =>
    new Promise((resolve) => {
      started.push(step)
      finish.set(step, resolve)
    })
  return { started, aborted, finish, modules: { m: { sleep, stubborn } } }
}

describe('the exchange', () => {
  test('runs what is assigned, and what its end makes ready', async () => {
    const server = new ScriptedServer()
    server.after.set('run_1.a', [functionStep('b', 'm.double', { input: 2 })])
    server.add(functionStep('a', 'm.double', { input: 1 }))
    const worker = workerOf(server, { modules: { m: { double: (n: number) => n * 2 } } })
    await worker.start()
    await until(() => server.steps.size === 2 && server.allEnded)
    expect(server.step('run_1.a').end).toMatchObject({ kind: 'succeeded', output: 2, seq: 1 })
    expect(server.step('run_1.b').end).toMatchObject({ kind: 'succeeded', output: 4 })
    // Short work has one report; the successor came with its acknowledgement.
    expect(server.requestsOf('report')).toHaveLength(2)
  })

  test('reports that end together share a request, or the two that may be under way', async () => {
    const server = new ScriptedServer()
    for (let i = 0; i < 400; i++) server.add(functionStep(`s${i}`, i % 2 ? 'm.sync' : 'm.async'))
    const worker = workerOf(server, { capacity: 1000, modules: { m: { sync: () => 1, async: async () => 1 } } })
    await worker.start()
    await until(() => server.allEnded)
    // Two kinds that end in two turns, each shared between the two requests that may be under way, and one for what is left.
    expect(server.requestsOf('report').length).toBeLessThanOrEqual(5)
    await until(() => worker.stats().held === 0)
    expect(worker.stats()).toMatchObject({ free: 1000, running: 0, finished: 400 })
  })

  test('holds assignments beyond its capacity until a slot is free, and drops none', async () => {
    const server = new ScriptedServer()
    let now = 0
    let most = 0
    const work = async () => {
      most = Math.max(most, ++now)
      await turnOfLoop()
      now--
    }
    const worker = workerOf(server, { capacity: 2, modules: { m: { work } } })
    // The double is made to assign all it has: both lanes at once may do so to a lesser degree.
    const poll = server.poll.bind(server)
    server.poll = (request, signal) => poll({ ...request, free: 50 }, signal)
    for (let i = 0; i < 50; i++) server.add(functionStep(`s${i}`, 'm.work'))
    await worker.start()
    await until(() => server.allEnded)
    expect(most).toBe(2)
    expect(Math.max(...server.requestsOf('poll').map((request) => request.held.length))).toBeGreaterThan(2)
    expect(server.requestsOf('report').every((request) => request.free <= 2)).toBe(true)
  })

  test.each(Array.from({ length: 25 }, (_, seed) => seed))(
    'over a link that loses requests and answers each step runs once and is recorded once (seed %i)',
    async (seed) => {
      const server = new ScriptedServer()
      const clock = new HandClock(1_000_000)
      const dice = seededRandom(seed)
      const runs = new Map<string, number>()
      const count = (_: unknown, { attemptKey, log }: FunctionContext) => {
        runs.set(attemptKey, (runs.get(attemptKey) ?? 0) + 1)
        if (dice.next() < 0.3) log('a line')
        return dice.next() < 0.5 ? 1 : clock.sleep(Math.floor(dice.next() * 300)).then(() => 2)
      }
      for (let i = 0; i < 30; i++) {
        server.after.set(`run_1.a${i}`, [functionStep(`b${i}`, 'm.count')])
        server.add(functionStep(`a${i}`, 'm.count', { repeatable: i % 3 > 0 }))
      }
      server.fate = (call) => {
        const roll = dice.next()
        if (call === 'heartbeat' || roll < 0.5) return 'ok'
        return call === 'register' || roll < 0.75 ? 'cut' : 'lose'
      }
      server.pause = () => (dice.next() < 0.3 ? clock.sleep(Math.floor(dice.next() * 200)) : undefined)
      const worker = workerOf(server, { clock, modules: { m: { count } }, random: seededRandom(seed) })
      void worker.start()
      await until(() => server.steps.size === 60 && server.allEnded, clock)
      await until(() => worker.stats().held === 0, clock)
      expect([...runs.values()].every((n) => n === 1)).toBe(true)
      expect([...server.steps.values()].filter((step) => step.ends !== 1 || step.fence !== 1)).toEqual([])
      expect(server.stale).toBe(0)
    },
  )

  test('an outage is told once, and what ended meanwhile is reported after it', async () => {
    const server = new ScriptedServer()
    const clock = new HandClock(0)
    const { log, lines } = logOf()
    const { finish, started, modules } = sleepers()
    const worker = workerOf(server, { clock, log, modules })
    server.add(functionStep('a', 'm.sleep'))
    await worker.start()
    await until(() => started.length === 1, clock)
    let cuts = 0
    server.fate = (call) => (call !== 'heartbeat' && ++cuts < 12 ? 'cut' : 'ok')
    finish.get('a')?.('done')
    await until(() => server.allEnded, clock)
    expect(lines.filter((line) => line === 'link to the server lost worker.disconnected')).toHaveLength(1)
    expect(lines.filter((line) => line === 'link to the server is back')).toHaveLength(1)
    const reports = server.requestsOf('report').flatMap((request) => request.reports)
    expect(new Set(reports.filter((r) => r.kind === 'succeeded').map((r) => r.seq)).size).toBe(1)
  })

  test('a poll that a proxy swallowed is asked again', async () => {
    const server = new ScriptedServer()
    const clock = new HandClock(0)
    const worker = workerOf(server, { clock, modules: { m: { f: () => 1 } } })
    const poll = server.poll.bind(server)
    server.poll = () => {
      server.poll = poll
      return new Promise(() => {})
    }
    await worker.start()
    server.add(functionStep('a', 'm.f'))
    await until(() => server.allEnded, clock)
    expect(worker.stats().outages).toBe(1)
  })

  test.each(['client.unauthorized', 'client.forbidden', 'worker.auth_failed'] as const)(
    'a refusal with %s is final',
    async (code) => {
      const server = new ScriptedServer()
      const { started, aborted, modules } = sleepers()
      const worker = workerOf(server, { modules })
      server.add(functionStep('a', 'm.sleep'))
      await worker.start()
      await until(() => started.length === 1)
      server.fate = () => new Failure(code, 'asking the server')
      server.wake()
      server.add(functionStep('b', 'm.sleep'))
      expect(await worker.ended).toMatchObject({ reason: 'failed', failure: { code: 'worker.auth_failed' } })
      expect(aborted).toEqual(started)
      const asked = server.requests.length
      for (let turns = 0; turns < 50; turns++) await turnOfLoop()
      expect(server.requests.length).toBe(asked)
    },
  )

  test('a worker that is refused from the start ends', async () => {
    const server = new ScriptedServer()
    server.fate = () => new Failure('client.unauthorized', 'registering')
    const worker = workerOf(server)
    expect(await worker.start()).toBe(false)
    expect(await worker.ended).toMatchObject({ reason: 'failed', failure: { code: 'worker.auth_failed' } })
  })

  test('one report that the server cannot take does not hold up the others', async () => {
    const server = new ScriptedServer()
    const report = server.report.bind(server)
    server.report = async (request) => {
      const bad = request.reports.some((r) => r.kind === 'succeeded' && r.output === 'poison')
      if (bad) throw new Failure('request.invalid', 'reading the request')
      return report(request)
    }
    for (let i = 0; i < 20; i++) server.add(functionStep(`s${i}`, 'm.echo', { input: i === 7 ? 'poison' : i }))
    server.add(functionStep('rejected', 'm.echo', { input: 'reject me' }))
    const worker = workerOf(server, { capacity: 50, modules: { m: { echo: (value: unknown) => value } } })
    await worker.start()
    await until(() => server.allEnded)
    const ends = [...server.steps.values()].map((step) => step.end)
    expect(ends.filter((end) => end?.kind === 'succeeded')).toHaveLength(19)
    expect(server.step('run_1.s7').end).toMatchObject({ kind: 'failed', failure: { code: 'request.invalid' } })
    expect(server.step('run_1.rejected').end).toMatchObject({ kind: 'failed', failure: { code: 'output.too_large' } })
  })

  test('says that work started when it takes long', async () => {
    const server = new ScriptedServer()
    const { finish, started, modules } = sleepers()
    const clock = new HandClock(0)
    const worker = workerOf(server, { clock, modules })
    server.add(functionStep('a', 'm.sleep'))
    await worker.start()
    await until(() => started.length === 1, clock)
    await until(() => server.step('run_1.a').starts === 1, clock)
    finish.get('a')?.('done')
    await until(() => server.allEnded, clock)
    expect(server.step('run_1.a').end).toMatchObject({ kind: 'succeeded', seq: 2, output: 'done' })
  })
})

describe('refusals at the door', () => {
  test('a worker of a version that the server does not speak ends with that', async () => {
    const server = new ScriptedServer()
    server.fate = () => new Failure('worker.incompatible', 'registering version 0.1.0 with server 0.9.0')
    const worker = workerOf(server)
    await worker.start()
    expect(await worker.ended).toMatchObject({ reason: 'failed', failure: { code: 'worker.incompatible' } })
  })

  test('a server that is not there yet, or whose database is away, is asked again', async () => {
    const server = new ScriptedServer()
    const clock = new HandClock(0)
    let asked = 0
    server.fate = () => (++asked < 4 ? 'cut' : asked < 8 ? new Failure('storage.unreachable', 'registering') : 'ok')
    const worker = workerOf(server, { clock })
    void worker.start()
    await until(() => worker.stats().session !== null, clock)
    expect(worker.stats().outages).toBe(1)
  })
})

describe('cancel and lost leases', () => {
  test('a canceled function is aborted and confirmed', async () => {
    const server = new ScriptedServer()
    const { started, aborted, modules } = sleepers()
    const worker = workerOf(server, { modules })
    server.add(functionStep('a', 'm.sleep'))
    await worker.start()
    await until(() => started.length === 1)
    server.cancel('run_1.a', 'run.canceled')
    await until(() => server.allEnded)
    expect(server.step('run_1.a').end).toMatchObject({ kind: 'canceled' })
    expect(aborted).toEqual(['a'])
  })

  test('a cancel that overtakes its assignment is confirmed, and the assignment never runs', async () => {
    const server = new ScriptedServer()
    const { started, modules } = sleepers()
    const worker = workerOf(server, { modules })
    const poll = server.poll.bind(server)
    let late: ReturnType<typeof poll> | null = null
    server.poll = async (request, signal) => {
      const reply = await poll(request, signal)
      if (late) return reply
      late = Promise.resolve(reply)
      const cancels = reply.assignments.map(({ step, fence }) => ({ step, fence, reason: 'run.canceled' as const }))
      return { ...reply, cancels, assignments: [] }
    }
    server.add(functionStep('a', 'm.sleep'))
    await worker.start()
    await until(() => server.allEnded)
    expect(server.step('run_1.a').end).toMatchObject({ kind: 'canceled' })
    expect(started).toEqual([])
  })

  test('a function that ignores its signal is written off after the grace, and its late result dropped', async () => {
    const server = new ScriptedServer()
    const clock = new HandClock(0)
    const { started, finish, modules } = sleepers()
    const worker = workerOf(server, { clock, modules, capacity: 1 })
    server.add(functionStep('a', 'm.stubborn'))
    await worker.start()
    await until(() => started.length === 1, clock)
    server.cancel('run_1.a', 'run.canceled')
    const canceledAt = clock.now()
    await until(() => server.allEnded, clock)
    expect(clock.now() - canceledAt).toBeGreaterThanOrEqual(LIMITS.killGraceMs)
    expect(server.step('run_1.a').end).toMatchObject({ kind: 'canceled' })
    const reports = server.requestsOf('report').length
    finish.get('a')?.('too late')
    server.add(functionStep('b', 'm.stubborn'))
    await until(() => started.length === 2, clock)
    expect(server.requestsOf('report').length).toBe(reports)
    expect(worker.stats().running).toBe(1)
  })

  test('a function past its time is aborted and fails', async () => {
    const server = new ScriptedServer()
    const clock = new HandClock(0)
    const { aborted, modules } = sleepers()
    const worker = workerOf(server, { clock, modules })
    server.add(functionStep('a', 'm.sleep', { timeoutMs: 300 }))
    await worker.start()
    await until(() => server.allEnded, clock)
    expect(server.step('run_1.a').end).toMatchObject({
      kind: 'failed',
      failure: { code: 'step.timed_out', evidence: { timeoutMs: 300 } },
    })
    expect(aborted).toEqual(['a'])
  })

  test('work whose lease is stale stops and nothing is said about it', async () => {
    const server = new ScriptedServer()
    const { started, aborted, modules } = sleepers()
    const worker = workerOf(server, { modules, capacity: 1 })
    server.add(functionStep('a', 'm.sleep'))
    await worker.start()
    await until(() => started.length === 1)
    server.cancel('run_1.a', 'attempt.stale_lease')
    // The same step comes back with a new fence, and only that one is reported.
    await until(() => started.length === 2)
    expect(aborted).toEqual(['a'])
    server.cancel('run_1.a', 'run.canceled')
    await until(() => server.allEnded)
    const reports = server.requestsOf('report').flatMap((request) => request.reports)
    expect(reports.filter((r) => r.kind !== 'started').map((r) => r.fence)).toEqual([2])
  })

  test('a session that was swept is replaced, and its work stops', async () => {
    const server = new ScriptedServer()
    const { started, aborted, finish, modules } = sleepers()
    const worker = workerOf(server, { modules })
    server.add(functionStep('a', 'm.sleep'))
    await worker.start()
    await until(() => started.length === 1)
    server.endSession('ses_1')
    await until(() => started.length === 2)
    expect(aborted).toEqual(['a'])
    expect(server.requestsOf('register').map((request) => request.replaces)).toEqual([null, 'ses_1'])
    finish.get('a')?.('second')
    await until(() => server.allEnded)
    expect(server.step('run_1.a')).toMatchObject({ fence: 2, end: { output: 'second' }, ends: 1 })
  })

  test.each(Array.from({ length: 25 }, (_, seed) => seed))(
    'with sessions swept and runs canceled at any time each step ends once, and nothing stays held (seed %i)',
    async (seed) => {
      const server = new ScriptedServer()
      const clock = new HandClock(1_000_000)
      const dice = seededRandom(1_000 + seed)
      const work = async (_: unknown, { signal, log }: FunctionContext) => {
        if (dice.next() < 0.3) log('a line')
        await clock.sleep(Math.floor(dice.next() * 400), dice.next() < 0.7 ? signal : undefined)
        if (dice.next() < 0.1) throw new Error('no luck')
        return 1
      }
      for (let i = 0; i < 40; i++) server.add(functionStep(`s${i}`, 'm.work', { repeatable: i % 3 > 0 }))
      let sweeps = 6
      server.fate = (call) => {
        const roll = dice.next()
        const live = [...server.sessions].find(([, state]) => state === 'live')?.[0]
        if (roll < 0.03 && live && sweeps-- > 0) server.endSession(live)
        const step = server.steps.get(`run_1.s${Math.floor(dice.next() * 40)}`)
        if (roll > 0.95 && step?.state === 'leased') step.cancel ??= 'run.canceled'
        return roll > 0.8 && call !== 'heartbeat' ? (dice.next() < 0.5 ? 'cut' : 'lose') : 'ok'
      }
      const worker = workerOf(server, { clock, modules: { m: { work } }, random: seededRandom(seed) })
      void worker.start()
      await until(() => server.allEnded && worker.stats().held === 0, clock)
      expect([...server.steps.values()].filter((step) => step.ends !== 1)).toEqual([])
      await until(() => worker.stats().running === 0, clock)
      expect(worker.stats()).toMatchObject({ free: 4, queued: 0 })
    },
  )

  test('a heartbeat that finds the session ended is enough', async () => {
    const server = new ScriptedServer()
    const clock = new HandClock(0)
    const worker = workerOf(server, { clock })
    await worker.start()
    server.sessions.set('ses_1', 'ended')
    await until(() => worker.stats().session === 'ses_2', clock)
  })
})

describe('drain and stop', () => {
  test('a drain finishes what runs, gives back what comes, and ends', async () => {
    const server = new ScriptedServer()
    const { started, finish, modules } = sleepers()
    const worker = workerOf(server, { modules, capacity: 1 })
    server.add(functionStep('a', 'm.sleep'))
    await worker.start()
    await until(() => started.length === 1)
    const drained = worker.drain()
    server.add(functionStep('b', 'm.sleep'))
    await until(() => server.requestsOf('poll').some((request) => request.draining))
    finish.get('a')?.('done')
    await drained
    expect(await worker.ended).toEqual({ reason: 'drained' })
    expect(server.step('run_1.a')).toMatchObject({ state: 'ended', end: { output: 'done' } })
    expect(server.step('run_1.b')).toMatchObject({ state: 'queued' })
    expect(server.requestsOf('report').at(-1)).toMatchObject({ draining: true, free: 0, reports: [] })
  })

  test('assignments that wait for a slot when a drain begins are returned', async () => {
    const server = new ScriptedServer()
    const { started, finish, modules } = sleepers()
    const worker = workerOf(server, { modules, capacity: 1 })
    const poll = server.poll.bind(server)
    server.poll = (request, signal) => poll({ ...request, free: request.draining ? 0 : 2 }, signal)
    server.add(functionStep('a', 'm.sleep'), functionStep('b', 'm.sleep'))
    await worker.start()
    await until(() => started.length === 1)
    const drained = worker.drain()
    await until(() => server.step('run_1.b').state === 'queued')
    finish.get('a')?.('done')
    await drained
    expect(started).toEqual(['a'])
  })

  test('an idle worker drains at once, also when it never reached the server', async () => {
    const server = new ScriptedServer()
    const worker = workerOf(server)
    await worker.start()
    await worker.drain()
    const lost = new ScriptedServer()
    lost.fate = () => 'cut'
    const other = workerOf(lost)
    const start = other.start()
    await until(() => lost.requests.length > 0)
    await other.drain()
    await start
    expect(await other.ended).toEqual({ reason: 'drained' })
  })
})

describe('the outbox', () => {
  test('the end of a step that is not repeatable is on disk before it is sent', () =>
    inStateDir(async (dir) => {
      const server = new ScriptedServer()
      let onDisk = ''
      const report = server.report.bind(server)
      server.report = async (request) => {
        onDisk ||= await readFile(join(dir, 'outbox.jsonl'), 'utf8')
        return report(request)
      }
      const worker = workerOf(server, { stateDir: dir, modules: { m: { f: () => 'paid' } } })
      server.add(functionStep('a', 'm.f', { repeatable: false }))
      await worker.start()
      await until(() => server.allEnded)
      expect(JSON.parse(onDisk)).toMatchObject({ t: 'end', key: 'run_1.a@1', end: { body: { output: 'paid' } } })
      await until(() => worker.stats().outbox === 0)
      await worker.stop()
      expect(await readFile(join(dir, 'outbox.jsonl'), 'utf8')).toBe('')
    }))

  test('an end that could not be told is told by the next life, under the next session', () =>
    inStateDir(async (dir) => {
      const server = new ScriptedServer()
      let runs = 0
      const modules = { m: { f: () => ++runs } }
      const first = workerOf(server, { stateDir: dir, modules })
      server.fate = (call) => (call === 'report' ? 'cut' : 'ok')
      server.add(functionStep('a', 'm.f'))
      await first.start()
      await until(() => first.stats().outbox === 1)
      await first.stop()
      server.fate = () => 'ok'
      const second = workerOf(server, { stateDir: dir, modules })
      await second.start()
      await until(() => server.allEnded)
      expect(runs).toBe(1)
      expect(server.requestsOf('register').at(-1)).toMatchObject({
        replaces: 'ses_1',
        held: [{ step: 'run_1.a', fence: 1 }],
      })
      expect(server.step('run_1.a').end).toMatchObject({ kind: 'succeeded', output: 1 })
      await until(() => second.stats().outbox === 0)
      await second.stop()
    }))

  test('a late end of a former life is refused where the step went on without it', () =>
    inStateDir(async (dir) => {
      const server = new ScriptedServer()
      let runs = 0
      const modules = { m: { f: () => ++runs } }
      const first = workerOf(server, { stateDir: dir, modules })
      server.fate = (call) => (call === 'report' ? 'cut' : 'ok')
      server.add(functionStep('a', 'm.f'))
      await first.start()
      await until(() => first.stats().outbox === 1)
      await first.stop()
      server.endSession('ses_1')
      server.fate = () => 'ok'
      const second = workerOf(server, { stateDir: dir, modules })
      await second.start()
      await until(() => server.allEnded && second.stats().held === 0)
      expect(server.step('run_1.a')).toMatchObject({ fence: 2, ends: 1, end: { output: 2 } })
      expect(server.stale).toBe(1)
      expect(second.stats().outbox).toBe(0)
      await second.stop()
    }))
})
