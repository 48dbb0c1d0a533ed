import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import type { Clock, RedactedStream, Redactor } from '../../base/index.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { OutputSegment } from '../backend.ts'
import { appendTail, encodeFrame, utf8Cut, utf8Tail } from './frames.ts'

/** How long output without a newline may wait for more before it is written. */
const FLUSH_MS = 50

type Stream = 'stdout' | 'stderr'

/**
 * Turns what a command prints into segments and appends them to its output file. Text is valid UTF-8: characters split
 * between reads are joined, bytes that are none become U+FFFD. Holds at most a segment and a read in memory. Beyond
 * `capBytes`, or when the disk takes no more, output is counted and dropped, and system segments say so.
 */
export class OutputWriter {
  readonly #path: string
  readonly #clock: Clock
  readonly #capBytes: number
  readonly #onWritten: () => void
  readonly #redacted: Record<Stream, RedactedStream> | null
  readonly #decoders = {
    stdout: new TextDecoder('utf-8', { ignoreBOM: true }),
    stderr: new TextDecoder('utf-8', { ignoreBOM: true }),
  }
  #file: number | null = null
  #pending: { stream: Stream; at: number; parts: Buffer[]; bytes: number } | null = null
  #flushedAt = Number.NEGATIVE_INFINITY
  #index = 0
  #fileBytes = 0
  #textBytes = 0
  #droppedBytes = 0
  #writeError: string | null = null
  #tail: Buffer = Buffer.alloc(0)

  constructor(options: {
    path: string
    clock: Clock
    onWritten: () => void
    capBytes?: number
    /** Takes secrets out before anything is written or remembered. */
    redactor?: Redactor | null
  }) {
    this.#path = options.path
    this.#clock = options.clock
    this.#onWritten = options.onWritten
    this.#redacted = options.redactor ? { stdout: options.redactor.stream(), stderr: options.redactor.stream() } : null
    this.#capBytes = options.capBytes ?? LIMITS.logAttemptBytes
  }

  /** Bytes of the output file. */
  get fileBytes(): number {
    return this.#fileBytes
  }

  /** The end of everything printed so far, dropped output included. */
  get tail(): string {
    return utf8Tail(this.#tail, LIMITS.tailBytes)
  }

  write(stream: Stream, chunk: Buffer): void {
    const text = this.#decoders[stream].decode(chunk, { stream: true })
    this.#add(stream, this.#redacted ? this.#redacted[stream].push(text) : text)
  }

  /** A command is over and another may follow: nothing of it is held back any more. */
  settle(): void {
    for (const stream of ['stdout', 'stderr'] as const) {
      const text = this.#decoders[stream].decode()
      const redacted = this.#redacted?.[stream]
      this.#add(stream, redacted ? redacted.push(text) + redacted.end() : text)
    }
    this.#flush()
  }

  /** From here on the tail is that of the next command alone. */
  resetTail(): void {
    this.#tail = Buffer.alloc(0)
  }

  /** A note of the backend itself. */
  say(text: string): void {
    this.#flush()
    this.#append('system', this.#clock.now(), Buffer.from(text))
  }

  /** Writes what is pending and closes the file. Nothing may be written afterwards. */
  finish(): void {
    this.settle()
    if (this.#droppedBytes > 0) {
      const why = this.#writeError ?? `the log of an attempt holds ${this.#capBytes} bytes`
      this.say(`${this.#droppedBytes} bytes of output were dropped: ${why}\n`)
    }
    if (this.#file !== null) closeSync(this.#file)
    this.#file = null
  }

  #add(stream: Stream, text: string): void {
    if (text === '') return
    const bytes = Buffer.from(text)
    this.#tail = appendTail(this.#tail, bytes)
    if (this.#pending !== null && this.#pending.stream !== stream) this.#flush()
    if (this.#pending === null) {
      this.#pending = { stream, at: this.#clock.now(), parts: [], bytes: 0 }
      void this.#flushLater(this.#pending)
    }
    this.#pending.parts.push(bytes)
    this.#pending.bytes += bytes.length
    // A line after a silence is shown at once; lines that come fast are gathered, or each would cost a write and a message.
    const quiet = this.#clock.monotonic() - this.#flushedAt >= FLUSH_MS
    if (this.#pending.bytes >= LIMITS.logSegmentBytes || (quiet && text.endsWith('\n'))) this.#flush()
  }

  async #flushLater(pending: object): Promise<void> {
    await this.#clock.sleep(FLUSH_MS)
    if (this.#pending === pending) this.#flush()
  }

  #flush(): void {
    const pending = this.#pending
    if (pending === null) return
    this.#pending = null
    this.#flushedAt = this.#clock.monotonic()
    let rest = Buffer.concat(pending.parts)
    while (rest.length > 0) {
      // Once something was dropped everything after it is: what happened to fit later would stand in the wrong place.
      const room = this.#droppedBytes > 0 ? 0 : Math.min(LIMITS.logSegmentBytes, this.#capBytes - this.#textBytes)
      const cut = utf8Cut(rest, room)
      if (cut === 0 || !this.#append(pending.stream, pending.at, rest.subarray(0, cut))) {
        this.#drop(rest.length)
        break
      }
      this.#textBytes += cut
      rest = rest.subarray(cut)
    }
    this.#onWritten()
  }

  #drop(bytes: number): void {
    const isFirst = this.#droppedBytes === 0
    this.#droppedBytes += bytes
    if (isFirst && this.#writeError === null) {
      this.#append('system', this.#clock.now(), Buffer.from('the log is full; what follows is dropped and counted\n'))
    }
  }

  /** False when the disk did not take it; the file then ends with the last whole segment. */
  #append(stream: OutputSegment['stream'], at: number, payload: Buffer): boolean {
    let done = 0
    try {
      this.#file ??= openSync(this.#path, 'a', 0o600)
      const frame = encodeFrame({ index: this.#index + 1, stream, at }, payload)
      while (done < frame.length) done += writeSync(this.#file, frame, done)
      this.#index++
      this.#fileBytes += frame.length
      return true
    } catch (error) {
      this.#writeError = error instanceof Error ? error.message : String(error)
      if (done > 0 && this.#file !== null) ftruncateSync(this.#file, this.#fileBytes)
      return false
    }
  }
}
