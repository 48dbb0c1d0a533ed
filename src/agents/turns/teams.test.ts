import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { type Says, toolSpec, World, type WorldSpec } from '../testing/memory-host.ts'
import type { TurnsEnd } from './agent-host.ts'
import type { TurnsStep } from './run-turns.ts'
import { entryOf } from './tool-table.ts'

const codeOf = (end: TurnsEnd): string => (end.kind === 'failed' ? end.failure.code : end.kind)
const use = (...calls: NonNullable<Says['calls']>): Says => ({ calls })

describe('a handoff', () => {
  const agents: Record<string, JsonObject> = {
    triage: { handoffs: ['billing', 'tech'], limits: { maxTurns: 4 } },
    billing: { handoffs: ['triage'], tools: ['look'], description: 'Knows invoices.' },
    tech: { handoffs: ['triage'] },
  }

  test('lets another agent go on with the conversation, with its own instructions and tools', async () => {
    const w = new World({
      agents,
      tools: { look: {} },
      model: (_, { nth }) =>
        [use({ tool: 'hand_over_to_billing', input: { reason: 'invoice' } }), use({ tool: 'look' }), { text: 'paid' }][
          nth
        ] ?? {},
    })
    expect(await w.run(w.agentStep('triage'))).toEqual({ kind: 'succeeded', output: { text: 'paid' } })
    expect(w.requests[0]?.request.tools?.map(({ name, description }) => [name, description])).toEqual([
      [
        'hand_over_to_billing',
        'Hands the conversation over to the agent billing, who goes on with it instead. Knows invoices.',
      ],
      ['hand_over_to_tech', 'Hands the conversation over to the agent tech, who goes on with it instead.'],
    ])
    const second = w.requests[1]?.request
    expect(second?.messages[0]).toEqual({ role: 'system', text: 'You are billing.' })
    expect(second?.messages.at(-1)).toMatchObject({
      role: 'tool',
      output: 'The conversation goes on with the agent billing.',
    })
    expect(second?.tools?.map(({ name }) => name)).toEqual(['look', 'hand_over_to_triage'])
    expect(w.journal.find(({ entry }) => entry.kind === 'handed_over')?.entry).toEqual({
      kind: 'handed_over',
      turn: 1,
      from: 'triage',
      to: 'billing',
    })
    expect(w.toolCalls[0]?.agent).toBe('billing')
  })

  test('to two at once goes to the first, and the other call is told so', async () => {
    const both = use({ tool: 'hand_over_to_tech', id: 'call_t1' }, { tool: 'hand_over_to_billing', id: 'call_b1' })
    const w = new World({ agents, tools: { look: {} }, model: (_, { nth }) => (nth === 0 ? both : { text: 'ok' }) })
    await w.run(w.agentStep('triage'))
    expect(w.requests[1]?.request.messages[0]).toMatchObject({ text: 'You are tech.' })
    expect(w.requests[1]?.request.messages.at(-1)).toMatchObject({ callId: 'call_b1', isError: true })
  })

  test('is asked about as every call is: one that the rules deny is told to the model, and the agent goes on', async () => {
    const w = new World({
      agents,
      tools: { look: {} },
      model: (_, { nth }) => (nth === 0 ? use({ tool: 'hand_over_to_tech' }) : { text: 'then I do it' }),
      rule: ({ tool }) => ({
        verdict: 'deny',
        code: 'policy.routing_blocked',
        rule: 'policy/p',
        reason: `not by ${tool}`,
        remediation: 'ask',
      }),
    })
    expect(await w.run(w.agentStep('triage'))).toEqual({ kind: 'succeeded', output: { text: 'then I do it' } })
    expect(w.journal.some(({ entry }) => entry.kind === 'handed_over')).toBe(false)
    expect(w.requests[1]?.request.messages[0]).toMatchObject({ text: 'You are triage.' })
    expect(JSON.stringify(w.requests[1]?.request.messages.at(-1))).toContain('not by hand_over_to_tech (policy/p)')
  })

  test('that a person has to decide about waits for it, and is made then', async () => {
    const w = new World({
      agents,
      tools: { look: {} },
      model: (_, { nth }) => (nth === 0 ? use({ tool: 'hand_over_to_tech' }) : { text: 'done' }),
      rule: () => ({ verdict: 'approval', rule: 'role/careful', approvers: null, expiresMs: null }),
    })
    expect(await w.run(w.agentStep('triage'))).toMatchObject({ kind: 'parked', on: { type: 'approvals' } })
  })

  test('in a circle ends at the turns of the agent that the step names', async () => {
    const w = new World({
      agents,
      tools: { look: {} },
      model: ({ messages }) =>
        use({
          tool:
            messages[0]?.role === 'system' && messages[0].text.includes('triage')
              ? 'hand_over_to_tech'
              : 'hand_over_to_triage',
        }),
    })
    expect(codeOf(await w.run(w.agentStep('triage')))).toBe('agent.turn_limit')
    expect(w.requests).toHaveLength(4)
  })

  test('to an agent without tools declares the former ones, which some providers want, and lets none be called', async () => {
    const w = new World({
      agents: { a: { tools: ['look'], handoffs: ['b'] }, b: {} },
      tools: { look: {} },
      model: (_, { nth }) =>
        nth === 0 ? use({ tool: 'look' }, { tool: 'hand_over_to_b', id: 'call_h1' }) : { text: 'x' },
    })
    await w.run(w.agentStep('a'))
    expect(w.requests[1]?.request).toMatchObject({
      toolChoice: 'none',
      tools: [{ name: 'look' }, { name: 'hand_over_to_b' }],
    })
  })
})

