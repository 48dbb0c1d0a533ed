import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { HandClock, type Json, seededRandom, silentLog } from '../base/index.ts'
import { createDeadlines } from '../base/deadlines.ts'
import type { Assignment } from '../contract/exchange.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { defineFunction, type FunctionContext } from '../sdk/index.ts'
import { newAttempt, type Outcome, type TimedSegment } from './attempt.ts'
import { AttemptAsker } from './attempt-asker.ts'
import { FileFetching } from './fetch-files.ts'
import { startFunction } from './function-attempt.ts'
import { Link } from './link.ts'
import { functionStep, ScriptedServer } from './scripted-server.ts'
import { FileShipping } from './ship-files.ts'

interface Ended {
  outcome: Outcome
  segments: TimedSegment[]
}

function run(exported: unknown, more: Partial<Assignment> & { input?: Json } = {}, name = 'm.f'): Promise<Ended> {
  const attempt = newAttempt({ ...functionStep('load', name, more), fence: 1 })
  const segments: TimedSegment[] = []
  const clock = new HandClock(0)
  const asker = new AttemptAsker({
    deadlines: createDeadlines(clock),
    link: new Link({ clock, random: seededRandom(1), log: silentLog }),
    session: () => 'ses_1',
    signal: new AbortController().signal,
  })
  const lane = new ScriptedServer()
  return new Promise((resolve) => {
    startFunction(attempt, {
      modules: { m: { f: exported, other: () => 1, notFunction: 3 } },
      clock,
      files: new FileShipping(lane, asker),
      fetching: new FileFetching(lane, asker),
      onEnd: (_, outcome) => resolve({ outcome, segments }),
      makeReport: (of, body, bytes) => {
        if (body.kind === 'log') segments.push(...body.segments)
        const times = { startedAt: 0, endedAt: null, madeAt: 0 }
        return { attempt: of, seq: 1, body, bytes, sent: true, onDisk: false, ...times }
      },
    })
  })
}

async function outcomeOf(exported: unknown, more: Partial<Assignment> & { input?: Json } = {}, name?: string) {
  return (await run(exported, more, name)).outcome
}

describe('what a function gives', () => {
  test.each([
    [undefined, null],
    [null, null],
    [{ a: [1, 'x', true, null] }, { a: [1, 'x', true, null] }],
    [{ at: new Date(0), left: undefined }, { at: '1970-01-01T00:00:00.000Z' }],
  ])('%j becomes %j', async (value, output) => {
    expect(await outcomeOf(() => value)).toMatchObject({ kind: 'succeeded', output })
    expect(await outcomeOf(async () => value)).toMatchObject({ kind: 'succeeded', output })
  })

  const loop: { self?: unknown } = {}
  loop.self = loop
  test.each([
    [10n, 'output'],
    [{ list: [1, Number.NaN] }, 'output.list[1]'],
    [{ f: () => 1 }, 'output.f'],
    [{ m: new Map() }, 'output.m'],
    [[undefined], 'output[0]'],
    [new Error('no'), 'output'],
  ])('%o is not JSON', async (value, path) => {
    const failure = { code: 'output.not_json', evidence: { path } }
    expect(await outcomeOf(() => value)).toMatchObject({ kind: 'failed', failure })
  })

  test('a value that holds itself is not JSON', async () => {
    expect(await outcomeOf(() => loop)).toMatchObject({ kind: 'failed', failure: { code: 'output.not_json' } })
  })

  test('an output may be as large as the limit and not larger', async () => {
    expect(await outcomeOf(() => 'x'.repeat(LIMITS.outputBytes - 2))).toMatchObject({ kind: 'succeeded' })
    expect(await outcomeOf(() => 'x'.repeat(LIMITS.outputBytes))).toMatchObject({
      kind: 'failed',
      failure: { code: 'output.too_large', evidence: { limit: LIMITS.outputBytes } },
    })
  })

  test('later changes of the returned object do not reach the report', async () => {
    const shared = { n: 1 }
    const outcome = await outcomeOf(() => shared)
    shared.n = 2
    expect(outcome).toMatchObject({ output: { n: 1 } })
  })
})

describe('what a function throws', () => {
  test('an error is named with its stack', async () => {
    const outcome = await outcomeOf(() => {
      throw new TypeError('no such thing')
    })
    expect(outcome).toMatchObject({
      kind: 'failed',
      failure: {
        code: 'step.function_threw',
        cause: { message: 'no such thing' },
        evidence: {
          name: 'TypeError',
          message: 'no such thing',
          stack: expect.stringContaining('function-attempt.test'),
        },
      },
    })
  })

  test('what is no error is shown all the same, and bounded', async () => {
    const outcome = await outcomeOf(() => Promise.reject('x'.repeat(100_000) as unknown as Error)) // what authors do
    expect(outcome).toMatchObject({ failure: { code: 'step.function_threw', evidence: { name: 'string' } } })
    expect(JSON.stringify(outcome).length).toBeLessThan(LIMITS.evidenceBytes)
  })

  test('a failure keeps a code that blames author or caller, and no other', async () => {
    const fail = (code: ConstructorParameters<typeof Failure>[0]) => () => Promise.reject(new Failure(code, 'looking'))
    expect(await outcomeOf(fail('output.too_large'))).toMatchObject({ failure: { code: 'output.too_large' } })
    expect(await outcomeOf(fail('input.invalid'))).toMatchObject({ failure: { code: 'input.invalid' } })
    expect(await outcomeOf(fail('worker.lost'))).toMatchObject({ failure: { code: 'step.function_threw' } })
    expect(await outcomeOf(fail('internal.bug'))).toMatchObject({ failure: { code: 'step.function_threw' } })
  })
})

