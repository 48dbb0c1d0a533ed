import type { Clock, Deadlines } from '../base/index.ts'
import type { ExchangeLane, Report, ReportAck, ReportRequest, ReportResponse } from '../contract/exchange.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import type { PendingReport } from './attempt.ts'
import { isEnd } from './attempt.ts'
import { withDeadline } from './deadline.ts'
import { finalRefusal, type Link } from './link.ts'
import type { Outbox } from './outbox.ts'

const IN_FLIGHT_MAX = 2
/** Fewer reports than this are not shared out. */
const SHARE_MIN = 64
const REQUEST_BYTES = LIMITS.bulkBodyBytes / 4
const ANSWER_MS = 30_000

export interface ReportLaneDeps {
  lane: ExchangeLane
  clock: Clock
  deadlines: Deadlines
  link: Link
  outbox: Outbox
  /** Aborts when the worker stops. */
  signal: AbortSignal
  /** Null between two sessions: reports gather. */
  session(): string | null
  free(): number
  draining(): boolean
  /** The server answered to a report. */
  onAck(report: PendingReport, ack: Pick<ReportAck, 'outcome' | 'failure'>): void
  onReply(reply: ReportResponse, session: string): void
  /** The server will never take this worker. */
  onRefused(failure: Failure): void
}

/**
 * Sends reports until each is acknowledged: at most two requests at a time and no timer, so that what gathers meanwhile goes
 * with the next one. Reports of one attempt are never in two requests at once and its end goes alone, so none overtakes another.
 */
export class ReportLane {
  readonly #deps: ReportLaneDeps
  #gathered: PendingReport[] = []
  #inFlight = 0
  #requests = 0
  #batchMax: number = LIMITS.flushItemsMax
  #failures = 0
  #resting = false
  #scheduled = false

  constructor(deps: ReportLaneDeps) {
    this.#deps = deps
  }

  get requests(): number {
    return this.#requests
  }

  push(report: PendingReport): void {
    const { attempt } = report
    if (isEnd(report) && !report.onDisk && !attempt.assignment.repeatable && !attempt.work?.remembered) {
      void this.#saveFirst(report)
    } else this.#gather(report)
  }

