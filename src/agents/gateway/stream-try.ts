import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4StreamPart,
  LanguageModelV4Usage,
} from '@ai-sdk/provider'
import type { Clock } from '../../base/clock.ts'
import type { Deadlines } from '../../base/deadlines.ts'
import type { Redactor } from '../../base/redact.ts'
import { deferred } from '../../base/deferred.ts'
import type { JsonObject } from '../../base/json.ts'
import { type LinkedAbort, linkedAbort } from '../../base/linked-abort.ts'
import { Failure } from '../../domain/failure.ts'
import type { ModelEndpointSpec } from '../../domain/kinds/model-endpoint.ts'
import { LIMITS } from '../../domain/limits.ts'
import { isObject } from '../../domain/placed-problem.ts'
import { estimateTokens, isCountOfTokens } from './estimate-tokens.ts'
import type { FinishReason, ModelToolCall, ModelUsage } from '../../domain/model-call.ts'
import type { ToolNames } from './tool-names.ts'

/** What one request brought. */
export interface Answer {
  text: string
  toolCalls: ModelToolCall[]
  finish: FinishReason
  usage: ModelUsage
  warnings: string[]
  firstPartMs: number
}

export type Part = { type: 'text'; text: string } | { type: 'tool-call'; call: ModelToolCall }

/** One request, made ready. */
export interface Try {
  /**
   * Sends it and gives its parts as they come. Throws what the provider's package threw, `model.timeout`, or the signal's reason; nothing of it goes on
   * afterwards.
   */
  send(): AsyncGenerator<Part, Answer>
  /** It is not sent. */
  drop(): void
}

export interface TryDeps {
  clock: Clock
  deadlines: Deadlines
  timeouts: ModelEndpointSpec['timeouts']
  endpoint: string
  names: ToolNames
  redactor: Redactor
  /** Tokens of the request, for a provider that tells none. */
  estimate(): number
  signal: AbortSignal
}

/** The provider broke off, or sent what is no answer. */
export class BrokenAnswer extends Error {}

/** Makes a request ready at once: the model that `open` gives sends nothing before its argument resolves. Time counts from when it is sent. */
export function streamTry(
  open: (goAhead: Promise<void>) => Promise<LanguageModelV4>,
  options: Omit<LanguageModelV4CallOptions, 'abortSignal'>,
  deps: TryDeps,
): Try {
  const watch = new Watch(deps)
  const goAhead = deferred<void>()
  const started = open(goAhead.promise).then((model) => model.doStream({ ...options, abortSignal: watch.signal }))
  // Whoever sends it is told; else nobody asks.
  started.catch(() => {})
  return {
    send() {
      watch.begin()
      goAhead.resolve()
      return answerOf(started, watch, deps)
    },
    drop: () => watch.end(),
  }
}

type Started = Promise<{ stream: ReadableStream<LanguageModelV4StreamPart> }>

async function* answerOf(started: Started, watch: Watch, deps: TryDeps): AsyncGenerator<Part, Answer> {
  const { clock, signal, redactor, names } = deps
  const answer: Answer = {
    text: '',
    toolCalls: [],
    finish: 'other',
    usage: estimateOf(0, ''),
    warnings: [],
    firstPartMs: 0,
  }
  const shown = redactor.stream()
  const from = clock.monotonic()
  let chars = 0
  const take = (text: string): void => {
    chars += text.length
    if (chars > LIMITS.modelAnswerChars) throw new BrokenAnswer('the answer does not end')
  }
  let usage: LanguageModelV4Usage | null = null
  let hasEnded = false
  try {
    for await (const part of partsOf(started, watch)) {
      if (part.type === 'stream-start') answer.warnings.push(...part.warnings.map(warningText))
      else if (part.type === 'error') throw part.error
      else if (part.type === 'text-delta') {
        const text = shown.push(part.delta)
        answer.firstPartMs ||= clock.monotonic() - from
        answer.text += text
        take(part.delta)
        if (text !== '') yield { type: 'text', text }
      } else if (part.type === 'tool-call') {
        answer.firstPartMs ||= clock.monotonic() - from
        take(part.input)
        const call = toolCallOf(part, names, redactor)
        answer.toolCalls.push(call)
        yield { type: 'tool-call', call }
      } else if (part.type === 'finish') {
        hasEnded = true
        usage = part.usage
        const { unified, raw } = part.finishReason
        if (unified === 'error') throw new BrokenAnswer(raw ?? 'the model broke off')
        // Packages end a stream that just stopped, or was no answer at all, as if it had ended: without a reason.
        if (unified === 'other' && raw === undefined) throw new BrokenAnswer('the answer broke off before its end')
        answer.finish = unified
      }
    }
    if (!hasEnded) throw new BrokenAnswer('the answer broke off before its end')
    const rest = shown.end()
    answer.text += rest
    if (rest !== '') yield { type: 'text', text: rest }
    // Not every provider says by its reason to stop that it waits for tools.
    if (answer.toolCalls.length > 0 && answer.finish !== 'length') answer.finish = 'tool-calls'
    answer.usage = usageOf(usage, deps.estimate, answer)
    return answer
  } catch (error) {
    signal.throwIfAborted()
    throw watch.timedOut ?? error
  } finally {
    watch.end()
  }
}

