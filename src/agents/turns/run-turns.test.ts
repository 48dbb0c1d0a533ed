import { describe, expect, test } from 'vitest'
import { HandClock } from '../../base/clock.ts'
import type { JsonObject } from '../../base/json.ts'
import { Failure, failureRecord } from '../../domain/failure.ts'
import { Killed, type Says, World, type WorldSpec } from '../testing/memory-host.ts'
import type { TurnsEnd } from './agent-host.ts'

const TOOLS = { look: {}, send: { operation: 'write' } }
const use = (...calls: NonNullable<Says['calls']>): Says => ({ calls })

/** A world with one agent `writer` that says these things one after another; the last one for ever. */
function world(script: Says[], agent: JsonObject = {}, more: Partial<WorldSpec> = {}): World {
  return new World({
    agents: { writer: { tools: ['look', 'send'], ...agent } },
    tools: TOOLS,
    model: (_, { nth }) => script[Math.min(nth, script.length - 1)] ?? {},
    ...more,
  })
}

const codeOf = (end: TurnsEnd): string => (end.kind === 'failed' ? end.failure.code : end.kind)
const evidenceOf = (end: TurnsEnd): JsonObject => (end.kind === 'failed' ? (end.failure.evidence ?? {}) : {})

describe('a turn', () => {
  test('is two appends, whatever its tools', async () => {
    const w = world([use({ tool: 'look', input: { a: 1 } }), { text: 'done' }])
    expect(await w.run(w.agentStep('writer'))).toEqual({ kind: 'succeeded', output: { text: 'done' } })
    expect(w.appends).toEqual([
      ['model_asked'],
      ['model_answered', 'tool_asked'],
      ['tool_answered', 'model_asked'],
      ['model_answered'],
    ])
    expect(w.requests.map(({ key }) => key)).toEqual(['run_1.0@1/t1', 'run_1.0@1/t2'])
    expect(w.toolCalls[0]?.envelope).toMatchObject({
      tool: 'look',
      idempotencyKey: 'run_1.0@1/call_0',
      input: { a: 1 },
    })
    expect(w.requests[1]?.request.messages).toEqual([
      { role: 'system', text: 'You are writer.' },
      { role: 'user', text: 'go' },
      { role: 'assistant', toolCalls: [{ id: 'call_0', name: 'look', input: { a: 1 }, text: '{"a":1}' }] },
      { role: 'tool', callId: 'call_0', name: 'look', output: 'look done' },
    ])
  })

  test('calls its tools side by side, and records what has ended while others still run', async () => {
    const slow = Promise.withResolvers<void>()
    const w: World = world(
      [use({ tool: 'look' }, { tool: 'send', id: 'call_b' }), { text: 'done' }],
      {},
      {
        call: async ({ envelope }) => {
          if (envelope.tool === 'look') await slow.promise
          else
            queueMicrotask(() =>
              queueMicrotask(function wait(): void {
                if (w.kinds().includes('tool_answered')) slow.resolve()
                else setImmediate(wait)
              }),
            )
          return { ok: true, output: envelope.tool }
        },
      },
    )
    expect(codeOf(await w.run(w.agentStep('writer')))).toBe('succeeded')
    expect(w.appends[2]).toEqual(['tool_answered'])
    expect(w.appends[3]).toEqual(['tool_answered', 'model_asked'])
  })

  test('calls no more than sixteen tools at once', async () => {
    let running = 0
    let most = 0
    const calls = Array.from({ length: 40 }, (_, i) => ({ tool: 'look', input: { i }, id: `call_n${i}` }))
    const w = world(
      [use(...calls), { text: 'done' }],
      {},
      {
        call: async () => {
          most = Math.max(most, ++running)
          await new Promise((resolve) => setImmediate(resolve))
          running--
          return { ok: true, output: null }
        },
      },
    )
    expect(codeOf(await w.run(w.agentStep('writer')))).toBe('succeeded')
    expect(most).toBe(16)
    expect(w.toolCalls).toHaveLength(40)
  })

  test('asks the next endpoint when one does not answer, and tells of all when none does', async () => {
    const down = new Failure('model.unavailable', 'asking')
    const answering = (names: string[]) =>
      world(
        [],
        { fallbackModels: ['second'] },
        {
          endpoints: { gpt: { fallbacks: ['third'] }, second: {}, third: {} },
          model: (_, { endpoint }) => {
            if (names.includes(endpoint)) return { text: endpoint }
            throw down
          },
        },
      )
    const third = answering(['third'])
    expect(await third.run(third.agentStep('writer'))).toEqual({ kind: 'succeeded', output: { text: 'third' } })
    expect(third.requests.map(({ endpoint, key }) => [endpoint, key])).toEqual([
      ['gpt', 'run_1.0@1/t1'],
      ['second', 'run_1.0@1/t1-2'],
      ['third', 'run_1.0@1/t1-3'],
    ])
    const none = answering([])
    const end = await none.run(none.agentStep('writer'))
    expect(codeOf(end)).toBe('model.unavailable')
    expect(evidenceOf(end)['tried']).toHaveLength(3)
  })

  test('asks nobody else after a failure that would be the same there, and no public endpoint for a local one', async () => {
    const broken = world(
      [],
      { fallbackModels: ['second'] },
      {
        endpoints: { second: {} },
        model: () => {
          throw new Failure('model.auth_failed', 'asking')
        },
      },
    )
    expect(codeOf(await broken.run(broken.agentStep('writer')))).toBe('model.auth_failed')
    expect(broken.requests).toHaveLength(1)
    const local = world(
      [],
      { fallbackModels: ['public'] },
      {
        endpoints: {
          gpt: { local: true },
          public: { provider: 'openai-compatible', baseUrl: 'https://models.example' },
        },
        model: () => {
          throw new Failure('model.unavailable', 'asking')
        },
      },
    )
    expect(codeOf(await local.run(local.agentStep('writer')))).toBe('model.unavailable')
    expect(local.requests.map(({ endpoint }) => endpoint)).toEqual(['gpt'])
  })

  test('fails for an endpoint that is not there', async () => {
    const w = world([{ text: 'x' }], { model: 'gone' })
    expect(codeOf(await w.run(w.agentStep('writer')))).toBe('resource.not_found')
  })

  test('ends with what refuses the model, or waits where waiting helps', async () => {
    const failure = failureRecord('policy.denied', 'asking a model')
    const w = world([{ text: 'x' }], {}, { refuse: () => ({ failure, park: null }) })
    expect(await w.run(w.agentStep('writer'))).toEqual({ kind: 'failed', failure })
    expect(w.journal).toEqual([])
    expect(w.requests).toEqual([])
    let isOpen = false
    const on = { type: 'budget', budgets: ['default/team'], retryAfterMs: 1, failure } as const
    const waiting = world(
      [{ text: 'x' }],
      {},
      {
        refuse: () => (isOpen ? null : { failure, park: { ...on, budgets: [...on.budgets] } }),
      },
    )
    expect(await waiting.attempt(waiting.agentStep('writer'))).toEqual({ kind: 'parked', on })
    isOpen = true
    expect(codeOf(await waiting.attempt(waiting.agentStep('writer')))).toBe('succeeded')
  })

  test('sees what changed from the next call on', async () => {
    const w = world([use({ tool: 'look' }), { text: 'done' }])
    w.spec.endpoints = { gpt: { defaults: { maxTokens: 7 } } }
    w.spec.call = () => {
      w.version++
      w.spec.endpoints = { gpt: { defaults: { maxTokens: 9 } } }
      return { ok: true, output: 1 }
    }
    await w.run(w.agentStep('writer'))
    const outputs = w.journal.flatMap(({ entry }) => (entry.kind === 'model_asked' ? [entry.tokens.output] : []))
    // The call that follows is asked for before the change is known, and made with what is known then.
    expect(outputs[0]).toBe(7)
    expect(w.requests).toHaveLength(2)
  })

  test('stops at the next boundary when its attempt is to leave, and the next one goes on', async () => {
    const w = world(
      [use({ tool: 'send' }), { text: 'done' }],
      {},
      {
        call: () => {
          w.isLeaving = true
          return { ok: true, output: 'sent' }
        },
      },
    )
    expect(await w.attempt(w.agentStep('writer'))).toEqual({ kind: 'returned' })
    expect(w.kinds()).toEqual(['model_asked', 'model_answered', 'tool_asked', 'verdict', 'tool_answered'])
    w.isLeaving = false
    expect(codeOf(await w.attempt(w.agentStep('writer')))).toBe('succeeded')
    expect(w.toolCalls).toHaveLength(1)
  })

  test('ends with the reason of its signal', async () => {
    const stop = new AbortController()
    const w = world(
      [],
      {},
      {
        model: (_, { signal }) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason as Error))
            stop.abort(new Error('canceled'))
          }),
      },
    )
    await expect(w.attempt(w.agentStep('writer'), stop.signal)).rejects.toThrow('canceled')
  })
})

