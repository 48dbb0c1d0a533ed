import type { Queryable } from '../db.ts'

export interface RunTimes {
  id: string
  namespace: string
  workflow: string
  state: string
  epoch: number
  trace: string | null
  createdAt: Date
  endedAt: Date
  code: string | null
}

/** When runs that have ended began and ended, and in which trace; what runs on is left out. */
export async function findRunTimes(db: Queryable, ids: readonly string[]): Promise<RunTimes[]> {
  return db.query(
    `select id, namespace, workflow, state, epoch, trace, created_at as "createdAt", ended_at as "endedAt", failure->>'code' as code
       from run where id = any($1::text[]) and ended_at is not null`,
    [ids],
    { name: 'find_run_times' },
  )
}
