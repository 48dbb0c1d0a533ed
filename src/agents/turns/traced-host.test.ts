import { describe, expect, test } from 'vitest'
import { HandClock } from '../../base/clock.ts'
import { deferred } from '../../base/deferred.ts'
import { type Span, traceOfRun, type Tracer } from '../../base/trace.ts'
import type { ToolResult } from '../../domain/agents/tool-envelope.ts'
import { Failure } from '../../domain/failure.ts'
import type { ModelEvent, ModelResult } from '../../domain/model-call.ts'
import type { DataRule } from '../../domain/agents/data-rules.ts'
import type { AgentHost, HostCall, ModelAt } from './agent-host.ts'
import { createDataGuard, type DataGuard } from './data-guard.ts'
import { tracedHost } from './traced-host.ts'

const RUN = 'run_01k8zq3v9mh4d5e6f7g8h9jkmn'
const parent = traceOfRun(RUN)
const result: ModelResult = {
  endpoint: 'gpt',
  provider: 'azure-openai',
  model: 'gpt-5',
  text: 'the answer is a secret',
  toolCalls: [],
  output: null,
  finish: 'stop',
  usage: {
    inputTokens: 100,
    outputTokens: 20,
    cachedInputTokens: 0,
    cacheWriteTokens: 0,
    reasoningTokens: 0,
    isEstimated: false,
  },
  cost: { currency: 'USD', amount: 0.002 },
  warnings: [],
  tried: [],
  firstPartMs: 5,
  totalMs: 40,
}

async function eventsOf(stream: AsyncIterable<ModelEvent>): Promise<ModelEvent[]> {
  const events: ModelEvent[] = []
  for await (const event of stream) events.push(event)
  return events
}

/** A host that takes 40 ms for whatever it is asked. */
function world({
  isOn = true,
  capturesContent = false,
  events = [{ type: 'finished', result }] as (ModelEvent | Failure)[],
  tool = { ok: true, output: { n: 1 } } as ToolResult | Error,
  guard = null as DataGuard | null,
}) {
  const clock = new HandClock(1_000)
  const spans: Span[] = []
  const tracer: Tracer = {
    isOn,
    capturesContent,
    samplesRoot: () => true,
    samplesChild: () => true,
    record: (span) => void spans.push(span),
  }
  const bare = {
    namespace: 'default',
    context: () => Promise.resolve({ version: '1', endpoints: {}, prices: {}, guardOf: () => guard }),
    async *model(_: unknown, { goAhead }: ModelAt) {
      if (!(await goAhead)) return
      clock.advance(40)
      for (const event of events) {
        if (event instanceof Failure) throw event
        yield await Promise.resolve(event)
      }
    },
    callTool() {
      clock.advance(40)
      return tool instanceof Error ? Promise.reject(tool) : Promise.resolve(tool)
    },
  } as unknown as AgentHost // these are what is asked here
  const host = tracedHost(bare, { tracer, clock, parent })
  const signal = new AbortController().signal
  const ask = async () => {
    await host.context()
    const request = { messages: [{ role: 'user' as const, text: 'a private question' }], maxTokens: 50 }
    for await (const _ of host.model(request, {
      agent: 'writer',
      endpoint: 'gpt',
      idempotencyKey: `${RUN}.0/m1`,
      goAhead: Promise.resolve(true),
      signal,
    }))
      void _
  }
  const call = async () => {
    await host.context()
    return host.callTool(
      {
        entry: { source: { by: 'mcp', server: 'box', tool: 'look' } },
        agent: 'writer',
        envelope: {
          tool: 'box.look',
          operation: 'read',
          idempotencyKey: `${RUN}.0/t1`,
          input: { at: 'a private place' },
        },
      } as unknown as HostCall, // and these
      signal,
    )
  }
  return { bare, host, clock, spans, ask, call }
}