describe('limits end an agent as a failure, never as a success', () => {
  test('turns: agent.turn_limit', async () => {
    const w = world([{ text: 'thinking', calls: [{ tool: 'look', input: {} }] }], {
      limits: { maxTurns: 3, maxRepeats: 50 },
    })
    const end = await w.run(w.agentStep('writer'))
    expect(codeOf(end)).toBe('agent.turn_limit')
    expect(evidenceOf(end)).toMatchObject({ maxTurns: 3, lastText: 'thinking' })
    expect(w.requests).toHaveLength(3)
    expect(w.kinds().at(-1)).toBe('tool_answered')
  })

  test('the same call again and again: agent.loop_detected, and the call that is one too many is not made', async () => {
    const w = world([use({ tool: 'look', input: { b: 1, a: 2 } })], { limits: { maxRepeats: 2 } })
    const end = await w.run(w.agentStep('writer'))
    expect(codeOf(end)).toBe('agent.loop_detected')
    expect(evidenceOf(end)).toMatchObject({ tools: ['look'], repeats: 3, maxRepeats: 2 })
    expect(w.toolCalls).toHaveLength(3)
  })

  test('the same calls of whole turns are a loop too, in any order and with keys in any order', async () => {
    const one = { tool: 'look', input: { a: 1, b: 2 } }
    const w = world(
      [],
      { limits: { maxRepeats: 1 } },
      {
        model: (_, { nth }) =>
          use(...(nth % 2 ? [one, { tool: 'send' }] : [{ tool: 'send' }, { ...one, input: { b: 2, a: 1 } }])),
      },
    )
    expect(codeOf(await w.run(w.agentStep('writer')))).toBe('agent.loop_detected')
    expect(w.toolCalls).toHaveLength(4)
  })

  test('other arguments are no loop', async () => {
    const w = world(
      [],
      { limits: { maxRepeats: 1 } },
      {
        model: (_, { nth }) => (nth < 5 ? use({ tool: 'look', input: { nth } }) : { text: 'done' }),
      },
    )
    expect(codeOf(await w.run(w.agentStep('writer')))).toBe('succeeded')
  })

  test('time of a try over all of its attempts: a worker that is lost gives a step nothing anew', async () => {
    const clock = new HandClock(0)
    const w = world(
      [],
      { limits: { timeout: '1h' } },
      {
        clock,
        model: (_, { nth, signal }) => {
          if (nth === 0) {
            clock.advance(6_000)
            return use({ tool: 'look' })
          }
          return new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason as Error))
            setImmediate(function turn(): void {
              clock.advance(100)
              if (!signal.aborted) setImmediate(turn)
            })
          })
        },
      },
    )
    const step = w.agentStep('writer', 'go', 10_000)
    w.killAt = 6
    await expect(w.attempt(step)).rejects.toThrow(Killed)
    w.killAt = null
    clock.advance(3_600_000)
    const end = await w.attempt(step)
    expect(codeOf(end)).toBe('step.timed_out')
    expect(evidenceOf(end)).toMatchObject({ timeoutMs: 10_000, workedMs: expect.any(Number) })
    expect(evidenceOf(end)['workedMs']).toBeLessThan(12_000)
    // Nothing is asked any more by an attempt that has no time left.
    const asked = w.requests.length
    expect(codeOf(await w.attempt(w.agentStep('writer', 'go', 5_000)))).toBe('step.timed_out')
    expect(w.requests).toHaveLength(asked)
  })

  test('time, without what it waited: agent.timed_out', async () => {
    const clock = new HandClock(0)
    const w = world(
      [],
      { limits: { timeout: '10s' } },
      {
        clock,
        model: (_, { nth, signal }) => {
          if (nth === 0) {
            clock.advance(6_000)
            return use({ tool: 'send' })
          }
          return new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason as Error))
            setImmediate(function turn(): void {
              clock.advance(100)
              if (!signal.aborted) setImmediate(turn)
            })
          })
        },
        rule: () => ({ verdict: 'approval', rule: 'role/careful', approvers: null, expiresMs: null }),
      },
    )
    expect(await w.attempt(w.agentStep('writer'))).toMatchObject({ kind: 'parked', on: { type: 'approvals' } })
    clock.advance(3_600_000)
    w.decide('apr_call_0', 'approved')
    const end = await w.attempt(w.agentStep('writer'))
    expect(codeOf(end)).toBe('agent.timed_out')
    expect(evidenceOf(end)['workedMs']).toBeGreaterThanOrEqual(10_000)
    expect(evidenceOf(end)['workedMs']).toBeLessThan(12_000)
  })

  test('tokens: agent.token_limit, and no answer may have more than what is left', async () => {
    const w = world([{ calls: [{ tool: 'look' }], tokens: [100, 100] }], { limits: { maxTokens: 300, maxRepeats: 50 } })
    const end = await w.run(w.agentStep('writer'))
    expect(codeOf(end)).toBe('agent.token_limit')
    expect(w.requests).toHaveLength(2)
    expect(w.requests[1]?.request.maxTokens).toBeLessThan(100)
    const answer = world([{ text: 'done', tokens: [300, 1] }], { limits: { maxTokens: 300 } })
    expect(codeOf(await answer.run(answer.agentStep('writer')))).toBe('agent.token_limit')
  })

  test('money: agent.cost_limit, and a call whose price is not known is refused', async () => {
    const prices = { list: { currency: 'EUR', rows: [{ model: 'm', input: 1, output: 1 }] } }
    const priced = { endpoints: { gpt: { prices: 'list' } }, prices }
    const paid = { calls: [{ tool: 'look' }], cost: { currency: 'EUR', amount: 0.4 } }
    const w = world([paid], { limits: { maxCost: 1, maxRepeats: 50 } }, priced)
    const end = await w.run(w.agentStep('writer'))
    expect(codeOf(end)).toBe('agent.cost_limit')
    expect(evidenceOf(end)).toMatchObject({ currency: 'EUR', maxCost: 1 })
    expect(w.requests).toHaveLength(3)
    const unknown = world([{ text: 'done' }], { limits: { maxCost: 1 } })
    expect(codeOf(await unknown.run(unknown.agentStep('writer')))).toBe('agent.cost_unknown')
    expect(unknown.requests).toHaveLength(0)
    const unpriced = world([{ text: 'done', cost: null }], { limits: { maxCost: 1 } }, priced)
    expect(codeOf(await unpriced.run(unpriced.agentStep('writer')))).toBe('agent.cost_unknown')
  })

  test('calls of tools: agent.tool_call_limit', async () => {
    const w = world([use({ tool: 'look', input: { n: 1 } }, { tool: 'look', input: { n: 2 } })], {
      limits: { maxToolCalls: 3 },
    })
    const end = await w.run(w.agentStep('writer'))
    expect(codeOf(end)).toBe('agent.tool_call_limit')
    expect(w.toolCalls).toHaveLength(2)
  })
})

