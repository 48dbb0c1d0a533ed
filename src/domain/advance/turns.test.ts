import { describe, expect, test } from 'vitest'
import { failureRecord } from '../failure.ts'
import { LIMITS } from '../limits.ts'
import type { Step } from '../step.ts'
import { type AnySpec, definitionOf } from '../testing/definitions.ts'
import { MemoryRun } from '../testing/memory-run.ts'
import { wayOf } from '../turn-way.ts'

const runOf = (specs: AnySpec[], extra: Parameters<typeof definitionOf>[1] = {}) => {
  const run = new MemoryRun(definitionOf(specs, extra))
  run.due()
  return run
}
const failureOf = (step: Step) => ('failure' in step ? step.failure : null)

/** A draft is reviewed until the review is content; what needs the review follows. */
const reviewed = (maxTurns = 3): AnySpec[] => [
  { name: 'draft', next: ['review'], refs: ['review'], maxTurns },
  { name: 'review', next: [{ step: 'draft', if: '!steps.review.output.ok' }], refs: ['draft', 'review'], maxTurns },
  { name: 'publish', needs: ['review'], refs: ['review'] },
]
const no = { ok: false }
const yes = { ok: true }

describe('a graph that goes round', () => {
  test('each turn is a step of its own, and what needs it waits for the last', () => {
    const run = runOf(reviewed())
    expect(run.states()).toEqual({ draft: 'waiting', 'draft[0]': 'queued', review: 'waiting', publish: 'pending' })
    run.succeed(run.named('draft', 0), 'a')
    expect(run.states()).toMatchObject({ 'draft[0]': 'succeeded', 'review[0]': 'queued' })
    run.succeed(run.named('review', 0), no)
    run.succeed(run.named('draft', 1), 'b')
    expect(run.states()).toMatchObject({ 'draft[1]': 'succeeded', 'review[1]': 'queued', publish: 'pending' })
    run.succeed(run.named('review', 1), yes)
    expect(run.states()).toEqual({
      draft: 'succeeded',
      'draft[0]': 'succeeded',
      'draft[1]': 'succeeded',
      review: 'succeeded',
      'review[0]': 'succeeded',
      'review[1]': 'succeeded',
      publish: 'queued',
    })
    expect(run.outputs.get('0/')).toBe('b')
    expect(run.outputs.get('1/')).toEqual(yes)
    expect(run.succeed(run.named('publish')).ended).toBe('succeeded')
    expect(run.run).toMatchObject({ open: 0, active: 0, bad: 0, total: 7, failure: null })
  })

  test('a turn knows which turns came before it on its way', () => {
    const run = runOf(reviewed())
    run.succeed(run.named('draft', 0), 'a')
    run.succeed(run.named('review', 0), no)
    expect(wayOf(run.named('draft', 0).item)).toEqual({})
    expect(wayOf(run.named('draft', 1).item)).toEqual({ 0: 0, 1: 0 })
    run.succeed(run.named('draft', 1), 'b')
    expect(wayOf(run.named('review', 1).item)).toEqual({ 0: 1, 1: 0 })
  })

  test('a condition reads the turn and what came before on its own way, not what came last', () => {
    const run = runOf([
      { name: 'split', next: ['left', 'right'] },
      { name: 'left', next: ['check'] },
      { name: 'right', next: ['check'] },
      {
        name: 'check',
        refs: ['left', 'right'],
        next: [{ step: 'split', if: "steps.left.state == 'succeeded' && turn.index == 1" }],
      },
    ])
    run.succeed(run.named('split', 0))
    run.succeed(run.named('right', 0), 'r')
    run.succeed(run.named('left', 0), 'l')
    expect(wayOf(run.named('check', 0).item)).toEqual({ 0: 0, 2: 0 })
    expect(wayOf(run.named('check', 1).item)).toEqual({ 0: 0, 1: 0 })
    run.succeed(run.named('check', 0))
    expect(run.states()).not.toHaveProperty(['split[1]'])
    run.succeed(run.named('check', 1))
    expect(run.states()).toMatchObject({ 'split[1]': 'queued' })
  })

  test('steps to which no way led are skipped, and what needs them goes on', () => {
    const run = runOf([
      {
        name: 'sort',
        next: [
          { step: 'left', if: 'steps.sort.output == 1' },
          { step: 'right', if: 'steps.sort.output == 2' },
        ],
        refs: ['sort'],
      },
      { name: 'left' },
      { name: 'right' },
      { name: 'end', needs: ['left', 'right'] },
    ])
    run.succeed(run.named('sort', 0), 2)
    run.succeed(run.named('right', 0))
    expect(run.states()).toMatchObject({ sort: 'succeeded', left: 'skipped', right: 'succeeded', end: 'queued' })
  })

  test('a step may name itself', () => {
    const run = runOf([{ name: 'poll', next: [{ step: 'poll', if: 'turn.index < 2' }] }])
    for (const turn of [0, 1, 2]) run.succeed(run.named('poll', turn), turn)
    expect(run.ended).toBe('succeeded')
    expect(run.outputs.get('0/')).toBe(2)
  })

  test('where every step is named the first of the workflow begins', () => {
    const run = runOf([
      { name: 'a', next: [{ step: 'b', if: 'turn.index < 1' }] },
      { name: 'b', next: ['a'] },
    ])
    expect(run.states()).toEqual({ a: 'waiting', 'a[0]': 'queued', b: 'waiting' })
    run.succeed(run.named('a', 0))
    run.succeed(run.named('b', 0))
    expect(run.succeed(run.named('a', 1)).ended).toBe('succeeded')
  })

  test('turns that no worker takes are begun some at a time, until they are used up', () => {
    const now = { type: 'duration', duration: '0s' } as const
    for (const next of [['a'], ['b']]) {
      const run = new MemoryRun(
        definitionOf([
          { name: 'a', kind: 'wait', for: now, next, maxTurns: 1_000 },
          { name: 'b', kind: 'wait', for: now, next: ['a', 'b'], maxTurns: 1_000 },
        ]),
      )
      const begun: number[] = []
      while (run.ended === null && begun.length < 20) begun.push(run.due().created.length)
      expect(run.run.failure?.code).toBe('turns.used_up')
      expect(begun.length).toBeGreaterThan(2)
      expect(Math.max(...begun)).toBeLessThanOrEqual(LIMITS.turnsPerSettleMax + 2)
      expect(run.run).toMatchObject({ open: 0, active: 0, bad: 2 })
    }
  })

  test('a cancel ends one of which turns are still to be followed', () => {
    const run = runOf([
      { name: 'a', kind: 'wait', for: { type: 'duration', duration: '0s' }, next: ['a'], maxTurns: 1_000 },
    ])
    expect(run.states()).toMatchObject({ a: 'waiting' })
    expect(run.happen({ type: 'stop', why: 'cancel' }).ended).toBe('canceled')
    expect(run.due().changed).toEqual([])
  })

  test('nothing of it begins before all that its steps need from outside has ended', () => {
    const run = runOf([
      { name: 'x' },
      { name: 'y' },
      { name: 'a', needs: ['x'], next: ['b'] },
      { name: 'b', needs: ['y'] },
    ])
    run.succeed(run.named('x'))
    expect(run.states()).toMatchObject({ a: 'pending', b: 'pending' })
    run.succeed(run.named('y'))
    expect(run.states()).toMatchObject({ a: 'waiting', 'a[0]': 'queued', b: 'waiting' })
  })

  test('when what one of its steps needs has failed none of it begins', () => {
    const run = runOf([
      { name: 'x' },
      { name: 'a', next: ['b'] },
      { name: 'b', needs: ['x'] },
      { name: 'end', needs: ['a'] },
    ])
    expect(run.fail(run.named('x')).ended).toBe('failed')
    expect(run.states()).toEqual({ x: 'failed', a: 'blocked', b: 'blocked', end: 'blocked' })
    expect(failureOf(run.named('a'))).toMatchObject({ code: 'step.upstream_failed', evidence: { blockedBy: 'b' } })
  })

  test('waits, questions and conditions of its steps hold for each turn', () => {
    const run = runOf([
      { name: 'nap', kind: 'wait', for: { type: 'duration', duration: '1s' }, next: ['ask'] },
      {
        name: 'ask',
        kind: 'approval',
        message: 'Turn ${{ turn.index }}?',
        approvers: null,
        expiresMs: null,
        onExpiry: 'deny',
        fields: null,
        next: ['never'],
      },
      { name: 'never', if: 'false', next: [{ step: 'nap', if: 'turn.index < 1' }] },
    ])
    for (const turn of [0, 1]) {
      run.now += 1_000
      run.due()
      const ask = run.named('ask', turn)
      expect([...run.approvals.values()].map((a) => a.message)).toContain(`Turn ${turn}?`)
      const decision = { approved: true, by: 'ann', comment: null, fields: null }
      run.happen({ type: 'decided', node: 1, path: ask.path, fence: ask.fence, decision })
      expect(run.named('never', turn).state).toBe('skipped')
    }
    expect(run.ended).toBe('succeeded')
  })
})

