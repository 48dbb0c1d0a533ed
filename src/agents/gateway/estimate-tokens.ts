import { LIMITS } from '../../domain/limits.ts'
import type { ModelRequest } from '../../domain/model-call.ts'

/** Characters of a token, roughly: for limits before the provider has counted, and where it never does. */
const CHARS_PER_TOKEN = 4

/** Tokens of an answer that nobody bounded: what is set aside for it. */
export const ANSWER_TOKENS_ASSUMED = 4_096

export const estimateTokens = (text: string): number => Math.ceil(text.length / CHARS_PER_TOKEN)

/** Whether a provider told how many; what cannot be a number of tokens tells nothing. */
export const isCountOfTokens = (told: number | undefined): told is number =>
  told !== undefined && Number.isInteger(told) && told >= 0 && told <= LIMITS.callTokensMax

/** Tokens that a request will be about, its answer left out. */
export function estimateRequest({ messages, tools = [] }: ModelRequest): number {
  const texts = messages.map((message) =>
    'text' in message && !('toolCalls' in message) ? (message.text ?? '') : JSON.stringify(message),
  )
  return (
    texts.reduce((sum, text) => sum + estimateTokens(text), 0) +
    (tools.length > 0 ? estimateTokens(JSON.stringify(tools)) : 0)
  )
}
