import http from 'node:http'
import https from 'node:https'
import { backoffMs } from '../base/backoff.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import type { Random } from '../base/random.ts'
import { outOfScope } from '../base/scope.ts'
import type { Span, Tracer } from '../base/trace.ts'
import { LIMITS } from '../domain/limits.ts'
import { toOtlp } from './otlp-json.ts'
import { type Collector, type PostOutcome, postSpans } from './post-spans.ts'
import type { Sampler } from './sampler.ts'

export interface OtlpOptions {
  collector: Collector
  sampler: Sampler
  resource: Record<string, string>
  version: string
  /** How long spans gather before they are sent. */
  delayMs: number
  capturesContent: boolean
  clock: Clock
  random: Random
  log: Log
  metrics: Metrics
}

export interface OtlpTracer extends Tracer {
  /** Sends what is there once more and ends; what cannot be sent at once is dropped. Twice is safe. */
  close(): Promise<void>
}

const BATCH = 512
const RETRY = { initialMs: 1_000, maxMs: 30_000, factor: 2, jitter: 0.5 }
/** A batch that was not taken so often makes room for younger ones. */
const TRIES_MAX = 5
/** What the end of a process waits for a collector. */
const FAREWELL_MS = 2_000

/**
 * Sends spans as OTLP over HTTP with JSON. Of our own, because the whole of it is a queue and a POST: nothing is loaded and
 * nothing is measured while no endpoint is set, and the work never waits for a collector.
 */
export function createOtlpTracer(options: OtlpOptions): OtlpTracer {
  return new QueueTracer(options)
}

class QueueTracer implements OtlpTracer {
  readonly isOn = true
  readonly capturesContent: boolean
  readonly #options: OtlpOptions
  readonly #agent: http.Agent
  readonly #closing = new AbortController()
  #queue: Span[] = []
  #loop: Promise<void> | null = null
  #isFailing = false
  #droppedSince = 0

  constructor(options: OtlpOptions) {
    this.#options = options
    this.capturesContent = options.capturesContent
    const settings = { keepAlive: true, maxSockets: 1 }
    this.#agent = options.collector.endpoint.startsWith('https:') ? new https.Agent(settings) : new http.Agent(settings)
  }

  samplesRoot(traceId: string): boolean {
    return this.#options.sampler.samplesRoot(traceId)
  }

  samplesChild(parent: Parameters<Tracer['samplesChild']>[0]): boolean {
    return this.#options.sampler.samplesChild(parent)
  }

  record(span: Span): void {
    if (this.#closing.signal.aborted || this.#queue.length >= LIMITS.spansQueuedMax) return this.#drop(1)
    this.#queue.push(span)
    this.#loop ??= outOfScope(() => this.#send()).finally(() => {
      this.#loop = null
    })
  }

  async #send(): Promise<void> {
    const { delayMs, random } = this.#options
    while (this.#queue.length > 0 && !this.#closing.signal.aborted) {
      if (this.#queue.length < BATCH) await this.#rest(delayMs)
      if (this.#closing.signal.aborted) return
      const batch = this.#queue.splice(0, BATCH)
      for (let tries = 1; !this.#closing.signal.aborted; tries++) {
        const outcome = await this.#post(batch)
        this.#tell(outcome)
        if (outcome.kind === 'taken') break
        if (outcome.kind === 'refused' || tries >= TRIES_MAX) {
          this.#drop(batch.length)
          break
        }
        await this.#rest(backoffMs(RETRY, tries, random))
        if (this.#closing.signal.aborted) this.#queue.unshift(...batch)
      }
    }
  }

  async #rest(ms: number): Promise<void> {
    await this.#options.clock.sleep(ms, this.#closing.signal).catch(() => {})
  }

  async #post(batch: Span[]): Promise<PostOutcome> {
    const { collector, resource, version, metrics } = this.#options
    const outcome = await postSpans(collector, toOtlp(batch, resource, version), this.#agent)
    if (outcome.kind === 'taken') metrics.count('orrery_spans_total', batch.length, { result: 'sent' })
    return outcome
  }

  /** One line when it begins to fail and one when it is over, however many batches are in between. */
  #tell(outcome: PostOutcome): void {
    const { log, collector } = this.#options
    if (outcome.kind !== 'taken') {
      if (!this.#isFailing) {
        const { code, remediation } = outcome.failure
        log.warn('traces cannot be sent; work goes on without them', { code, err: outcome.failure, remediation })
      }
      this.#isFailing = true
    } else if (this.#isFailing) {
      this.#isFailing = false
      log.info('traces are sent again', { endpoint: collector.endpoint.split('?')[0], dropped: this.#droppedSince })
      this.#droppedSince = 0
    }
  }

  #drop(spans: number): void {
    this.#droppedSince += spans
    this.#options.metrics.count('orrery_spans_total', spans, { result: 'dropped' })
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return
    this.#closing.abort(new Error('tracer closes'))
    await this.#loop
    const left = this.#queue
    this.#queue = []
    for (let i = 0; i < left.length && !this.#isFailing; i += BATCH) {
      const batch = left.slice(i, i + BATCH)
      const { collector, resource, version, metrics } = this.#options
      const patience = { ...collector, timeoutMs: Math.min(collector.timeoutMs, FAREWELL_MS) }
      const outcome = await postSpans(patience, toOtlp(batch, resource, version), this.#agent)
      metrics.count('orrery_spans_total', batch.length, { result: outcome.kind === 'taken' ? 'sent' : 'dropped' })
      if (outcome.kind !== 'taken') break
    }
    this.#agent.destroy()
  }
}
