import type { Json } from '../../base/json.ts'
import type { Queryable } from '../db.ts'

/** One call of an agent, by the activation that makes it. */
export interface MemoryCall {
  runId: string
  node: number
  path: string
  call: string
}

/** What a call that was made gave; null: it was not made, or so long ago that it is forgotten. */
export async function findCall(
  db: Queryable,
  { runId, node, path, call }: MemoryCall,
): Promise<{ result: Json } | null> {
  const [row] = await db.query<{ result: Json }>(
    `select result from memory_call where run_id = $1 and node = $2 and path = $3 and call = $4`,
    [runId, node, path, call],
    { name: 'find_memory_call' },
  )
  return row ?? null
}

/** Records a call with what it changes. False: it was made already, and what this transaction changed is to be given up. */
export async function recordCall(tx: Queryable, of: MemoryCall, result: Json): Promise<boolean> {
  const { runId, node, path, call } = of
  const rows = await tx.query(
    `insert into memory_call (run_id, node, path, call, result, made_at) values ($1, $2, $3, $4, $5::text::jsonb, clock_now())
     on conflict do nothing returning 1 as one`,
    [runId, node, path, call, JSON.stringify(result)],
    { name: 'record_memory_call' },
  )
  return rows.length > 0
}

/** Holds the step of an attempt as it is until the transaction ends; false: the attempt does not hold it. */
export async function holdStep(
  tx: Queryable,
  { runId, node, path, session, fence }: Omit<MemoryCall, 'call'> & { session: string; fence: number },
): Promise<boolean> {
  const rows = await tx.query(
    `select 1 as one from step s join session w on w.id = $4 and w.state = 'live'
      where s.run_id = $1 and s.node = $2 and s.path = $3 and (s.state = 'running') is true and s.session = $4 and s.fence = $5 for share of s`,
    [runId, node, path, session, fence],
    { name: 'hold_memory_step' },
  )
  return rows.length > 0
}

/** The run at the top of those that a run is below; itself when there is none. */
export async function findTopRun(db: Queryable, runId: string): Promise<string> {
  const [row] = await db.query<{ id: string }>(
    `with recursive up as (
       select id, parent_run from run where id = $1 union all select r.id, r.parent_run from up join run r on r.id = up.parent_run
     )
     select id from up where parent_run is null`,
    [runId],
    { name: 'find_top_run' },
  )
  return row?.id ?? runId
}
