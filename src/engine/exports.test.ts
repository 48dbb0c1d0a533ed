import { describe, expect, test } from 'vitest'
import type { Assignment, RegisterRequest } from '../contract/exchange.ts'
import { compileWorkflow } from '../domain/manifest.ts'
import { FEATURES } from '../domain/workflow.ts'
import type { RunningEngine } from './create-engine.ts'
import { ADMIN, type EngineRig, type RigWorker, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

const command = (name: string, more: object = {}): object => ({ name, command: ['true'], ...more })

async function start(steps: object[], inputs = {}): Promise<string> {
  const compiled = compileWorkflow({
    apiVersion: 'orrery.dev/v1',
    kind: 'Workflow',
    metadata: { name: 'w' },
    spec: { steps },
  })
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.problems))
  const { hash } = await engine.putDefinition(ADMIN, compiled.definition)
  return rig.start(engine, hash, inputs)
}

const workerOf = (extra: Partial<RegisterRequest> = {}): Promise<RigWorker> =>
  rig.worker(engine, { backends: ['process'], modules: [], features: [...FEATURES], ...extra })

/** What comes with the answer to its end. */
async function next(worker: RigWorker, attempt: Assignment): Promise<Assignment> {
  const [following] = (await worker.done(attempt)).assignments
  return following ?? worker.pollFirst()
}

const envOf = ({ work }: Assignment) => work.kind === 'command' && work.env

describe('variables that a step hands on', () => {
  const hand = (worker: RigWorker, { step, fence }: Assignment, env: Record<string, string>) =>
    engine.takeExports(worker.caller, { session: worker.session, step, fence, env })

  test('reach the commands behind it, near and far, below what these say themselves', async () => {
    const worker = await workerOf()
    await start([
      command('a', { exportEnv: true }),
      command('b', { needs: ['a'], exportEnv: true, env: { OWN: '1' } }),
      command('c', { needs: ['b'], env: { THREE: 'mine' } }),
    ])
    const a = await worker.pollFirst()
    expect(envOf(a)).toEqual({})
    expect(await hand(worker, a, { ONE: 'a', TWO: 'a', THREE: 'a' })).toEqual({ state: 'recorded' })
    // Twice is safe: an answer may be lost.
    expect(await hand(worker, a, { ONE: 'a', TWO: 'a', THREE: 'a' })).toEqual({ state: 'recorded' })
    const b = await next(worker, a)
    expect(envOf(b)).toEqual({ ONE: 'a', TWO: 'a', THREE: 'a', OWN: '1' })
    await hand(worker, b, { TWO: 'b' })
    expect(envOf(await next(worker, b))).toEqual({ ONE: 'a', TWO: 'b', THREE: 'mine' })
  })

  test('are those of the attempt that ended well; nobody else may hand any on', async () => {
    const worker = await workerOf()
    await start([command('a', { exportEnv: true, retry: { max: 1, initial: '0s' } }), command('b', { needs: ['a'] })])
    const first = await worker.pollFirst()
    await hand(worker, first, { A: 'first', B: 'first' })
    await worker.report(first, {
      kind: 'failed',
      failure: { code: 'step.exit_nonzero', message: 'm', remediation: 'r', retryable: false },
    })
    await engine.tick()
    const second = await worker.pollFirst()
    expect(await hand(worker, first, { A: 'late' })).toEqual({ state: 'stale' })
    await hand(worker, second, { A: 'second' })
    expect(envOf(await next(worker, second))).toEqual({ A: 'second' })
  })

  test('of an attempt that failed are nobody’s, also when the one that ended well hands on nothing', async () => {
    const worker = await workerOf()
    await start([command('a', { exportEnv: true, retry: { max: 1, initial: '0s' } }), command('b', { needs: ['a'] })])
    const first = await worker.pollFirst()
    await hand(worker, first, { A: 'first' })
    await worker.report(first, {
      kind: 'failed',
      failure: { code: 'step.exit_nonzero', message: 'm', remediation: 'r', retryable: false },
    })
    await engine.tick()
    expect(envOf(await next(worker, await worker.pollFirst()))).toEqual({})
  })

  test('are refused of a step that does not say exportEnv', async () => {
    const worker = await workerOf()
    await start([command('a')])
    await expect(hand(worker, await worker.pollFirst(), { A: '1' })).rejects.toMatchObject({ code: 'request.invalid' })
  })

  test('of too many steps are too large together: the step that is given them fails and says whose they are', async () => {
    const worker = await workerOf({ capacity: 10 })
    const names = ['a', 'b', 'c', 'd', 'e', 'f']
    const runId = await start([
      ...names.map((name) => command(name, { exportEnv: true })),
      command('last', { needs: names }),
    ])
    for (const [i, given] of (await worker.poll()).assignments.entries()) {
      await hand(worker, given, { [`V${i}`]: 'x'.repeat(60_000) })
      await worker.done(given)
    }
    for (const [i, given] of (await worker.poll()).assignments.entries()) {
      await hand(worker, given, { [`W${i}`]: 'x'.repeat(60_000) })
      await worker.done(given)
    }
    await worker.poll()
    await engine.tick()
    const { failure } = await engine.getRun(ADMIN, runId)
    expect(JSON.stringify(failure)).toContain('env.too_large')
  })
})

describe('a worker of before', () => {
  test('is given plain steps alone, and the reason says what it lacks', async () => {
    const old = await rig.worker(engine, { worker: 'old', backends: ['process'], modules: [] })
    const runId = await start([command('plain'), command('staged', { setUp: 'true', output: 'json' })])
    const { assignments } = await old.poll()
    expect(assignments.map((a) => a.name)).toEqual(['plain'])
    await rig.advance(3_000)
    const view = await engine.getRun(ADMIN, runId)
    expect(view.stepList?.find((s) => s.name === 'staged')).toMatchObject({
      state: 'queued',
      reason: {
        code: 'dispatch.requirements_unmet',
        evidence: { workers: [{ worker: 'old', lacks: ['feature stages', 'feature output'] }] },
        remediation: expect.stringContaining('Worker old is of a version that lacks feature stages, feature output'),
      },
    })
    const young = await workerOf({ worker: 'young' })
    expect((await young.pollFirst()).name).toBe('staged')
  })

  test('a newer one may have features that this server does not know', async () => {
    const worker = await workerOf({ features: [...FEATURES, 'levitation'] })
    await start([command('staged', { tearDown: 'true' })])
    expect((await worker.pollFirst()).work).toMatchObject({ tearDown: { commands: [['sh', '-c', 'true']] } })
  })
})

test('set-up and tear-down are filled in for each activation, like the command', async () => {
  const worker = await workerOf()
  await start(
    [command('a', { forEach: ['x'], setUp: ['prepare ${{ item }}'], tearDown: [['rm', '${{ inputs.dir }}']] })],
    {
      dir: 'tmp',
    },
  )
  await engine.tick()
  expect((await worker.pollFirst()).work).toMatchObject({
    setUp: [['sh', '-c', 'prepare x']],
    tearDown: { commands: [['rm', 'tmp']] },
  })
})
