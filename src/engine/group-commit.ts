import { LIMITS } from '../domain/limits.ts'
import { isRetryableConflict } from '../store/storage-failure.ts'
import { type Batcher, type BatcherOptions, createBatcher } from './batcher.ts'
import type { EngineContext } from './context.ts'
import { type FlushKind, watchFlushes } from './observe.ts'

/** What is written together, at most two flushes of a kind at once; the next one is whatever gathered meanwhile. */
export const groupCommit = <I, O>(
  ctx: EngineContext,
  kind: FlushKind,
  flush: BatcherOptions<I, O>['flush'],
): Batcher<I, O> =>
  createBatcher({
    maxItems: LIMITS.flushItemsMax,
    maxInFlight: 2,
    maxQueued: LIMITS.batchQueueMax,
    isConflict: isRetryableConflict,
    watch: watchFlushes(ctx, kind),
    flush,
  })
