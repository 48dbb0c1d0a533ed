import { describe, expect, test } from 'vitest'
import type { Json } from '../base/json.ts'
import type { AgentSpec } from './kinds/agent.ts'
import type { JournalEntry, ParkedOn } from './agents/journal.ts'
import type { Verdict } from './agents/verdict.ts'
import { readTool } from './kinds/tool.ts'
import { failureRecord } from './failure.ts'
import { reopen } from './reopen.ts'
import { agentNode, boundOf, definitionOf, NO_RETRY } from './testing/definitions.ts'
import { MemoryRun } from './testing/memory-run.ts'
import { keyOf, type Step } from './step.ts'

const key = { node: 0, path: '' }
// No field of it is looked at here.
const spec = {} as AgentSpec
const bound = boundOf({
  agents: {
    writer: { spec: { delegates: ['reader'] } as Partial<AgentSpec> as AgentSpec, instructions: '', definition: null },
    reader: { spec, instructions: '', definition: 'h-reader' },
  },
  tools: { report: readTool({ type: 'workflow', description: 'x', workflow: 'report' }) },
  workflows: { report: { hash: 'h-report', inputs: null, description: null } },
})

function started(extra: Parameters<typeof agentNode>[1] = {}): MemoryRun {
  const run = new MemoryRun(definitionOf([agentNode('write', extra), { name: 'after', needs: ['write'] }], { bound }))
  return run
}

/** An attempt that ends because the step has to wait. */
function park(run: MemoryRun, on: ParkedOn): Step {
  run.happen({ ...run.lease(key), type: 'attempt_parked', on })
  return run.named('write')
}

/** An approval of a call, as an append makes it. */
function ask(run: MemoryRun, id: string, { expiresAt = null as number | null, fence = 1 } = {}): string {
  run.approvals.set(id, {
    ...key,
    id,
    fence,
    expiresAt,
    message: '',
    approvers: null,
    onExpiry: 'deny',
    fields: null,
    state: 'pending',
    about: { about: 'call', call: `c-${id}`, agent: 'writer', tool: 't', operation: 'write', input: {} },
  })
  return id
}

const decide = (run: MemoryRun, approval: string, more: { approved?: boolean; input?: { n: number } } = {}) =>
  run.happen({
    ...key,
    type: 'call_decided',
    approval,
    decision: { approved: more.approved ?? true, by: 'ann', comment: null, input: more.input ?? null, output: null },
  })

const decidedIn = (run: MemoryRun): Json =>
  run.journal.flatMap(({ entry }) => (entry.kind === 'decided' ? [`${entry.approval} ${entry.state}`] : []))

describe('an attempt that parks on approvals', () => {
  test('frees its slot, keeps its fence and counts as no try', () => {
    const run = started()
    const step = park(run, { type: 'approvals', approvals: [ask(run, 'a'), ask(run, 'b')] })
    expect(step).toMatchObject({ state: 'waiting', waits: 'approval', on: 'a b', fence: 1, tries: 0, dueAt: null })
    expect(run.run.active).toBe(0)
  })

  test('goes on when the last of them is decided, each decision written down', () => {
    const run = started()
    park(run, { type: 'approvals', approvals: [ask(run, 'a'), ask(run, 'b')] })
    decide(run, 'a')
    expect(run.named('write').state).toBe('waiting')
    decide(run, 'b', { approved: false })
    expect(run.named('write')).toMatchObject({ state: 'queued', fence: 1 })
    expect(decidedIn(run)).toEqual(['a approved', 'b denied'])
    expect(run.lease(key).fence).toBe(2)
  })

  test('goes on at once when they were decided while it ran', () => {
    const run = started()
    const id = ask(run, 'a')
    const attempt = run.lease(key)
    decide(run, id, { input: { n: 1 } })
    expect(run.named('write').state).toBe('running')
    run.happen({ ...attempt, type: 'attempt_parked', on: { type: 'approvals', approvals: [id] } })
    expect(run.named('write').state).toBe('queued')
    expect(run.journal).toMatchObject([{ fence: 1, entry: { kind: 'decided', input: { n: 1 }, state: 'approved' } }])
  })

  test('the second decision changes nothing', () => {
    const run = started()
    park(run, { type: 'approvals', approvals: [ask(run, 'a'), ask(run, 'b')] })
    decide(run, 'a')
    expect(decide(run, 'a', { approved: false }).stale).toHaveLength(1)
    expect(decidedIn(run)).toEqual(['a approved'])
  })

  test('those nobody decides on expire, each at its time', () => {
    const run = started()
    const [soon, later] = [run.now + 1_000, run.now + 5_000]
    park(run, {
      type: 'approvals',
      approvals: [ask(run, 'a', { expiresAt: soon }), ask(run, 'b', { expiresAt: later })],
    })
    expect(run.named('write').dueAt).toBe(soon)
    run.now = soon
    run.due()
    expect(run.named('write')).toMatchObject({ state: 'waiting', dueAt: later })
    expect(decide(run, 'a').stale).toHaveLength(1)
    run.now = later
    expect(decide(run, 'b').stale).toHaveLength(1)
    expect(run.named('write').state).toBe('queued')
    expect(decidedIn(run)).toEqual(['a expired', 'b expired'])
  })

  test('fails when an approval is not there any more', () => {
    const run = started()
    expect(park(run, { type: 'approvals', approvals: ['gone'] })).toMatchObject({
      state: 'failed',
      failure: { code: 'approval.missing' },
    })
  })

  test('one of a try that failed is not that of the next', () => {
    const run = started({ retry: { ...NO_RETRY, max: 1 } })
    const id = ask(run, 'a')
    run.fail(key)
    expect(run.approvals.get(id)?.state).toBe('canceled')
    expect(run.named('write').journalFrom).toBe(1)
    run.now += 10_000
    run.due()
    expect(park(run, { type: 'approvals', approvals: [id] })).toMatchObject({ state: 'failed' })
  })
})

