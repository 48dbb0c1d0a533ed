import { currentScope, type Scope } from '../base/scope.ts'
import { spanIdOf } from '../base/trace.ts'
import type { EngineContext } from './context.ts'
import type { Settled } from './settle.ts'

export type FlushKind = 'create' | 'complete' | 'start' | 'log' | 'journal'

/** Told of each flush of a batcher. */
export interface FlushWatch {
  /** The scope to blame a flush on; asked when an item comes in. */
  scope(): Scope | undefined
  /** Gives what is to be called when the flush is over. */
  begin(items: number, scopes: readonly (Scope | undefined)[]): (error: unknown) => void
}

/** Measures the flushes of a kind. The span of one hangs below the first sampled request in it, whose trace shows what it waited for. */
export function watchFlushes(ctx: EngineContext, kind: FlushKind): FlushWatch {
  const { clock, metrics, tracer } = ctx
  let flushes = 0
  return {
    scope: () => (tracer?.isOn ? currentScope() : undefined),
    begin: (items, scopes) => {
      const from = clock.monotonic()
      return (error) => {
        const ms = clock.monotonic() - from
        metrics.observe('orrery_flush_seconds', ms / 1000, { kind })
        metrics.count('orrery_flushed_items_total', items, { kind })
        const first = scopes.find((s) => s?.trace.sampled)
        if (!first || !tracer?.isOn) return
        const { traceId, spanId, sampled } = first.trace
        const endedAt = clock.now()
        tracer.record({
          traceId,
          spanId: spanIdOf(`${ctx.serverId} ${kind} ${++flushes}`),
          sampled,
          parentSpanId: spanId,
          name: `flush ${kind}`,
          kind: 'client',
          startedAt: endedAt - ms,
          endedAt,
          attributes: { 'db.system': 'postgresql', 'orrery.items': items },
          failure: error === null ? null : String(error),
        })
      }
    },
  }
}

/**
 * A run has ended, and this server is the one that recorded it. Called by whoever wrote the end, right after the commit, and by nobody
 * else: it is counted here alone, and who waits for it is told.
 */
export function noteRunEnded(ctx: EngineContext, runId: string, state: string): void {
  ctx.metrics.count('orrery_runs_ended_total', 1, { state })
  ctx.watch.notifyEnded(runId)
  ctx.onRunEnded?.(runId)
}

/** What was decided, by the pure function or by hand, and the store took. */
export function noteSettled(
  ctx: EngineContext,
  runId: string,
  settled: Pick<Settled, 'attempts' | 'stepsEnded' | 'ended'>,
): void {
  for (const outcome of settled.attempts) ctx.metrics.count('orrery_attempts_ended_total', 1, { outcome })
  for (const state of settled.stepsEnded) ctx.metrics.count('orrery_steps_ended_total', 1, { state })
  if (settled.ended) noteRunEnded(ctx, runId, settled.ended)
  else ctx.watch.notify(runId)
}
