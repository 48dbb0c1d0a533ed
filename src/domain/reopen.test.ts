import { describe, expect, test } from 'vitest'
import { failureRecord } from './failure.ts'
import { LIMITS } from './limits.ts'
import { isStepTerminal, mayStepMove } from './machines.ts'
import { reopen, type ReopenInput } from './reopen.ts'
import { keyText } from './step.ts'
import { definitionOf, type NodeSpec } from './testing/definitions.ts'
import { MemoryRun } from './testing/memory-run.ts'

const runOf = (specs: NodeSpec[], extra: Parameters<typeof definitionOf>[1] = {}, inputs = {}) =>
  new MemoryRun(definitionOf(specs, extra), inputs)

/** Reopens and checks what must hold whatever was asked for. */
function reopened(run: MemoryRun, what: ReopenInput['what']) {
  const before = new Map(run.steps)
  const result = reopen({ ...run, steps: [...run.steps.values()], what })
  for (const step of result.changed) {
    const was = before.get(keyText(step))
    if (was && was.state !== step.state)
      expect(mayStepMove(was.state, step.state), `${was.state}>${step.state}`).toBe(true)
    if (was?.state === 'succeeded') expect(step.state).toBe('succeeded')
    run.steps.set(keyText(step), step)
  }
  run.run = result.run
  run.ended = result.ended
  const all = [...run.steps.values()]
  expect(result.run.open).toBe(all.filter((s) => !isStepTerminal(s.state)).length)
  expect(result.run.active).toBe(all.filter((s) => s.state === 'queued' || s.state === 'running').length)
  return result
}

/** Runs everything that is queued or due to its end. */
function finish(run: MemoryRun): string | null {
  for (;;) {
    run.due()
    const [next] = run.inState('queued')
    if (!next) return run.ended
    run.succeed(next, 'ok')
  }
}

