import { describe, expect, test } from 'vitest'
import { seededRandom } from '../../base/random.ts'
import { failureRecord } from '../failure.ts'
import { LIMITS } from '../limits.ts'
import type { Step } from '../step.ts'
import { definitionOf, NO_RETRY, type NodeSpec } from '../testing/definitions.ts'
import { MemoryRun } from '../testing/memory-run.ts'

const runOf = (specs: NodeSpec[], extra: Parameters<typeof definitionOf>[1] = {}) =>
  new MemoryRun(definitionOf(specs, extra))

const counts = (run: MemoryRun) => ({ open: run.run.open, active: run.run.active, bad: run.run.bad })

const failureOf = (step: Step) => ('failure' in step ? step.failure : null)

describe('joins', () => {
  const diamond: NodeSpec[] = [
    { name: 'a' },
    { name: 'b', needs: ['a'] },
    { name: 'c', needs: ['a'] },
    { name: 'd', needs: ['b', 'c'] },
  ]

  test('what needs two waits for both, in either order', () => {
    for (const order of [
      ['b', 'c'],
      ['c', 'b'],
    ]) {
      const run = runOf(diamond)
      run.succeed(run.named('a'))
      expect(run.states()).toMatchObject({ b: 'queued', c: 'queued', d: 'pending' })
      run.succeed(run.named(order[0] ?? ''))
      expect(run.states()['d']).toBe('pending')
      run.succeed(run.named(order[1] ?? ''))
      expect(run.states()['d']).toBe('queued')
      expect(run.succeed(run.named('d')).ended).toBe('succeeded')
      expect(counts(run)).toEqual({ open: 0, active: 0, bad: 0 })
    }
  })

  test('both needs in one batch fire the join once', () => {
    const run = runOf(diamond)
    run.succeed(run.named('a'))
    const [b, c] = [run.lease(run.named('b')), run.lease(run.named('c'))]
    const result = run.happen(
      { ...b, type: 'attempt_succeeded', output: 1 },
      { ...c, type: 'attempt_succeeded', output: 2 },
    )
    expect(result.changes.filter((x) => x.node === 3)).toEqual([{ node: 3, path: '', to: 'queued' }])
    expect(run.named('d')).toMatchObject({ ok: 2, bad: 0 })
  })

  test('a report under another fence or session, or of a step that has ended, changes nothing', () => {
    const run = runOf(diamond)
    const a = run.lease(run.named('a'))
    const late = [
      { ...a, fence: a.fence + 1, type: 'attempt_succeeded', output: 1 },
      { ...a, session: 'ses_other', type: 'attempt_succeeded', output: 1 },
      { ...a, node: 99, type: 'attempt_succeeded', output: 1 },
    ] as const
    const result = run.happen(...late)
    expect(result).toMatchObject({ stale: late, changed: [], changes: [], outputs: [] })
    run.happen({ ...a, type: 'attempt_succeeded', output: 1 })
    expect(run.happen({ ...a, type: 'attempt_succeeded', output: 2 }).stale).toHaveLength(1)
  })
})