describe('work for others', () => {
  const spec: WorldSpec = {
    agents: { boss: { delegates: ['helper'], tools: ['expert', 'report'] }, helper: { description: 'Counts.' } },
    tools: {
      expert: { type: 'agent', agent: 'helper' },
      report: { type: 'workflow', workflow: 'reports@2', inputSchema: { type: 'object', required: ['of'] } },
    },
    model: ({ messages }) =>
      messages.length > 2
        ? { text: 'done' }
        : use(
            { tool: 'ask_helper', input: { prompt: 'count' }, id: 'call_a1' },
            { tool: 'expert', input: { prompt: 'look' }, id: 'call_a2' },
            { tool: 'report', input: { of: 'june' }, id: 'call_a3' },
          ),
  }

  test('runs below this run: all of a turn are parked for together, and what they give comes back in the order of the calls', async () => {
    const w = new World(spec)
    const waited: unknown[] = []
    const end = await w.run(w.agentStep('boss'), (on) => {
      waited.push(on)
      if (on.type !== 'child') throw new Error('waits for something else')
      for (const { call } of on.calls) w.tell({ kind: 'child_started', call, run: `run_${call}` })
      for (const { call, name } of on.calls.toReversed())
        w.tell({
          kind: 'child_ended',
          call,
          run: `run_${call}`,
          result:
            call === 'call_a3'
              ? { ok: false, code: 'child.failed', reason: 'the run failed', retryable: false }
              : { ok: true, output: { text: name } },
        })
    })
    expect(codeOf(end)).toBe('succeeded')
    expect(waited).toEqual([
      {
        type: 'child',
        calls: [
          { call: 'call_a1', of: 'agent', name: 'helper', inputs: { prompt: 'count' } },
          { call: 'call_a2', of: 'agent', name: 'helper', inputs: { prompt: 'look' } },
          { call: 'call_a3', of: 'workflow', name: 'reports@2', inputs: { of: 'june' } },
        ],
      },
    ])
    expect(w.requests).toHaveLength(2)
    expect(w.requests[1]?.request.messages.slice(-3)).toMatchObject([
      { output: { text: 'helper' } },
      { output: { text: 'helper' } },
      { isError: true, output: { error: { code: 'child.failed' } } },
    ])
  })

  test('that has begun is waited for again, and not begun twice', async () => {
    const w = new World(spec)
    const first = await w.attempt(w.agentStep('boss'))
    w.tell({ kind: 'child_started', call: 'call_a1', run: 'run_9' })
    expect(await w.attempt(w.agentStep('boss'))).toEqual(first)
  })

  test('asks for a prompt', async () => {
    const w = new World({
      ...spec,
      model: ({ messages }) => (messages.length > 2 ? { text: 'x' } : use({ tool: 'ask_helper', input: {} })),
    })
    expect(codeOf(await w.run(w.agentStep('boss')))).toBe('succeeded')
    expect(w.requests[1]?.request.messages.at(-1)).toMatchObject({ output: { error: { code: 'tool.invalid_input' } } })
  })
})