describe('what the model asks for and cannot have is told to it', () => {
  test('a tool that it is not offered, arguments that are no JSON, arguments that break the schema', async () => {
    const w = world(
      [
        use(
          { tool: 'lock', id: 'call_unknown' },
          { tool: 'look', text: '{"a":', id: 'call_broken' },
          { tool: 'look', input: { b: 1 }, id: 'call_wrong' },
        ),
        { text: 'sorry' },
      ],
      {},
      { tools: { look: { inputSchema: { type: 'object', required: ['a'] } }, send: {} } },
    )
    expect(codeOf(await w.run(w.agentStep('writer')))).toBe('succeeded')
    expect(w.toolCalls).toHaveLength(0)
    expect(w.kinds()).not.toContain('tool_asked')
    const told = w.requests[1]?.request.messages.filter(({ role }) => role === 'tool') ?? []
    expect(told).toMatchObject([
      { isError: true, output: { error: { code: 'tool.unknown', retryable: false } } },
      { isError: true, output: { error: { code: 'tool.invalid_input' } } },
      { isError: true, output: { error: { code: 'tool.invalid_input', problems: ['input.a is required'] } } },
    ])
    expect(JSON.stringify(told[0])).toContain('did you mean look?')
  })

  test('a call that the rules deny, and one that fails', async () => {
    const w = world(
      [use({ tool: 'send' }, { tool: 'look', id: 'call_b' }), { text: 'well' }],
      {},
      {
        rule: ({ tool }) =>
          tool === 'send'
            ? {
                verdict: 'deny',
                code: 'tool.permission_denied',
                rule: 'role/reader',
                reason: 'reads only',
                remediation: 'Grant it.',
              }
            : { verdict: 'allow', rule: 'default' },
        call: () => {
          throw new Failure('tool.failed', 'calling look')
        },
      },
    )
    expect(codeOf(await w.run(w.agentStep('writer')))).toBe('succeeded')
    expect(w.requests[1]?.request.messages.filter(({ role }) => role === 'tool')).toMatchObject([
      { output: { error: { code: 'tool.permission_denied', reason: 'reads only (role/reader)', retryable: false } } },
      { output: { error: { code: 'tool.failed' } } },
    ])
  })

  test('an answer that a denial by policy or routing would give stays a result', async () => {
    for (const code of ['policy.denied', 'policy.routing_blocked'] as const) {
      const w = world(
        [use({ tool: 'send' }), { text: 'ok' }],
        {},
        {
          rule: () => ({ verdict: 'deny', code, rule: 'policy/p', reason: 'no', remediation: 'ask' }),
        },
      )
      expect(codeOf(await w.run(w.agentStep('writer')))).toBe('succeeded')
      expect(JSON.stringify(w.requests[1]?.request.messages)).toContain(code)
    }
  })

  test('the same call twice is made, replayed or refused, as the agent says', async () => {
    const script = [
      use({ tool: 'look', input: { a: 1 } }),
      use({ tool: 'look', input: { a: 1 }, id: 'call_2' }),
      { text: 'done' },
    ]
    const made = async (duplicateCalls: string) => {
      const w = world(script, { execution: { duplicateCalls } })
      await w.run(w.agentStep('writer'))
      return { calls: w.toolCalls.length, told: w.requests[2]?.request.messages.at(-1) }
    }
    expect(await made('allow')).toMatchObject({ calls: 2 })
    expect(await made('replay')).toMatchObject({ calls: 1, told: { output: 'look done' } })
    expect(await made('deny')).toMatchObject({ calls: 1, told: { output: { error: { code: 'tool.duplicate_call' } } } })
    const twice = world([use({ tool: 'look' }, { tool: 'look', id: 'call_b2' }), { text: 'x' }], {
      execution: { duplicateCalls: 'replay' },
    })
    await twice.run(twice.agentStep('writer'))
    expect(twice.toolCalls).toHaveLength(1)
    expect(twice.requests[1]?.request.messages.slice(-2)).toMatchObject([
      { output: 'look done' },
      { output: 'look done' },
    ])
  })

  test('large outputs are cut, and it is told so', async () => {
    const w = world(
      [use({ tool: 'look' }), { text: 'done' }],
      { limits: { toolOutputBytes: 256 } },
      {
        call: () => ({ ok: true, output: 'é'.repeat(1_000) }),
      },
    )
    await w.run(w.agentStep('writer'))
    expect(w.requests[1]?.request.messages.at(-1)).toMatchObject({
      output: `${'é'.repeat(128)}\n[1744 more bytes of this output were cut off]`,
    })
  })
})

