import { createHash } from 'node:crypto'
import type { EmbeddingModelV4 } from '@ai-sdk/provider'
import type { Clock } from '../../base/clock.ts'
import type { ModelEndpointSpec } from '../../domain/kinds/model-endpoint.ts'
import { estimateTokens } from './estimate-tokens.ts'
import { refusalOf } from './mock-model.ts'

const NUMBERS = 256

/**
 * Scripted vectors: the same text has the same one in every process, and texts that share words are near each other. A reply of the script whose `when`
 * is in a text delays and fails it as it would an answer.
 */
export function mockEmbedding(
  { mock, model }: ModelEndpointSpec,
  { clock, tries }: { clock: Clock; tries: number },
): EmbeddingModelV4 {
  return {
    specificationVersion: 'v4',
    provider: 'mock',
    modelId: model,
    maxEmbeddingsPerCall: undefined,
    supportsParallelCalls: true,
    async doEmbed({ values, abortSignal }) {
      const reply = mock?.replies.find(({ when }) => when !== undefined && values.some((text) => text.includes(when)))
      if (reply && reply.delay > 0) await clock.sleep(reply.delay, abortSignal)
      const says = reply?.text !== undefined || reply?.json !== undefined || reply?.toolCalls !== undefined
      const error = reply?.errors?.[says ? tries : Math.min(tries, reply.errors.length - 1)]
      if (error) throw refusalOf(error, model)
      const tokens = values.reduce((sum, text) => sum + estimateTokens(text), 0)
      return { embeddings: values.map(vectorOf), usage: { tokens }, warnings: [] }
    },
  }
}

function vectorOf(text: string): number[] {
  const vector = Array<number>(NUMBERS).fill(0)
  for (const word of text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ['']) {
    const hash = createHash('sha256').update(word).digest()
    const at = hash.readUInt16BE(0) % NUMBERS
    vector[at] = (vector[at] ?? 0) + 1
  }
  return vector
}
