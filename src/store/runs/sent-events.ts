import type { Json } from '../../base/json.ts'
import type { KeptEvent } from '../../domain/advance/needs.ts'
import type { Queryable } from '../db.ts'

export interface NewSentEvent {
  id: string
  runId: string
  name: string
  key: string | null
  payload: Json
  by: string
}

/** Keeps an event for a run. `known`: one was sent under this key before, which stays as it is. The run's row must be locked. */
export async function insertSentEvent(
  tx: Queryable,
  event: NewSentEvent,
): Promise<{ kind: 'kept' } | { kind: 'known'; id: string; name: string; payload: Json }> {
  const inserted = await tx.query(
    `insert into sent_event (run_id, id, name, key, payload, sent_at, sent_by) values ($1, $2, $3, $4, $5::text::jsonb, clock_now(), $6)
     on conflict do nothing returning id`,
    [event.runId, event.id, event.name, event.key, JSON.stringify(event.payload), event.by],
    { name: 'insert_sent_event' },
  )
  if (inserted.length > 0) return { kind: 'kept' }
  const rows = await tx.query<{ id: string; name: string; payload: Json }>(
    `select id, name, payload from sent_event where run_id = $1 and key = $2`,
    [event.runId, event.key],
    { name: 'find_sent_event' },
  )
  return { kind: 'known', ...(rows[0] ?? { id: event.id, name: event.name, payload: event.payload }) }
}

/** How many events of a run no step has taken. */
export async function countKept(tx: Queryable, runId: string): Promise<number> {
  const rows = await tx.query<{ n: number }>(
    `select count(*)::int as n from sent_event where run_id = $1 and node is null`,
    [runId],
    { name: 'count_kept_events' },
  )
  return rows[0]?.n ?? 0
}

/** Which step took an event: null while it is kept. */
export async function findTaker(
  tx: Queryable,
  runId: string,
  id: string,
): Promise<{ node: number; path: string } | null> {
  const rows = await tx.query<{ node: number; path: string }>(
    `select node, path from sent_event where run_id = $1 and id = $2 and node is not null`,
    [runId, id],
    { name: 'find_event_taker' },
  )
  return rows[0] ?? null
}

/** Events of a name that no step has taken, oldest first. */
export async function listKept(tx: Queryable, runId: string, name: string): Promise<KeptEvent[]> {
  return tx.query(
    `select id, payload from sent_event where run_id = $1 and name = $2 and node is null order by id`,
    [runId, name],
    { name: 'list_kept_events' },
  )
}
