import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HandClock } from '../../base/clock.ts'
import type { Json, JsonObject } from '../../base/json.ts'
import type { ParkedOn } from '../../domain/agents/journal.ts'
import { Failure } from '../../domain/failure.ts'
import { type Says, World, type WorldSpec } from '../testing/memory-host.ts'
import type { TurnsEnd } from './agent-host.ts'
import { nextAction } from './next-action.ts'
import { toolTableOf } from './tool-table.ts'
import { foldJournal } from './turn-state.ts'

const TOOLS = { look: {}, send: { operation: 'write' }, pay: { operation: 'write', repeatable: true } }

/** Answers by how far the conversation is, so that a call which is made again is answered the same. */
function world(script: readonly Says[], more: Partial<WorldSpec> = {}, agent: JsonObject = {}): World {
  return new World({
    agents: { writer: { tools: ['look', 'send', 'pay'], limits: { maxTurns: 100, maxRepeats: 100 }, ...agent } },
    tools: TOOLS,
    model: ({ messages }) =>
      script[Math.min(messages.filter(({ role }) => role === 'assistant').length, script.length - 1)] ?? {},
    call: ({ envelope }) => ({ ok: true, output: { did: envelope.tool, with: envelope.input } }),
    ...more,
  })
}

/** Says yes to whatever is waited for. */
function sayYes(on: ParkedOn, w: World): void {
  if (on.type === 'approvals') for (const approval of on.approvals) w.decide(approval, 'approved')
  else if (on.type === 'outcome') outcome(w, on.call, 'approved', null)
  else if (on.type === 'child') {
    for (const { call } of on.calls) w.tell({ kind: 'child_started', call, run: `run_${call}` })
    for (const { call } of on.calls)
      w.tell({ kind: 'child_ended', call, run: `run_${call}`, result: { ok: true, output: { text: 'from below' } } })
  }
}

const outcome = (w: World, call: string, state: 'approved' | 'denied', output: Json): void =>
  w.tell({
    kind: 'decided',
    call,
    approval: `out_${call}`,
    about: 'outcome',
    state,
    by: 'ann',
    comment: null,
    at: new Date(0).toISOString(),
    input: null,
    output,
  })

const TEN: Says[] = [
  ...Array.from({ length: 9 }, (_, i): Says => ({
    text: `turn ${i}`,
    calls: [{ tool: 'look', input: { i }, id: `call_n${i}` }],
  })),
  { text: 'done' },
]

describe('a worker that dies', () => {
  test('at any boundary of ten turns: completed calls are not made again, the one in flight is, with its key', async () => {
    const clock = new HandClock(0)
    const whole = world(TEN, { clock })
    const expected = await whole.run(whole.agentStep('writer'))
    expect(expected).toEqual({ kind: 'succeeded', output: { text: 'done' } })
    for (let at = 0; at < whole.boundaries; at++) {
      const w = world(TEN, { clock })
      w.killAt = at
      expect(await w.run(w.agentStep('writer'))).toEqual(expected)
      expect(w.repeated).toEqual([])
      expect(w.journal.map(({ entry }) => entry)).toEqual(whole.journal.map(({ entry }) => entry))
      const keys = [...w.requests.map(({ key }) => key), ...w.toolCalls.map(({ envelope }) => envelope.idempotencyKey)]
      expect(new Set(keys).size).toBe(19)
      expect(keys.length).toBeLessThanOrEqual(20)
    }
  })

  test('and a step that is tried again after a failure makes calls of its own, though they have the same names', async () => {
    const w = world(TEN)
    await w.run(w.agentStep('writer'))
    const first = w.toolCalls.map(({ envelope }) => envelope.idempotencyKey)
    // What a failed try wrote counts no more.
    w.journal.length = 0
    await w.run(w.agentStep('writer'))
    const keys = w.toolCalls.map(({ envelope }) => envelope.idempotencyKey)
    expect(keys).toHaveLength(2 * first.length)
    expect(new Set(keys).size).toBe(keys.length)
  })

  test('in the middle of a call that is not repeatable: a person says whether it was made', async () => {
    const script: Says[] = [{ calls: [{ tool: 'send', input: { to: 'all' } }] }, { text: 'done' }]
    const dead = async () => {
      const w = world(script)
      await world(script).run(w.agentStep('writer'))
      // journal, append ×2, model, append ×2, then the call of the tool and its end
      for (w.killAt = 0; w.toolCalls.length === 0; w.killAt++) {
        w.boundaries = 0
        w.journal.length = 0
        await w.attempt(w.agentStep('writer')).catch(() => null)
      }
      return w
    }
    const w = await dead()
    w.killAt = null
    expect(await w.attempt(w.agentStep('writer'))).toEqual({
      kind: 'parked',
      on: { type: 'outcome', call: 'call_0', tool: 'send', input: { to: 'all' } },
    })
    expect(w.toolCalls).toHaveLength(1)

    outcome(w, 'call_0', 'approved', { sent: 3 })
    expect((await w.attempt(w.agentStep('writer'))).kind).toBe('succeeded')
    expect(w.toolCalls).toHaveLength(1)
    expect(w.requests.at(-1)?.request.messages.at(-1)).toMatchObject({ output: { sent: 3 } })

    const again = await dead()
    again.killAt = null
    await again.attempt(again.agentStep('writer'))
    outcome(again, 'call_0', 'approved', null)
    expect((await again.attempt(again.agentStep('writer'))).kind).toBe('succeeded')
    expect(again.toolCalls.map(({ envelope }) => envelope.idempotencyKey)).toEqual([
      'run_1.0@9/call_0',
      'run_1.0@9/call_0',
    ])

    const left = await dead()
    left.killAt = null
    await left.attempt(left.agentStep('writer'))
    outcome(left, 'call_0', 'denied', null)
    expect((await left.attempt(left.agentStep('writer'))).kind).toBe('succeeded')
    expect(left.requests.at(-1)?.request.messages.at(-1)).toMatchObject({
      isError: true,
      output: { error: { code: 'tool.outcome_unknown', retryable: false } },
    })
  })
})

