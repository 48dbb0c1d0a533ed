import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { z } from 'zod'
import { AppendSchema } from './agent-schemas.ts'
import { isAppendRequest } from './hot-append.ts'
import { isCreateRunRequest, isHeartbeatRequest, isPollRequest, isReportRequest } from './hot-messages.ts'
import { CreateRunSchema, HeartbeatSchema, PollSchema, ReportSchema } from './schemas.ts'

const word = fc.oneof(fc.string(), fc.constantFrom('', 'a', 'run_1.0', '__proto__', 'x'.repeat(300), 'é', 'a b'))
const number = fc.oneof(fc.integer(), fc.double(), fc.constantFrom(0, 1, -1, 2 ** 31, 10_001, 1.5, 1e13))
const labels = fc.oneof(fc.dictionary(word, word), fc.dictionary(fc.constantFrom('a', 'b.c', '-x'), word))
const held = fc.array(fc.record({ step: word, fence: number }), { maxLength: 3 })
const record: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  record: fc.record(
    {
      code: fc.constantFrom('step.signaled', 'run.failed', 'no.such'),
      message: fc.string(),
      remediation: fc.string(),
      retryable: fc.boolean(),
      evidence: fc.oneof(fc.dictionary(word, fc.jsonValue()), fc.constant(1)),
      cause: fc.oneof({ depthSize: 'small' }, fc.record({ message: fc.string() }), tie('record')),
    },
    { requiredKeys: ['code', 'message', 'remediation', 'retryable'] },
  ),
})).record
const segment = fc.record({
  index: number,
  stream: fc.constantFrom('stdout', 'stderr', 'system', 'other'),
  agoMs: number,
  text: word,
})
const ago = fc.oneof(fc.constant(null), number)
const common = { step: word, fence: number, seq: number, startedAgoMs: ago, endedAgoMs: ago }
const names = fc.oneof(fc.array(word, { maxLength: 3 }), fc.constant(['a', 'b']))
const object = fc.oneof(fc.object(), fc.constant(1))
const parkedOn = fc.oneof(
  fc.record({ type: fc.constant('approvals'), approvals: names }),
  fc.record({ type: fc.constant('outcome'), call: word, tool: word, input: object }),
  fc.record({
    type: fc.constant('child'),
    calls: fc.array(
      fc.record({ call: word, of: fc.constantFrom('agent', 'workflow', 'x'), name: word, inputs: object }),
      { maxLength: 3 },
    ),
  }),
  fc.record({ type: fc.constant('budget'), budgets: names, retryAfterMs: ago, failure: record }),
  fc.constant(null),
)
const report = fc.oneof(
  fc.record({ ...common, kind: fc.constant('parked'), on: parkedOn }),
  fc.record({ ...common, kind: fc.constantFrom('started', 'canceled', 'returned', 'unknown') }),
  fc.record({ ...common, kind: fc.constant('succeeded'), output: fc.jsonValue() }),
  fc.record({ ...common, kind: fc.constant('failed'), failure: record }),
  fc.record({ ...common, kind: fc.constant('log'), segments: fc.array(segment, { maxLength: 3 }) }),
)
const whole = fc.oneof(fc.nat(), number)
const usage = fc.record({
  ...{
    inputTokens: whole,
    outputTokens: whole,
    cachedInputTokens: whole,
    cacheWriteTokens: whole,
    reasoningTokens: whole,
  },
  isEstimated: fc.boolean(),
})
const result = fc.record({
  ...{ endpoint: word, model: word, text: word, usage, totalMs: whole },
  provider: fc.constantFrom('openai', 'mock', 'nobody'),
  toolCalls: fc.array(
    fc.record({ id: word, name: word, input: fc.oneof(fc.constant(null), fc.object()), text: word }),
    { maxLength: 2 },
  ),
  finish: fc.constantFrom('stop', 'tool-calls', 'sudden'),
  cost: fc.oneof(fc.constant(null), fc.record({ currency: word, amount: number })),
  warnings: fc.array(word, { maxLength: 2 }),
  tried: fc.array(
    fc.record({ endpoint: word, tries: whole, code: fc.constantFrom('model.timeout', 'x'), message: word }),
    {
      maxLength: 1,
    },
  ),
})
const toolResult = fc.oneof(
  fc.record({ ok: fc.constant(true), output: fc.jsonValue() }),
  fc.record(
    {
      ...{ ok: fc.boolean(), reason: word, retryable: fc.boolean() },
      ...{ code: fc.constantFrom('tool.failed', 'no'), evidence: object },
    },
    { requiredKeys: ['ok', 'code', 'reason', 'retryable'] },
  ),
)
const entry = fc.oneof(
  fc.record({
    ...{ kind: fc.constant('model_asked'), call: word, turn: whole, agent: word, endpoint: word },
    purpose: fc.constantFrom('turn', 'judge', 'joke'),
    tokens: fc.record({ input: whole, output: whole }),
  }),
  fc.record({ kind: fc.constant('model_answered'), call: word, result }),
  fc.record({ kind: fc.constant('model_failed'), call: word, failure: record }),
  fc.record({
    ...{ kind: fc.constant('tool_asked'), call: word, turn: whole, agent: word, tool: word, input: object },
    operation: fc.constantFrom('read', 'admin', 'burn'),
    repeatable: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('tool_answered'), call: word, result: toolResult, ms: number, cut: whole }),
  fc.record({ kind: fc.constantFrom('handed_over', 'verdict'), turn: whole, from: word, to: word }),
)
const members = {
  append: fc.record({
    session: word,
    step: word,
    fence: number,
    n: number,
    entries: fc.array(entry, { maxLength: 3 }),
  }),
  createRun: fc.record(
    { definition: word, workflow: fc.object(), manifest: word, inputs: fc.object(), labels },
    { requiredKeys: [] },
  ),
  poll: fc.record({ session: word, free: number, held, draining: fc.boolean() }),
  heartbeat: fc.record({ session: word, clock: number }),
  report: fc.record({
    session: word,
    free: number,
    draining: fc.boolean(),
    reports: fc.array(report, { maxLength: 3 }),
  }),
}
const timedOut = { code: 'model.timeout', message: 'm', remediation: 'r', retryable: true }
const good = {
  append: {
    ...{ session: 'ses_1', step: 'run_1.0', fence: 1, n: 1 },
    entries: [
      {
        ...{ kind: 'model_answered', call: 't1' },
        result: {
          ...{ endpoint: 'gpt', provider: 'mock', model: 'm', text: 'hi', finish: 'tool-calls', totalMs: 1.5 },
          toolCalls: [{ id: 'c1', name: 'look', input: { a: 1 }, text: '{}' }],
          usage: {
            ...{ inputTokens: 1, outputTokens: 2, cachedInputTokens: 0, cacheWriteTokens: 0, reasoningTokens: 0 },
            isEstimated: false,
          },
          cost: { currency: 'EUR', amount: 0.1 },
          warnings: ['w'],
          tried: [{ endpoint: 'other', tries: 2, code: 'model.timeout', message: 'm' }],
        },
      },
      { kind: 'model_failed', call: 't2', failure: timedOut },
      {
        ...{ kind: 'tool_asked', call: 'c1', turn: 1, agent: '', tool: 'look', operation: 'read', input: {} },
        repeatable: false,
      },
      { kind: 'tool_answered', call: 'c1', result: { ok: true, output: null }, ms: 1.5, cut: 0 },
      {
        ...{ kind: 'tool_answered', call: 'c2', ms: 0, cut: 3 },
        result: { ok: false, code: 'tool.failed', reason: 'no', retryable: false, evidence: {} },
      },
      { kind: 'handed_over', turn: 1, from: 'a', to: 'b' },
      {
        ...{ kind: 'model_asked', call: 't3', turn: 2, purpose: 'turn', agent: 'a', endpoint: 'gpt' },
        tokens: { input: 1, output: 0 },
      },
    ],
  },
  createRun: { definition: 'sha256:abc', inputs: { a: 1 }, labels: { team: 'x' } },
  poll: { session: 'ses_1', free: 3, held: [{ step: 'run_1.0', fence: 2 }], draining: false },
  heartbeat: { session: 'ses_1', clock: 12 },
  report: {
    session: 'ses_1',
    free: 1,
    draining: false,
    reports: [
      { step: 'run_1.0', fence: 1, seq: 1, startedAgoMs: 1.5, endedAgoMs: null, kind: 'started' },
      ...[
        { type: 'approvals', approvals: ['apr_1'] },
        { type: 'outcome', call: 'c', tool: 't', input: {} },
        { type: 'child', calls: ['c', 'd'].map((call) => ({ call, of: 'agent', name: 'n', inputs: {} })) },
        {
          type: 'budget',
          budgets: ['default/b'],
          retryAfterMs: null,
          failure: { code: 'step.signaled', message: 'm', remediation: 'r', retryable: false },
        },
      ].map((on) => ({ step: 'run_1.0', fence: 1, seq: 1, startedAgoMs: 1, endedAgoMs: 0, kind: 'parked', on })),
      { step: 'run_1.0', fence: 1, seq: 2, startedAgoMs: 1, endedAgoMs: 0, kind: 'succeeded', output: null },
      {
        step: 'run_1.0',
        fence: 1,
        seq: 3,
        startedAgoMs: 1,
        endedAgoMs: 0,
        kind: 'failed',
        failure: {
          code: 'step.signaled',
          message: 'm',
          remediation: 'r',
          retryable: false,
          cause: { message: 'c' },
          evidence: {},
        },
      },
      {
        step: 'run_1.0',
        fence: 1,
        seq: 4,
        startedAgoMs: 1,
        endedAgoMs: null,
        kind: 'log',
        segments: [{ index: 1, stream: 'stdout', agoMs: 0, text: 'x' }],
      },
    ],
  },
}

