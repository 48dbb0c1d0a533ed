import { describe, expect, test } from 'vitest'
import { HandClock, systemClock } from '../../base/clock.ts'
import { createDeadlines } from '../../base/deadlines.ts'
import type { Json, JsonObject } from '../../base/json.ts'
import { seededRandom } from '../../base/random.ts'
import type { ToolCallEnvelope } from '../../domain/agents/tool-envelope.ts'
import type { Failure } from '../../domain/failure.ts'
import { callOf, envOf, toolOf } from '../testing/tool-rig.ts'
import { createToolRunner } from './create-tool-runner.ts'
import type { DriverEnv, TryResult } from './tool-driver.ts'

type Answer = TryResult | ((env: DriverEnv, envelope: ToolCallEnvelope) => Promise<TryResult>)

const failed = (more: Partial<Extract<TryResult, { ok: false }>> = {}): TryResult => ({
  ok: false,
  code: 'tool.failed',
  reason: 'broken',
  retryable: true,
  ...more,
})
const output = (value: Json): TryResult => ({ ok: true, output: value })

/** A clock whose sleepers wake at once, and which tells for how long they would have slept. */
class QuickClock extends HandClock {
  readonly slept: number[] = []
  override sleep(ms: number): Promise<void> {
    this.slept.push(ms)
    return Promise.resolve()
  }
}

/** Calls a tool whose tries answer in turn; the last answer stays. */
async function run(
  spec: JsonObject,
  answers: Answer[],
  given: { input?: JsonObject; secrets?: Record<string, string>; clock?: HandClock; signal?: AbortSignal } = {},
) {
  const clock = given.clock ?? new QuickClock(0)
  const seen: ToolCallEnvelope[] = []
  const { env, lines } = envOf(given.secrets, { clock, ...(given.signal ? { signal: given.signal } : {}) })
  const runner = createToolRunner({
    clock,
    random: seededRandom(1),
    deadlines: createDeadlines(clock instanceof QuickClock ? systemClock : clock),
    drivers: {
      http: {
        call: async (_, envelope, driverEnv) => {
          seen.push(envelope)
          const answer = answers[Math.min(seen.length, answers.length) - 1]
          return typeof answer === 'function' ? answer(driverEnv, envelope) : (answer ?? output(null))
        },
      },
    },
  })
  const { result, tries } = await runner.call('it', toolOf({ type: 'http', ...spec }), callOf(given.input ?? {}), env)
  return { result, tries, seen, lines, slept: clock instanceof QuickClock ? clock.slept : [] }
}

const CITY = {
  type: 'object',
  required: ['city'],
  properties: { city: { type: 'string' } },
  additionalProperties: false,
}

describe('a call of a tool', () => {
  test('gives what the tool gave', async () => {
    const { result, tries, seen } = await run({}, [output({ a: 1 })], { input: { b: 2 } })
    expect({ result, tries }).toEqual({ result: { ok: true, output: { a: 1 } }, tries: 1 })
    expect(seen).toEqual([callOf({ b: 2 }, { timeoutMs: 30_000 })])
  })

  test('whose input breaks the schema never reaches the tool', async () => {
    const { result, tries, seen } = await run({ inputSchema: CITY }, [output(1)], { input: { cty: 'Bern' } })
    expect(result).toMatchObject({
      ok: false,
      code: 'tool.invalid_input',
      reason: expect.stringMatching(/^it: input\.(city is required|cty is not known).* \(and 1 more\)$/),
      retryable: false,
      evidence: {
        problems: [{ path: expect.stringContaining('input.') }, { path: expect.stringContaining('input.') }],
      },
    })
    expect([tries, seen]).toEqual([0, []])
  })

  test('whose output breaks the schema is no success', async () => {
    const { result } = await run({ outputSchema: CITY }, [output({ city: 3 })])
    expect(result).toMatchObject({
      ok: false,
      code: 'tool.invalid_output',
      reason: 'it: output.city must be string',
      retryable: false,
    })
  })

  test('is checked against a schema that goes round, and stopped by one that never ends', async () => {
    const tree = {
      $defs: { node: { type: 'object', properties: { next: { $ref: '#/$defs/node' } }, additionalProperties: false } },
      $ref: '#/$defs/node',
    }
    expect((await run({ inputSchema: tree }, [output(1)], { input: { next: { next: {} } } })).result.ok).toBe(true)
    expect((await run({ inputSchema: tree }, [output(1)], { input: { next: { nxt: {} } } })).result).toMatchObject({
      code: 'tool.invalid_input',
    })
    const endless = { $ref: '#' }
    expect((await run({ outputSchema: endless }, [output({})])).result).toMatchObject({
      code: 'tool.invalid_output',
      reason: expect.stringContaining('the schema'),
    })
  })

  test('whose output is larger than allowed is no success', async () => {
    const text = 'x'.repeat(100)
    expect((await run({ maxOutputBytes: 100 }, [output(text)])).result).toEqual({ ok: true, output: text })
    expect((await run({ maxOutputBytes: 99 }, [output(text)])).result).toMatchObject({
      code: 'tool.invalid_output',
      evidence: { maxOutputBytes: 99 },
    })
  })

  test('that never ends is left behind, and told to end', async () => {
    const clock = new HandClock(0)
    const told = Promise.withResolvers<string>()
    const calling = run(
      { timeout: '2s', retry: 0 },
      [
        (env) => {
          env.signal.addEventListener('abort', () => told.resolve((env.signal.reason as Failure).code))
          queueMicrotask(() => clock.advance(2_000))
          return new Promise(() => {})
        },
      ],
      { clock },
    )
    expect((await calling).result).toEqual({
      ok: false,
      code: 'tool.timeout',
      reason: 'it did not end within 2000 ms',
      retryable: true,
      evidence: { timeoutMs: 2_000 },
    })
    expect(await told.promise).toBe('tool.timeout')
  })

  test('that is ended from outside ends with the reason, whatever the tool does', async () => {
    const ending = new AbortController()
    const answer = (): Promise<TryResult> => {
      queueMicrotask(() => ending.abort(new Error('drained')))
      return new Promise(() => {})
    }
    await expect(run({}, [answer], { signal: ending.signal })).rejects.toThrow('drained')
    await expect(run({}, [output(1)], { signal: ending.signal })).rejects.toThrow('drained')
  })
})

