import { describe, expect, test } from 'vitest'
import { failureRecord } from './failure.ts'
import { type AnySpec, definitionOf, NO_RETRY } from './testing/definitions.ts'
import { MemoryRun } from './testing/memory-run.ts'
import { isStepTerminal } from './machines.ts'

const runOf = (specs: AnySpec[], extra: Parameters<typeof definitionOf>[1] = {}, inputs = {}) => {
  const run = new MemoryRun(definitionOf(specs, extra), inputs)
  run.due()
  return run
}
const key = (node: number) => ({ node, path: '' })

describe('joins of some', () => {
  const three = (join: { need: number; rest: 'finish' | 'cancel' }): AnySpec[] => [
    { name: 'a' },
    { name: 'b' },
    { name: 'c' },
    { name: 'd', needs: ['a', 'b', 'c'], join },
  ]

  test('any fires with the first that ends well, once; the rest ends as it will', () => {
    const run = runOf(three({ need: 1, rest: 'finish' }))
    run.fail(run.named('a'))
    expect(run.states()['d']).toBe('pending')
    run.succeed(run.named('b'))
    expect(run.states()['d']).toBe('queued')
    const fired = run.named('d')
    run.succeed(run.named('c'))
    expect(run.named('d')).toEqual(fired)
  })

  test('a quorum that can no longer come about blocks its step at once', () => {
    const run = runOf(three({ need: 2, rest: 'finish' }))
    run.fail(run.named('a'))
    expect(run.states()['d']).toBe('pending')
    run.fail(run.named('b'))
    expect(run.states()).toMatchObject({ c: 'queued', d: 'blocked' })
  })

  test('rest: cancel with activations that end in the breath in which they begin: each is counted', () => {
    const run = runOf([
      { name: 'a' },
      { name: 'b' },
      {
        name: 'c',
        needs: ['a', 'b'],
        join: { need: 1, rest: 'cancel' },
        kind: 'wait',
        for: { type: 'duration', duration: '0s' },
        forEach: ['x', 'y'],
      },
    ])
    run.succeed(run.named('a'))
    run.due()
    expect(run.states()).toMatchObject({ b: 'canceled', 'c[0]': 'succeeded', 'c[1]': 'succeeded', c: 'succeeded' })
    expect(run.ended).toBe('succeeded')
  })

  test('rest: cancel ends what is idle and tells what runs; the run is good all the same', () => {
    const run = runOf(three({ need: 1, rest: 'cancel' }))
    const c = run.lease(key(2))
    run.succeed(run.named('a'))
    run.due()
    expect(run.states()).toEqual({ a: 'succeeded', b: 'canceled', c: 'running', d: 'queued' })
    expect(run.named('b')).toMatchObject({ failure: { code: 'step.not_needed' } })
    expect(run.named('c')).toMatchObject({ stopping: true })
    run.happen({ ...c, type: 'attempt_canceled' })
    expect(run.states()['c']).toBe('canceled')
    expect(run.succeed(run.named('d')).ended).toBe('succeeded')
  })

  test('what was told to stop and succeeds first has succeeded; what fails is canceled, not failed', () => {
    for (const late of ['succeeded', 'failed', 'lost'] as const) {
      const run = runOf(three({ need: 1, rest: 'cancel' }))
      const c = run.lease(key(2))
      run.succeed(run.named('a'))
      run.due()
      const failure = failureRecord('step.function_threw', 'testing')
      if (late === 'succeeded') run.happen({ ...c, type: 'attempt_succeeded', output: 1 })
      else run.happen({ ...c, type: `attempt_${late}`, failure })
      expect(run.states()['c']).toBe(late === 'succeeded' ? 'succeeded' : 'canceled')
      expect(run.succeed(run.named('d')).ended).toBe('succeeded')
    }
  })

  test('what lies below a canceled branch is canceled with it, and blocks nothing', () => {
    const run = runOf([...three({ need: 1, rest: 'cancel' }), { name: 'below', needs: ['b'] }])
    run.succeed(run.named('a'))
    run.due()
    expect(run.states()).toMatchObject({ b: 'canceled', below: 'canceled' })
    expect(run.succeed(run.named('d')).ended).toBe('succeeded')
  })

  test('a canceled branch that has spread ends with its activations', () => {
    const run = runOf([
      { name: 'a' },
      { name: 'each', forEach: [1, 2, 3], maxParallel: 1 },
      { name: 'd', needs: ['a', 'each'], join: { need: 1, rest: 'cancel' } },
    ])
    const first = run.lease({ node: 1, path: '00000' })
    run.succeed(run.named('a'))
    run.due()
    expect(run.states()).toMatchObject({ each: 'canceled', 'each[0]': 'running', 'each[1]': 'canceled', d: 'queued' })
    run.happen({ ...first, type: 'attempt_canceled' })
    expect(run.succeed(run.named('d')).ended).toBe('succeeded')
    expect([...run.steps.values()].every((s) => isStepTerminal(s.state))).toBe(true)
  })
})