describe('retry', () => {
  test('runs what failed again and what was blocked after it; what succeeded stays', () => {
    const run = runOf([{ name: 'a' }, { name: 'b' }, { name: 'c', needs: ['a', 'b'] }])
    run.succeed(run.named('a'), 'kept')
    run.fail(run.named('b'))
    expect(run.states()).toEqual({ a: 'succeeded', b: 'failed', c: 'blocked' })
    reopened(run, { type: 'retry', step: null })
    expect(run.states()).toEqual({ a: 'succeeded', b: 'queued', c: 'pending' })
    expect(run.named('b')).toMatchObject({ tries: 0, losses: 0, fence: 1 })
    expect(run.named('c')).toMatchObject({ ok: 1, bad: 0, need: 2 })
    expect(run.run).toMatchObject({ bad: 0, failure: null, stop: null })
    expect(finish(run)).toBe('succeeded')
  })

  test('a canceled run goes on where it stopped', () => {
    const run = runOf([{ name: 'a' }, { name: 'b', needs: ['a'] }, { name: 'c', needs: ['b'] }])
    run.succeed(run.named('a'))
    run.happen({ type: 'stop', why: 'cancel' })
    expect(run.ended).toBe('canceled')
    reopened(run, { type: 'retry', step: null })
    expect(run.states()).toEqual({ a: 'succeeded', b: 'queued', c: 'pending' })
    expect(finish(run)).toBe('succeeded')
  })

  test('a failure that was taken for success is not run again', () => {
    const run = runOf([
      { name: 'a', onFailure: 'continue' },
      { name: 'b', needs: ['a'] },
    ])
    run.fail(run.named('a'))
    run.fail(run.named('b'))
    reopened(run, { type: 'retry', step: null })
    expect(run.states()).toEqual({ a: 'failed', b: 'queued' })
    expect(finish(run)).toBe('succeeded')
  })

  test('a decision that failed is made again', () => {
    const run = runOf([{ name: 'a', if: 'inputs.missing' }])
    run.due()
    expect(run.states()).toEqual({ a: 'failed' })
    reopened(run, { type: 'retry', step: null })
    expect(run.named('a')).toMatchObject({ state: 'pending', dueAt: run.now })
  })

  test('a queue time-out holds for the second life as well', () => {
    const run = runOf([{ name: 'a', queueTimeoutMs: 500 }])
    run.fail(run.named('a'))
    reopened(run, { type: 'retry', step: null })
    expect(run.named('a')).toMatchObject({ state: 'queued', dueAt: run.now + 500 })
  })

  const each: NodeSpec[] = [
    { name: 'each', forEach: '${{ inputs.items }}', maxParallel: 2 },
    { name: 'after', needs: ['each'] },
  ]

  test('of a forEach only the activations that failed run again', () => {
    const run = runOf(each, {}, { items: [1, 2, 3] })
    run.due()
    run.succeed(run.named('each', 0))
    run.fail(run.named('each', 1))
    run.succeed(run.named('each', 2))
    expect(run.ended).toBe('failed')
    reopened(run, { type: 'retry', step: null })
    expect(run.states()).toMatchObject({
      each: 'waiting',
      'each[0]': 'succeeded',
      'each[1]': 'queued',
      after: 'pending',
    })
    expect(run.named('each')).toMatchObject({ need: 3, ok: 2, bad: 0, released: 3 })
    expect(finish(run)).toBe('succeeded')
  })

  test('a retry lets no more failed activations go at once than maxParallel allows, wherever they stand', () => {
    const run = runOf(each, {}, { items: [1, 2, 3, 4, 5] })
    run.due()
    for (const [index, isGood] of [false, true, false, false, false].entries()) {
      if (isGood) run.succeed(run.named('each', index))
      else run.fail(run.named('each', index))
    }
    reopened(run, { type: 'retry', step: null })
    expect(run.states()).toMatchObject({
      'each[0]': 'queued',
      'each[1]': 'succeeded',
      'each[2]': 'queued',
      'each[3]': 'pending',
      'each[4]': 'pending',
    })
    run.succeed(run.named('each', 0))
    expect(run.states()).toMatchObject({ 'each[2]': 'queued', 'each[3]': 'queued', 'each[4]': 'pending' })
    expect(finish(run)).toBe('succeeded')
  })

  test('an activation that was skipped before its turn is passed over, and takes no place', () => {
    const run = runOf(each, {}, { items: [1, 2, 3, 4] })
    run.due()
    reopened(run, { type: 'skip', node: 0, path: '00002' })
    expect(run.states()).toMatchObject({ 'each[0]': 'queued', 'each[1]': 'queued', 'each[3]': 'pending' })
    run.succeed(run.named('each', 0))
    expect(run.states()).toMatchObject({ 'each[1]': 'queued', 'each[2]': 'skipped', 'each[3]': 'queued' })
    expect(finish(run)).toBe('succeeded')
  })

  test('a forEach that was canceled half way goes on within its limit', () => {
    const run = runOf(each, {}, { items: [1, 2, 3, 4] })
    run.due()
    run.succeed(run.named('each', 0))
    run.happen({ type: 'stop', why: 'cancel' })
    reopened(run, { type: 'retry', step: null })
    expect(run.states()).toMatchObject({ 'each[1]': 'queued', 'each[2]': 'queued', 'each[3]': 'pending' })
    expect(finish(run)).toBe('succeeded')
  })

  test('activations in the middle run again within the limit, each of them', () => {
    const specs: NodeSpec[] = [{ name: 'each', forEach: '${{ inputs.items }}', maxParallel: 1 }]
    const run = runOf(specs, {}, { items: [1, 2, 3, 4, 5] })
    run.due()
    for (let i = 0; i < 5; i++) {
      if (i === 0 || i === 2) run.fail(run.named('each', i))
      else run.succeed(run.named('each', i))
    }
    expect(run.ended).toBe('failed')
    reopened(run, { type: 'retry', step: null })
    expect(run.states()).toMatchObject({ 'each[0]': 'queued', 'each[2]': 'pending' })
    run.succeed(run.named('each', 0))
    expect(run.states()).toMatchObject({ each: 'waiting', 'each[2]': 'queued' })
    expect(finish(run)).toBe('succeeded')
  })

  test('activations of a forEach that was taken for success, or skipped, stay as they are', () => {
    const specs: NodeSpec[] = [
      { name: 'each', forEach: '${{ inputs.items }}', onFailure: 'continue' },
      { name: 'skipped', forEach: '${{ inputs.items }}' },
      { name: 'after', needs: ['each'] },
    ]
    const run = runOf(specs, {}, { items: [1, 2] })
    run.due()
    run.fail(run.named('each', 0))
    run.succeed(run.named('each', 1))
    reopened(run, { type: 'skip', node: 1, path: '' })
    expect(run.states()).toMatchObject({ 'skipped[0]': 'canceled', 'skipped[1]': 'canceled' })
    run.fail(run.named('after'))
    expect(run.ended).toBe('failed')
    reopened(run, { type: 'retry', step: null })
    expect(run.states()).toEqual({
      each: 'failed',
      'each[0]': 'failed',
      'each[1]': 'succeeded',
      skipped: 'skipped',
      'skipped[0]': 'canceled',
      'skipped[1]': 'canceled',
      after: 'queued',
    })
    expect(finish(run)).toBe('succeeded')
  })
})