describe('a call that waits for a person', () => {
  const rule: NonNullable<WorldSpec['rule']> = ({ tool }) =>
    tool === 'send'
      ? { verdict: 'approval', rule: 'agent/writer', approvers: null, expiresMs: null }
      : { verdict: 'allow', rule: 'default' }
  const script: Says[] = [
    {
      calls: [
        { tool: 'send', input: { to: 'all' } },
        { tool: 'look', id: 'call_b1' },
        { tool: 'send', id: 'call_b2' },
      ],
    },
    { text: 'done' },
  ]

  test('is waited for when nothing else is left to do, and holds nothing meanwhile', async () => {
    const w = world(script, { rule })
    expect(await w.attempt(w.agentStep('writer'))).toEqual({
      kind: 'parked',
      on: { type: 'approvals', approvals: ['apr_call_0', 'apr_call_b2'] },
    })
    expect(w.toolCalls.map(({ envelope }) => envelope.tool)).toEqual(['look'])
    w.decide('apr_call_0', 'approved', { to: 'ann' })
    expect(await w.attempt(w.agentStep('writer'))).toEqual({
      kind: 'parked',
      on: { type: 'approvals', approvals: ['apr_call_b2'] },
    })
    w.decide('apr_call_b2', 'denied')
    expect((await w.attempt(w.agentStep('writer'))).kind).toBe('succeeded')
    expect(w.toolCalls.map(({ envelope }) => envelope.input)).toEqual([{}, { to: 'ann' }])
    expect(w.requests.at(-1)?.request.messages.slice(-3)).toMatchObject([
      { output: { with: { to: 'ann' } } },
      { output: { did: 'look' } },
      { isError: true, output: { error: { code: 'approval.denied' } } },
    ])
  })

  test('and that nobody decides in time, or that a person made unfit, is told to the model', async () => {
    const w = world(
      [
        {
          calls: [
            { tool: 'send', input: { to: 'all' } },
            { tool: 'send', input: { to: 'b' }, id: 'call_b2' },
          ],
        },
        { text: 'done' },
      ],
      {
        rule,
        tools: { ...TOOLS, send: { operation: 'write', inputSchema: { type: 'object', required: ['to'] } } },
      },
    )
    await w.attempt(w.agentStep('writer'))
    w.decide('apr_call_0', 'expired')
    w.decide('apr_call_b2', 'approved', { from: 'me' })
    expect((await w.attempt(w.agentStep('writer'))).kind).toBe('succeeded')
    expect(w.toolCalls).toEqual([])
    expect(w.requests.at(-1)?.request.messages.slice(-2)).toMatchObject([
      { output: { error: { code: 'approval.expired' } } },
      { output: { error: { code: 'tool.invalid_input', problems: ['input.to is required'] } } },
    ])
  })

  test('is made once after its approval, also when the worker dies right after that', async () => {
    const w = world([{ calls: [{ tool: 'pay' }] }, { text: 'done' }], {
      rule: () => ({ verdict: 'approval', rule: 'r', approvers: null, expiresMs: null }),
    })
    await w.attempt(w.agentStep('writer'))
    w.decide('apr_call_0', 'approved')
    w.killAt = w.boundaries + 1
    expect((await w.run(w.agentStep('writer'), sayYes)).kind).toBe('succeeded')
    expect(w.repeated).toEqual([])
  })
})

