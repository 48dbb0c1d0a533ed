import type { JsonObject } from '../../base/json.ts'
import { organisationOf, type Reach } from '../../domain/tenancy.ts'
import type { Queryable } from '../db.ts'

/** Who did, or tried, what to which thing. */
export interface AuditEntry {
  /** Made by `ids.make('audit')`: sorts by time. */
  id: string
  /** Token id. */
  actor: string
  role: string
  /** The namespace as stored, or the organisation alone when it is about the whole of it. */
  about: { namespace: string } | { organisation: string }
  /** Resource and verb, such as `runs.cancel`. */
  action: string
  /** Id or name of what was changed. */
  object: string | null
  outcome: 'done' | 'denied'
  /** Where the request came from; null when it came from the same process. */
  address?: string | null
  requestId: string | null
  /** Never a secret. */
  details?: JsonObject
}

/** Writes entries down. In the transaction of the change: then neither is there without the other. */
export async function recordAudit(tx: Queryable, entries: readonly AuditEntry[]): Promise<void> {
  if (entries.length === 0) return
  await tx.query(
    `insert into audit (id, at, actor, role, organisation, namespace, action, object, outcome, address, request_id, details)
     select id, clock_now(), actor, role, organisation, namespace, action, object, outcome, address, request_id, details::jsonb
       from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[])
         as u(id, actor, role, organisation, namespace, action, object, outcome, address, request_id, details)`,
    [
      entries.map((e) => e.id),
      entries.map((e) => e.actor),
      entries.map((e) => e.role),
      entries.map(({ about }) => ('namespace' in about ? organisationOf(about.namespace) : about.organisation)),
      entries.map(({ about }) => ('namespace' in about ? about.namespace : null)),
      entries.map((e) => e.action),
      entries.map((e) => e.object),
      entries.map((e) => e.outcome),
      entries.map((e) => e.address ?? null),
      entries.map((e) => e.requestId),
      entries.map((e) => (e.details === undefined ? null : JSON.stringify(e.details))),
    ],
    { name: 'record_audit' },
  )
}

/** Forgets entries older than `keepMs`, the oldest first, at most `limit` a call. Returns how many. */
export async function pruneAudit(db: Queryable, keepMs: number, limit: number): Promise<number> {
  // Ids sort by time: the oldest are found without an index on the time.
  const rows = await db.query(
    `delete from audit where id = any(array(
       select id from (select id, at from audit order by id limit $2) oldest where at < (select clock_now()) - $1::float8 * interval '1 ms'))
     returning 1`,
    [keepMs, limit],
    { name: 'prune_audit' },
  )
  return rows.length
}

export interface AuditRow {
  id: string
  at: Date
  actor: string
  /** Name of the actor's token; null when it is not known. */
  actor_name: string | null
  role: string | null
  organisation: string
  namespace: string | null
  action: string
  object: string | null
  outcome: 'done' | 'denied'
  address: string | null
  request_id: string | null
  details: JsonObject | null
}

export interface AuditFilter {
  reach: Reach
  actor: string | null
  action: string | null
  object: string | null
  outcome: 'done' | 'denied' | null
  /** RFC 3339; entries from then on. */
  since: string | null
  /** The part of an id behind its prefix, which sorts by time: entries before it. Null from the newest. */
  before: string | null
  limit: number
}

/** Newest first. What is about a whole organisation is shown to those alone who may see the whole of it. */
export async function listAudit(db: Queryable, f: AuditFilter): Promise<AuditRow[]> {
  return db.query(
    `select a.*, t.name as actor_name
       from (select id, at, actor, role, organisation, namespace, action, object, outcome, address, request_id, details from audit
              where ($1::text[] is null
                     or (case when namespace is null then organisation || '/*' = any($1::text[]) else in_reach(namespace, $1::text[]) end))
                and ($2::text is null or actor = $2) and ($3::text is null or action = $3) and ($4::text is null or object = $4)
                and ($5::text is null or outcome = $5) and ($6::text is null or at >= $6::timestamptz)
                and ($7::text is null or id < 'aud_' || $7)
              order by id desc limit $8) a
       left join token t on t.id = a.actor
      order by a.id desc`,
    [f.reach, f.actor, f.action, f.object, f.outcome, f.since, f.before, f.limit],
    { name: 'list_audit' },
  )
}

/** Starts of runs as entries of the audit log, told from the runs themselves. Newest first. */
export async function listRunStarts(db: Queryable, f: AuditFilter): Promise<AuditRow[]> {
  return db.query(
    `select r.*, t.name as actor_name, t.role
       from (select id, created_at as at, created_by as actor,
                    case when position('/' in namespace) > 0 then split_part(namespace, '/', 1) else 'default' end as organisation,
                    namespace, 'runs.create' as action, id as object, 'done' as outcome, null as address, null as request_id,
                    jsonb_build_object('workflow', workflow) as details
               from run
              where created_by is not null and in_reach(namespace, $1::text[])
                and ($2::text is null or created_by = $2) and ($3::text is null or id = $3)
                and ($4::text is null or created_at >= $4::timestamptz) and ($5::text is null or id < 'run_' || $5)
              order by id desc limit $6) r
       left join token t on t.id = r.actor
      order by r.id desc`,
    [f.reach, f.actor, f.object, f.since, f.before, f.limit],
    { name: 'list_run_starts' },
  )
}
