import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4Prompt,
  LanguageModelV4StreamPart,
} from '@ai-sdk/provider'
import type { Clock } from '../../base/clock.ts'
import type { MOCK_ERRORS, MockReply, ModelEndpointSpec } from '../../domain/kinds/model-endpoint.ts'
import { estimateTokens } from './estimate-tokens.ts'
import { ProviderRefusal } from './provider-error.ts'

/**
 * The scripted model: what it says follows from the conversation and from how often it was tried, so the same request has the same answer in every
 * process. A reply whose `when` is in the last message comes first; else the reply of the turn, the last one for all that follow.
 */
export function mockModel(
  { mock, model }: ModelEndpointSpec,
  { clock, tries, goAhead }: { clock: Clock; tries: number; goAhead: Promise<void> },
): LanguageModelV4 {
  const replies = mock?.replies ?? []
  const doStream = async ({ prompt, abortSignal }: LanguageModelV4CallOptions) => {
    await goAhead
    const reply = replyTo(replies, prompt)
    if (!reply) throw new ProviderRefusal(400, 'the script has no reply for this message')
    if (reply.delay > 0) await clock.sleep(reply.delay, abortSignal)
    const says = reply.text !== undefined || reply.json !== undefined || reply.toolCalls !== undefined
    const error = reply.errors?.[says ? tries : Math.min(tries, reply.errors.length - 1)]
    if (error) throw refusalOf(error, model)
    return { stream: streamOf(partsOf(reply, prompt)) }
  }
  return {
    specificationVersion: 'v4',
    provider: 'mock',
    modelId: model,
    supportedUrls: {},
    doStream,
    doGenerate: () => Promise.reject(new Error('the gateway asks for streams alone')),
  }
}

const textOf = (message: LanguageModelV4Prompt[number] | undefined): string =>
  message === undefined ? '' : typeof message.content === 'string' ? message.content : JSON.stringify(message.content)

function replyTo(replies: readonly MockReply[], prompt: LanguageModelV4Prompt): MockReply | undefined {
  const last = textOf(prompt.findLast(({ role }) => role !== 'system'))
  const fitting = replies.find(({ when }) => when !== undefined && last.includes(when))
  const inTurn = replies.filter(({ when }) => when === undefined)
  const turn = prompt.filter(({ role }) => role === 'assistant').length
  return fitting ?? inTurn[Math.min(turn, inTurn.length - 1)]
}

function* partsOf(reply: MockReply, prompt: LanguageModelV4Prompt): Iterable<LanguageModelV4StreamPart> {
  const text = reply.json === undefined ? (reply.text ?? '') : JSON.stringify(reply.json)
  yield { type: 'stream-start', warnings: [] }
  if (text !== '') {
    yield { type: 'text-start', id: '0' }
    for (const delta of text.match(/\S*\s*/g) ?? []) if (delta !== '') yield { type: 'text-delta', id: '0', delta }
    yield { type: 'text-end', id: '0' }
  }
  const turn = prompt.length
  for (const [i, { name, input }] of (reply.toolCalls ?? []).entries())
    yield { type: 'tool-call', toolCallId: `call_${turn}_${i}`, toolName: name, input: JSON.stringify(input) }
  const given = reply.usage
  const input = given?.inputTokens ?? prompt.reduce((sum, message) => sum + estimateTokens(textOf(message)), 0)
  const output = given?.outputTokens ?? estimateTokens(text + JSON.stringify(reply.toolCalls ?? ''))
  const cacheRead = given?.cachedInputTokens ?? 0
  yield {
    type: 'finish',
    finishReason: { unified: reply.toolCalls ? 'tool-calls' : 'stop', raw: undefined },
    usage: {
      inputTokens: { total: input, noCache: input - cacheRead, cacheRead, cacheWrite: 0 },
      outputTokens: { total: output, text: output, reasoning: 0 },
    },
  }
}

function streamOf(parts: Iterable<LanguageModelV4StreamPart>): ReadableStream<LanguageModelV4StreamPart> {
  const iterator = parts[Symbol.iterator]()
  return new ReadableStream({
    pull(controller) {
      const next = iterator.next()
      if (next.done) controller.close()
      else controller.enqueue(next.value)
    },
  })
}

/** As a provider would say it. */
export function refusalOf(
  { code, retryAfter }: { code: (typeof MOCK_ERRORS)[number]; retryAfter?: number | undefined },
  model: string,
): ProviderRefusal {
  const headers: Record<string, string> = retryAfter === undefined ? {} : { 'retry-after-ms': String(retryAfter) }
  switch (code) {
    case 'auth_failed':
      return new ProviderRefusal(401, 'the key is not valid')
    case 'not_found':
      return new ProviderRefusal(404, `there is no model ${model}`)
    case 'rate_limited':
      return new ProviderRefusal(429, 'too many requests', headers)
    case 'unavailable':
      return new ProviderRefusal(503, 'the service is overloaded', headers)
    case 'context_exceeded':
      return new ProviderRefusal(400, 'prompt is too long: 9000 tokens > 8000 maximum')
  }
}