/** Ends a try that is silent or takes too long. */
class Watch {
  readonly #deps: TryDeps
  readonly #linked: LinkedAbort
  #leaveTotal = (): void => {}
  #leaveSilence = (): void => {}
  #heardAt = 0
  #hasBegun = false
  /** Why the try was ended; null while it was not. */
  timedOut: Failure | null = null
  /** Rejects when the signal aborts before the end. */
  readonly over: Promise<never>

  constructor(deps: TryDeps) {
    this.#deps = deps
    const over = deferred<never>()
    this.over = over.promise
    over.promise.catch(() => {})
    this.#linked = linkedAbort(deps.signal, (reason) => over.reject(reason))
  }

  /** Time counts from now on. */
  begin(): void {
    const { clock, deadlines, timeouts } = this.#deps
    this.#heardAt = clock.monotonic()
    this.#leaveTotal = deadlines.add(timeouts.total, () => this.#timeOut('total'))
    this.#leaveSilence = this.#watchSilence(timeouts.firstToken)
  }

  /** Aborts when the caller gives up or time is over. */
  get signal(): AbortSignal {
    return this.#linked.signal
  }

  heard(): void {
    this.#heardAt = this.#deps.clock.monotonic()
    if (this.#hasBegun) return
    this.#hasBegun = true
    // The next part may take another time than the first one.
    this.#leaveSilence()
    this.#leaveSilence = this.#watchSilence(this.#deps.timeouts.idle)
  }

  end(): void {
    this.#leaveTotal()
    this.#leaveSilence()
    this.#linked.end()
  }

  #watchSilence(allowedMs: number): () => void {
    const { clock, deadlines } = this.#deps
    return deadlines.add(this.#heardAt + allowedMs - clock.monotonic(), () => {
      if (this.#heardAt + allowedMs <= clock.monotonic()) this.#timeOut(this.#hasBegun ? 'idle' : 'firstToken')
      // Something was heard meanwhile.
      else this.#leaveSilence = this.#watchSilence(allowedMs)
    })
  }

  #timeOut(limit: keyof TryDeps['timeouts']): void {
    const { endpoint, timeouts } = this.#deps
    this.timedOut = new Failure('model.timeout', `waiting for the answer of endpoint ${endpoint}`, {
      evidence: { endpoint, limit: `timeouts.${limit}`, limitMs: timeouts[limit] },
    })
    this.#linked.abort(this.timedOut)
  }
}

/** Parts until the stream or the time ends: a package that does not heed the signal is left behind. */
async function* partsOf(started: Started, watch: Watch) {
  const { stream } = await Promise.race([started, watch.over])
  const reader = stream.getReader()
  try {
    for (;;) {
      const next = await Promise.race([reader.read(), watch.over])
      if (next.done) return
      // What opens the stream is no answer yet.
      if (next.value.type !== 'stream-start' && next.value.type !== 'response-metadata') watch.heard()
      yield next.value
    }
  } finally {
    // Nobody is left to be told how the rest ends.
    reader.cancel().catch(() => {})
  }
}

function toolCallOf(
  part: { toolCallId: string; toolName: string; input: string },
  names: ToolNames,
  redactor: Redactor,
): ModelToolCall {
  const text = redactor.text(part.input)
  return { id: part.toolCallId, name: names.ours(part.toolName), input: objectIn(text), text }
}

function objectIn(text: string): JsonObject | null {
  if (text.trim() === '') return {}
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : null
  } catch {
    return null // the text goes along, so that it can be told what is wrong with it
  }
}

const warningText = (warning: {
  type: string
  feature?: string
  setting?: string
  details?: string
  message?: string
}) => [warning.type, warning.feature ?? warning.setting, warning.details ?? warning.message].filter(Boolean).join(': ')

const estimateOf = (inputTokens: number, text: string): ModelUsage => ({
  inputTokens,
  outputTokens: estimateTokens(text),
  cachedInputTokens: 0,
  cacheWriteTokens: 0,
  reasoningTokens: 0,
  isEstimated: true,
})

function usageOf(told: LanguageModelV4Usage | null, estimate: () => number, answer: Answer): ModelUsage {
  const input = told?.inputTokens.total
  const output = told?.outputTokens.total
  const more = [told?.inputTokens.cacheRead, told?.inputTokens.cacheWrite, told?.outputTokens.reasoning]
  const [cachedInputTokens = 0, cacheWriteTokens = 0, reasoningTokens = 0] = more
  if (![input, output, cachedInputTokens, cacheWriteTokens, reasoningTokens].every(isCountOfTokens))
    return estimateOf(estimate(), answer.text + answer.toolCalls.map(({ text }) => text).join(''))
  return {
    inputTokens: input ?? 0,
    outputTokens: output ?? 0,
    ...{ cachedInputTokens, cacheWriteTokens, reasoningTokens },
    isEstimated: false,
  }
}