const saysArb: fc.Arbitrary<Says> = fc.record({
  text: fc.constantFrom('', 'thinking', '{"n":1}'),
  calls: fc.array(
    fc.record({
      tool: fc.constantFrom('look', 'send', 'pay', 'nothing', 'ask_helper', 'hand_over_to_helper'),
      input: fc.constantFrom<Json>({}, { a: 1 }, { prompt: 'help' }),
      id: fc.constantFrom('call_1', 'call_22', 'call_333', ''),
    }),
    { maxLength: 3 },
  ),
})

test('random scripts with deaths at random boundaries end as without them, and no completed call is made again', async () => {
  const run = async (script: readonly Says[], kills: readonly number[]): Promise<{ w: World; end: TurnsEnd }> => {
    const w = new World({
      agents: {
        writer: {
          tools: ['look', 'send', 'pay'],
          delegates: ['helper'],
          handoffs: ['helper'],
          limits: { maxTurns: 12 },
        },
        helper: { tools: ['look'] },
      },
      tools: TOOLS,
      rule: ({ tool, call }) =>
        tool === 'pay'
          ? { verdict: 'approval', rule: 'r', approvers: null, expiresMs: null }
          : tool === 'send' && call.endsWith('2')
            ? { verdict: 'deny', code: 'policy.denied', rule: 'p', reason: 'no', remediation: 'ask' }
            : { verdict: 'allow', rule: 'default' },
      model: ({ messages }) => {
        const said = messages.filter(({ role }) => role === 'assistant' || role === 'tool').length
        if (said > 40) return { text: 'done' }
        const next = script[said % script.length] ?? {}
        if (said % 7 === 6) throw new Failure('model.unavailable', 'asking')
        return next
      },
      endpoints: { gpt: { fallbacks: ['other'] }, other: {} },
      call: ({ envelope }) =>
        envelope.tool === 'look' && envelope.input['a'] === 1
          ? { ok: false, code: 'tool.failed', reason: 'no', retryable: true }
          : { ok: true, output: { did: envelope.tool } },
    })
    const left = [...kills]
    let last = 0
    for (let attempts = 0; attempts < 200; attempts++) {
      const next = left.shift()
      w.killAt = next === undefined ? null : w.boundaries + next
      const end = await w.attempt(w.agentStep('writer')).catch(() => null)
      last = attempts
      if (end?.kind === 'parked') sayYes(end.on, w)
      else if (end && end.kind !== 'returned') return { w, end }
    }
    throw new Error(`no end after ${last} attempts`)
  }
  await fc.assert(
    fc.asyncProperty(
      fc.array(saysArb, { minLength: 1, maxLength: 6 }),
      fc.array(fc.nat({ max: 25 }), { maxLength: 6 }),
      async (script, kills) => {
        const plain = await run(script, [])
        const killed = await run(script, kills)
        expect(killed.end).toEqual(plain.end)
        expect(killed.w.repeated).toEqual([])
        const recorded = (w: World) =>
          w.journal
            .flatMap(({ entry }) => (entry.kind === 'tool_answered' ? [[entry.call, entry.result]] : []))
            .sort(([a], [b]) => String(a).localeCompare(String(b)))
        expect(recorded(killed.w)).toEqual(recorded(plain.w))
        const names = killed.w.journal.flatMap(({ entry }) =>
          entry.kind === 'model_answered' || entry.kind === 'tool_answered' || entry.kind === 'model_failed'
            ? [entry.call]
            : [],
        )
        expect(new Set(names).size).toBe(names.length)
      },
    ),
    { numRuns: 150, seed: 7 },
  )
})

test('the same journal gives the same next action, at each of its lengths', async () => {
  const w = world(TEN)
  await w.run(w.agentStep('writer'))
  const endpoints = (await w.host(1).context()).endpoints
  const table = toolTableOf(w.bound, 'writer')
  for (let length = 0; length <= w.journal.length; length++) {
    // A verdict is written together with what it is about.
    if (w.journal[length]?.entry.kind === 'verdict') continue
    const actions = [1, 2].map(() =>
      nextAction(
        {
          kind: 'agent',
          step: 's',
          what: 'w',
          fence: 2,
          agent: 'writer',
          bound: w.bound,
          input: 'go',
          endpoints,
          prices: {},
          tools: () => table,
        },
        foldJournal(structuredClone(w.journal.slice(0, length)), 'writer'),
        { elapsedMs: 0 },
      ),
    )
    expect(actions[0]).toEqual(actions[1])
  }
})
