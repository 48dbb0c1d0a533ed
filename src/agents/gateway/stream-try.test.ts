import type { LanguageModelV4, LanguageModelV4StreamPart } from '@ai-sdk/provider'
import { expect, test } from 'vitest'
import { HandClock } from '../../base/clock.ts'
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

test.for(['text-delta', 'tool-call'] as const)('an answer of %s that does not end is given up', async (type) => {
  const piece = 'x'.repeat(LIMITS.modelAnswerChars / 4)
  const parts = Array.from({ length: 6 }, (_, i): LanguageModelV4StreamPart =>
    type === 'text-delta'
      ? { type, id: '0', delta: piece }
      : { type, toolCallId: `call_${i}`, toolName: 'look', input: piece },
  )
  const stream = streamTry(
    () => Promise.resolve(modelOf(parts)),
    { prompt: [] },
    {
      clock: new HandClock(0),
      timeouts: { firstToken: 1_000, idle: 1_000, total: 1_000 },
      endpoint: 'it',
      names: new ToolNames(['look']),
      redactor: new Redactor([]),
      estimatedTokens: 1,
      signal: new AbortController().signal,
    },
  )
  let given = 0
  const read = async () => {
    for await (const _ of stream) given++
  }
  await expect(read()).rejects.toThrow('the answer does not end')
  expect(given).toBe(4)
})
