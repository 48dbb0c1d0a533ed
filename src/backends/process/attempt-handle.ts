import type { CommandHandle, EndOfCommand, OutputSegment } from '../backend.ts'
import { FrameReader } from './frames.ts'
import type { AttemptPaths, AttemptRecord, ExitRecord } from './layout.ts'
import type { ShimLink } from './shim-link.ts'
import type { HostNews } from './shim-protocol.ts'

/** A reader tells the shim host how far it came after this many bytes, and before it waits. */
const ACKNOWLEDGE_BYTES = 128 * 1024

export type Forget = (outcome: { failed: boolean }) => Promise<{ path: string; until: number } | null>

/** The worker's side of one attempt. Reads output from the attempt's file; the shim host only says that there is more. */
export class AttemptHandle implements CommandHandle {
  readonly key: string
  readonly note: string
  readonly workspace: string
  readonly paths: AttemptPaths
  readonly record: AttemptRecord
  readonly ended: Promise<EndOfCommand>
  /** Resolves when it is known whether the command runs, has ended or never started. */
  readonly settled: Promise<void>
  readonly forget: Forget

  #link: ShimLink | null = null
  #startedAt: number | null = null
  #isOver = false
  #isAbandoned = false
  #cancelWanted = false
  #readersSeen = 0
  #more = Promise.withResolvers<void>()
  readonly #end = Promise.withResolvers<EndOfCommand>()
  readonly #settle = Promise.withResolvers<void>()

  constructor(record: AttemptRecord, paths: AttemptPaths, forget: (handle: AttemptHandle) => Forget) {
    this.key = record.key
    this.note = record.note
    this.record = record
    this.paths = paths
    this.workspace = paths.work
    this.ended = this.#end.promise
    this.settled = this.#settle.promise
    this.forget = forget(this)
  }

  get startedAt(): number | null {
    return this.#startedAt
  }

  get isOver(): boolean {
    return this.#isOver
  }

  /** The shim host that runs it; null before it is known. */
  get host(): string | null {
    return this.#link?.id ?? null
  }

  linkTo(link: ShimLink): void {
    this.#link = link
  }

  hear(news: HostNews): void {
    if (news.is === 'started') {
      this.#startedAt = news.startedAt
      if (this.#cancelWanted) this.#link?.send({ do: 'cancel', key: this.key })
      this.#settle.resolve()
    }
    if (news.is === 'output') this.#wake()
    if (news.is === 'ended') this.finish(news.exit)
  }

  finish(exit: ExitRecord): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#startedAt = exit.startedAt
    this.#end.resolve({ ...exit.end, ...exit.traces, endedAt: exit.endedAt })
    this.#settle.resolve()
    this.#wake()
  }

  /** This process stops looking; the command goes on. Output ends, `ended` stays open. */
  abandon(): void {
    this.#isAbandoned = true
    this.#settle.resolve()
    this.#wake()
  }

  async *output(after: number): AsyncIterable<OutputSegment> {
    const reader = new FrameReader(this.paths.output)
    const name = ++this.#readersSeen
    let acknowledged = 0
    const acknowledge = () => {
      if (reader.offset === acknowledged || this.#isOver) return
      acknowledged = reader.offset
      this.#link?.send({ do: 'read', key: this.key, reader: name, offset: acknowledged })
    }
    if (!this.#isOver) this.#link?.send({ do: 'attach', key: this.key, reader: name, offset: 0 })
    try {
      while (!this.#isAbandoned) {
        // Asked first, read second: what came between the two would otherwise go unseen.
        const more = this.#more.promise
        const wasOver = this.#isOver
        const segment = await reader.next()
        if (segment !== null) {
          if (segment.index > after) yield segment
          if (reader.offset - acknowledged >= ACKNOWLEDGE_BYTES) acknowledge()
          continue
        }
        if (wasOver) return
        acknowledge()
        await more
      }
    } finally {
      await reader.close()
      if (!this.#isOver) this.#link?.send({ do: 'detach', key: this.key, reader: name })
    }
  }

  cancel(): Promise<void> {
    this.#cancelWanted = true
    if (!this.#isOver) this.#link?.send({ do: 'cancel', key: this.key })
    return Promise.resolve()
  }

  #wake(): void {
    this.#more.resolve()
    this.#more = Promise.withResolvers<void>()
  }
}