describe('failure', () => {
  test('independent branches finish, what needs the failed one is blocked, then the run fails', () => {
    const run = runOf([{ name: 'a' }, { name: 'b' }, { name: 'c', needs: ['a'] }, { name: 'd', needs: ['c', 'b'] }])
    expect(run.fail(run.named('a')).ended).toBeNull()
    expect(run.states()).toEqual({ a: 'failed', b: 'queued', c: 'blocked', d: 'blocked' })
    expect(failureOf(run.named('d'))).toMatchObject({ code: 'step.upstream_failed', evidence: { blockedBy: 'c' } })
    expect(run.succeed(run.named('b')).ended).toBe('failed')
    expect(run.run.failure?.code).toBe('step.function_threw')
    expect(counts(run)).toEqual({ open: 0, active: 0, bad: 3 })
  })

  test('onFailure: continue alone turns a failure into success for what follows', () => {
    const run = runOf([
      { name: 'a', onFailure: 'continue' },
      { name: 'b', needs: ['a'] },
    ])
    run.fail(run.named('a'))
    expect(run.states()).toEqual({ a: 'failed', b: 'queued' })
    expect(run.succeed(run.named('b')).ended).toBe('succeeded')
    expect(run.run).toMatchObject({ bad: 0, failure: null })
  })

  test('failFast cancels what is idle at once and what runs when its worker says so', () => {
    const run = runOf([{ name: 'a' }, { name: 'b' }, { name: 'c' }, { name: 'd', needs: ['b'] }], { failFast: true })
    const b = run.lease(run.named('b'))
    expect(run.fail(run.named('a')).ended).toBeNull()
    expect(run.states()).toEqual({ a: 'failed', b: 'running', c: 'canceled', d: 'canceled' })
    expect(run.run.stop).toBe('fail_fast')
    expect(run.happen({ ...b, type: 'attempt_canceled' }).ended).toBe('failed')
    expect(counts(run)).toEqual({ open: 0, active: 0, bad: 1 })
  })

  test('a chain of ten thousand behind a failure is blocked in one go, each step looked at once', () => {
    const length = 10_000
    const specs = Array.from({ length }, (_, i): NodeSpec => ({ name: `s${i}`, needs: i === 0 ? [] : [`s${i - 1}`] }))
    const run = runOf(specs)
    expect(run.fail(run.named('s0')).ended).toBe('failed')
    expect(run.inState('blocked')).toHaveLength(length - 1)
    expect(run.rowsGiven).toBe(length)
    expect(run.needs.filter((n) => n === 'steps')).toHaveLength(2)
  })

  test('what lies below several failures is asked for once', () => {
    const width = 300
    const roots = Array.from({ length: width }, (_, i): NodeSpec => ({ name: `r${i}` }))
    const chain = Array.from({ length: width }, (_, i): NodeSpec => ({
      name: `s${i}`,
      needs: i === 0 ? roots.map((r) => r.name) : [`s${i - 1}`],
    }))
    const run = runOf([...roots, ...chain])
    const failure = failureRecord('step.function_threw', 'testing')
    run.happen(...roots.map((r) => ({ ...run.lease(run.named(r.name)), type: 'attempt_failed' as const, failure })))
    expect(run.ended).toBe('failed')
    expect(run.rowsGiven).toBe(2 * width)
  })
})

describe('retries', () => {
  const retry = { ...NO_RETRY, max: 3, initialMs: 100, factor: 4, maxMs: 1_000, jitter: 0.5 }

  test('each failure backs off, longer each time and never longer than allowed, until the tries are used up', () => {
    for (let seed = 0; seed < 20; seed++) {
      const run = runOf([{ name: 'a', retry }])
      run.random = seededRandom(seed)
      for (const full of [100, 400, 1_000]) {
        run.fail(run.named('a'))
        const step = run.named('a')
        expect(step).toMatchObject({ state: 'waiting', waits: 'backoff' })
        const waitMs = (step.dueAt ?? 0) - run.now
        expect(waitMs).toBeGreaterThanOrEqual(full / 2)
        expect(waitMs).toBeLessThanOrEqual(full)
        expect(run.due().changed).toEqual([])
        run.now = step.dueAt ?? 0
        run.due()
        expect(run.named('a').state).toBe('queued')
      }
      expect(run.fail(run.named('a')).ended).toBe('failed')
      expect(run.named('a')).toMatchObject({ state: 'failed', tries: 4, fence: 4 })
    }
  })

  test('a failure with a code that is not listed is final', () => {
    const run = runOf([{ name: 'a', retry: { ...retry, on: ['step.timed_out'] } }])
    expect(run.fail(run.named('a'), 'step.function_threw').ended).toBe('failed')
  })

  test('while it waits to be tried again a step is not active', () => {
    const run = runOf([{ name: 'a', retry }])
    run.fail(run.named('a'))
    expect(counts(run)).toEqual({ open: 1, active: 0, bad: 0 })
  })
})

