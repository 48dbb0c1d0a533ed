import type { Queryable } from '../db.ts'

/** An attempt that wants to write into the journal of its activation. */
export interface JournalAttempt {
  runId: string
  node: number
  path: string
  session: string
  fence: number
}

export interface HeldActivation {
  runId: string
  node: number
  path: string
  fence: number
  session: string
  /** Which journal of the activation counts: see `step.journal_from`. */
  journalFrom: number
  /** ms, by the database's clock. */
  now: number
  /** Version of the resources when the lock was asked for. */
  version: number
}

/**
 * Locks the steps that these attempts hold, to the end of the transaction; those that hold none are left out. Whoever writes into a journal holds its
 * step, so that its numbers have no gap and nothing is written for an attempt after the next one has begun.
 */
export async function holdSteps(tx: Queryable, attempts: readonly JournalAttempt[]): Promise<HeldActivation[]> {
  const rows = await tx.query<Omit<HeldActivation, 'now'> & { now: Date }>(
    `select s.run_id as "runId", s.node, s.path, s.fence, s.session, s.journal_from as "journalFrom", clock_now() as now,
            (select version from resource_clock) as version
       from unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::int[]) as k(run_id, node, path, session, fence)
       join step s on s.run_id = k.run_id and s.node = k.node and s.path = k.path
      where (s.state = 'running') is true and s.session = k.session and s.fence = k.fence
        and (k.session in (select w.id from session w where w.id = any($4::text[]) and w.state = 'live')) is true
      order by s.run_id, s.node, s.path for no key update of s`,
    columnsOf(attempts),
    { name: 'hold_steps' },
  )
  return rows.map((row) => ({ ...row, now: row.now.getTime() }))
}

export const columnsOf = (attempts: readonly JournalAttempt[]): [string[], number[], string[], string[], number[]] => [
  attempts.map((a) => a.runId),
  attempts.map((a) => a.node),
  attempts.map((a) => a.path),
  attempts.map((a) => a.session),
  attempts.map((a) => a.fence),
]