describe('retry of one step', () => {
  const retry = (run: MemoryRun, name: string, index?: number) => {
    const { node, path } = run.named(name, index)
    return reopened(run, { type: 'retry', step: { node, path } })
  }

  test('runs that step and what it alone blocked; what else failed stays, and the run fails of it', () => {
    const run = runOf([
      { name: 'a' },
      { name: 'b' },
      { name: 'c', needs: ['a'] },
      { name: 'd', needs: ['c'] },
      { name: 'e', needs: ['a', 'b'] },
    ])
    run.fail(run.named('a'))
    run.fail(run.named('b'))
    retry(run, 'a')
    expect(run.states()).toEqual({ a: 'queued', b: 'failed', c: 'pending', d: 'pending', e: 'blocked' })
    expect(run.run).toMatchObject({ bad: 2, failure: { code: 'step.function_threw' } })
    expect(finish(run)).toBe('failed')
    retry(run, 'b')
    expect(run.states()).toMatchObject({ a: 'succeeded', b: 'queued', e: 'pending' })
    expect(finish(run)).toBe('succeeded')
  })

  test('while others run: they go on, and each counts once', () => {
    const run = runOf([{ name: 'a' }, { name: 'b' }, { name: 'c', needs: ['a', 'b'] }])
    run.fail(run.named('a'))
    expect(run.ended).toBeNull()
    retry(run, 'a')
    expect(run.states()).toEqual({ a: 'queued', b: 'queued', c: 'pending' })
    run.succeed(run.named('b'))
    expect(run.named('c')).toMatchObject({ ok: 1, bad: 0 })
    expect(finish(run)).toBe('succeeded')
  })

  test('what failFast stopped for it goes on', () => {
    const run = runOf([{ name: 'a' }, { name: 'b', needs: ['a'] }, { name: 'c' }], { failFast: true })
    run.fail(run.named('a'))
    expect(run.states()).toEqual({ a: 'failed', b: 'canceled', c: 'canceled' })
    retry(run, 'a')
    expect(run.states()).toEqual({ a: 'queued', b: 'pending', c: 'queued' })
    expect(finish(run)).toBe('succeeded')
  })

  test('what was stopped and cannot run for another failure stays stopped', () => {
    const run = runOf([{ name: 'a' }, { name: 'b' }, { name: 'c', needs: ['b'] }, { name: 'd', needs: ['c'] }])
    run.fail(run.named('a'))
    const b = run.lease(run.named('b'))
    const failure = failureRecord('step.function_threw', 'testing')
    run.happen({ type: 'attempt_failed', ...b, failure }, { type: 'stop', why: 'cancel' })
    expect(run.states()).toEqual({ a: 'failed', b: 'failed', c: 'canceled', d: 'canceled' })
    retry(run, 'a')
    expect(run.states()).toEqual({ a: 'queued', b: 'failed', c: 'canceled', d: 'canceled' })
    expect(finish(run)).toBe('failed')
    reopened(run, { type: 'retry', step: null })
    expect(finish(run)).toBe('succeeded')
  })

  test('of one activation leaves the others that failed; its group fails of them', () => {
    const run = runOf([
      { name: 'each', forEach: [1, 2, 3] },
      { name: 'after', needs: ['each'] },
    ])
    run.due()
    for (const step of run.inState('queued')) run.fail(step)
    retry(run, 'each', 1)
    expect(run.states()).toMatchObject({ 'each[0]': 'failed', 'each[1]': 'queued', each: 'waiting', after: 'pending' })
    expect(finish(run)).toBe('failed')
    retry(run, 'each')
    expect(run.states()).toMatchObject({ 'each[0]': 'queued', 'each[1]': 'succeeded', 'each[2]': 'queued' })
    expect(finish(run)).toBe('succeeded')
  })
})