describe('the turns are used up', () => {
  const usedUp = () => {
    const run = runOf(reviewed(2))
    for (const turn of [0, 1]) {
      run.succeed(run.named('draft', turn), `text ${turn}`)
      run.succeed(run.named('review', turn), no)
    }
    return run
  }

  test('the run fails, whatever the turns came to, and tells who took how many', () => {
    const run = usedUp()
    expect(run.ended).toBe('failed')
    expect(run.states()).toMatchObject({
      draft: 'failed',
      review: 'blocked',
      publish: 'blocked',
      'review[1]': 'succeeded',
    })
    expect(run.run.failure).toMatchObject({
      code: 'turns.used_up',
      evidence: { step: 'draft', after: 'review[1]', maxTurns: 2, turns: { draft: 2, review: 2 } },
    })
  })

  test('onFailure: continue does not make it a success', () => {
    const run = runOf([{ name: 'a', onFailure: 'continue', next: ['a'], maxTurns: 1 }])
    expect(run.succeed(run.named('a', 0)).ended).toBe('failed')
    expect(run.run.failure?.code).toBe('turns.used_up')
  })

  test('other ways come to their end first', () => {
    const run = runOf([{ name: 'a', next: ['b', 'c'] }, { name: 'b', next: ['b'], maxTurns: 1 }, { name: 'c' }])
    run.succeed(run.named('a', 0))
    run.succeed(run.named('b', 0))
    expect(run.states()).toMatchObject({ b: 'waiting', 'c[0]': 'queued' })
    expect(run.succeed(run.named('c', 0)).ended).toBe('failed')
    expect(run.states()).toMatchObject({ a: 'blocked', b: 'failed', c: 'blocked' })
  })
})

