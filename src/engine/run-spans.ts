import { creationSpanOf, parseTraceparent, type Span, spanIdOf, traceIdOfId, traceOfRun } from '../base/trace.ts'
import { LIMITS } from '../domain/limits.ts'
import { findRunTimes, type RunTimes } from '../store/runs/find-run-times.ts'
import type { EngineContext } from './context.ts'

/** Gives the spans of runs that have ended, from the times in their rows: nobody has to hold one open while a run waits for days. */
export class RunSpans {
  readonly #ctx: EngineContext
  #ended: string[] = []
  #isReading = false

  constructor(ctx: EngineContext) {
    this.#ctx = ctx
  }

  /** Never waits; what comes faster than it can be read has no span. */
  add(runId: string): void {
    const { tracer } = this.#ctx
    if (!tracer?.isOn || this.#ended.length >= LIMITS.spansQueuedMax) return
    this.#ended.push(runId)
    if (!this.#isReading) void this.#read()
  }

  async #read(): Promise<void> {
    this.#isReading = true
    try {
      while (this.#ended.length > 0) {
        const ids = this.#ended.splice(0, LIMITS.flushItemsMax)
        for (const run of await findRunTimes(this.#ctx.db, ids)) this.#give(run)
      }
    } catch (error) {
      this.#ctx.log.debug('spans of ended runs are lost', { error: String(error) })
    }
    this.#isReading = false
  }

  #give(run: RunTimes): void {
    const { tracer } = this.#ctx
    const trace = traceOfRun(run.id, run.trace)
    const isSampled = run.trace === null ? tracer?.samplesRoot(traceIdOfId(run.id)) : trace.sampled
    if (isSampled) tracer?.record(spanOfRun(run))
  }
}

function spanOfRun(run: RunTimes): Span {
  const trace = traceOfRun(run.id, run.trace)
  const isFirst = run.epoch <= 1
  return {
    ...trace,
    sampled: true,
    // Retried by hand it ends once more: that is a span within the first one.
    spanId: isFirst ? trace.spanId : spanIdOf(`${run.id}#${run.epoch}`),
    parentSpanId: isFirst ? (parseTraceparent(run.trace)?.spanId ?? creationSpanOf(run.id)) : trace.spanId,
    name: `run ${run.workflow}`,
    kind: 'internal',
    startedAt: run.createdAt.getTime(),
    endedAt: run.endedAt.getTime(),
    attributes: {
      'orrery.run_id': run.id,
      'orrery.workflow': run.workflow,
      'orrery.namespace': run.namespace,
      'orrery.state': run.state,
    },
    failure: run.state === 'failed' ? (run.code ?? 'failed') : null,
  }
}
