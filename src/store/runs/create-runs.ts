import type { Queryable } from '../db.ts'

export interface RunRow {
  id: string
  namespace: string
  workflow: string
  definition: string
  /** JSON text. */
  inputs: string
  labels: string
  nodes: number
  /** Steps without needs that are plain: queued at once. */
  roots: number
  /** Changes of the first event, JSON text. */
  changes: string
  idempotency: { scope: string; key: string; fingerprint: string } | null
  /** The root that is to be born leased, and to which session; the other roots wait in their queues. */
  born: { node: number; session: string } | null
  /** The `traceparent` of its request, of which the run is a part; none when its trace is its own. */
  trace?: string | null
  /** Id of the token that asked for it; null of a child. */
  createdBy: string | null
}

/** A root step that was born leased to a session. */
export interface BornLease {
  runId: string
  node: number
  session: string
}

export interface CreatedRows {
  /** Runs that exist now because of this call; the others' idempotency key was taken. */
  created: Set<string>
  /** Root steps that were leased; what was asked for and is missing here waits in its queue. */
  leased: BornLease[]
}

/** Setting up the part with the keys costs as much as a run, so runs without keys go without it. */
const sqlFor = (keyed: boolean): string => `
with i as materialized (
  select u.*, c.now, (select w.id from session w where w.id = u.wanted and w.state = 'live') as session
    from (select clock_now() as now offset 0) c,
         unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::int[], $9::text[], $10::int[], $11::text[], $13::text[], $14::text[]
                ${keyed ? ', $15::text[], $16::text[], $17::text[]' : ''})
      as u(id, namespace, workflow, definition, inputs, labels, nodes, roots, changes, born, wanted, trace, created_by ${keyed ? ', scope, key, fingerprint' : ''})
),
${
  keyed
    ? `keys as (
  insert into idempotency_key (scope, key, fingerprint, run_id, created_at)
  select scope, key, fingerprint, id, now from i where key is not null
   order by scope, key -- two batches with the same keys then wait for each other in one order
  on conflict do nothing
  returning run_id
),
n as materialized (select * from i where key is null or id in (select run_id from keys)),`
    : 'n as (select * from i),'
}
runs as (
  insert into run (id, namespace, workflow, definition, state, open, active, total, inputs, labels, trace, created_at, moved_at, created_by)
  select id, namespace, workflow, definition, 'pending', nodes, roots, nodes, inputs::jsonb, labels::jsonb, trace, now, now, created_by from n
),
steps as (
  insert into step (run_id, node, state, queue_id, need, total, fence, session, due_at, queued_at, leased_at)
  select n.id, dn.node,
         case when dn.total > 0 or dn.decided then 'pending'::step_state
              when dn.node = n.born and n.session is not null then 'running' else 'queued' end,
         dn.queue_id, dn.need, dn.total,
         case when dn.node = n.born and n.session is not null then 1 else 0 end,
         case when dn.node = n.born then n.session end,
         case when dn.total > 0 then null
              when dn.decided then n.now
              when dn.node = n.born and n.session is not null then n.now + dn.timeout_ms * interval '1 ms' + $12::int * interval '1 ms'
              else n.now + dn.queue_timeout_ms * interval '1 ms' end,
         case when dn.total = 0 and not dn.decided then n.now end,
         case when dn.node = n.born and n.session is not null then n.now end
    from n join definition_node dn on dn.definition = n.definition
),
events as (
  insert into event (run_id, seq, at, changes) select id, 1, now, changes::json from n
)
select id, born, session from n`

const SQL = sqlFor(false)
const KEYED_SQL = sqlFor(true)

/** Creates runs with their steps and first events, in one statement; roots asked for are born leased. */
export async function createRuns(db: Queryable, rows: readonly RunRow[], graceMs: number): Promise<CreatedRows> {
  const keyed = rows.some((r) => r.idempotency !== null)
  const out = await db.query<{ id: string; born: number | null; session: string | null }>(
    keyed ? KEYED_SQL : SQL,
    [
      rows.map((r) => r.id),
      rows.map((r) => r.namespace),
      rows.map((r) => r.workflow),
      rows.map((r) => r.definition),
      rows.map((r) => r.inputs),
      rows.map((r) => r.labels),
      rows.map((r) => r.nodes),
      rows.map((r) => r.roots),
      rows.map((r) => r.changes),
      rows.map((r) => r.born?.node ?? null),
      rows.map((r) => r.born?.session ?? null),
      graceMs,
      rows.map((r) => r.trace ?? null),
      rows.map((r) => r.createdBy),
      ...(keyed
        ? [
            rows.map((r) => r.idempotency?.scope ?? null),
            rows.map((r) => r.idempotency?.key ?? null),
            rows.map((r) => r.idempotency?.fingerprint ?? null),
          ]
        : []),
    ],
    { name: keyed ? 'create_keyed_runs' : 'create_runs' },
  )
  const created = new Set<string>()
  const leased: BornLease[] = []
  for (const row of out) {
    created.add(row.id)
    if (row.born !== null && row.session !== null) leased.push({ runId: row.id, node: row.born, session: row.session })
  }
  return { created, leased }
}

/** Runs that hold idempotency keys. */
export async function findIdempotent(
  db: Queryable,
  keys: readonly { scope: string; key: string }[],
): Promise<{ scope: string; key: string; fingerprint: string; runId: string }[]> {
  return db.query(
    `select k.scope, k.key, k.fingerprint, k.run_id as "runId"
       from unnest($1::text[], $2::text[]) as w(scope, key)
       join idempotency_key k on k.scope = w.scope and k.key = w.key`,
    [keys.map((k) => k.scope), keys.map((k) => k.key)],
    { name: 'find_idempotent' },
  )
}