describe('a matrix', () => {
  test('is the product of its axes, without what is excluded, with what is included', () => {
    const matrix = {
      axes: { os: ['linux', 'mac'], version: '${{ inputs.versions }}' },
      include: [{ os: 'bsd', version: 9 }],
      exclude: [{ os: 'mac', version: 1 }],
    }
    const run = runOf([{ name: 'build', matrix }], {}, { versions: [1, 2] })
    const items = [0, 1, 2, 3].map((i) => run.named('build', i).item)
    expect(items).toEqual([
      { os: 'linux', version: 1 },
      { os: 'linux', version: 2 },
      { os: 'mac', version: 2 },
      { os: 'bsd', version: 9 },
    ])
    expect(run.run.total).toBe(5)
  })

  test('that is too large, or whose axis gives no list, fails with its place', () => {
    const many = Array.from({ length: 300 }, (_, i) => i)
    const large = runOf([{ name: 'm', matrix: { axes: { a: many, b: many }, include: [], exclude: [] } }])
    expect(large.named('m')).toMatchObject({ failure: { code: 'foreach.too_large', evidence: { items: 90_000 } } })
    const odd = runOf(
      [{ name: 'm', matrix: { axes: { a: '${{ inputs.a }}' }, include: [], exclude: [] } }],
      {},
      { a: 3 },
    )
    expect(odd.named('m')).toMatchObject({ failure: { code: 'expression.unresolved', evidence: { path: 'matrix.a' } } })
  })
})

describe('a loop', () => {
  const loop = (max: number): AnySpec[] => [
    { name: 'again', loop: { until: 'turn.output > 2', max } },
    { name: 'after', needs: ['again'] },
  ]

  test('takes another turn until its condition holds; the last output is its own', () => {
    const run = runOf(loop(5))
    run.succeed(run.named('again', 0), 1)
    run.due()
    expect(run.states()).toMatchObject({ again: 'waiting', 'again[0]': 'succeeded', 'again[1]': 'queued' })
    expect(run.named('again', 1).item).toBe(1)
    run.succeed(run.named('again', 1), 3)
    run.due()
    expect(run.states()).toMatchObject({ again: 'succeeded', after: 'queued' })
    expect(run.outputs.get('0/')).toBe(3)
  })

  test('that has had all its turns fails with loop.limit_reached, never succeeds', () => {
    const run = runOf(loop(2))
    run.succeed(run.named('again', 0), 1)
    run.due()
    run.succeed(run.named('again', 1), 1)
    run.due()
    expect(run.named('again')).toMatchObject({
      state: 'failed',
      failure: { code: 'loop.limit_reached', evidence: { turns: 2, max: 2 } },
    })
    expect(run.ended).toBe('failed')
  })

  test('ends with the turn that fails', () => {
    const run = runOf(loop(5))
    run.fail(run.named('again', 0))
    expect(run.states()).toMatchObject({ again: 'failed', after: 'blocked' })
  })
})