/** Values near good ones: one place deep inside is replaced, removed or added. */
function mutated(value: unknown): fc.Arbitrary<unknown> {
  return fc
    .tuple(fc.nat(), fc.constantFrom('replace', 'remove', 'add'), fc.oneof(fc.jsonValue(), word, number))
    .map(([pick, how, other]) => {
      const copy = structuredClone(value)
      const places: [Record<string, unknown>, string][] = []
      const walk = (v: unknown): void => {
        if (typeof v !== 'object' || v === null) return
        for (const key of Object.keys(v)) {
          places.push([v as Record<string, unknown>, key])
          walk((v as Record<string, unknown>)[key])
        }
      }
      walk(copy)
      const [holder, key] = places[pick % places.length] ?? [{}, '']
      if (how === 'replace') holder[key] = other
      else if (how === 'add') holder['extra'] = other
      else if (Array.isArray(holder)) holder.splice(Number(key), 1)
      else delete holder[key]
      return copy
    })
}

describe('the hand-written checks accept what the schemas accept', () => {
  const cases: [keyof typeof members, (v: unknown) => boolean, z.ZodType][] = [
    ['append', isAppendRequest, AppendSchema],
    ['createRun', isCreateRunRequest, CreateRunSchema],
    ['poll', isPollRequest, PollSchema],
    ['heartbeat', isHeartbeatRequest, HeartbeatSchema],
    ['report', isReportRequest, ReportSchema],
  ]
  test.each(cases)('%s', (name, check, schema) => {
    expect(check(good[name])).toBe(true)
    expect(schema.safeParse(good[name]).success).toBe(true)
    const values = fc.oneof(members[name], mutated(good[name]), fc.jsonValue())
    fc.assert(
      fc.property(values, (value) => {
        // As it arrives: through JSON, which also makes `__proto__` a member like any other.
        const received: unknown = JSON.parse(JSON.stringify(value))
        return check(received) === schema.safeParse(received).success
      }),
      { numRuns: 2000 },
    )
  })
})
