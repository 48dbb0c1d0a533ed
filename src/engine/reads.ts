import type { LogLine, Page, RunEvent, RunSummary, RunView, StepView, WorkerView } from '../contract/api-types.ts'
import { Failure, type FailureRecord, failureRecord } from '../domain/failure.ts'
import { isFailureCode } from '../domain/failures.ts'
import { isRunTerminal, type RunState } from '../domain/machines.ts'
import { runReason } from '../domain/reasons/run-reason.ts'
import { LIMITS } from '../domain/limits.ts'
import { displayName } from '../domain/step.ts'
import { workerProblems } from '../domain/worker-problems.ts'
import type { LabelTerm } from '../domain/kinds/selector.ts'
import { isWithin } from '../domain/tenancy.ts'
import { listEvents } from '../store/events/events.ts'
import { listSegments, type LogCursor } from '../store/logs/logs.ts'
import { findRun, listRuns, type RunReadRow } from '../store/runs/read-runs.ts'
import { listSessions } from '../store/sessions/sessions.ts'
import { findWholeRuns, listAttempts, listSteps, type StepReadRow, type WholeRow } from '../store/steps/read-steps.ts'
import { createBatcher } from './batcher.ts'
import type { EngineContext } from './context.ts'
import type { Caller } from './engine.ts'
import { ReasonFinder } from './reasons.ts'
import { createNameIndex, viewRun, viewStep } from './views.ts'
import { canSeeWorker } from './visible.ts'

/** Steps shown with a run; the rest are listed page by page. */
const STEPS_SHOWN = 500
const EVENTS_PAGE = 200
const SEGMENTS_PAGE = 100
/** A follower that was not woken looks by itself after this. */
const FOLLOW_MS = 5_000
/** Attempts of a page of steps that are shown. */
const ATTEMPTS_SHOWN = 1_000
/** Running steps that a stalled run names. */
const STALLED_SHOWN = 10

