import type { Embedded } from '../../agents/index.ts'
import type { MemoryAt } from './memory-provider.ts'

/** Asks the model of embeddings that a memory names. Throws `model.*`, `secret.*`, `policy.*` and `budget.*`. */
export type Embed = (
  at: Omit<MemoryAt, 'scope'>,
  texts: readonly string[],
) => Promise<Pick<Embedded, 'provider' | 'model' | 'vectors'>>

export interface Vectors {
  /** Of length one each. */
  vectors: Float32Array[]
  /** What made them: only vectors of one maker can be compared. */
  embeddedBy: string
}

/** Vectors of texts as they are kept and compared. */
export function comparable({ provider, model, vectors }: Pick<Embedded, 'provider' | 'model' | 'vectors'>): Vectors {
  return { vectors: vectors.map(unit), embeddedBy: `${provider} ${model} ${vectors[0]?.length ?? 0}` }
}

/** One without a direction stays as it is, and is near to nothing. */
function unit(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector)
  return length === 0 ? vector : vector.map((n) => n / length)
}