describe('the answer', () => {
  const schema = { type: 'object', required: ['n'], properties: { n: { type: 'integer' } } }

  test('fits its schema, also in a fence; it is asked for with the schema', async () => {
    for (const text of ['{"n":1}', '```json\n{"n":1}\n```', ' \n```\n{"n":1}\n```\n']) {
      const w = world([{ text }], { outputSchema: schema })
      expect(await w.run(w.agentStep('writer'))).toEqual({ kind: 'succeeded', output: { n: 1 } })
      expect(w.requests[0]?.request.output).toEqual({ schema })
    }
  })

  test('is put right in turns of repair, with the raw text in the conversation', async () => {
    const w = world([{ text: '' }, { text: 'about 1' }, { text: '{"n":1}' }], { outputSchema: schema })
    expect(codeOf(await w.run(w.agentStep('writer')))).toBe('succeeded')
    expect(w.requests[2]?.request.messages.slice(-2)).toMatchObject([
      { role: 'assistant', text: 'about 1' },
      { role: 'user', text: expect.stringContaining('not JSON') },
    ])
    const purposes = w.journal.flatMap(({ entry }) => (entry.kind === 'model_asked' ? [entry.purpose] : []))
    expect(purposes).toEqual(['turn', 'repair', 'repair'])
  })

  test.for([
    ['', 'output.empty'],
    ['about 1', 'output.not_json'],
    ['{"n":"1"}', 'output.schema_violation'],
  ])('%j that stays so fails with %s, raw text kept', async ([text = '', code]) => {
    const w = world([{ text }], { outputSchema: schema, repairs: 2 })
    const end = await w.run(w.agentStep('writer'))
    expect(codeOf(end)).toBe(code)
    expect(evidenceOf(end)).toMatchObject({ output: text, repairs: 2 })
    expect(end.kind === 'failed' && end.failure.remediation).toContain('raise repairs')
    expect(w.requests).toHaveLength(3)
  })

  test('that refers to itself in its schema without end is a failure, not a crash', async () => {
    const w = world([{ text: '{"a":1}' }], { outputSchema: { $ref: '#' }, repairs: 0 })
    expect(codeOf(await w.run(w.agentStep('writer')))).toBe('output.schema_violation')
  })

  test('is looked at by a judge, and given anew while the judge says no', async () => {
    const judge: string[] = []
    const w = world(
      [],
      { check: { criteria: 'It rhymes.', model: 'judge', retries: 1 } },
      {
        endpoints: { judge: {} },
        model: (request, { endpoint }) => {
          if (endpoint !== 'judge') return { text: request.messages.length > 2 ? 'better' : 'first' }
          judge.push(JSON.stringify(request.messages))
          return { text: JSON.stringify({ ok: judge.length > 1, reason: 'no rhyme' }) }
        },
      },
    )
    expect(await w.run(w.agentStep('writer'))).toEqual({ kind: 'succeeded', output: { text: 'better' } })
    expect(judge[0]).toContain('It rhymes.')
    expect(w.requests.find(({ request }) => request.messages.length > 3)?.request.messages.at(-1)).toMatchObject({
      role: 'user',
      text: expect.stringContaining('no rhyme'),
    })
    const never = world(
      [],
      { check: { criteria: 'It rhymes.', retries: 1 } },
      {
        model: (request) => ({ text: request.output ? '{"ok":false,"reason":"never"}' : 'text' }),
      },
    )
    const end = await never.run(never.agentStep('writer'))
    expect(codeOf(end)).toBe('output.check_failed')
    expect(evidenceOf(end)).toMatchObject({ reason: 'never', answers: 2, output: 'text' })
  })

  test('counts as not accepted when the judge says nothing usable, or UNHEALTHY', async () => {
    for (const text of ['', 'VALID', '{"ok":"yes"}', '[true]']) {
      const w = world(
        [],
        { check: { criteria: 'x' } },
        { model: (request) => ({ text: request.output ? text : 'answer' }) },
      )
      expect(codeOf(await w.run(w.agentStep('writer')))).toBe('output.check_failed')
      expect(w.requests).toHaveLength(3)
    }
  })

  test('holds its contract, or fails with what is missing', async () => {
    const contract = { profile: 'contract', mustSucceed: ['send'], outputMarkers: ['REPORT'] }
    const good = world([use({ tool: 'send' }), { text: 'REPORT: done' }], { execution: contract })
    expect(codeOf(await good.run(good.agentStep('writer')))).toBe('succeeded')
    const bad = world([{ text: 'done' }], { execution: contract })
    const end = await bad.run(bad.agentStep('writer'))
    expect(codeOf(end)).toBe('agent.contract_violated')
    expect(evidenceOf(end)).toMatchObject({ missingTools: ['send'], missingMarkers: ['REPORT'], output: 'done' })
    const observed = world([{ text: 'done' }], { execution: { ...contract, onViolation: 'observe' } })
    expect(codeOf(await observed.run(observed.agentStep('writer')))).toBe('succeeded')
    expect(observed.shown.filter(({ type }) => type === 'note')).toHaveLength(2)
  })

  test('is the output of the first tool that succeeds, with stopAfterTool', async () => {
    let n = 0
    const w = world(
      [use({ tool: 'look', id: 'call_a1' }), use({ tool: 'look', id: 'call_a2' })],
      { execution: { stopAfterTool: true } },
      {
        call: () =>
          n++ === 0
            ? { ok: false, code: 'tool.failed', reason: 'no', retryable: false }
            : { ok: true, output: { a: 1 } },
      },
    )
    expect(await w.run(w.agentStep('writer'))).toEqual({ kind: 'succeeded', output: { text: '{"a":1}' } })
    const typed = world(
      [use({ tool: 'look' })],
      { execution: { stopAfterTool: true }, outputSchema: schema },
      {
        call: () => ({ ok: true, output: { n: 2 } }),
      },
    )
    expect(await typed.run(typed.agentStep('writer'))).toEqual({ kind: 'succeeded', output: { n: 2 } })
  })

  test('that is larger than an output may be is a failure', async () => {
    const w = world([{ text: 'x'.repeat(1024 * 1024 + 1) }])
    expect(codeOf(await w.run(w.agentStep('writer')))).toBe('output.too_large')
  })
})

