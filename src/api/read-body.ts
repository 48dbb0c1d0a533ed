import type { IncomingMessage } from 'node:http'
import { isUtf8 } from 'node:buffer'
import { Failure } from '../domain/failure.ts'
import { invalidRequest } from '../contract/check-request.ts'

export interface BodySource {
  /** The web's request; null when it came straight from the socket. */
  request: Request | null
  /** The node request behind `request`, when it came over a socket: read directly, which costs a third of the web stream. */
  incoming: IncomingMessage | undefined
  /** The whole body, when it was handed over in memory. */
  inMemory: string | undefined
}

/**
 * So much of a body that is too large is still read and thrown away: an answer to one who has not finished writing is cut off
 * with the connection, and a caller who sees a broken pipe does not learn why.
 */
const DISCARD_BYTES = 64 * 1024 * 1024

/** The body as text. Counts while it arrives: what is too large is refused before it is held. */
export async function readBody(source: BodySource, maxBytes: number): Promise<string> {
  const { incoming, inMemory, request } = source
  if (inMemory !== undefined) {
    if (inMemory.length > maxBytes / 3 && Buffer.byteLength(inMemory) > maxBytes) throw tooLarge(maxBytes)
    return inMemory
  }
  const declared = incoming ? incoming.headers['content-length'] : request?.headers.get('content-length')
  if (declared && Number(declared) > maxBytes + (incoming ? DISCARD_BYTES : 0)) throw tooLarge(maxBytes)
  const chunks = incoming ? await readIncoming(incoming, maxBytes) : await readStream(request, maxBytes)
  const first = chunks[0]
  if (!first) return ''
  const whole = chunks.length === 1 ? first : Buffer.concat(chunks)
  if (!isUtf8(whole)) throw invalidRequest('reading the request', '', 'the body is not UTF-8')
  return whole.toString('utf8')
}

const tooLarge = (maxBytes: number) =>
  new Failure('request.too_large', `the body is larger than ${maxBytes} bytes`, { evidence: { limitBytes: maxBytes } })

function readIncoming(incoming: IncomingMessage, maxBytes: number): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    const settle = (done: () => void) => {
      incoming.off('data', onData).off('end', onEnd).off('error', onCut).off('close', onCut)
      done()
    }
    const onData = (chunk: Buffer) => {
      size += chunk.length
      if (size <= maxBytes) chunks.push(chunk)
      else chunks.length = 0
      if (size > maxBytes + DISCARD_BYTES) settle(() => reject(tooLarge(maxBytes)))
    }
    const onEnd = () => settle(() => (size > maxBytes ? reject(tooLarge(maxBytes)) : resolve(chunks)))
    const onCut = () => settle(() => reject(invalidRequest('reading the request', '', 'the body was cut off')))
    incoming.on('data', onData).on('end', onEnd).on('error', onCut).on('close', onCut)
    if (incoming.readableEnded) onEnd()
    else if (incoming.destroyed) onCut()
  })
}

async function readStream(request: Request | null, maxBytes: number): Promise<Buffer[]> {
  const chunks: Buffer[] = []
  let size = 0
  if (!request?.body) return chunks
  try {
    for await (const chunk of request.body) {
      size += chunk.length
      if (size > maxBytes) throw tooLarge(maxBytes)
      chunks.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    }
  } catch (error) {
    if (error instanceof Failure) throw error
    throw invalidRequest('reading the request', '', 'the body was cut off')
  }
  return chunks
}