describe('losses', () => {
  test('a step that loses too many workers is quarantined, without using up its tries', () => {
    const run = runOf([{ name: 'a', retry: { ...NO_RETRY, max: 5 } }])
    for (let n = 1; n < LIMITS.lossesMax; n++) {
      expect(run.lose(run.named('a')).attempts).toMatchObject([{ fence: n, state: 'lost' }])
      expect(run.named('a')).toMatchObject({ state: 'queued', losses: n, tries: 0 })
    }
    expect(run.lose(run.named('a')).ended).toBe('failed')
    expect(failureOf(run.named('a'))).toMatchObject({ code: 'attempt.poison', evidence: { losses: LIMITS.lossesMax } })
  })

  test('a step given back waits again and counts neither a try nor a loss', () => {
    const run = runOf([{ name: 'a' }])
    const result = run.happen({ ...run.lease(run.named('a')), type: 'attempt_returned' })
    expect(result.attempts).toMatchObject([{ state: 'parked' }])
    expect(run.named('a')).toMatchObject({ state: 'queued', fence: 1, tries: 0, losses: 0 })
  })
})

describe('forEach', () => {
  const each = (extra: Partial<NodeSpec> = {}, items: unknown = '${{ inputs.items }}'): NodeSpec[] => [
    { name: 'each', forEach: items as NodeSpec['forEach'] & string, ...extra },
    { name: 'after', needs: ['each'], refs: ['each'] },
  ]
  const spread = (items: number, extra: Partial<NodeSpec> = {}, after: Partial<NodeSpec> = {}) => {
    const specs = each(extra)
    Object.assign(specs[1] ?? {}, after)
    const run = new MemoryRun(definitionOf(specs), { items: Array.from({ length: items }, (_, i) => `item ${i}`) })
    run.due()
    return run
  }

  test('an empty list succeeds with []', () => {
    const run = spread(0)
    expect(run.states()).toEqual({ each: 'succeeded', after: 'queued' })
    expect(run.outputs.get('0/')).toEqual([])
  })

  test('what is no list fails with what it was', () => {
    const run = new MemoryRun(definitionOf(each()), { items: 'text' })
    expect(run.due().ended).toBe('failed')
    expect(failureOf(run.named('each'))).toMatchObject({ code: 'expression.unresolved', evidence: { got: 'string' } })
  })

  test('too many items are refused before any exists', () => {
    const run = spread(LIMITS.forEachItemsMax + 1)
    expect(failureOf(run.named('each'))?.code).toBe('foreach.too_large')
    expect(run.run.total).toBe(2)
  })

  test('activations carry their items and run all at once without a limit', () => {
    const run = spread(3)
    expect(run.states()).toMatchObject({ each: 'waiting', 'each[0]': 'queued', 'each[2]': 'queued', after: 'pending' })
    expect(run.named('each', 1).item).toBe('item 1')
    expect(run.run).toMatchObject({ total: 5, open: 5, active: 3 })
  })

  test('a limit lets the next one go when one has ended, in order', () => {
    const run = spread(5, { maxParallel: 2 })
    const order: string[] = []
    let most = 0
    for (let step = run.inState('queued')[0]; step?.node === 0; step = run.inState('queued')[0]) {
      most = Math.max(most, run.inState('queued').length)
      order.push(step.path)
      run.succeed(step, order.length)
    }
    expect(most).toBe(2)
    expect(order).toEqual(['00000', '00001', '00002', '00003', '00004'])
    expect(run.states()).toMatchObject({ each: 'succeeded', after: 'queued' })
  })

  test('what follows reads the outputs in the order of the items, whichever ended first', () => {
    const after = { if: "steps.each.output == ['zero', 'one', 'two']" }
    const run = spread(3, {}, after)
    for (const [index, output] of [
      [2, 'two'],
      [0, 'zero'],
    ] as const) {
      run.succeed(run.named('each', index), output)
    }
    // The last one's output is not stored yet when the decision is made.
    run.succeed(run.named('each', 1), 'one')
    expect(run.states()['after']).toBe('queued')
  })

  test('the others go on when one fails, then the forEach fails with its cause', () => {
    const run = spread(3, { maxParallel: 1 })
    run.fail(run.named('each', 0))
    expect(run.states()).toMatchObject({ each: 'waiting', 'each[1]': 'queued' })
    run.succeed(run.named('each', 1))
    expect(run.succeed(run.named('each', 2)).ended).toBe('failed')
    // The failing activation was recorded long before the last one: the cause is asked for.
    expect(run.needs).toContain('failed_activation')
    expect(failureOf(run.named('each'))).toMatchObject({
      code: 'step.function_threw',
      evidence: { failed: 1, total: 3, first: 'each[0]' },
    })
    expect(run.states()['after']).toBe('blocked')
    // The activation itself does not count: its group does.
    expect(counts(run)).toEqual({ open: 0, active: 0, bad: 2 })
  })

  test('a forEach whose last activation was recorded elsewhere fails when it is due', () => {
    const run = spread(2)
    run.fail(run.named('each', 1))
    // The hot path records a success, moves the join and leaves the rest to whoever looks next.
    const child = run.named('each', 0)
    const group = run.named('each')
    run.steps.set('0/00000', { ...child, state: 'succeeded' })
    run.steps.set('0/', { ...group, ok: 1, dueAt: run.now })
    run.run = { ...run.run, open: run.run.open - 1, active: run.run.active - 1 }
    expect(run.due().ended).toBe('failed')
    expect(failureOf(run.named('each'))).toMatchObject({ evidence: { first: 'each[1]' } })
  })

  test('failFast stops the activations that wait', () => {
    const specs = each({ maxParallel: 1 })
    const run = new MemoryRun(definitionOf(specs, { failFast: true }), { items: [1] })
    run.due()
    expect(run.fail(run.named('each', 0)).ended).toBe('failed')
    expect(run.states()).toEqual({ each: 'failed', 'each[0]': 'failed', after: 'canceled' })
  })
})