describe('a step whose approvals are open', () => {
  test('that ends closes them', () => {
    const run = started()
    park(run, { type: 'approvals', approvals: [ask(run, 'a')] })
    run.happen({ type: 'stop', why: 'cancel' })
    expect(run.named('write').state).toBe('canceled')
    expect(run.approvals.get('a')?.state).toBe('canceled')
    expect(decide(run, 'a').stale).toHaveLength(1)
  })

  test('that is lost keeps them', () => {
    const run = started()
    ask(run, 'a')
    run.lose(key)
    expect(run.approvals.get('a')?.state).toBe('pending')
    decide(run, 'a')
    expect(decidedIn(run)).toEqual(['a approved'])
  })

  test('that is skipped by hand closes them, and begins a journal of its own when it is retried', () => {
    const run = started()
    park(run, { type: 'approvals', approvals: [ask(run, 'a')] })
    const skipped = reopen({ ...run, steps: [...run.steps.values()], what: { type: 'skip', ...key } })
    expect(skipped.beside.closed).toEqual([key])
    run.happen({ type: 'stop', why: 'cancel' })
    const retried = reopen({ ...run, steps: [...run.steps.values()], what: { type: 'retry', step: null } })
    expect(retried.changed.find((s) => s.node === 0)).toMatchObject({ fence: 1, journalFrom: 1 })
  })
})

describe('a call whose outcome is not known', () => {
  const on: ParkedOn = { type: 'outcome', call: 'c', tool: 'pay', input: { to: 'x' } }

  test('is asked of a person, and goes on with what the person says', () => {
    const run = started()
    const step = park(run, on)
    const [asked] = run.approvals.values()
    expect(step).toMatchObject({ state: 'waiting', waits: 'approval', on: asked?.id })
    expect(asked).toMatchObject({ about: { about: 'outcome', call: 'c', tool: 'pay', input: { to: 'x' } } })
    decide(run, asked?.id ?? '')
    expect(run.journal.at(-1)).toMatchObject({ entry: { about: 'outcome', state: 'approved', call: 'c' } })
    expect(run.named('write').state).toBe('queued')
  })

  test('is asked anew when it is lost again', () => {
    const run = started()
    park(run, on)
    decide(run, [...run.approvals.keys()][0] ?? '')
    park(run, on)
    expect(run.approvals.size).toBe(2)
    expect(run.named('write').state).toBe('waiting')
  })
})

