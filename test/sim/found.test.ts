// What the simulation found once, without the dice.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { JsonObject } from '../../src/base/json.ts'
import type { Assignment, Report } from '../../src/contract/exchange.ts'
import { compileWorkflow } from '../../src/domain/manifest.ts'
import type { RunningEngine } from '../../src/engine/index.ts'
import { SimStore } from './store.ts'
import { CALLER } from './worker-process.ts'
import { SIM_TIMES, World } from './world.ts'

let store: SimStore
beforeAll(async () => {
  store = await SimStore.open()
})
afterAll(() => store.close())

describe('servers without faults', () => {
  let world: World
  const open: (() => void)[] = []

  beforeEach(async () => {
    for (const end of open.splice(0)) end()
    await store.clear()
    world = new World(store, 1, { servers: 2, workers: 0 })
    open.push(() => {
      for (const s of world.servers) if (s) s.db.alive = false
    })
    await store.setClock(world.clock.now())
    world.startServer(0)
  })

  const engine = (index: number): RunningEngine => {
    const server = world.servers[index]
    if (!server) throw new Error(`server ${index} was not started`)
    return server.engine
  }

  async function create(count: number, step: JsonObject): Promise<void> {
    const compiled = compileWorkflow({
      apiVersion: 'orrery.dev/v1',
      kind: 'Workflow',
      metadata: { name: 'one' },
      spec: { modules: { m: './m.ts' }, steps: [{ name: 'a', ...step }] },
    })
    if (!compiled.ok) throw new Error(JSON.stringify(compiled.problems))
    const { hash } = await engine(0).putDefinition(CALLER, compiled.definition)
    world.definitions.set(hash, compiled.definition)
    const run = { definition: hash, inputs: {}, labels: {}, idempotencyKey: null, fingerprint: null }
    await engine(0).createRuns(
      CALLER,
      Array.from({ length: count }, () => run),
    )
  }

  async function register(): Promise<string> {
    const identity = { worker: 'w', version: '0', host: 'h', pid: 1, pidStart: null, capacity: 1, labels: {} }
    const offer = { namespaces: null, backends: ['function' as const, 'process' as const], modules: ['m'] }
    const clock = world.clock.now()
    const { session } = await engine(0).register(CALLER, { ...identity, ...offer, clock, replaces: null, held: [] })
    return session
  }

  const report = (on: RunningEngine, session: string, reports: Report[]) => {
    const request = { session, free: 0, draining: false, reports }
    world.ledger.asked(request)
    return on.report(CALLER, request)
  }
  const about = ({ step, fence }: Assignment) => ({ step, fence, seq: 1, startedAgoMs: 0, endedAgoMs: null })

  test('a queue that does not run dry leaves room for the others', async () => {
    await create(8, { function: 'm.f' })
    await create(1, { command: ['true'] })
    const session = await register()
    const poll = { session, free: 1, held: [], draining: false }
    let next = (await engine(0).poll(CALLER, poll, new AbortController().signal)).assignments
    const kinds: string[] = []
    for (let i = 0; i < 4; i++) {
      const [assignment] = next
      if (!assignment) throw new Error('the worker got nothing')
      kinds.push(assignment.work.kind)
      const done = { ...about(assignment), endedAgoMs: 0, kind: 'succeeded' as const, output: {} }
      next = (await report(engine(0), session, [done])).assignments
    }
    expect(kinds).toContain('command')
  })

  test('an attempt that began in the sight of another server is not taken for unacknowledged', async () => {
    world.startServer(1)
    await create(1, { function: 'm.f' })
    const session = await register()
    const poll = { session, free: 1, held: [], draining: false }
    const [assignment] = (await engine(0).poll(CALLER, poll, new AbortController().signal)).assignments
    if (!assignment) throw new Error('the worker got nothing')
    await report(engine(1), session, [{ ...about(assignment), kind: 'started' }])
    // Its heartbeats reach the server that leased the step, everything else the other one.
    for (let ms = 0; ms < 2 * SIM_TIMES.acknowledgeMs; ms += SIM_TIMES.tickMs) {
      await engine(0).heartbeat(CALLER, { session, clock: 0 })
      await world.turn(SIM_TIMES.tickMs)
    }
    expect(world.snapshot.steps).toMatchObject([{ state: 'running', fence: 1, session }])
  })
})
