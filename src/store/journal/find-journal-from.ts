import type { StepKey } from '../../domain/step.ts'
import type { Queryable } from '../db.ts'

/** The fence up to which entries of an activation count no more; null when there is no such activation. */
export async function findJournalFrom(db: Queryable, at: StepKey & { runId: string }): Promise<number | null> {
  const rows = await db.query<{ journal_from: number }>(
    `select journal_from from step where run_id = $1 and node = $2 and path = $3`,
    [at.runId, at.node, at.path],
    { name: 'find_journal_from' },
  )
  return rows[0]?.journal_from ?? null
}
