import { describe, expect, test } from 'vitest'
import { Failure } from '../domain/failure.ts'
import { parseResources } from '../domain/kinds/documents.ts'
import { LIMITS } from '../domain/limits.ts'
import { compileWorkflow } from '../domain/manifest.ts'
import type { AnySpec } from '../domain/testing/definitions.ts'
import type { Definition } from '../domain/workflow.ts'
import { putToken } from '../store/tokens/tokens.ts'
import type { RunningEngine } from './create-engine.ts'
import type { Caller } from './engine.ts'
import { ADMIN, type EngineRig, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

const failed = { kind: 'failed', failure: new Failure('step.function_threw', 'testing').toRecord() } as const
const sub = (name: string, extra: object = {}): AnySpec =>
  ({ name: 'sub', kind: 'workflow', ref: { name }, with: {}, ...extra }) as AnySpec
const after: AnySpec = { name: 'after', needs: ['sub'] }

async function start(specs: AnySpec[], extra: object = {}): Promise<string> {
  const runId = await rig.start(engine, await rig.put(engine, specs, extra))
  await engine.tick()
  return runId
}
const compiledOf = (metadata: object): Definition => {
  const spec = { steps: [{ name: 'nap', wait: '0s' }] }
  const compiled = compileWorkflow({ apiVersion: 'orrery.dev/v1', kind: 'Workflow', metadata, spec })
  if (!compiled.ok) throw new Error('the workflow of the test is wrong')
  return compiled.definition
}
const childOf = async (runId: string): Promise<string> => {
  const id = (await engine.getRun(ADMIN, runId)).stepList[0]?.childRun
  if (!id) throw new Error('no run below')
  return id
}

describe('a run below another', () => {
  test('is started with its step, named by it, and gives it the outputs of its last steps', async () => {
    const worker = await rig.worker(engine)
    await rig.put(engine, [{ name: 'x' }, { name: 'y', needs: ['x'] }], { name: 'child-a' })
    const runId = await start([sub('child-a'), after])
    const child = await childOf(runId)
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({
      state: 'waiting',
      waitsOn: [{ step: 'sub', kind: 'child', on: child }],
      stepList: [{ kind: 'workflow', reason: { code: 'child' } }, {}],
    })
    expect(await engine.getRun(ADMIN, child)).toMatchObject({ parent: { run: runId, step: `${runId}.0` } })
    const [next] = (await worker.done(await worker.pollFirst(), 1)).assignments
    if (!next) throw new Error('y was not assigned')
    await worker.done(next, { made: 2 })
    await engine.tick()
    const view = await engine.getRun(ADMIN, runId)
    expect(view.stepList[0]).toMatchObject({ state: 'succeeded', output: { y: { made: 2 } }, childRun: child })
    expect(view.stepList[1]).toMatchObject({ state: 'queued' })
  })

  test('RUN-8: that fails carries its failure and a link to the step; a retry of the parent starts a new one', async () => {
    const worker = await rig.worker(engine)
    await rig.put(engine, [{ name: 'x' }], { name: 'child-b' })
    const runId = await start([sub('child-b')])
    const first = await childOf(runId)
    await worker.report(await worker.pollFirst(), failed)
    await engine.tick()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({
      state: 'failed',
      failure: { code: 'child.failed', evidence: { run: first }, cause: { code: 'step.function_threw' } },
    })
    await engine.retryRun(ADMIN, runId)
    await expect(engine.retryRun(ADMIN, runId)).rejects.toMatchObject({
      code: 'run.retry_in_progress',
      evidence: { allowed: ['cancel'] },
    })
    await engine.tick()
    const second = await childOf(runId)
    expect(second).not.toBe(first)
    await worker.done(await worker.pollFirst())
    await engine.tick()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test('RUN-8: that is canceled by itself fails the step with child.canceled', async () => {
    await rig.put(engine, [{ name: 'x' }], { name: 'child-c' })
    const runId = await start([sub('child-c')])
    await engine.cancelRun(ADMIN, await childOf(runId))
    await engine.tick()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'failed', failure: { code: 'child.canceled' } })
  })

  test('is stopped when its parent is canceled, and its own children too', async () => {
    await rig.put(engine, [{ name: 'x' }], { name: 'child-e' })
    await rig.put(engine, [sub('child-e')], { name: 'child-d' })
    const runId = await start([sub('child-d')])
    await engine.tick()
    const child = await childOf(runId)
    const grandchild = await childOf(child)
    await engine.cancelRun(ADMIN, runId)
    await engine.tick()
    await engine.tick()
    for (const id of [runId, child, grandchild])
      expect(await engine.getRun(ADMIN, id)).toMatchObject({ state: 'canceled' })
  })

  test('RUN-8: whose workflow is not stored fails its step; stored and retried it runs', async () => {
    const runId = await start([sub('child-later')])
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({
      state: 'failed',
      failure: { code: 'child.definition_not_found', evidence: { name: 'child-later', namespace: 'default' } },
    })
    await rig.put(engine, [{ name: 'nap', kind: 'wait', for: { type: 'duration', duration: '0s' } }], {
      name: 'child-later',
    })
    await engine.retryRun(ADMIN, runId)
    for (let i = 0; i < 4; i++) await engine.tick()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  const NAP = [{ name: 'nap', wait: '0s' }]
  const store = (name: string, spec: object = {}, { namespace = 'default', labels = {} } = {}) =>
    engine.resources.apply(
      ADMIN,
      parseResources(
        JSON.stringify({
          apiVersion: 'orrery.dev/v1',
          kind: 'Workflow',
          metadata: { name, namespace, labels },
          spec: { steps: NAP, ...spec },
        }),
        { file: 'w.yaml', namespace: null },
      ),
      { dryRun: false },
    )
  const settleDown = async () => {
    for (let i = 0; i < 4; i++) await engine.tick()
  }

  test('RUN-8: that is archived or a draft fails its step with the versions that there are; activated and retried it runs', async () => {
    await store('child-k', { timeout: '1h' })
    await store('child-k', { lifecycle: 'archived' })
    const runId = await start([sub('child-k')])
    const { failure } = await engine.getRun(ADMIN, runId)
    expect(failure).toMatchObject({
      code: 'child.definition_inactive',
      evidence: {
        lifecycle: 'archived',
        version: 2,
        versions: [
          { version: 2, lifecycle: 'archived' },
          { version: 1, lifecycle: 'active' },
        ],
      },
    })
    expect(failure?.remediation).toContain('orrery edit workflow child-k -n default')
    const pinned = await start([sub('', { ref: { name: 'child-k', version: 1 } })])
    expect(await engine.getRun(ADMIN, pinned)).toMatchObject({ failure: { code: 'child.definition_inactive' } })
    await store('child-k', { lifecycle: 'active' })
    for (const id of [runId, pinned]) await engine.retryRun(ADMIN, id)
    await settleDown()
    for (const id of [runId, pinned]) expect(await engine.getRun(ADMIN, id)).toMatchObject({ state: 'succeeded' })
    await store('child-draft', { lifecycle: 'draft' })
    const draft = await start([sub('child-draft')])
    expect(await engine.getRun(ADMIN, draft)).toMatchObject({ failure: { evidence: { lifecycle: 'draft' } } })
  })

  test('is of the latest active version, or of the one that is named, with the labels of the workflow', async () => {
    await store('child-l', { timeout: '1h' }, { labels: { team: 'core' } })
    await store('child-l', { timeout: '2h' }, { labels: { team: 'core' } })
    await store('child-l', { lifecycle: 'draft' }, { labels: { team: 'core' } })
    const timeoutOf = async (ref: object) => {
      const child = await engine.getRun(ADMIN, await childOf(await start([sub('', { ref })])))
      expect(child.labels).toEqual({ team: 'core' })
      return (await engine.getDefinition(ADMIN, child.definition)).definition.timeoutMs
    }
    expect(await timeoutOf({ name: 'child-l' })).toBe(7_200_000)
    expect(await timeoutOf({ name: 'child-l', version: 1 })).toBe(3_600_000)
    const none = await start([sub('', { ref: { name: 'child-l', version: 9 } })])
    expect(await engine.getRun(ADMIN, none)).toMatchObject({
      failure: { code: 'child.definition_not_found', evidence: { version: 9, latest: 3 } },
    })
  })

  test('of a deprecated workflow is started, and its first event says so', async () => {
    await store('child-m', { lifecycle: 'deprecated' })
    const child = await childOf(await start([sub('child-m')]))
    const [first] = await engine.listEvents(ADMIN, child, 0, 1)
    expect(first?.changes[0]).toMatchObject({ of: 'run', note: expect.stringContaining('is deprecated') })
  })

  test('of a workflow that was deleted is not found, though its definitions are kept for the runs that have them', async () => {
    await store('child-n')
    await engine.resources.remove(
      ADMIN,
      { kind: 'Workflow', namespace: 'default', name: 'child-n' },
      { precondition: { match: null, absent: false }, dryRun: false },
    )
    const runId = await start([sub('child-n')])
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ failure: { code: 'child.definition_not_found' } })
    // Stored by itself, the very same definition is found.
    await engine.putDefinition(ADMIN, compiledOf({ name: 'child-n' }))
    await engine.retryRun(ADMIN, runId)
    await settleDown()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test('whose name is misspelt names the nearest', async () => {
    await store('deploy-all')
    const runId = await start([sub('deploy-al')])
    const { failure } = await engine.getRun(ADMIN, runId)
    expect(failure).toMatchObject({ code: 'child.definition_not_found', evidence: { nearest: 'deploy-all' } })
    expect(failure?.remediation).toContain('Did you mean deploy-all?')
  })

  test('RUN-8: of a namespace that who started the run may not see is forbidden, there or not; else it runs there', async () => {
    await store('child-o', {}, { namespace: 'ops' })
    const caller = { ...ADMIN, actor: 'tok_some', namespaces: ['default'] }
    await putToken(rig.db, { id: 'tok_some', name: 'some', secret: 's', role: 'operator', namespaces: ['default'] })
    const startAs = async (who: Caller, name: string) => {
      const ref = { namespace: 'ops', name }
      const runId = await rig.start(engine, await rig.put(engine, [sub('', { ref })]), {}, who)
      await settleDown()
      return runId
    }
    for (const name of ['child-o', 'nowhere'])
      expect(await engine.getRun(ADMIN, await startAs(caller, name))).toMatchObject({
        failure: { code: 'child.definition_forbidden', evidence: { namespace: 'ops', startedBy: 'some' } },
      })
    await putToken(rig.db, { id: ADMIN.actor, name: 'all', secret: 'a', role: 'admin', namespaces: null })
    const runId = await startAs(ADMIN, 'child-o')
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
    expect(await engine.getRun(ADMIN, await childOf(runId))).toMatchObject({ namespace: 'ops' })
  })

  test('of another namespace looks absent', async () => {
    const hash = await rig.put(engine, [{ name: 'x' }], { name: 'child-f', namespace: 'other' })
    for (const ref of [{ name: 'child-f' }, { hash }]) {
      const runId = await start([sub('', { ref })])
      expect(await engine.getRun(ADMIN, runId)).toMatchObject({ failure: { code: 'child.definition_not_found' } })
    }
  })

  test('that would run itself without end stops at the limit', async () => {
    await rig.put(engine, [sub('child-g')], { name: 'child-g' })
    const runId = await start([sub('child-g')])
    for (let i = 0; i < 4 * LIMITS.childDepthMax; i++) await engine.tick()
    const view = await engine.getRun(ADMIN, runId)
    expect(view).toMatchObject({ state: 'failed', failure: { code: 'child.failed' } })
    expect(JSON.stringify(view.failure)).toContain('child.too_deep')
  })

  test('one of many: each item has its own, and the outputs are a list', async () => {
    const worker = await rig.worker(engine)
    await rig.put(engine, [{ name: 'x' }], { name: 'child-h' })
    const runId = await start([sub('child-h', { forEach: ['a', 'b', 'c'] }), after])
    for (const held of (await worker.poll()).assignments) await worker.done(held, held.runId)
    await engine.tick()
    await engine.tick()
    expect(await rig.states(runId)).toMatchObject({ sub: 'succeeded', 'sub[2]': 'succeeded', after: 'queued' })
  })
})

describe('the time of a run', () => {
  test('is over: it fails with run.timed_out, and what runs below it is stopped', async () => {
    await rig.put(engine, [{ name: 'x' }], { name: 'child-i' })
    const runId = await start([sub('child-i')], { timeoutMs: 60_000 })
    const child = await childOf(runId)
    await rig.advance(59_000)
    await engine.tick()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'waiting' })
    await rig.advance(1_000)
    await engine.tick()
    await engine.tick()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({
      state: 'failed',
      failure: { code: 'run.timed_out', evidence: { timeoutMs: 60_000 } },
    })
    expect(await engine.getRun(ADMIN, child)).toMatchObject({ state: 'canceled' })
  })

  test('begins anew with a retry, and ends with the run', async () => {
    const runId = await start([{ name: 'x' }], { timeoutMs: 60_000 })
    await rig.advance(60_000)
    await engine.tick()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'failed' })
    await engine.retryRun(ADMIN, runId)
    const worker = await rig.worker(engine)
    await worker.done(await worker.pollFirst())
    await rig.advance(60_000)
    await engine.tick()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })
})