describe('a run below that an agent asked for', () => {
  const on = (of: 'agent' | 'workflow', name: string): ParkedOn => {
    return { type: 'child', calls: [{ call: 'c', of, name, inputs: { q: 1 } }] }
  }
  /** Asks for the call, with the rules' word on it. */
  function ask(run: MemoryRun, tool: string, verdict: Verdict): void {
    run.written.push(
      {
        ...{ kind: 'tool_asked', call: 'c', turn: 1, agent: 'writer', tool },
        ...{ operation: 'write', input: {}, repeatable: true },
      },
      { kind: 'verdict', call: 'c', verdict, approval: null },
    )
  }
  const allow: Verdict = { verdict: 'allow', rule: 'default' }
  function below(of: 'agent' | 'workflow', name: string, hash: string): MemoryRun {
    const run = started()
    ask(run, of === 'agent' ? `ask_${name}` : name, allow)
    run.byHash.set(hash, { hash, name, inputs: null, labels: {}, note: null })
    park(run, on(of, name))
    return run
  }
  const end = (run: MemoryRun, state: 'succeeded' | 'failed' | 'canceled', output: Json = null) => {
    const child = run.children.at(-1)
    const failure = state === 'failed' ? failureRecord('step.function_threw', 'testing') : null
    const of = { ...keyOf(run.named('write')), fence: child?.fence ?? 0 }
    return run.happen({
      ...of,
      type: 'child_ended',
      run: child?.runId ?? '',
      end: { state, failure, output, definition: child?.workflow.hash ?? '' },
    })
  }

  test('is started with what it was given, and what it gives answers the call', () => {
    const run = below('workflow', 'report', 'h-report')
    expect(run.children).toMatchObject([{ inputs: { q: 1 }, fence: 1, workflow: { hash: 'h-report' } }])
    expect(run.named('write')).toMatchObject({ state: 'waiting', waits: 'child', on: run.children[0]?.runId })
    end(run, 'succeeded', { last: 3 })
    expect(run.named('write').state).toBe('queued')
    expect(run.journal.map((j) => j.entry)).toMatchObject([
      { kind: 'child_started', call: 'c' },
      { kind: 'child_ended', call: 'c', result: { ok: true, output: { last: 3 } } },
    ])
  })

  test('of an agent gives what that agent gave', () => {
    const run = below('agent', 'reader', 'h-reader')
    end(run, 'succeeded', { reader: { text: 'read' } })
    expect(run.journal.at(-1)).toMatchObject({ entry: { result: { ok: true, output: { text: 'read' } } } })
  })

  test.each(['failed', 'canceled'] as const)('that %s is told to the model and does not end the agent', (state) => {
    const run = below('workflow', 'report', 'h-report')
    end(run, state)
    expect(run.named('write').state).toBe('queued')
    expect(run.journal.at(-1)).toMatchObject({ entry: { result: { ok: false, code: `child.${state}` } } })
  })

  test('that cannot be started is told to the model at once', () => {
    const run = started()
    park(run, on('agent', 'nobody'))
    expect(run.named('write').state).toBe('queued')
    expect(run.journal).toMatchObject([
      { entry: { kind: 'child_ended', call: 'c', result: { ok: false, code: 'child.definition_not_found' } } },
    ])
  })

  const asks: Verdict = { verdict: 'approval', rule: 'default', approvers: null, expiresMs: null }
  const denies: Verdict = {
    ...{ verdict: 'deny', code: 'policy.denied', rule: 'policy/p' },
    ...{ reason: 'no', remediation: 'none' },
  }
  const word = (state: 'approved' | 'denied' | 'expired', about: 'call' | 'outcome' = 'call'): JournalEntry => ({
    ...{ kind: 'decided', call: 'c', approval: 'a', about, state, by: 'ann', comment: null, at: '' },
    ...{ input: null, output: null },
  })

  test.each<[what: string, tool: string | null, verdict: Verdict, more: JournalEntry[], begins: boolean]>([
    ['nobody asked for', null, allow, [], false],
    ['was denied', 'report', denies, [], false],
    ['gives other work away', 'ask_reader', allow, [], false],
    ['gives no work away', 'look', allow, [], false],
    ['a person has not decided about', 'report', asks, [], false],
    ['a person denied', 'report', asks, [word('denied')], false],
    ['nobody approved in time', 'report', asks, [word('expired')], false],
    ['a person decided about otherwise', 'report', asks, [word('approved', 'outcome')], false],
    ['a person approved', 'report', asks, [word('approved')], true],
  ])('by a call that %s begins as the journal has it, whatever the worker says', (_, tool, verdict, more, begins) => {
    const run = started()
    run.byHash.set('h-report', { hash: 'h-report', name: 'report', inputs: null, labels: {}, note: null })
    if (tool !== null) ask(run, tool, verdict)
    run.written.push(...more)
    park(run, on('workflow', 'report'))
    expect(run.children).toHaveLength(begins ? 1 : 0)
    expect(run.named('write').state).toBe(begins ? 'waiting' : 'queued')
    if (!begins)
      expect(run.journal).toMatchObject([
        { entry: { kind: 'child_ended', result: { ok: false, code: 'tool.permission_denied' } } },
      ])
  })

  describe('in one turn with others', () => {
    const calls = ['a', 'b', 'c'].map((call) => ({
      call,
      of: 'workflow' as const,
      name: 'report',
      inputs: { of: call },
    }))
    /** A run whose step waits for all three. */
    function three(more: (run: MemoryRun) => void = () => {}): MemoryRun {
      const run = started()
      for (const { call } of calls)
        run.written.push(
          {
            ...{ kind: 'tool_asked', call, turn: 1, agent: 'writer', tool: 'report' },
            ...{ operation: 'write', input: {}, repeatable: true },
          },
          { kind: 'verdict', call, verdict: allow, approval: null },
        )
      run.byHash.set('h-report', { hash: 'h-report', name: 'report', inputs: null, labels: {}, note: null })
      more(run)
      park(run, { type: 'child', calls })
      return run
    }
    const endOf = (run: MemoryRun, n: number, output: Json) => {
      const child = run.children[n]
      const of = { ...keyOf(run.named('write')), fence: child?.fence ?? 0, run: child?.runId ?? '' }
      const ended = { state: 'succeeded' as const, failure: null, output, definition: 'h-report' }
      return run.happen({ ...of, type: 'child_ended', end: ended })
    }
    const idsOf = (run: MemoryRun): string[] => run.children.map(({ runId }) => runId)

    test('begins with them, and the step goes on when the last of them has ended, in whatever order', () => {
      const run = three()
      expect(run.children).toMatchObject(calls.map(({ inputs }) => ({ inputs, fence: 1 })))
      const [one, two, last] = idsOf(run)
      expect(new Set(idsOf(run)).size).toBe(3)
      expect(run.named('write')).toMatchObject({ state: 'waiting', waits: 'child', on: `${one} ${two} ${last}` })
      endOf(run, 2, 'of c')
      expect(run.named('write')).toMatchObject({ state: 'waiting', waits: 'child', on: `${one} ${two}` })
      // What is told twice, because nobody wrote down that it was told, changes nothing.
      expect(endOf(run, 2, 'of c').stale).toHaveLength(1)
      endOf(run, 0, 'of a')
      expect(run.named('write')).toMatchObject({ state: 'waiting', on: two })
      endOf(run, 1, 'of b')
      expect(run.named('write').state).toBe('queued')
      expect(run.journal.slice(3).map(({ entry }) => entry)).toMatchObject(
        [2, 0, 1].map((n) => ({
          kind: 'child_ended',
          call: calls[n]?.call,
          run: run.children[n]?.runId,
          result: { ok: true, output: `of ${calls[n]?.call}` },
        })),
      )
    })

    test('whose ends are told together goes on once', () => {
      const run = three()
      const of = { ...keyOf(run.named('write')), fence: 1 }
      const ended = { state: 'succeeded' as const, failure: null, output: 1, definition: 'h-report' }
      run.happen(...idsOf(run).map((id) => ({ ...of, type: 'child_ended' as const, run: id, end: ended })))
      expect(run.named('write').state).toBe('queued')
      expect(run.journal.filter(({ entry }) => entry.kind === 'child_ended')).toHaveLength(3)
    })

    test('that cannot be started is told to the model, and the others begin', () => {
      const run = three((before) => {
        before.written.splice(2, 1) // nobody asked for b
      })
      expect(run.children).toMatchObject([{ inputs: { of: 'a' } }, { inputs: { of: 'c' } }])
      expect(run.named('write').state).toBe('waiting')
      expect(run.journal.map(({ entry }) => entry)).toMatchObject([
        { kind: 'child_started', call: 'a' },
        { kind: 'child_ended', call: 'b', run: '', result: { code: 'tool.permission_denied' } },
        { kind: 'child_started', call: 'c' },
      ])
    })

    test('that the rules do not let begin beside those before it is told to the model with the rule', () => {
      const begun: number[] = []
      const run = three((before) => {
        before.refusalOf = (call, others) => {
          begun.push(others)
          expect(call).toMatchObject({ agent: 'writer', tool: 'report', target: { of: 'workflow', name: 'report' } })
          if (others < 2) return null
          const rule = { code: 'policy.routing_blocked' as const, rule: 'policy/two' }
          return { verdict: 'deny', ...rule, reason: 'two are enough', remediation: 'Do it yourself.' }
        }
      })
      expect(begun).toEqual([0, 1, 2])
      expect(run.children).toHaveLength(2)
      expect(run.journal.at(-1)).toMatchObject({
        entry: {
          ...{ kind: 'child_ended', call: 'c', run: '' },
          result: {
            ...{ ok: false, code: 'policy.routing_blocked', reason: 'two are enough (policy/two)' },
            evidence: { rule: 'policy/two', remediation: 'Do it yourself.' },
          },
        },
      })
    })

    test('is begun once, though it be asked for again: by the same report, or by another attempt', () => {
      const run = three((before) => {
        before.written.push({ kind: 'child_started', call: 'a', run: 'run_a' })
        before.written.push({ kind: 'child_ended', call: 'b', run: 'run_b', result: { ok: true, output: 1 } })
      })
      expect(run.children).toMatchObject([{ inputs: { of: 'c' } }])
      expect(run.named('write')).toMatchObject({ state: 'waiting', on: `run_a ${idsOf(run)[0]}` })
      const twice = started()
      ask(twice, 'report', allow)
      twice.byHash.set('h-report', { hash: 'h-report', name: 'report', inputs: null, labels: {}, note: null })
      const same = on('workflow', 'report')
      park(twice, same.type === 'child' ? { type: 'child', calls: [...same.calls, ...same.calls] } : same)
      expect(twice.children).toHaveLength(1)
    })

    test('is stopped with them when the step is', () => {
      const run = three()
      endOf(run, 1, null)
      run.happen({ type: 'stop', why: 'cancel' })
      const [one, , last] = idsOf(run)
      expect(run.orphans).toEqual([one, last])
    })
  })

  test('is stopped with its step', () => {
    const run = below('workflow', 'report', 'h-report')
    run.happen({ type: 'stop', why: 'cancel' })
    expect(run.orphans).toEqual([run.children[0]?.runId])
    expect(end(run, 'succeeded').stale).toHaveLength(1)
  })
})