export interface Reads {
  getRun(runId: string, namespaces: readonly string[] | null): Promise<RunView>
  getSummary(runId: string, namespaces: readonly string[] | null): Promise<RunSummary>
  listRuns(filter: {
    namespaces: readonly string[] | null
    workflow: string | null
    states: RunState[]
    terms?: readonly LabelTerm[]
    since?: string | null
    cursor: string | null
    limit: number
  }): Promise<Page<RunSummary>>
  listSteps(
    runId: string,
    namespaces: readonly string[] | null,
    filter: { cursor: string | null; limit: number },
  ): Promise<Page<StepView>>
  listEvents(
    runId: string,
    namespaces: readonly string[] | null,
    afterSeq: number,
    limit: number,
  ): Promise<(RunEvent & { terminal: boolean })[]>
  followEvents(
    runId: string,
    namespaces: readonly string[] | null,
    afterSeq: number,
    signal: AbortSignal,
  ): AsyncIterable<RunEvent & { terminal: boolean }>
  waitForRun(runId: string, namespaces: readonly string[] | null, waitMs: number, signal: AbortSignal): Promise<RunView>
  followLogs(
    runId: string,
    namespaces: readonly string[] | null,
    filter: { step: string | null; cursor: string | null; follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<LogLine & { cursor: string }>
  listWorkers(caller: Caller): Promise<WorkerView[]>
}

export function createReads(ctx: EngineContext): Reads {
  const mustFind = async (runId: string, namespaces: readonly string[] | null): Promise<RunReadRow> => {
    const row = await findRun(ctx.db, runId, namespaces)
    if (!row) throw new Failure('run.not_found', `looking for run ${runId}`)
    return row
  }

  const viewSteps = async (
    run: RunReadRow,
    rows: StepReadRow[],
    viewer: readonly string[] | null,
  ): Promise<StepView[]> => {
    const { definition } = await ctx.definitions.get(run.definition)
    // A step that succeeded at its first attempt has no other: the usual case costs no query.
    const tried = rows.filter((r) => r.fence > (r.state === 'succeeded' || r.state === 'running' ? 1 : 0))
    const attempts = tried.length > 0 ? await listAttempts(ctx.db, run.id, tried, ATTEMPTS_SHOWN) : []
    const reasons = run.ended_at === null ? await new ReasonFinder(ctx, { run, definition, viewer }).find(rows) : []
    return rows.map((row, i) => viewStep(run.id, definition, row, attempts, reasons[i] ?? null))
  }

  const eventsAfter = async (runId: string, afterSeq: number, limit: number) => {
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

  // Many wait for runs that end in one flush; they are read in one go as well.
  const whole = createBatcher<string, WholeRow | null>({
    maxItems: LIMITS.flushItemsMax,
    maxInFlight: 2,
    maxQueued: LIMITS.batchQueueMax,
    isConflict: () => false,
    async flush(ids) {
      const found = await findWholeRuns(ctx.db, ids, STEPS_SHOWN)
      const byId = new Map(found.map((w) => [w.run.id, w]))
      return ids.map((id) => byId.get(id) ?? null)
    },
  })

  const readWhole = async (runId: string, namespaces: readonly string[] | null) => {
    const found = await whole.add(runId)
    if (!found || !isWithin(namespaces, found.run.namespace)) {
      throw new Failure('run.not_found', `looking for run ${runId}`)
    }
    return found
  }

  const viewWhole = async ({ run, rows }: WholeRow, viewer: readonly string[] | null): Promise<RunView> => {
    const stepList = await viewSteps(run, rows, viewer)
    const summary = viewRun(run)
    return {
      ...summary,
      reason: runReason({
        id: run.id,
        state: summary.state,
        stop: run.stop,
        createdAt: summary.createdAt,
        steps: stepList.flatMap((s) => (s.reason ? [{ name: s.name, reason: s.reason }] : [])),
      }),
      definition: run.definition,
      inputs: run.inputs,
      waitsOn: stepList
        .flatMap(({ name, waitsOn }) => (waitsOn ? [{ step: name, ...waitsOn }] : []))
        .slice(0, LIMITS.waitsShownMax),
      stepList,
      ...stalledOf(ctx, run, stepList),
    }
  }

  return {
    getRun: async (runId, namespaces) => viewWhole(await readWhole(runId, namespaces), namespaces),
    getSummary: async (runId, namespaces) => viewRun(await mustFind(runId, namespaces)),
    async listRuns({ namespaces, workflow, states, terms = [], since = null, cursor, limit }) {
      const size = Math.min(limit, LIMITS.pageMax)
      const filter = { namespaces, workflow, states, terms, since, before: cursor }
      const rows = await listRuns(ctx.db, { ...filter, limit: size + 1 })
      return { items: rows.slice(0, size).map(viewRun), next: rows.length > size ? (rows[size - 1]?.id ?? null) : null }
    },
    async listSteps(runId, namespaces, { cursor, limit }) {
      const run = await mustFind(runId, namespaces)
      const [node = '', path = ''] = cursor?.split('.') ?? []
      if (cursor !== null && !/^\d{1,6}(\.\d{5})?$/.test(cursor))
        throw new Failure('request.invalid', 'reading the cursor of a page of steps')
      const size = Math.min(limit, LIMITS.pageMax)
      const rows = await listSteps(ctx.db, {
        runId,
        after: cursor === null ? null : { node: Number(node), path },
        limit: size + 1,
      })
      const last = rows[size - 1]
      const next = rows.length > size && last ? `${last.node}${last.path === '' ? '' : `.${last.path}`}` : null
      return { items: await viewSteps(run, rows.slice(0, size), namespaces), next }
    },
    async listEvents(runId, namespaces, afterSeq, limit) {
      await mustFind(runId, namespaces)
      return eventsAfter(runId, afterSeq, limit)
    },
    async *followEvents(runId, namespaces, afterSeq, signal) {
      await mustFind(runId, namespaces)
      let seq = afterSeq
      while (!signal.aborted) {
        // Subscribe before reading: a change that fell between the two would otherwise go unseen until the next look.
        const stop = new AbortController()
        const moved = ctx.watch.wait(runId, FOLLOW_MS, AbortSignal.any([signal, stop.signal]))
        const events = await eventsAfter(runId, seq, EVENTS_PAGE)
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
          (await mustFind(runId, namespaces)).ended_at !== null
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
    },
    async waitForRun(runId, namespaces, waitMs, signal) {
      const until = ctx.clock.monotonic() + waitMs
      // What was created here a moment ago is known to be open: the store is asked when it has ended.
      let known = ctx.watch.peek(runId)
      for (;;) {
        const left = Math.max(0, until - ctx.clock.monotonic())
        const ended = known === 'ended' ? null : ctx.watch.waitEnd(runId, Math.min(left, FOLLOW_MS), signal)
        if (known !== 'open') {
          const found = await readWhole(runId, namespaces)
          if (found.run.ended_at !== null || left === 0 || signal.aborted) return viewWhole(found, namespaces)
        }
        await ended
        known = known === 'ended' ? 'open' : null
      }
    },
    async *followLogs(runId, namespaces, filter, signal) {
      const run = await mustFind(runId, namespaces)
      const { definition } = await ctx.definitions.get(run.definition)
      const key = filter.step === null ? null : createNameIndex(definition).find(filter.step)
      if (filter.step !== null && !key)
        throw new Failure('step.not_found', `looking for step ${filter.step} of run ${runId}`)
      let after = parseCursor(filter.cursor)
      while (!signal.aborted) {
        const stop = new AbortController()
        const moved = ctx.watch.wait(runId, FOLLOW_MS, AbortSignal.any([signal, stop.signal]))
        const ended = (await mustFind(runId, namespaces)).ended_at !== null
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
    },
    async listWorkers(caller) {
      const rows = await listSessions(ctx.db, LIMITS.pageMax)
      return rows
        .filter((r) => canSeeWorker(caller, r.namespaces))
        .map((r) => ({
          worker: r.worker,
          session: r.id,
          state:
            r.state === 'ended'
              ? r.ended_code === 'worker.lost'
                ? 'lost'
                : 'ended'
              : r.expired
                ? 'lost'
                : r.draining
                  ? 'draining'
                  : 'live',
          capacity: r.capacity,
          held: r.held,
          labels: r.labels,
          modules: r.modules,
          backends: r.backends,
          version: r.version,
          heartbeatAgoMs: Math.round(r.seen_ago_ms),
          clockSkewMs: r.clock_skew_ms,
          problems:
            r.state === 'ended' || r.expired
              ? []
              : workerProblems({
                  worker: r.worker,
                  clockSkewMs: r.clock_skew_ms,
                  version: r.version,
                  serverVersion: ctx.version,
                }),
        }))
    },
  }
}

/** A live run that has not moved for long says so, and what it waits for: the first step that waits for more than other steps. */
function stalledOf(ctx: EngineContext, run: RunReadRow, steps: readonly StepView[]): { stalled?: FailureRecord } {
  if (run.ended_at !== null || run.still_ms < ctx.times.stallMs) return {}
  const reason = runReason({
    id: run.id,
    state: 'running',
    stop: run.stop,
    createdAt: run.created_at.toISOString(),
    steps: steps.flatMap((s) => (s.reason ? [{ name: s.name, reason: s.reason }] : [])),
  })
  const running = steps.filter((s) => s.reason?.code === 'running').map((s) => s.name)
  const isAtWork = reason?.code === 'running'
  const why = isAtWork ? `running: ${running.slice(0, STALLED_SHOWN).join(', ')}` : (reason?.message ?? '')
  const record = failureRecord('run.stalled', `no progress for ${Math.round(run.still_ms / 1000)} s; ${why}`, {
    evidence: {
      stillMs: Math.round(run.still_ms),
      queuedOrRunning: run.active,
      ...(reason?.step ? { step: reason.step, reason: reason.code } : {}),
      ...(running.length > 0 ? { running: running.slice(0, STALLED_SHOWN) } : {}),
    },
    remediation: isAtWork
      ? 'The steps named are at work; give a step a timeout to bound it, or cancel the run.'
      : (reason?.remediation ?? 'It goes on by itself when what it waits for has come.'),
  })
  if (!reason || !isFailureCode(reason.code)) return { stalled: record }
  const { code, evidence, remediation, retryable } = reason
  const message = steps.find((s) => s.name === reason.step)?.reason?.message ?? reason.message
  return { stalled: { ...record, cause: { code, message, evidence, remediation, retryable } } }
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
