import type { LanguageModelV4, LanguageModelV4StreamPart } from '@ai-sdk/provider'
import { expect, test } from 'vitest'
import { HandClock } from '../../base/clock.ts'
import { createDeadlines } from '../../base/deadlines.ts'
import { Redactor } from '../../base/redact.ts'
import { LIMITS } from '../../domain/limits.ts'
import { streamTry } from './stream-try.ts'
import { ToolNames } from './tool-names.ts'

const modelOf = (parts: LanguageModelV4StreamPart[]): LanguageModelV4 => ({
  specificationVersion: 'v4',
  provider: 'test',
  modelId: 'm',
  supportedUrls: {},
  doStream: () => Promise.resolve({ stream: ReadableStream.from(parts) }),
  doGenerate: () => Promise.reject(new Error('streams alone')),
})

const CLOCK = new HandClock(0)

const on = (estimatedTokens: number) => ({
  clock: CLOCK,
  deadlines: createDeadlines(CLOCK),
  timeouts: { firstToken: 1_000, idle: 1_000, total: 1_000 },
  endpoint: 'it',
  names: new ToolNames(['look']),
  redactor: new Redactor([]),
  estimate: () => estimatedTokens,
  signal: new AbortController().signal,
})

test.for(['text-delta', 'tool-call'] as const)('an answer of %s that does not end is given up', async (type) => {
  const piece = 'x'.repeat(LIMITS.modelAnswerChars / 4)
  const parts = Array.from({ length: 6 }, (_, i): LanguageModelV4StreamPart =>
    type === 'text-delta'
      ? { type, id: '0', delta: piece }
      : { type, toolCallId: `call_${i}`, toolName: 'look', input: piece },
  )
  const stream = streamTry(() => Promise.resolve(modelOf(parts)), { prompt: [] }, on(1)).send()
  let given = 0
  const read = async () => {
    for await (const _ of stream) given++
  }
  await expect(read()).rejects.toThrow('the answer does not end')
  expect(given).toBe(4)
})

const FINISH = { unified: 'stop', raw: 'stop' } as const
test.for([1e300, -1, 0.5, Number.NaN, Infinity])(
  'a provider that tells of %s tokens has told nothing: they are counted by the texts',
  async (told) => {
    const usage = {
      inputTokens: { total: 3, noCache: 3, cacheRead: 0, cacheWrite: 0 },
      outputTokens: { total: told, text: told, reasoning: 0 },
    }
    const parts: LanguageModelV4StreamPart[] = [
      { type: 'text-delta', id: '0', delta: 'x'.repeat(40) },
      { type: 'finish', usage, finishReason: FINISH },
    ]
    const stream = streamTry(() => Promise.resolve(modelOf(parts)), { prompt: [] }, on(7)).send()
    let step = await stream.next()
    while (!step.done) step = await stream.next()
    expect(step.value).toMatchObject({ usage: { inputTokens: 7, outputTokens: 10, isEstimated: true } })
  },
)
