import type { Queryable } from '../db.ts'
import type { Origin } from './origins.ts'
import type { SpendingKey } from './spending.ts'

/** What is set aside for a call that is about to be made. */
export interface Hold extends CallOfHold, HoldDraft {}

/** What is set aside, without where the call is made. */
export interface HoldDraft {
  call: string
  origin: Origin
  agent: string
  endpoint: string
  tokens: number
  cost: { nanos: number; currency: string } | null
}

/** Sets aside. The same call again replaces what was set aside for it. */
export async function putHolds(tx: Queryable, holds: readonly Hold[], forMs: number): Promise<void> {
  if (holds.length === 0) return
  await tx.query(
    `insert into spending_hold (run_id, node, path, call, namespace, root_run, workflows, labels, agent, endpoint, tokens, nanos, currency, expires_at)
     select h.run_id, h.node, h.path, h.call, h.namespace, h.root_run, array(select jsonb_array_elements_text(h.workflows)), h.labels, h.agent, h.endpoint,
            h.tokens, h.nanos, h.currency, (select clock_now()) + $14::float8 * interval '1 ms'
       from unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::jsonb[], $9::text[], $10::text[], $11::bigint[],
                   $12::bigint[], $13::text[])
         as h(run_id, node, path, call, namespace, root_run, workflows, labels, agent, endpoint, tokens, nanos, currency)
     ${REPLACING_HOLD}`,
    [...callColumns(holds), ...holdColumns(holds), forMs],
    { name: 'put_holds' },
  )
}

export const REPLACING_HOLD = `on conflict (run_id, node, path, call) do update
        set tokens = excluded.tokens, nanos = excluded.nanos, currency = excluded.currency, agent = excluded.agent, endpoint = excluded.endpoint,
            expires_at = excluded.expires_at`

/** Drafts by column, without their calls: namespace, root_run, workflows and labels as JSON, agent, endpoint, tokens, nanos, currency. */
export const holdColumns = (holds: readonly HoldDraft[]): unknown[][] => [
  holds.map((h) => h.origin.namespace),
  holds.map((h) => h.origin.rootRun),
  holds.map((h) => JSON.stringify(h.origin.workflows)),
  holds.map((h) => JSON.stringify(h.origin.labels)),
  holds.map((h) => h.agent),
  holds.map((h) => h.endpoint),
  holds.map((h) => h.tokens),
  holds.map((h) => h.cost?.nanos ?? null),
  holds.map((h) => h.cost?.currency ?? null),
]

/** Names the call that something is set aside for. */
export type CallOfHold = Omit<SpendingKey, 'generation'>

/** Gives back what was set aside for calls, whose columns are the parameters from `$first` on. */
export const droppingHolds = (first: number): string =>
  `delete from spending_hold where (run_id, node, path, call) in
     (select * from unnest($${first}::text[], $${first + 1}::int[], $${first + 2}::text[], $${first + 3}::text[]))`

export const callColumns = (calls: readonly CallOfHold[]): unknown[] => [
  calls.map((c) => c.runId),
  calls.map((c) => c.node),
  calls.map((c) => c.path),
  calls.map((c) => c.call),
]

/** Gives back what was set aside for calls. */
export async function dropHolds(tx: Queryable, calls: readonly CallOfHold[]): Promise<void> {
  if (calls.length > 0) await tx.query(droppingHolds(1), callColumns(calls), { name: 'drop_holds' })
}

/** Gives back what is set aside for calls that nobody will tell of: their step has ended or is gone, or their time is over. A call of
 * no step has a node below 0. Returns how many. */
export async function sweepHolds(db: Queryable, limit: number): Promise<number> {
  const rows = await db.query(
    `delete from spending_hold h using (
       select o.run_id, o.node, o.path, o.call from spending_hold o
         left join step s on s.run_id = o.run_id and s.node = o.node and s.path = o.path
        where o.expires_at < (select clock_now()) or o.node >= 0 and (s.run_id is null or s.ended_at is not null)
        limit $1) old
      where h.run_id = old.run_id and h.node = old.node and h.path = old.path and h.call = old.call
      returning h.call`,
    [limit],
  )
  return rows.length
}