  /** What must not happen twice is on disk before the server hears of it. */
  async #saveFirst(report: PendingReport): Promise<void> {
    await this.#deps.outbox.save([report])
    this.#gather(report)
  }

  #gather(report: PendingReport): void {
    this.#gathered.push(report)
    this.pump()
  }

  /** Sends soon what gathered. Not at once: everything that ends in this turn of the event loop shall share a request. */
  pump(): void {
    if (this.#scheduled || this.#inFlight >= IN_FLIGHT_MAX || this.#resting || this.#gathered.length === 0) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    while (this.#inFlight < IN_FLIGHT_MAX && !this.#resting && !this.#deps.signal.aborted) {
      const session = this.#deps.session()
      if (session === null) return
      const batch = this.#take()
      if (batch.length === 0) return
      void this.#send(batch, session)
    }
  }

  #take(): PendingReport[] {
    const request = ++this.#requests
    const batch: PendingReport[] = []
    const left: PendingReport[] = []
    let bytes = 0
    let full = false
    // What gathered is shared among the requests that may go now: the server then has one half to answer while it takes the other.
    const share = Math.max(SHARE_MIN, Math.ceil(this.#gathered.length / (IN_FLIGHT_MAX - this.#inFlight)))
    const most = Math.min(this.#batchMax, share)
    for (const report of this.#gathered) {
      const { attempt } = report
      if (attempt.gone) continue
      full ||= batch.length >= most || (batch.length > 0 && bytes + report.bytes > REQUEST_BYTES)
      const isElsewhere = attempt.request !== 0 && attempt.request !== request
      // The server may take the reports of one request in any order, and takes nothing of an attempt after its end.
      const isBehind = attempt.request === request && isEnd(report)
      if (full || isElsewhere || isBehind) {
        left.push(report)
        continue
      }
      attempt.request = request
      report.sent = true
      bytes += report.bytes
      batch.push(report)
    }
    this.#gathered = left
    if (batch.length === 0) this.#requests--
    return batch
  }

  async #send(batch: PendingReport[], session: string): Promise<void> {
    const { lane, deadlines, link, signal } = this.#deps
    this.#inFlight++
    try {
      const body = this.#requestOf(batch, session)
      const reply = await withDeadline(deadlines, { ms: ANSWER_MS, signal }, (cut) => lane.report(body, cut))
      this.#inFlight--
      for (const report of batch) report.attempt.request = 0
      link.up()
      this.#batchMax = Math.min(LIMITS.flushItemsMax, this.#batchMax * 2)
      const unanswered = this.#settle(batch, reply.acks)
      if (unanswered.length === 0) this.#failures = 0
      else this.#again(unanswered, reply.sessionState === 'live')
      this.#deps.onReply(reply, session)
    } catch (error) {
      this.#inFlight--
      for (const report of batch) report.attempt.request = 0
      if (signal.aborted) return
      this.#failed(batch, error)
    }
    this.pump()
  }

  #failed(batch: PendingReport[], error: unknown): void {
    const refused = finalRefusal(error)
    if (refused) {
      this.#again(batch, false)
      this.#deps.onRefused(refused)
    } else if (error instanceof Failure && (error.code === 'request.invalid' || error.code === 'request.too_large')) {
      // One report that the server cannot take must not hold up the others: halve until it stands alone.
      const [only] = batch
      if (batch.length === 1 && only) this.#deps.onAck(only, { outcome: 'rejected', failure: error.toRecord() })
      else {
        this.#batchMax = Math.ceil(batch.length / 2)
        this.#again(batch, false)
      }
    } else {
      this.#deps.link.down(error)
      this.#again(batch, true)
    }
  }

  /** Puts reports back where they were: before everything that was made later. */
  #again(reports: PendingReport[], rest: boolean): void {
    this.#gathered = [...reports, ...this.#gathered]
    if (rest && !this.#resting) void this.#rest()
  }

  async #rest(): Promise<void> {
    this.#resting = true
    await this.#deps.link.rest(++this.#failures, this.#deps.signal)
    this.#resting = false
    this.pump()
  }

  /** Gives the reports that the reply says nothing about. */
  #settle(batch: PendingReport[], acks: readonly ReportAck[]): PendingReport[] {
    let inOrder = acks.length === batch.length
    for (let i = 0; inOrder && i < batch.length; i++) inOrder = answers(acks[i], batch[i])
    if (inOrder) {
      for (let i = 0; i < batch.length; i++) {
        const report = batch[i]
        const ack = acks[i]
        if (report && ack) this.#deps.onAck(report, ack)
      }
      return []
    }
    const byReport = new Map(acks.map((ack) => [`${ack.step}@${ack.fence}#${ack.seq}`, ack]))
    return batch.filter((report) => {
      const ack = byReport.get(`${report.attempt.key}#${report.seq}`)
      if (ack) this.#deps.onAck(report, ack)
      return !ack
    })
  }

  #requestOf(batch: readonly PendingReport[], session: string): ReportRequest {
    const now = this.#deps.clock.monotonic()
    return {
      session,
      free: this.#deps.free(),
      draining: this.#deps.draining(),
      reports: batch.map((report) => wireReport(report, now)),
    }
  }
}

function answers(ack: ReportAck | undefined, report: PendingReport | undefined): boolean {
  if (!ack || !report) return false
  const { step, fence } = report.attempt.assignment
  return ack.seq === report.seq && ack.step === step && ack.fence === fence
}

const ago = (now: number, at: number): number => Math.max(0, Math.round(now - at))

function wireReport({ attempt, seq, startedAt, endedAt, body }: PendingReport, now: number): Report {
  const { step, fence } = attempt.assignment
  const startedAgoMs = startedAt === null ? null : ago(now, startedAt)
  const endedAgoMs = endedAt === null ? null : ago(now, endedAt)
  const common = { step, fence, seq, startedAgoMs, endedAgoMs }
  switch (body.kind) {
    case 'log': {
      const segments = body.segments.map(({ index, stream, at, text }) => ({
        index,
        stream,
        agoMs: ago(now, at),
        text,
      }))
      return { ...common, kind: 'log', segments }
    }
    case 'succeeded':
      return { ...common, kind: 'succeeded', output: body.output }
    case 'failed':
      return { ...common, kind: 'failed', failure: body.failure }
    case 'parked':
      return { ...common, kind: 'parked', on: body.on }
    case 'started':
    case 'canceled':
    case 'returned':
      return { ...common, kind: body.kind }
  }
}
