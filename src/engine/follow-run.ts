import type { LogLine, RunEvent } from '../contract/api-types.ts'
import { Failure } from '../domain/failure.ts'
import { isRunTerminal, type RunState } from '../domain/machines.ts'
import { displayName } from '../domain/step.ts'
import { listEvents } from '../store/events/events.ts'
import { listSegments, type LogCursor } from '../store/logs/logs.ts'
import type { EngineContext } from './context.ts'
import { getRunRow } from './get-run-row.ts'
import { createNameIndex } from './views.ts'

const EVENTS_PAGE = 200
const SEGMENTS_PAGE = 100
/** A follower that was not woken looks by itself after this. */
export const FOLLOW_MS = 5_000

/** Events of a run after one of them, oldest first. `terminal`: the run has ended with it. */
export async function eventsAfter(
  ctx: EngineContext,
  runId: string,
  afterSeq: number,
  limit: number,
): Promise<(RunEvent & { terminal: boolean })[]> {
  // One more than asked for tells whether the last one is the last there is, also when the page is full.
  const rows = await listEvents(ctx.db, runId, afterSeq, limit + 1)
  return rows.slice(0, limit).map((row, i) => ({
    seq: row.seq,
    at: row.at.toISOString(),
    changes: row.changes,
    // Of a run that was retried an earlier end is not the last one.
    terminal: i === rows.length - 1 && row.changes.some((c) => c.of === 'run' && isRunTerminal(c.to as RunState)), // an unknown word is not terminal
  }))
}

/** A run's events after one of them, and further ones as they happen, until its end. */
export async function* followEvents(
  ctx: EngineContext,
  of: { runId: string; namespaces: readonly string[] | null; afterSeq: number },
  signal: AbortSignal,
): AsyncGenerator<RunEvent & { terminal: boolean }> {
  const { runId, namespaces, afterSeq } = of
  await getRunRow(ctx, runId, namespaces)
  let seq = afterSeq
  while (!signal.aborted) {
    // Subscribe before reading: a change that fell between the two would otherwise go unseen until the next look.
    const stop = new AbortController()
    const moved = ctx.watch.wait(runId, FOLLOW_MS, AbortSignal.any([signal, stop.signal]))
    const events = await eventsAfter(ctx, runId, seq, EVENTS_PAGE)
    for (const event of events) {
      seq = event.seq
      yield event
      if (event.terminal) {
        stop.abort()
        return
      }
    }
    if (
      events.length === 0 &&
      afterSeq > 0 &&
      seq === afterSeq &&
      (await getRunRow(ctx, runId, namespaces)).ended_at !== null
    ) {
      const last = await listEvents(ctx.db, runId, seq, 1)
      if (last.length === 0) {
        // Resumed after the end: the reader has everything.
        stop.abort()
        return
      }
    }
    if (events.length === EVENTS_PAGE) stop.abort()
    await moved
  }
}

/** Lines of a run's logs after a cursor; with `follow` further ones as they come, until its end. */
export async function* followLogs(
  ctx: EngineContext,
  of: {
    runId: string
    namespaces: readonly string[] | null
    step: string | null
    cursor: string | null
    follow: boolean
  },
  signal: AbortSignal,
): AsyncGenerator<LogLine & { cursor: string }> {
  const { runId, namespaces, ...filter } = of
  const run = await getRunRow(ctx, runId, namespaces)
  const { definition } = await ctx.definitions.get(run.definition)
  const key = filter.step === null ? null : createNameIndex(definition).find(filter.step)
  if (filter.step !== null && !key)
    throw new Failure('step.not_found', `looking for step ${filter.step} of run ${runId}`)
  let after = parseCursor(filter.cursor)
  while (!signal.aborted) {
    const stop = new AbortController()
    const moved = ctx.watch.wait(runId, FOLLOW_MS, AbortSignal.any([signal, stop.signal]))
    const ended = (await getRunRow(ctx, runId, namespaces)).ended_at !== null
    const rows = await listSegments(ctx.db, {
      runId,
      node: key?.node ?? null,
      path: filter.step?.includes('[') ? (key?.path ?? null) : null,
      after,
      limit: SEGMENTS_PAGE,
    })
    for (const r of rows) {
      after = { recordedAt: r.recorded_at.getTime(), node: r.node, path: r.path, fence: r.fence, idx: r.idx }
      yield {
        step: displayName(definition.nodes[r.node]?.name ?? '', r.path),
        fence: r.fence,
        index: r.idx,
        stream: r.stream,
        at: r.at.toISOString(),
        text: r.body,
        cursor: `${after.recordedAt}.${r.node}.${r.path}.${r.fence}.${r.idx}`,
      }
    }
    if (rows.length === SEGMENTS_PAGE) {
      stop.abort()
      continue
    }
    if (!filter.follow || ended) {
      stop.abort()
      return
    }
    await moved
  }
}

function parseCursor(text: string | null): LogCursor | null {
  if (text === null) return null
  const [, recordedAt, node, path, fence, idx] =
    /^(\d{1,14})\.(\d{1,6})\.(\d{5})?\.(\d{1,9})\.(\d{1,9})$/.exec(text) ?? []
  if (recordedAt === undefined) throw new Failure('request.invalid', 'reading the cursor of a log')
  return {
    recordedAt: Number(recordedAt),
    node: Number(node),
    path: path ?? '',
    fence: Number(fence),
    idx: Number(idx),
  }
}
