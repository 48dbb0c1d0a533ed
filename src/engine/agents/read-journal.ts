import type { StepJournal } from '../../contract/api-types.ts'
import type { JournalRequest, JournalResponse } from '../../contract/exchange.ts'
import { Failure } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import { listEntries } from '../../store/journal/read-entries.ts'
import { findJournalFrom } from '../../store/journal/find-journal-from.ts'
import { findRun } from '../../store/runs/read-runs.ts'
import type { EngineContext } from '../context.ts'
import type { Dispatcher } from '../dispatcher.ts'
import type { Caller } from '../engine.ts'
import { heldStep } from '../held-step.ts'
import { createNameIndex } from '../views.ts'

/** What an attempt goes on from: all entries of its activation that still count. */
export async function readJournal(
  ctx: EngineContext,
  dispatcher: Dispatcher,
  caller: Caller,
  request: JournalRequest,
): Promise<JournalResponse> {
  const held = await heldStep(ctx, dispatcher, caller, request)
  if (!held) return { state: 'stale', entries: [], next: null }
  const page = await pageOf(ctx, { ...held.at, from: request.from, limit: LIMITS.journalPageMax, counting: true })
  return { state: 'held', ...page }
}

async function pageOf(
  ctx: EngineContext,
  at: { runId: string; node: number; path: string; from: number; limit: number; counting: boolean },
): Promise<Pick<JournalResponse, 'entries' | 'next'>> {
  const found = await listEntries(ctx.db, { ...at, limit: at.limit + 1, bytes: LIMITS.journalPageBytes })
  // Fewer may have come because of their size; only an empty page says for sure that nothing is left.
  const entries = found.slice(0, at.limit)
  const last = entries.at(-1)
  return { entries, next: last === undefined ? null : last.seq + 1 }
}

/** The journal of a step for whoever may see its run. Throws `run.not_found` and `step.not_found`. */
export async function showJournal(
  ctx: EngineContext,
  namespaces: readonly string[] | null,
  { runId, step }: { runId: string; step: string },
  page: { from: number; limit: number },
): Promise<StepJournal> {
  const run = await findRun(ctx.db, runId, namespaces)
  if (!run) throw new Failure('run.not_found', `looking for run ${runId}`)
  const { definition } = await ctx.definitions.get(run.definition)
  const key = createNameIndex(definition).find(step)
  const countsFrom = key && (await findJournalFrom(ctx.db, { runId, ...key }))
  if (!key || countsFrom === null) throw new Failure('step.not_found', `looking for step ${step} of run ${runId}`)
  const { entries, next } = await pageOf(ctx, { runId, ...key, ...page, counting: false })
  return { items: entries, next, countsFrom }
}
