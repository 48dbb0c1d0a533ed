import type { Json } from '../../base/json.ts'
import { Failure } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'

const unusable = (what: string, why: string): Failure => new Failure('tool.invalid_output', `${what} ${why}`)

/** All bytes of a stream, which is left as soon as there are more than allowed. Throws `tool.invalid_output` then. */
export async function readBytes(chunks: AsyncIterable<Uint8Array>, maxBytes: number, what: string): Promise<Buffer> {
  const kept: Uint8Array[] = []
  let size = 0
  for await (const chunk of chunks) {
    size += chunk.length
    if (size > maxBytes)
      throw new Failure('tool.invalid_output', `${what} is larger than ${maxBytes} bytes`, {
        evidence: { maxOutputBytes: maxBytes },
      })
    kept.push(chunk)
  }
  const [only] = kept
  return kept.length === 1 && only instanceof Buffer ? only : Buffer.concat(kept)
}

/** Making one costs more than a short text is read in. */
const UTF8 = new TextDecoder('utf-8', { fatal: true })

/** Text in UTF-8, or what `charset` says. Bytes that are no text are refused, not replaced. */
export function decodeText(bytes: Uint8Array, what: string, charset = 'utf-8'): string {
  try {
    return (charset === 'utf-8' ? UTF8 : new TextDecoder(charset, { fatal: true })).decode(bytes)
  } catch (error) {
    const isUnknown = error instanceof RangeError
    throw unusable(what, isUnknown ? `is in ${charset}, which nobody knows` : `is no text in ${charset}`)
  }
}

export function parseJson(text: string, what: string): Json {
  let value: Json
  try {
    value = JSON.parse(text) as Json // JSON.parse gives Json or throws
  } catch (error) {
    throw unusable(what, `is no JSON: ${error instanceof Error ? error.message : String(error)}`)
  }
  refuseDepths(value, what)
  return value
}

/** What is nested without end would end whoever walks through it later. */
function refuseDepths(value: Json, what: string): void {
  let level: Json[] = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > LIMITS.nestingMax) throw unusable(what, `is nested deeper than ${LIMITS.nestingMax}`)
    level = level.flatMap((entry) => (typeof entry === 'object' && entry !== null ? Object.values(entry) : []))
  }
}