describe('a run below', () => {
  const child = (extra: object = {}): AnySpec => ({
    name: 'sub',
    kind: 'workflow',
    ref: { name: 'child' },
    with: { n: '${{ inputs.n }}' },
    ...extra,
  })
  const started = (specs: AnySpec[]) => {
    const run = new MemoryRun(definitionOf(specs), { n: 7 })
    run.workflows.set('child', {
      hash: 'h',
      name: 'child',
      inputs: { type: 'object', properties: { n: { type: 'number' } } },
      labels: {},
      note: null,
    })
    run.due()
    return run
  }
  const endOf = (run: MemoryRun, state: 'succeeded' | 'failed' | 'canceled') => {
    const { node, path, fence, runId } = run.children.at(-1) ?? { node: 0, path: '', fence: 0, runId: '' }
    const failure = state === 'failed' ? failureRecord('step.function_threw', 'testing') : null
    return run.happen({
      type: 'child_ended',
      node,
      path,
      fence,
      run: runId,
      end: { state, failure, output: { done: true }, definition: 'h' },
    })
  }

  test('is started with its inputs, under an id that follows from the step and its try', () => {
    const run = started([child()])
    expect(run.children).toMatchObject([{ inputs: { n: 7 }, fence: 1, workflow: { hash: 'h' } }])
    expect(run.named('sub')).toMatchObject({ state: 'waiting', waits: 'child', on: run.children[0]?.runId })
    endOf(run, 'succeeded')
    expect(run.ended).toBe('succeeded')
    expect(run.outputs.get('0/')).toEqual({ done: true })
  })

  test('that failed carries its failure to the step; a retry starts another', () => {
    const run = started([child({ retry: { ...NO_RETRY, max: 1 } })])
    const first = run.children[0]?.runId
    endOf(run, 'failed')
    expect(run.named('sub')).toMatchObject({ state: 'waiting', waits: 'backoff', tries: 1 })
    run.now += 10_000
    run.due()
    expect(run.children.at(-1)?.runId).not.toBe(first)
    expect(
      run.happen({
        type: 'child_ended',
        ...key(0),
        fence: 1,
        run: first ?? '',
        end: { state: 'succeeded', failure: null, output: 1, definition: 'h' },
      }).stale,
    ).toHaveLength(1)
    endOf(run, 'failed')
    expect(run.named('sub')).toMatchObject({
      state: 'failed',
      failure: { code: 'child.failed', cause: { code: 'step.function_threw' } },
    })
  })

  test('is let go of when its run is canceled or its time is over', () => {
    const canceled = started([child()])
    canceled.happen({ type: 'stop', why: 'cancel' })
    expect(canceled.orphans).toEqual([canceled.children[0]?.runId])
    const late = started([child({ timeoutMs: 1_000 })])
    late.now += 1_000
    late.due()
    expect(late.named('sub')).toMatchObject({ state: 'failed', failure: { code: 'step.timed_out' } })
    expect(late.orphans).toHaveLength(1)
  })

  test('many are as many activations of one step, so many at once as may be', () => {
    const run = started([child({ forEach: [1, 2, 3], maxParallel: 2, with: { n: '${{ item }}' } })])
    expect(run.children.map((c) => c.inputs)).toEqual([{ n: 1 }, { n: 2 }])
    endOf(run, 'succeeded')
    run.due()
    expect(run.children.map((c) => c.inputs)).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }])
  })

  test('whose workflow is not there, or whose inputs do not fit, fails its step', () => {
    const absent = runOf([child()], {}, { n: 7 })
    expect(absent.named('sub')).toMatchObject({ failure: { code: 'child.definition_not_found' } })
    const odd = started([child({ with: { n: 'seven' } })])
    expect(odd.named('sub')).toMatchObject({ failure: { code: 'input.invalid' } })
  })

  test('whose output does not fit the schema of the step fails it', () => {
    const run = started([child({ outputSchema: { type: 'object', required: ['other'] } })])
    endOf(run, 'succeeded')
    expect(run.named('sub')).toMatchObject({ failure: { code: 'output.schema_violation' } })
  })
})

describe("a run's time", () => {
  test('over: what is idle ends, and the run fails with run.timed_out', () => {
    const run = runOf([{ name: 'a' }, { name: 'b', needs: ['a'] }], { timeoutMs: 5_000 })
    run.happen({ type: 'stop', why: 'timeout' })
    expect(run.ended).toBe('failed')
    expect(run.run).toMatchObject({
      stop: 'timeout',
      failure: { code: 'run.timed_out', evidence: { timeoutMs: 5_000 } },
    })
    expect(run.states()).toEqual({ a: 'canceled', b: 'canceled' })
  })
})

describe('what waits in rows', () => {
  test('each of a forEach waits by itself, and its maxParallel holds', () => {
    const nap: AnySpec = {
      name: 'nap',
      kind: 'wait',
      for: { type: 'duration', duration: '${{ item }}' },
      forEach: ['1s', '2s', '3s'],
      maxParallel: 2,
    }
    const run = runOf([nap])
    expect(run.states()).toEqual({ nap: 'waiting', 'nap[0]': 'waiting', 'nap[1]': 'waiting', 'nap[2]': 'pending' })
    run.now += 1_000
    run.due()
    expect(run.states()).toMatchObject({ 'nap[0]': 'succeeded', 'nap[2]': 'waiting' })
    run.now += 10_000
    run.due()
    expect(run.ended).toBe('succeeded')
  })

  test('one that is over as soon as it begins lets the next go, all in one round', () => {
    const naps: AnySpec = {
      name: 'nap',
      kind: 'wait',
      for: { type: 'duration', duration: '${{ item }}' },
      forEach: ['0s', '0s', '2s', '0s'],
      maxParallel: 1,
    }
    const run = runOf([naps])
    expect(run.states()).toMatchObject({ 'nap[1]': 'succeeded', 'nap[2]': 'waiting', 'nap[3]': 'pending' })
    run.now += 2_000
    run.due()
    expect(run.ended).toBe('succeeded')
  })

  test('an event goes to the first that waits for it and matches', () => {
    const paid = (name: string, match: string | null): AnySpec => ({
      name,
      kind: 'wait',
      for: { type: 'event', name: 'paid', match, timeoutMs: null },
    })
    const run = runOf([paid('large', 'event.payload.amount > 10'), paid('any', null)])
    run.send('paid', { amount: 3 })
    expect(run.states()).toEqual({ large: 'waiting', any: 'succeeded' })
    run.send('paid', { other: 1 })
    expect(run.states()['large']).toBe('waiting')
    run.send('paid', { amount: 30 })
    expect(run.ended).toBe('succeeded')
    expect(run.kept).toHaveLength(1)
  })
})