describe('a route', () => {
  const step = (fallback: string | null): TurnsStep => ({
    timeoutMs: null,
    kind: 'route',
    step: 'run_1.0',
    what: 'step triage of run_1',
    fence: 0,
    model: 'gpt',
    question: 'My invoice is wrong. {"route":"tech"}',
    to: { billing: 'invoices and refunds', tech: 'errors' },
    fallback,
  })
  const world = (text: string | Error): World =>
    new World({
      model: () => {
        if (text instanceof Error) throw text
        return { text }
      },
    })

  test('is one journaled call with the ways as an enum', async () => {
    const w = world('{"route":"billing","reason":"an invoice"}')
    expect(await w.run(step(null))).toEqual({ kind: 'succeeded', output: { route: 'billing', reason: 'an invoice' } })
    expect(w.kinds()).toEqual(['model_asked', 'model_answered'])
    expect(w.requests[0]).toMatchObject({
      key: 'run_1.0@1/route',
      request: {
        messages: [{ role: 'system' }, { role: 'user', text: 'My invoice is wrong. {"route":"tech"}' }],
        output: { schema: { properties: { route: { enum: ['billing', 'tech'] } } } },
      },
    })
  })

  test('goes its fallback when the model names none of the ways, or does not answer; without one it fails', async () => {
    for (const text of ['', 'billing', '{"route":"sales","reason":"x"}', '{"route":"__proto__"}', '[]']) {
      expect(await world(text).run(step('tech'))).toMatchObject({ kind: 'succeeded', output: { route: 'tech' } })
      expect(codeOf(await world(text).run(step(null)))).toBe('route.undecided')
    }
    const { Failure } = await import('../../domain/failure.ts')
    const down = new Failure('model.unavailable', 'asking')
    expect(await world(down).run(step('tech'))).toEqual({
      kind: 'succeeded',
      output: { route: 'tech', reason: 'the model did not answer (model.unavailable)' },
    })
    expect(codeOf(await world(down).run(step(null)))).toBe('model.unavailable')
  })
})

describe('a step that calls a tool', () => {
  const step = (input: JsonObject = { to: 'all' }): TurnsStep => ({
    timeoutMs: null,
    kind: 'tool',
    step: 'run_1.0',
    what: 'step notify of run_1',
    fence: 0,
    entry: entryOf('slack', toolSpec({ operation: 'write', inputSchema: { type: 'object', required: ['to'] } })),
    input,
  })
  const world = (more: Partial<WorldSpec> = {}): World => new World({ model: () => ({}), ...more })

  test('makes one call, asked for and recorded as those of agents are', async () => {
    const w = world({ call: () => ({ ok: true, output: { sent: 2 } }) })
    expect(await w.run(step())).toEqual({ kind: 'succeeded', output: { sent: 2 } })
    expect(w.kinds()).toEqual(['tool_asked', 'verdict', 'tool_answered'])
    expect(w.toolCalls[0]).toMatchObject({
      agent: null,
      envelope: { idempotencyKey: 'run_1.0/call', context: { agent: null } },
    })
  })

  test('makes the same call, with the same key, when it is tried again after a failure', async () => {
    let calls = 0
    const w = world({
      call: () =>
        calls++ === 0
          ? { ok: false, code: 'tool.timeout', reason: 'late', retryable: false }
          : { ok: true, output: { sent: 2 } },
    })
    expect(codeOf(await w.run(step()))).toBe('tool.timeout')
    // What a failed try wrote counts no more.
    w.journal.length = 0
    expect((await w.run(step())).kind).toBe('succeeded')
    expect(w.toolCalls.map(({ envelope }) => envelope.idempotencyKey)).toEqual(['run_1.0/call', 'run_1.0/call'])
  })

  test('fails with what the tool, the rules or a person say', async () => {
    const failing = world({ call: () => ({ ok: false, code: 'tool.failed', reason: 'down', retryable: true }) })
    expect(await failing.run(step())).toMatchObject({
      kind: 'failed',
      failure: { code: 'tool.failed', retryable: true, evidence: { tool: 'slack', reason: 'down' } },
    })
    const denied = world({
      rule: () => ({ verdict: 'deny', code: 'policy.denied', rule: 'policy/p', reason: 'no', remediation: 'ask' }),
    })
    expect(await denied.run(step())).toMatchObject({
      failure: { code: 'policy.denied', evidence: { rule: 'policy/p' } },
    })
    expect(denied.toolCalls).toEqual([])
    const asked = world({ rule: () => ({ verdict: 'approval', rule: 'r', approvers: null, expiresMs: null }) })
    expect(await asked.attempt(step())).toEqual({ kind: 'parked', on: { type: 'approvals', approvals: ['apr_call'] } })
    asked.decide('apr_call', 'approved', { to: 'ann' })
    expect(codeOf(await asked.attempt(step()))).toBe('succeeded')
    expect(asked.toolCalls[0]?.envelope.input).toEqual({ to: 'ann' })
    const wrong = world()
    expect(codeOf(await wrong.run(step({})))).toBe('tool.invalid_input')
    expect(wrong.journal).toEqual([])
    const large = world({ call: () => ({ ok: true, output: 'x'.repeat(2_000_000) }) })
    expect(codeOf(await large.run(step()))).toBe('output.too_large')
  })

  test('whose result was lost waits for a person', async () => {
    const w = world()
    for (w.killAt = 0; w.toolCalls.length === 0; w.killAt++) {
      w.boundaries = 0
      w.journal.length = 0
      await w.attempt(step()).catch(() => null)
    }
    w.killAt = null
    expect(await w.attempt(step())).toMatchObject({
      kind: 'parked',
      on: { type: 'outcome', call: 'call', tool: 'slack' },
    })
  })
})