describe('a join of some, through the hot path', () => {
  const race = (rest: 'finish' | 'cancel'): AnySpec[] => [
    { name: 'a' },
    { name: 'b' },
    { name: 'c', needs: ['a', 'b'], join: { need: 1, rest } },
    { name: 'each', needs: ['a', 'b'], join: { need: 1, rest: 'finish' }, forEach: [1, 2] },
  ]

  test('fires once, and what ends late neither fires it again nor counts toward what has spread', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, race('finish')))
    const [a, b] = (await worker.poll()).assignments
    if (!a || !b) throw new Error('two were not assigned')
    await worker.done(a)
    await engine.tick()
    expect(await rig.states(runId)).toMatchObject({ each: 'waiting', b: 'running' })
    await worker.done(b)
    await engine.tick()
    const rows = await rig.db.query(
      `select ok, bad, fence from step where run_id = $1 and node in (2, 3) and path = '' order by node`,
      [runId],
    )
    expect(rows).toEqual([
      { ok: 1, bad: 0, fence: 1 },
      { ok: 0, bad: 0, fence: 0 },
    ])
    for (;;) {
      const [next] = [...worker.held.values()]
      if (!next) break
      await worker.done(next)
      await worker.poll()
    }
    await engine.tick()
    await worker.poll()
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test('with rest: cancel tells the worker of what nobody needs, and the run succeeds', async () => {
    const worker = await rig.worker(engine)
    const runId = await rig.start(engine, await rig.put(engine, race('cancel').slice(0, 3)))
    const [a, b] = (await worker.poll()).assignments
    if (!a || !b) throw new Error('two were not assigned')
    await worker.done(a)
    await engine.tick()
    expect(await rig.states(runId)).toMatchObject({ b: 'running', c: 'queued' })
    await engine.tick()
    const { cancels } = await worker.poll()
    expect(cancels).toMatchObject([{ step: b.step, fence: b.fence }])
    await worker.report(b, { kind: 'canceled' })
    const view = await engine.getRun(ADMIN, runId)
    expect(view.stepList[1]).toMatchObject({ state: 'canceled', failure: { code: 'step.not_needed' } })
    for (const held of [...worker.held.values()]) await worker.done(held)
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded' })
  })

  test('a loop runs turn by turn at workers, each seeing what the one before it gave', async () => {
    const worker = await rig.worker(engine)
    const loop: AnySpec = { name: 'again', with: '${{ turn }}', loop: { until: 'turn.output >= 2', max: 9 } }
    const runId = await rig.start(engine, await rig.put(engine, [loop]))
    await engine.tick()
    const inputs: unknown[] = []
    for (let turn = 0; turn < 3; turn++) {
      const held = await worker.pollFirst()
      inputs.push(held.work.kind === 'function' ? held.work.input : null)
      await worker.done(held, turn)
      await engine.tick()
    }
    expect(inputs).toEqual([{ index: 0 }, { index: 1, output: 0 }, { index: 2, output: 1 }])
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({ state: 'succeeded', stepList: [{ output: 2 }] })
  })
})