describe('skip', () => {
  test('takes a failed step as done: what it blocked runs', () => {
    const run = runOf([{ name: 'a' }, { name: 'b', needs: ['a'] }, { name: 'c', needs: ['b'] }])
    run.fail(run.named('a'))
    const result = reopened(run, { type: 'skip', node: 0, path: '' })
    expect(result.ended).toBeNull()
    expect(run.states()).toEqual({ a: 'skipped', b: 'queued', c: 'pending' })
    expect(finish(run)).toBe('succeeded')
  })

  test('the last failure skipped makes the run succeed; one of two leaves it failed', () => {
    const run = runOf([{ name: 'a' }, { name: 'b' }])
    run.fail(run.named('a'))
    run.fail(run.named('b'))
    expect(reopened(run, { type: 'skip', node: 0, path: '' })).toMatchObject({ ended: 'failed', run: { bad: 1 } })
    expect(reopened(run, { type: 'skip', node: 1, path: '' })).toMatchObject({ ended: 'succeeded', run: { bad: 0 } })
  })

  test('what failFast canceled is still to be done: skipping the failure does not make the run good', () => {
    const run = runOf([{ name: 'a' }, { name: 'b', needs: ['a'] }], { failFast: true })
    run.fail(run.named('a'))
    expect(run.states()).toEqual({ a: 'failed', b: 'canceled' })
    expect(reopened(run, { type: 'skip', node: 0, path: '' }).ended).toBe('failed')
    reopened(run, { type: 'retry', step: null })
    expect(run.states()).toEqual({ a: 'skipped', b: 'queued' })
    expect(finish(run)).toBe('succeeded')
  })

  test('an activation skipped counts as good in its forEach', () => {
    const run = runOf([{ name: 'each', forEach: '${{ inputs.items }}' }], {}, { items: [1, 2] })
    run.due()
    run.succeed(run.named('each', 0))
    reopened(run, { type: 'skip', node: 0, path: '00001' })
    expect(run.named('each')).toMatchObject({ ok: 2, bad: 0, dueAt: run.now })
    expect(finish(run)).toBe('succeeded')
  })
})

