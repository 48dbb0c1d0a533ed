import { type FileHandle, open } from 'node:fs/promises'
import { LIMITS } from '../../domain/limits.ts'
import type { OutputSegment } from '../backend.ts'

/** One segment in the output file: u32 payload bytes, u32 index, f64 time, u8 stream, payload in UTF-8. */
const HEADER_BYTES = 17
const READ_BYTES = 256 * 1024
const STREAMS = ['stdout', 'stderr', 'system'] as const

export function encodeFrame(segment: Omit<OutputSegment, 'text'>, payload: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length)
  frame.writeUInt32LE(payload.length, 0)
  frame.writeUInt32LE(segment.index, 4)
  frame.writeDoubleLE(segment.at, 8)
  frame.writeUInt8(STREAMS.indexOf(segment.stream), 16)
  payload.copy(frame, HEADER_BYTES)
  return frame
}

/** Where to cut `bytes` so that at most `max` come first and no character is split. */
export function utf8Cut(bytes: Buffer, max: number): number {
  if (bytes.length <= max) return bytes.length
  let cut = max
  while (cut > 0 && ((bytes[cut] ?? 0) & 0xc0) === 0x80) cut--
  return cut
}

/** The last `max` bytes as text, from the start of a character on. */
export function utf8Tail(bytes: Buffer, max: number): string {
  let start = Math.max(0, bytes.length - max)
  if (start > 0) while (start < bytes.length && ((bytes[start] ?? 0) & 0xc0) === 0x80) start++
  return bytes.toString('utf8', start)
}

/** Reads an output file while it grows. Holds at most one block in memory. */
export class FrameReader {
  readonly #path: string
  #file: FileHandle | null = null
  #rest: Buffer = Buffer.alloc(0)
  #readTo = 0

  constructor(path: string) {
    this.#path = path
  }

  /** Bytes of the file that were handed out. */
  get offset(): number {
    return this.#readTo - this.#rest.length
  }

  /** The next whole segment; null when there is none yet. */
  async next(): Promise<OutputSegment | null> {
    return this.#take() ?? ((await this.#fill()) ? this.#take() : null)
  }

  async close(): Promise<void> {
    await this.#file?.close()
    this.#file = null
  }

  #take(): OutputSegment | null {
    if (this.#rest.length < HEADER_BYTES) return null
    const end = HEADER_BYTES + this.#rest.readUInt32LE(0)
    if (this.#rest.length < end) return null
    const segment: OutputSegment = {
      index: this.#rest.readUInt32LE(4),
      at: this.#rest.readDoubleLE(8),
      stream: STREAMS[this.#rest.readUInt8(16)] ?? 'system',
      text: this.#rest.toString('utf8', HEADER_BYTES, end),
    }
    this.#rest = this.#rest.subarray(end)
    return segment
  }

  /** Reads one more block, which is larger than any frame. False when nothing was there. */
  async #fill(): Promise<boolean> {
    try {
      this.#file ??= await open(this.#path, 'r')
    } catch {
      return false // made with the first output
    }
    const block = Buffer.allocUnsafe(this.#rest.length + READ_BYTES)
    this.#rest.copy(block)
    const { bytesRead } = await this.#file.read(block, this.#rest.length, READ_BYTES, this.#readTo)
    this.#rest = block.subarray(0, this.#rest.length + bytesRead)
    this.#readTo += bytesRead
    return bytesRead > 0
  }
}

/** The last bytes of a command's output, read from what was recorded. */
export async function readTail(path: string): Promise<string> {
  const reader = new FrameReader(path)
  let tail: Buffer = Buffer.alloc(0)
  try {
    for (let segment = await reader.next(); segment !== null; segment = await reader.next()) {
      if (segment.stream !== 'system') tail = appendTail(tail, Buffer.from(segment.text))
    }
  } finally {
    await reader.close()
  }
  return utf8Tail(tail, LIMITS.tailBytes)
}

/** The end of `tail` followed by `bytes`, with room for a character that the final cut may need whole. */
export function appendTail(tail: Buffer, bytes: Buffer): Buffer {
  const keep = LIMITS.tailBytes + 4
  if (bytes.length >= keep) return Buffer.from(bytes.subarray(bytes.length - keep))
  return Buffer.concat([tail.subarray(Math.max(0, tail.length + bytes.length - keep)), bytes])
}