describe('decisions', () => {
  test('a step whose condition is false is skipped, and what follows goes on', () => {
    const run = runOf([
      { name: 'a' },
      { name: 'b', needs: ['a'], refs: ['a'], if: 'steps.a.output > 3' },
      { name: 'c', needs: ['b'] },
    ])
    run.succeed(run.named('a'), 2)
    expect(run.states()).toEqual({ a: 'succeeded', b: 'skipped', c: 'queued' })
  })

  test('a condition that cannot be evaluated fails its step', () => {
    const run = runOf([{ name: 'a' }, { name: 'b', needs: ['a'], refs: ['a'], if: 'steps.a.output.x.y' }])
    expect(run.succeed(run.named('a'), {}).ended).toBe('failed')
    expect(failureOf(run.named('b'))?.code).toBe('expression.unresolved')
  })

  test('a long chain of skipped steps is decided in one go', () => {
    const length = 3_000
    const specs = Array.from({ length }, (_, i): NodeSpec => ({
      name: `s${i}`,
      needs: i === 0 ? [] : [`s${i - 1}`],
      if: 'false',
    }))
    const run = runOf(specs)
    expect(run.due().ended).toBe('succeeded')
    expect(run.inState('skipped')).toHaveLength(length)
  })
})

describe('stopping', () => {
  const three: NodeSpec[] = [{ name: 'a' }, { name: 'b' }, { name: 'c', needs: ['a'] }]

  test('idle steps end at once; the run when the last running one has', () => {
    const run = runOf(three)
    const a = run.lease(run.named('a'))
    expect(run.happen({ type: 'stop', why: 'cancel' }).ended).toBeNull()
    expect(run.states()).toEqual({ a: 'running', b: 'canceled', c: 'canceled' })
    expect(run.happen({ ...a, type: 'attempt_canceled' }).ended).toBe('canceled')
    expect(counts(run)).toEqual({ open: 0, active: 0, bad: 0 })
  })

  test('a success that comes too late is kept as evidence, and the step stays canceled', () => {
    const run = runOf(three)
    const a = run.lease(run.named('a'))
    run.happen({ type: 'stop', why: 'cancel' })
    const result = run.happen({ ...a, type: 'attempt_succeeded', output: 'late' })
    expect(result).toMatchObject({ ended: 'canceled', attempts: [{ state: 'canceled' }] })
    expect(run.states()['a']).toBe('canceled')
    expect(run.outputs.get('0/')).toBe('late')
  })

  test.each(['attempt_failed', 'attempt_lost', 'attempt_returned'] as const)(
    '%s ends a step of a stopped run',
    (type) => {
      const run = runOf([{ name: 'a', retry: { ...NO_RETRY, max: 9 } }])
      const a = run.lease(run.named('a'))
      run.happen({ type: 'stop', why: 'cancel' })
      const failure = failureRecord('worker.lost', 'testing')
      expect(run.happen({ ...a, type, failure }).ended).toBe('canceled')
      expect(run.states()).toEqual({ a: 'canceled' })
    },
  )

  test('a second cancel changes nothing, and one after failFast makes it a cancel', () => {
    const run = runOf(three, { failFast: true })
    const b = run.lease(run.named('b'))
    run.fail(run.named('a'))
    expect(run.run.stop).toBe('fail_fast')
    run.happen({ type: 'stop', why: 'cancel' })
    expect(run.run.stop).toBe('cancel')
    expect(run.happen({ type: 'stop', why: 'cancel' }).changed).toEqual([])
    expect(run.happen({ ...b, type: 'attempt_canceled' }).ended).toBe('canceled')
  })

  test('a forEach in the middle ends with its activations', () => {
    const run = new MemoryRun(definitionOf([{ name: 'each', forEach: '${{ inputs.items }}', maxParallel: 1 }]), {
      items: [1, 2, 3],
    })
    run.due()
    const first = run.lease(run.named('each', 0))
    run.happen({ type: 'stop', why: 'cancel' })
    expect(run.states()).toEqual({
      each: 'canceled',
      'each[0]': 'running',
      'each[1]': 'canceled',
      'each[2]': 'canceled',
    })
    expect(run.happen({ ...first, type: 'attempt_succeeded', output: 1 }).ended).toBe('canceled')
    expect(counts(run)).toEqual({ open: 0, active: 0, bad: 0 })
  })
})