describe('a graph that goes round', () => {
  const reviewed: NodeSpec[] = [
    { name: 'draft', next: ['review'], maxTurns: 2 },
    {
      name: 'review',
      refs: ['review'],
      next: [{ step: 'draft', if: "steps.review.output != 'good'" }],
      maxTurns: 2,
    },
    { name: 'publish', needs: ['review'] },
  ]
  const usedUp = () => {
    const run = runOf(reviewed)
    run.due()
    for (const turn of [0, 1]) {
      run.succeed(run.named('draft', turn))
      run.succeed(run.named('review', turn), 'bad')
    }
    expect(run.ended).toBe('failed')
    return run
  }

  test('whose turns were used up goes on where it stopped, and may take as many again', () => {
    const run = usedUp()
    reopened(run, { type: 'retry', step: null })
    expect(run.states()).toMatchObject({
      draft: 'waiting',
      review: 'waiting',
      publish: 'pending',
      'review[1]': 'succeeded',
    })
    run.due()
    expect(run.states()).toMatchObject({ 'draft[2]': 'queued' })
    for (const turn of [2, 3]) {
      run.succeed(run.named('draft', turn))
      run.succeed(run.named('review', turn), turn === 2 ? 'bad' : 'good')
    }
    expect(run.states()).toMatchObject({ draft: 'succeeded', review: 'succeeded', publish: 'queued' })
    expect(finish(run)).toBe('succeeded')
  })

  test('uses them up again when it does not come to its end', () => {
    const run = usedUp()
    reopened(run, { type: 'retry', step: null })
    run.due()
    for (const turn of [2, 3]) {
      run.succeed(run.named('draft', turn))
      run.succeed(run.named('review', turn), 'bad')
    }
    expect(run.ended).toBe('failed')
    expect(run.run.failure).toMatchObject({ code: 'turns.used_up', evidence: { turns: { draft: 4, review: 4 } } })
  })

  test('a turn that failed is run again, those before it are not', () => {
    const run = runOf(reviewed)
    run.due()
    run.succeed(run.named('draft', 0))
    run.fail(run.named('review', 0))
    reopened(run, { type: 'retry', step: null })
    run.due()
    expect(run.states()).toMatchObject({ draft: 'waiting', 'draft[0]': 'succeeded', 'review[0]': 'queued' })
    run.succeed(run.named('review', 0), 'good')
    expect(finish(run)).toBe('succeeded')
    expect(run.steps.size).toBe(5)
  })

  test('one turn is retried by itself, also while others go on; or the step of which it is one', () => {
    const run = runOf([{ name: 'a', next: ['b', 'c'] }, { name: 'b', next: ['d'] }, { name: 'c' }, { name: 'd' }])
    run.due()
    run.succeed(run.named('a', 0))
    run.fail(run.named('b', 0))
    const again = { node: 1, path: '00000' }
    reopened(run, { type: 'retry', step: again })
    run.due()
    expect(run.states()).toMatchObject({ 'b[0]': 'queued', 'c[0]': 'queued', b: 'waiting' })
    run.fail(run.named('b', 0))
    run.succeed(run.named('c', 0))
    expect(run.ended).toBe('failed')
    reopened(run, { type: 'retry', step: { node: 1, path: '' } })
    run.due()
    expect(run.states()).toMatchObject({ a: 'waiting', b: 'waiting', c: 'waiting', d: 'waiting', 'b[0]': 'queued' })
    run.succeed(run.named('b', 0))
    expect(run.succeed(run.named('d', 0)).ended).toBe('succeeded')
  })

  test('a canceled one goes on where it stopped', () => {
    const run = runOf(reviewed)
    run.due()
    run.succeed(run.named('draft', 0))
    run.happen({ type: 'stop', why: 'cancel' })
    reopened(run, { type: 'retry', step: null })
    run.due()
    expect(run.states()).toMatchObject({ draft: 'waiting', 'draft[0]': 'succeeded', 'review[0]': 'queued' })
    run.succeed(run.named('review', 0), 'good')
    expect(finish(run)).toBe('succeeded')
  })

  test('one that never began begins after a retry', () => {
    const run = runOf([{ name: 'x' }, { name: 'a', needs: ['x'], next: ['b'] }, { name: 'b' }])
    run.due()
    run.fail(run.named('x'))
    expect(run.states()).toEqual({ x: 'failed', a: 'blocked', b: 'blocked' })
    reopened(run, { type: 'retry', step: null })
    expect(run.states()).toEqual({ x: 'queued', a: 'pending', b: 'pending' })
    run.succeed(run.named('x'))
    expect(run.states()).toMatchObject({ 'a[0]': 'queued' })
  })

  test('one that could not begin stays as it is when another step is retried', () => {
    const run = runOf([{ name: 'x' }, { name: 'a', next: ['b'] }, { name: 'b' }])
    run.run.total = LIMITS.stepsPerRunMax
    run.due()
    run.fail(run.named('x'))
    expect(run.ended).toBe('failed')
    expect(run.states()).toEqual({ x: 'failed', a: 'failed', b: 'blocked' })
    reopened(run, { type: 'retry', step: { node: 0, path: '' } })
    expect(run.states()).toEqual({ x: 'queued', a: 'failed', b: 'blocked' })
    expect(run.run.bad).toBe(2)
    expect(finish(run)).toBe('failed')
    run.run.total = 3
    reopened(run, { type: 'retry', step: { node: 1, path: '' } })
    run.due()
    expect(run.states()).toMatchObject({ 'a[0]': 'queued', b: 'waiting' })
  })

  test('skipping what held it lets it begin; while another need of it is bad it stays blocked', () => {
    const specs: NodeSpec[] = [
      { name: 'x' },
      { name: 'y' },
      { name: 'a', needs: ['x'], next: ['b'] },
      { name: 'b', needs: ['y'] },
    ]
    const run = runOf(specs)
    run.due()
    run.fail(run.named('x'))
    run.fail(run.named('y'))
    reopened(run, { type: 'skip', node: 0, path: '' })
    expect(run.states()).toEqual({ x: 'skipped', y: 'failed', a: 'blocked', b: 'blocked' })
    reopened(run, { type: 'skip', node: 1, path: '' })
    expect(run.states()).toEqual({ x: 'skipped', y: 'skipped', a: 'pending', b: 'pending' })
    run.due()
    expect(run.states()).toMatchObject({ 'a[0]': 'queued' })
  })

  test('a turn that failed may be skipped: the way goes on from what was given for it', () => {
    const run = runOf(reviewed)
    run.due()
    run.succeed(run.named('draft', 0))
    run.fail(run.named('review', 0))
    run.outputs.set('1/00000', 'good')
    const { ended } = reopened(run, { type: 'skip', node: 1, path: '00000' })
    expect(ended).toBeNull()
    run.due()
    expect(run.states()).toMatchObject({ review: 'succeeded', 'review[0]': 'skipped', publish: 'queued' })
  })

  test('skipping something else does not wake one that has failed', () => {
    const run = runOf([...reviewed, { name: 'other' }])
    run.due()
    run.succeed(run.named('draft', 0))
    run.fail(run.named('review', 0))
    run.fail(run.named('other'))
    const { ended } = reopened(run, { type: 'skip', node: 3, path: '' })
    expect(ended).toBe('failed')
    expect(run.states()).toMatchObject({ draft: 'blocked', review: 'failed', publish: 'blocked' })
  })
})