describe('schemas', () => {
  const double = defineFunction({
    input: z.object({ n: z.number().default(21) }),
    output: z.number().max(100),
    run: ({ n }) => n * 2,
  })

  test('input is checked and filled, output is checked', async () => {
    expect(await outcomeOf(double, { input: {} })).toMatchObject({ kind: 'succeeded', output: 42 })
    expect(await outcomeOf(double, { input: { n: 'x' } })).toMatchObject({
      failure: { code: 'input.invalid', evidence: { problems: [{ path: 'n' }] } },
    })
    expect(await outcomeOf(double, { input: { n: 99 } })).toMatchObject({
      failure: { code: 'output.schema_violation', evidence: { output: 198 } },
    })
  })

  test('the schema of the step holds beside that of the function', async () => {
    const outputSchema = { type: 'object', required: ['id'] }
    expect(await outcomeOf(() => ({ id: 1 }), { outputSchema })).toMatchObject({ kind: 'succeeded' })
    expect(await outcomeOf(() => ({ name: 1 }), { outputSchema })).toMatchObject({
      failure: { code: 'output.schema_violation', evidence: { output: { name: 1 } } },
    })
  })
})

describe('finding a function', () => {
  test.each([
    ['m.othre', 'm.other', 'm.other'],
    ['n.f', 'm', 'm'],
    ['m.notFunction', null, undefined],
    ['m.toString', null, undefined],
    ['constructor.f', null, undefined],
  ])('%s is not found', async (name, hint, nearest) => {
    const outcome = await outcomeOf(() => 1, {}, name)
    expect(outcome).toMatchObject({
      kind: 'failed',
      failure: { code: 'function.not_found', evidence: { function: name } },
    })
    if (outcome.kind !== 'failed') throw new Error('unreachable')
    expect(outcome.failure.evidence?.['nearest']).toBe(nearest)
    if (hint) expect(outcome.failure.remediation).toContain(`Did you mean ${hint}?`)
  })
})

describe('the log', () => {
  test('lines come before the end, in one segment', async () => {
    const { segments } = await run((_: unknown, context: FunctionContext) => {
      const { log } = context
      log('one')
      log('two')
    })
    expect(segments).toMatchObject([{ index: 1, stream: 'stdout', text: 'one\ntwo\n' }])
  })

  test('more than can be sent is dropped and counted', async () => {
    const line = 'x'.repeat(10_000)
    const { segments } = await run((_: unknown, { log }: FunctionContext) => {
      for (let i = 0; i < 1_000; i++) log(line)
    })
    const bytes = segments.reduce((sum, segment) => sum + segment.text.length, 0)
    expect(bytes).toBeLessThan(LIMITS.logBufferBytes * 2)
    expect(segments.at(-1)?.stream).toBe('system')
    expect(segments.at(-1)?.text).toMatch(/^\[\d+ bytes of log were dropped/)
    expect(segments.map((segment) => segment.index)).toEqual(segments.map((_, i) => i + 1))
  })
})

describe('secrets of a function', () => {
  const secret = 'hunter2/correct+horse'
  const secrets = { gh: secret }
  const base64 = Buffer.from(secret).toString('base64')
  const leaks = (f: (input: unknown, context: FunctionContext) => unknown) => run(f, { secrets })

  test('are given by alias, and show themselves by reveal() alone', async () => {
    const seen: unknown[] = []
    await leaks((_, context) => {
      seen.push(context.secrets['gh']?.reveal(), String(context.secrets['gh']), JSON.stringify(context.secrets))
    })
    expect(seen).toEqual([secret, '[secret]', '{"gh":"[secret]"}'])
    expect(await outcomeOf((_: unknown, context: FunctionContext) => Object.keys(context.secrets))).toMatchObject({
      output: [],
    })
  })

  test('are taken out of the log, also where a line is cut off', async () => {
    const { segments } = await leaks((_, { log }) => {
      log(`it is ${secret} or ${base64}`)
      log('x'.repeat(LIMITS.logSegmentBytes - 110) + secret)
    })
    const text = segments.map((segment) => segment.text).join('')
    expect(text).toContain('it is [secret] or [secret]\n')
    expect(text).not.toMatch(/hunter/)
  })

  test('are taken out of the output before it is checked and measured', async () => {
    const { outcome } = await leaks(() => ({ [secret]: [secret, { deep: base64 }], whole: encodeURIComponent(secret) }))
    expect(outcome).toMatchObject({
      kind: 'succeeded',
      output: { '[secret]': ['[secret]', { deep: '[secret]' }], whole: '[secret]' },
    })
  })

  test('are taken out of what is thrown, also where its text is cut off', async () => {
    const { outcome } = await leaks(() => {
      throw new Error('x'.repeat(4 * 1024 - 8) + secret)
    })
    expect(JSON.stringify(outcome)).not.toMatch(/hunter/)
  })
})