describe('what is due', () => {
  test('nothing happens before its time', () => {
    const run = runOf([{ name: 'a', queueTimeoutMs: 500 }])
    run.now += 499
    expect(run.happen({ type: 'due', node: 0, path: '' }).changed).toEqual([])
  })

  test('a queued step that nobody took in time fails, and its tries do not help', () => {
    const run = runOf([{ name: 'a', queueTimeoutMs: 500, retry: { ...NO_RETRY, max: 3 } }])
    run.now += 500
    expect(run.due().ended).toBe('failed')
    expect(failureOf(run.named('a'))).toMatchObject({ code: 'dispatch.expired', evidence: { queueTimeoutMs: 500 } })
  })

  test('a step whose time is over in a run that is being stopped is not tried again: it is canceled', () => {
    for (const why of ['cancel', 'timeout', 'fail_fast'] as const) {
      const run = runOf([{ name: 'a', timeoutMs: 100, retry: { ...NO_RETRY, max: 3 } }])
      run.steps.set('0/', { ...run.step(run.lease(run.named('a'))), dueAt: run.now + 100 })
      expect(run.happen({ type: 'stop', why }).ended).toBeNull()
      run.now += 100
      const { ended, attempts } = run.due()
      expect(attempts).toMatchObject([{ state: 'canceled', failure: { code: 'step.timed_out' } }])
      expect(run.named('a')).toMatchObject({ state: 'canceled', failure: { code: 'step.timed_out' } })
      expect(ended).toBe(why === 'cancel' ? 'canceled' : 'failed')
      expect(counts(run)).toEqual({ open: 0, active: 0, bad: 0 })
    }
  })

  test('a running step whose worker let its deadline pass is timed out and may be tried again', () => {
    const run = runOf([{ name: 'a', timeoutMs: 100, retry: { ...NO_RETRY, max: 1 } }])
    const a = run.lease(run.named('a'))
    run.steps.set('0/', { ...run.named('a'), dueAt: run.now })
    expect(run.due().attempts).toMatchObject([{ state: 'failed', failure: { code: 'step.timed_out' } }])
    expect(run.named('a')).toMatchObject({ state: 'waiting', waits: 'backoff' })
    expect(run.happen({ ...a, type: 'attempt_succeeded', output: 1 }).stale).toHaveLength(1)
  })

  test('a step whose needs have ended and that was forgotten is looked at: it runs, or is blocked', () => {
    const forgotten = (join: Partial<Step>) => {
      const run = runOf([{ name: 'a' }, { name: 'b', needs: ['a'] }])
      run.steps.set('1/', { ...run.named('b'), ...join, dueAt: run.now } as Step)
      run.due()
      return run.states()['b']
    }
    expect(forgotten({ ok: 1 })).toBe('queued')
    expect(forgotten({ bad: 1 })).toBe('blocked')
    expect(forgotten({})).toBe('pending')
  })
})