describe('a step that waits for a budget', () => {
  const failure = failureRecord('step.function_threw', 'testing')
  const on = (retryAfterMs: number | null): ParkedOn => {
    return { type: 'budget', budgets: ['default/team'], retryAfterMs, failure }
  }

  test('asks again when the window has moved', () => {
    const run = started()
    const from = run.now
    expect(park(run, on(60_000))).toMatchObject({ state: 'waiting', waits: 'budget', on: 'default/team' })
    expect(run.named('write').dueAt).toBe(from + 60_000)
    run.now += 60_000
    run.due()
    expect(run.named('write')).toMatchObject({ state: 'queued', tries: 0 })
  })

  test('waits for ever when only a higher limit helps, and never turns in circles', () => {
    const run = started()
    expect(park(run, on(null)).dueAt).toBeNull()
    const other = started()
    expect(park(other, on(0)).dueAt).toBeGreaterThan(other.now)
  })

  test('goes on at once when the budget let go since the attempt began', () => {
    const run = started()
    run.woken.add('default/team')
    expect(park(run, on(null)).state).toBe('queued')
  })
})

test('a park in a run that is being stopped is a cancel', () => {
  const run = started()
  const attempt = run.lease(key)
  run.happen({ type: 'stop', why: 'cancel' })
  run.happen({ ...attempt, type: 'attempt_parked', on: { type: 'approvals', approvals: [ask(run, 'a')] } })
  expect(run.named('write').state).toBe('canceled')
  expect(run.approvals.get('a')?.state).toBe('canceled')
})

test('a park of what is no agent is a step given back', () => {
  const run = new MemoryRun(definitionOf([{ name: 'write' }]))
  expect(park(run, { type: 'approvals', approvals: ['a'] }).state).toBe('queued')
})