describe('a long conversation', () => {
  test('loses its oldest turns, never a call without its result, and it is told in the journal', async () => {
    const w = world(
      [],
      { context: { maxTokens: 300, keepTurns: 2 }, limits: { maxTurns: 50 } },
      {
        model: (_, { nth }) => (nth < 8 ? use({ tool: 'look', input: { nth }, id: `call_n${nth}` }) : { text: 'done' }),
        call: () => ({ ok: true, output: 'o'.repeat(200) }),
      },
    )
    expect(codeOf(await w.run(w.agentStep('writer')))).toBe('succeeded')
    const last = w.requests.at(-1)?.request.messages ?? []
    const asked = last.flatMap((m) => (m.role === 'assistant' ? (m.toolCalls ?? []).map(({ id }) => id) : []))
    expect(last.flatMap((m) => (m.role === 'tool' ? [m.callId] : []))).toEqual(asked)
    expect(asked.at(-1)).toBe('call_n7')
    expect(asked.length).toBeLessThan(5)
    expect(asked.length).toBeGreaterThanOrEqual(2)
    expect(last[0]).toMatchObject({ role: 'system', text: expect.stringContaining('left out') })
    expect(last[1]).toEqual({ role: 'user', text: 'go' })
    const told = w.journal.flatMap(({ entry }) => (entry.kind === 'model_answered' ? entry.result.warnings : []))
    expect(told.at(-1)).toMatch(/^the \d oldest of 8 turns were left out of the request$/)
  })

  test('keeps its newest turns, however long they are', async () => {
    const w = world(
      [],
      { context: { maxTokens: 256, keepTurns: 3 } },
      {
        model: (_, { nth }) => (nth < 4 ? use({ tool: 'look', input: { nth }, id: `call_n${nth}` }) : { text: 'done' }),
        call: () => ({ ok: true, output: 'o'.repeat(4_000) }),
      },
    )
    await w.run(w.agentStep('writer'))
    expect(w.requests.at(-1)?.request.messages.filter(({ role }) => role === 'tool')).toHaveLength(3)
  })
})

test('what is asked for is the prompt, or JSON', async () => {
  const prompts = []
  for (const input of ['hello', { prompt: 'hello' }, { prompt: 'hello', n: 1 }, [1]]) {
    const w = world([{ text: 'x' }])
    await w.run(w.agentStep('writer', input))
    prompts.push(w.requests[0]?.request.messages[1])
  }
  expect(prompts.map((message) => (message && 'text' in message ? message.text : ''))).toEqual([
    'hello',
    'hello',
    '{\n  "prompt": "hello",\n  "n": 1\n}',
    '[\n  1\n]',
  ])
})