describe('skipping in a run that was stopped', () => {
  test('what was blocked does not go on without what was canceled; a retry does both', () => {
    const run = runOf([{ name: 'a' }, { name: 'b', needs: ['a'] }, { name: 'c' }])
    run.fail(run.named('a'))
    expect(run.states()).toEqual({ a: 'failed', b: 'blocked', c: 'queued' })
    expect(run.happen({ type: 'stop', why: 'timeout' }).ended).toBe('failed')
    expect(reopened(run, { type: 'skip', node: 0, path: '' }).ended).toBe('failed')
    expect(run.states()).toEqual({ a: 'skipped', b: 'blocked', c: 'canceled' })
    reopened(run, { type: 'retry', step: null })
    expect(run.states()).toEqual({ a: 'skipped', b: 'queued', c: 'queued' })
    expect(finish(run)).toBe('succeeded')
  })

  test('a failFast run stays failed, with its failure, until what was canceled is done', () => {
    const run = runOf([{ name: 'a' }, { name: 'b' }], { failFast: true })
    run.fail(run.named('a'))
    expect(run.states()).toEqual({ a: 'failed', b: 'canceled' })
    const { ended } = reopened(run, { type: 'skip', node: 0, path: '' })
    expect(ended).toBe('failed')
    expect(run.run.failure?.code).toBe('step.function_threw')
    reopened(run, { type: 'retry', step: null })
    expect(run.states()).toEqual({ a: 'skipped', b: 'queued' })
    expect(finish(run)).toBe('succeeded')
  })
})
