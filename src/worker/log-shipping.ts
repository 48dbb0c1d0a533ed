import { type Deferred, deferred } from '../base/index.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Attempt, PendingReport, ReportBody, TimedSegment } from './attempt.ts'

/** Log reports of one attempt that may be unacknowledged at once. */
const UNACKED_MAX = 4
/** A report that waits to be sent takes further segments up to this. */
const REPORT_BYTES = 4 * LIMITS.logSegmentBytes

export type MakeReport = (attempt: Attempt, body: ReportBody, bytes: number) => PendingReport

/** Turns the output of one attempt into `log` reports, with bounded memory: few reports on the way, then the source waits. */
export class LogShipping {
  readonly #attempt: Attempt
  readonly #makeReport: MakeReport
  readonly #unacked = new Set<PendingReport>()
  #unackedBytes = 0
  #totalBytes = 0
  #droppedBytes = 0
  #lastIndex = 0
  #open: { report: PendingReport; segments: TimedSegment[] } | null = null
  #room: Deferred<void> | null = null
  #closed = false

  constructor(attempt: Attempt, makeReport: MakeReport) {
    this.#attempt = attempt
    this.#makeReport = makeReport
  }

  get lastIndex(): number {
    return this.#lastIndex
  }

  /** True while another segment would wait. */
  get full(): boolean {
    return !this.#closed && (this.#unackedBytes >= LIMITS.logBufferBytes || this.#unacked.size >= UNACKED_MAX)
  }

  /** Takes one segment. Its source asks for `room()` before the next. */
  add(segment: TimedSegment): void {
    this.#lastIndex = segment.index
    const bytes = Buffer.byteLength(segment.text)
    this.#totalBytes += bytes
    if (this.#totalBytes > LIMITS.logAttemptBytes) {
      this.#droppedBytes += bytes
      return
    }
    this.#put(segment, bytes)
  }

  /** Counts what could not be kept; the log will say so. */
  drop(bytes: number): void {
    this.#droppedBytes += bytes
  }

  #put(segment: TimedSegment, bytes: number): void {
    const open = this.#open
    if (open && !open.report.sent && open.report.bytes + bytes <= REPORT_BYTES) {
      open.segments.push(segment)
      open.report.bytes += bytes + 100
    } else {
      const segments = [segment]
      const report = this.#makeReport(this.#attempt, { kind: 'log', segments }, bytes + 100)
      this.#open = { report, segments }
      this.#unacked.add(report)
    }
    this.#unackedBytes += bytes
  }

  /** Resolves when the next segment may come. */
  async room(): Promise<void> {
    while (this.full) {
      // A report that is not sent yet still takes segments: only bytes count then.
      const open = this.#open
      const fits = open !== null && !open.report.sent && open.report.bytes < REPORT_BYTES
      if (fits && this.#unackedBytes < LIMITS.logBufferBytes) return
      this.#room ??= deferred()
      await this.#room.promise
    }
  }

  acked(report: PendingReport): void {
    if (!this.#unacked.delete(report) || report.body.kind !== 'log') return
    for (const segment of report.body.segments) this.#unackedBytes -= Buffer.byteLength(segment.text)
    this.#wake()
  }

  /** Says what was dropped, if anything, as the last line. */
  finish(at: number): void {
    if (this.#droppedBytes === 0) return
    const text = `[${this.#droppedBytes} bytes of log were dropped: more than the limit, or faster than they could be sent]\n`
    this.#droppedBytes = 0
    this.#put({ index: ++this.#lastIndex, stream: 'system', at, text }, text.length)
  }

  /** The attempt is no longer ours: nobody waits any more. */
  close(): void {
    this.#closed = true
    this.#wake()
  }

  #wake(): void {
    this.#room?.resolve()
    this.#room = null
  }
}