describe('another try', () => {
  test('follows what passes by itself, later each time, with the same key', async () => {
    const { result, tries, seen, slept, lines } = await run({ retry: { max: 3, jitter: 0 } }, [
      failed(),
      failed({ retryAfterMs: 1_234 }),
      failed(),
      output('there'),
    ])
    expect({ result, tries, slept }).toEqual({
      result: { ok: true, output: 'there' },
      tries: 4,
      slept: [500, 1_234, 2_000],
    })
    expect(seen.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4])
    expect(new Set(seen.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1)
    expect(lines[0]).toBe('it: try 1 failed (tool.failed: broken); again in 500 ms')
  })

  test('leaves a share of the wait to chance', async () => {
    const { slept } = await run({ retry: { max: 2, initial: '1s', jitter: 0.5, factor: 1 } }, [failed()])
    for (const ms of slept) expect(ms).toBeGreaterThanOrEqual(500)
    expect(new Set(slept).size).toBe(2)
  })

  test.for<[what: string, spec: JsonObject, answer: TryResult, tries: number]>([
    ['what does not pass', {}, failed({ retryable: false }), 1],
    ['a tool that is not repeatable', { operation: 'write' }, failed(), 1],
    ['one that may have been reached', { operation: 'write' }, failed({ wasSent: true }), 1],
    ['one that is not repeatable and was never reached', { operation: 'write' }, failed({ wasSent: false }), 3],
    ['one that says that it is repeatable', { operation: 'delete', repeatable: true }, failed(), 3],
    ['a reading one that says that it is not', { repeatable: false }, failed(), 1],
    ['one without tries', { retry: 0 }, failed(), 1],
    [
      'a tool that wants to be left alone for longer',
      { retry: { maxDelay: '1s' } },
      failed({ retryAfterMs: 1_001 }),
      1,
    ],
  ])('of %s', async ([, spec, answer, tries]) => {
    const ran = await run(spec, [answer])
    expect([ran.tries, ran.result.ok]).toEqual([tries, false])
    expect(ran.result).not.toHaveProperty('wasSent')
    expect(ran.result).not.toHaveProperty('retryAfterMs')
  })
})

test('nobody is told to make a call again that may have been carried out, unless it is repeatable or nothing reached it', async () => {
  const toldOf = async (spec: JsonObject, answer: TryResult) => (await run({ retry: 0, ...spec }, [answer])).result
  expect(await toldOf({ operation: 'write' }, failed({ evidence: { status: 503 } }))).toMatchObject({
    ok: false,
    code: 'tool.failed',
    reason: expect.stringMatching(/; the call may have been carried out$/),
    retryable: false,
    evidence: { status: 503, outcome: 'unknown' },
  })
  expect(await toldOf({ operation: 'write' }, failed({ wasSent: false }))).toMatchObject({ retryable: true })
  expect(await toldOf({ operation: 'read' }, failed())).toMatchObject({ retryable: true })
})

describe('what comes back', () => {
  const secrets = { 'api/token': 'correct-horse' }
  const ref = { secret: 'api', key: 'token' }

  test('has no secret in it that the call was given', async () => {
    const told: Answer = async (env) => {
      const token = await env.secret(ref)
      env.hide('borrowed-token')
      env.log(`sent ${token} and borrowed-token`)
      return output({
        [token]: `Bearer ${token}`,
        basic: Buffer.from(`me:${token}`).toString('base64'),
        other: 'borrowed-token',
      })
    }
    const { result, lines } = await run({}, [told], { secrets })
    expect(JSON.stringify(result)).not.toMatch(/correct-horse|borrowed-token/)
    expect(JSON.stringify(result)).not.toContain(Buffer.from('correct-horse').toString('base64').slice(2, 12))
    expect(lines).toEqual(['sent [secret] and [secret]'])
  })

  test('of a failure neither, and its reason is one line', async () => {
    const told: Answer = async (env) =>
      failed({
        retryable: false,
        reason: `no\n${await env.secret(ref)}${'.'.repeat(1_000)}`,
        evidence: { tail: await env.secret(ref) },
      })
    const { result } = await run({}, [told], { secrets })
    expect(result).toMatchObject({
      reason: expect.stringMatching(/^no \[secret\]\.+…$/),
      evidence: { tail: '[secret]' },
    })
  })

  test('of a secret that is not there is its failure', async () => {
    const { result, tries } = await run({}, [async (env) => output(await env.secret(ref))])
    expect([result, tries]).toMatchObject([{ ok: false, code: 'secret.not_found', retryable: false }, 1])
  })

  test('of a driver that throws something else is a failure of the tool', async () => {
    const { result } = await run({}, [() => Promise.reject(new TypeError('no such thing'))])
    expect(result).toEqual({ ok: false, code: 'tool.failed', reason: 'it: no such thing', retryable: false })
  })
})