describe('spans of an agent', () => {
  test('a call of a model is a client span of its attempt with tokens and cost, and nothing of what was said', async () => {
    const { spans, ask } = world({})
    await ask()
    expect(spans).toMatchObject([
      {
        traceId: parent.traceId,
        parentSpanId: parent.spanId,
        name: 'chat gpt-5',
        kind: 'client',
        startedAt: 1_000,
        endedAt: 1_040,
        failure: null,
        attributes: {
          'gen_ai.operation.name': 'chat',
          'gen_ai.provider.name': 'azure.ai.openai',
          'gen_ai.request.model': 'gpt-5',
          'gen_ai.request.max_tokens': 50,
          'gen_ai.response.finish_reasons': '["stop"]',
          'gen_ai.usage.input_tokens': 100,
          'gen_ai.usage.output_tokens': 20,
          'orrery.cost.amount': 0.002,
          'orrery.cost.currency': 'USD',
          'orrery.endpoint': 'gpt',
        },
      },
    ])
    expect(JSON.stringify(spans)).not.toMatch(/private|secret/)
  })

  test('a call of a tool is a span with its code, reason and whether it may be tried again', async () => {
    const tool: ToolResult = { ok: false, code: 'step.timed_out', reason: 'it did not answer', retryable: true }
    const { spans, call } = world({ tool })
    await call()
    expect(spans).toMatchObject([
      {
        name: 'execute_tool box.look',
        kind: 'internal',
        failure: 'step.timed_out',
        attributes: {
          'gen_ai.operation.name': 'execute_tool',
          'gen_ai.tool.name': 'box.look',
          'gen_ai.tool.type': 'extension',
          'gen_ai.tool.call.id': 't1',
          'gen_ai.agent.name': 'writer',
          'orrery.tool.operation': 'read',
          tool_code: 'step.timed_out',
          tool_reason: 'it did not answer',
          retryable: true,
        },
      },
    ])
    expect(JSON.stringify(spans)).not.toContain('private')
  })

  test('what was said is there when it was asked for', async () => {
    const { spans, ask, call } = world({ capturesContent: true })
    await ask()
    await call()
    expect(spans[0]?.attributes).toMatchObject({
      'gen_ai.input.messages': expect.stringContaining('a private question') as string,
      'gen_ai.output.messages': expect.stringContaining('the answer is a secret') as string,
    })
    expect(spans[1]?.attributes).toMatchObject({
      'gen_ai.tool.call.arguments': '{"at":"a private place"}',
      'gen_ai.tool.call.result': '{"n":1}',
    })
  })

  describe('under data rules', () => {
    const rule = (name: string, pattern: string, action: DataRule['action'], on: DataRule['on']): DataRule => ({
      ...{ rule: 'policy/data', name, find: { pattern, ignoreCase: false }, action, on, salt: 's' },
    })
    const rules = (...list: DataRule[]) => createDataGuard({ rules: list, egress: [] }, 'stp_1')
    const seen = (spans: readonly Span[]): string => JSON.stringify(spans)

    test.for<[action: DataRule['action'], on: DataRule['on'][number]]>([
      ['redact', 'answers'],
      ['block', 'answers'],
      ['pseudonymise', 'prompts'],
      ['redact', 'tools'],
    ])('what a rule that would %s in %s finds is in no span', async ([action, on]) => {
      const guard = rules(rule('code word', 'a (private|secret|1)', action, [on]))
      const lost = { ok: false, code: 'tool.failed', reason: 'no a secret here', retryable: false } as const
      const { spans, ask, call } = world({ capturesContent: true, guard, tool: lost })
      await ask()
      await call()
      const given = world({ capturesContent: true, guard, tool: { ok: true, output: { told: 'a secret' } } })
      await given.call()
      expect(spans[0]?.attributes).toMatchObject({
        'gen_ai.input.messages': expect.stringMatching(/(redacted: code word|CODE_WORD_).* question/),
        'gen_ai.output.messages': expect.stringMatching(/the answer is (\[redacted: code word\]|CODE_WORD_)/),
      })
      expect(spans[1]?.attributes).toMatchObject({ tool_reason: expect.stringMatching(/^no (\[redacted|CODE_WORD_)/) })
      expect(given.spans[0]?.attributes).toHaveProperty(['gen_ai.tool.call.result'])
      expect(seen([...spans, ...given.spans])).not.toMatch(/private|secret/)
    })

    test('that cannot be read nothing is shown', async () => {
      const guard = rules(rule('broken', '(', 'redact', ['answers']))
      const { spans, ask, call } = world({ capturesContent: true, guard })
      await ask()
      await call()
      expect(spans).toHaveLength(2)
      expect(seen(spans)).not.toMatch(/gen_ai\.(input|output)|arguments|private|secret/)
    })
  })

  test('what fails is told by its code and fails as it would without', async () => {
    const model = world({ events: [new Failure('model.unavailable', 'asking gpt')] })
    await expect(model.ask()).rejects.toMatchObject({ code: 'model.unavailable' })
    expect(model.spans).toMatchObject([{ name: 'chat gpt', failure: 'model.unavailable' }])
    const tool = world({ tool: new Error('a bug') })
    await expect(tool.call()).rejects.toThrow('a bug')
    expect(tool.spans).toMatchObject([{ failure: 'internal.bug' }])
  })

  test('a call that is left off before its end has a span as well', async () => {
    const { host, spans } = world({
      events: [
        { type: 'text', text: 'a' },
        { type: 'finished', result },
      ],
    })
    const signal = new AbortController().signal
    const goAhead = Promise.resolve(true)
    const at = { agent: 'writer', endpoint: 'gpt', idempotencyKey: `${RUN}.0/m1`, goAhead, signal }
    for await (const event of host.model({ messages: [] }, at)) if (event.type === 'text') break
    expect(spans).toMatchObject([{ failure: 'canceled' }])
  })

  test('a call begins when it may leave, and one that may not is none', async () => {
    const { host, spans, clock } = world({ events: [{ type: 'finished', result }] })
    const signal = new AbortController().signal
    const ask = async (word: boolean): Promise<ModelEvent[]> => {
      const given = deferred<boolean>()
      const at = { agent: 'writer', endpoint: 'gpt', idempotencyKey: `${RUN}.0/m1`, goAhead: given.promise, signal }
      const events = eventsOf(host.model({ messages: [] }, at))
      clock.advance(5_000)
      given.resolve(word)
      return events
    }
    expect(await ask(false)).toEqual([])
    expect(spans).toEqual([])
    expect(await ask(true)).toHaveLength(1)
    // 40 ms are what the host takes.
    expect(spans).toMatchObject([{ startedAt: 11_000, endedAt: 11_040, failure: null }])
  })

  test('nothing is measured where nobody takes spans, and everything else is the host’s own', () => {
    const off = world({ isOn: false })
    expect(off.host).toBe(off.bare)
    expect(world({}).host.namespace).toBe('default')
  })
})