describe('what fails', () => {
  test('a turn that fails ends the way, and the run fails with it once the others have ended', () => {
    const run = runOf(reviewed())
    run.succeed(run.named('draft', 0))
    expect(run.fail(run.named('review', 0)).ended).toBe('failed')
    expect(run.states()).toMatchObject({
      draft: 'blocked',
      review: 'failed',
      'review[0]': 'failed',
      publish: 'blocked',
    })
    expect(run.run.failure).toMatchObject({ code: 'step.function_threw', evidence: { first: 'review[0]' } })
    expect(failureOf(run.named('publish'))).toMatchObject({ evidence: { blockedBy: 'review' } })
  })

  test('with onFailure: continue its next is followed', () => {
    const run = runOf([
      { name: 'a', onFailure: 'continue', refs: ['a'], next: [{ step: 'a', if: "steps.a.state == 'failed'" }] },
      { name: 'end', needs: ['a'] },
    ])
    run.fail(run.named('a', 0))
    expect(run.states()).toMatchObject({ 'a[0]': 'failed', 'a[1]': 'queued' })
    run.succeed(run.named('a', 1))
    expect(run.states()).toMatchObject({ a: 'succeeded', end: 'queued' })
    expect(run.run.bad).toBe(0)
  })

  test('a condition that cannot be told fails its step', () => {
    const run = runOf([{ name: 'a', refs: ['a'], next: [{ step: 'a', if: 'steps.a.output.more' }] }])
    expect(run.succeed(run.named('a', 0), { other: 1 }).ended).toBe('failed')
    expect(run.run.failure?.code).toBe('expression.unresolved')
  })

  test('failFast stops what runs beside it', () => {
    const run = runOf([{ name: 'a', next: ['a'], maxTurns: 1 }, { name: 'b' }], { failFast: true })
    run.succeed(run.named('a', 0))
    expect(run.ended).toBe('failed')
    expect(run.states()).toMatchObject({ a: 'failed', b: 'canceled' })
  })

  test('a cancel ends idle turns at once and starts no others', () => {
    const run = runOf(reviewed())
    const draft = run.lease(run.named('draft', 0))
    run.happen({ type: 'stop', why: 'cancel' })
    expect(run.states()).toMatchObject({ draft: 'canceled', review: 'canceled', 'draft[0]': 'running' })
    expect(run.happen({ ...draft, type: 'attempt_succeeded', output: 1 }).ended).toBe('canceled')
    expect(run.states()).not.toHaveProperty(['review[0]'])
  })

  test('a turn is tried again and lost like any step', () => {
    const retry = { max: 1, initialMs: 10, maxMs: 10, factor: 1, jitter: 0, on: null }
    const run = runOf([{ name: 'a', retry, next: [{ step: 'a', if: 'turn.index < 1' }] }])
    run.lose(run.named('a', 0))
    run.fail(run.named('a', 0))
    run.now += 10
    run.due()
    run.succeed(run.named('a', 0))
    expect(
      run.happen({
        ...run.lease(run.named('a', 1)),
        type: 'attempt_failed',
        failure: failureRecord('step.function_threw', ''),
      }).ended,
    ).toBeNull()
    run.now += 10
    run.due()
    expect(run.succeed(run.named('a', 1)).ended).toBe('succeeded')
  })
})
