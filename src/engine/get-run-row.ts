import { Failure } from '../domain/failure.ts'
import { findRun, type RunReadRow } from '../store/runs/read-runs.ts'
import type { EngineContext } from './context.ts'

/** The row of a run. Throws `run.not_found` when there is none in these namespaces. */
export async function getRunRow(
  ctx: EngineContext,
  runId: string,
  namespaces: readonly string[] | null,
): Promise<RunReadRow> {
  const row = await findRun(ctx.db, runId, namespaces)
  if (!row) throw new Failure('run.not_found', `looking for run ${runId}`)
  return row
}
