import type { Queryable } from '../db.ts'

/** A change as it is stored; `of` is `run` or a step's name with indices. */
export interface StoredChange {
  of: string
  to: string
  fence?: number
  worker?: string
  code?: string
  at?: string
  note?: string
}

export interface EventRow {
  seq: number
  at: Date
  changes: StoredChange[]
}

/** Whoever asks for what comes after more than this gets nothing, as after any number that is not reached. */
const SEQ_MAX = 2 ** 31 - 1

/** Events of a run after a number, in order, a page. */
export async function listEvents(db: Queryable, runId: string, afterSeq: number, limit: number): Promise<EventRow[]> {
  return db.query<EventRow>(
    `select seq, at, changes from event where run_id = $1 and seq > $2 order by seq limit $3`,
    [runId, Math.min(afterSeq, SEQ_MAX), limit],
    { name: 'list_events' },
  )
}
