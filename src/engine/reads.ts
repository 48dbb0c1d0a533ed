import type { LogLine, Page, RunEvent, RunSummary, RunView, StepView } from '../contract/api-types.ts'
import { Failure } from '../domain/failure.ts'
import type { RunState } from '../domain/machines.ts'
import { runReason } from '../domain/reasons/run-reason.ts'
import { LIMITS } from '../domain/limits.ts'
import type { LabelTerm } from '../domain/kinds/selector.ts'
import { isWithin } from '../domain/tenancy.ts'
import { listRuns, type RunReadRow } from '../store/runs/read-runs.ts'
import { findWholeRuns, listAttempts, listSteps, type StepReadRow, type WholeRow } from '../store/steps/read-steps.ts'
import { createBatcher } from './batcher.ts'
import type { EngineContext } from './context.ts'
import { eventsAfter, FOLLOW_MS, followEvents, followLogs } from './follow-run.ts'
import { getRunRow } from './get-run-row.ts'
import { ReasonFinder } from './reasons.ts'
import { stalledOf } from './stalled.ts'
import { viewRun, viewStep } from './views.ts'

/** Steps shown with a run; the rest are listed page by page. */
const STEPS_SHOWN = 500
/** Attempts of a page of steps that are shown. */
const ATTEMPTS_SHOWN = 1_000

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
}

export function createReads(ctx: EngineContext): Reads {
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
    getSummary: async (runId, namespaces) => viewRun(await getRunRow(ctx, runId, namespaces)),
    async listRuns({ namespaces, workflow, states, terms = [], since = null, cursor, limit }) {
      const size = Math.min(limit, LIMITS.pageMax)
      const filter = { namespaces, workflow, states, terms, since, before: cursor }
      const rows = await listRuns(ctx.db, { ...filter, limit: size + 1 })
      return { items: rows.slice(0, size).map(viewRun), next: rows.length > size ? (rows[size - 1]?.id ?? null) : null }
    },
    async listSteps(runId, namespaces, { cursor, limit }) {
      const run = await getRunRow(ctx, runId, namespaces)
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
    followEvents: (runId, namespaces, afterSeq, signal) => followEvents(ctx, { runId, namespaces, afterSeq }, signal),
    followLogs: (runId, namespaces, filter, signal) => followLogs(ctx, { runId, namespaces, ...filter }, signal),
    async listEvents(runId, namespaces, afterSeq, limit) {
      await getRunRow(ctx, runId, namespaces)
      return eventsAfter(ctx, runId, afterSeq, limit)
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
  }
}
