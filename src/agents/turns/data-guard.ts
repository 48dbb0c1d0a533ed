import {
  answerStream,
  applyDataRules,
  applyDataRulesTo,
  type DataRules,
  openPseudonyms,
  type PlacedText,
  restoreText,
  restoreValue,
  restoringStream,
  type TextStream,
} from '../../domain/agents/data-rules.ts'
import type { RecordedResult } from '../../domain/agents/journal.ts'
import type { Json } from '../../base/json.ts'
import type { ModelMessage, ModelRequest } from '../../domain/model-call.ts'

/** What data rules make of texts on their way to a model and back. */
export interface DataGuard {
  /** The request as the model may see it. Throws `policy.denied` when it may not see it at all. */
  request(request: ModelRequest): ModelRequest
  /** An answer as it goes on: what rules find in it is gone, stand-ins are again what they stand for. Throws `policy.denied`. */
  answer(result: RecordedResult): RecordedResult
  /** The same for the text of an answer while it comes. */
  stream(): TextStream
  /**
   * A value as it may be shown to who watches, who is neither model nor tool: whatever any rule finds in it is gone or a stand-in, wherever the rule is for, and
   * what would be refused is redacted. Changes nothing of what follows. Throws `policy.denied` when a rule cannot be read.
   */
  watched<T extends Json>(value: T): T
}

/** Holds to `rules` for one activation; null when there are none. Stand-ins are the same for each of its attempts. */
export function createDataGuard(rules: DataRules, activation: string): DataGuard | null {
  if (rules.rules.length === 0) return null
  let pseudonyms = openPseudonyms(activation)
  const everywhere: DataRules = {
    ...rules,
    rules: rules.rules.map((rule) => ({
      ...rule,
      on: ['prompts'],
      action: rule.action === 'block' ? 'redact' : rule.action,
    })),
  }
  const hidden = <T extends Json>(value: T, place: string): T => {
    const applied = applyDataRulesTo(value, place, 'prompts', rules, pseudonyms)
    pseudonyms = applied.pseudonyms
    return applied.value
  }
  const hiddenText = (placed: PlacedText): string => {
    const applied = applyDataRules([placed], 'prompts', rules, pseudonyms)
    pseudonyms = applied.pseudonyms
    return applied.texts[0] ?? ''
  }
  const hiddenMessage = (message: ModelMessage, i: number): ModelMessage => {
    const place = `message ${i + 1} (${message.role})`
    switch (message.role) {
      case 'system':
      case 'user':
        return { ...message, text: hiddenText({ text: message.text, place }) }
      case 'assistant':
        return {
          ...message,
          ...(message.text === undefined ? {} : { text: hiddenText({ text: message.text, place }) }),
          ...(message.toolCalls
            ? {
                toolCalls: message.toolCalls.map((call) => ({
                  ...call,
                  text: hiddenText({ text: call.text, place }),
                  input: call.input === null ? null : hidden(call.input, place),
                })),
              }
            : {}),
        }
      case 'tool':
        return { ...message, output: hidden(message.output, place) }
    }
  }
  return {
    request: (request) => ({ ...request, messages: request.messages.map(hiddenMessage) }),
    answer(result) {
      const { texts } = applyDataRules([{ text: result.text, place: 'the answer' }], 'answers', rules, pseudonyms)
      return {
        ...result,
        text: restoreText(texts[0] ?? '', pseudonyms),
        toolCalls: result.toolCalls.map((call) => {
          const place = `the call of ${call.name}`
          const input = call.input === null ? null : restoreValue(call.input, pseudonyms)
          const sent = input === null ? null : applyDataRulesTo(input, place, 'tools', rules, pseudonyms).value
          return {
            ...call,
            input: sent,
            text: sent === null ? restoreText(call.text, pseudonyms) : JSON.stringify(sent),
          }
        }),
      }
    },
    watched: (value) => applyDataRulesTo(value, 'what is watched', 'prompts', everywhere, pseudonyms).value,
    stream() {
      const looked = answerStream('the answer', rules, pseudonyms)
      const restored = restoringStream(pseudonyms)
      return {
        push: (piece) => restored.push(looked.push(piece)),
        end: () => restored.push(looked.end()) + restored.end(),
      }
    },
  }
}
