import type { Queryable } from '../db.ts'

export interface NewSegment {
  runId: string
  node: number
  path: string
  session: string
  fence: number
  index: number
  stream: 'stdout' | 'stderr' | 'system' | 'agent'
  agoMs: number
  text: string
}

/** Appends log segments of attempts that hold their step. Twice is safe. Gives the keys (`heldKey`) of those that were accepted. */
export async function appendSegments(db: Queryable, segments: readonly NewSegment[]): Promise<Set<string>> {
  const rows = await db.query<{ key: string }>(
    `with u as materialized (
       select * from unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::int[], $6::int[], $7::text[], $8::int[], $9::text[])
         as u(run_id, node, path, session, fence, idx, stream, ago, body)
     ),
     held as materialized (
       select u.* from u
         join step s on s.run_id = u.run_id and s.node = u.node and s.path = u.path
         join session w on w.id = u.session and w.state = 'live'
        where (s.state = 'running') is true and s.session = u.session and s.fence = u.fence
     ),
     kept as (
       insert into log_segment (run_id, node, path, fence, idx, stream, at, recorded_at, body)
       select run_id, node, path, fence, idx, stream::log_stream, (select clock_now()) - ago * interval '1 ms', (select clock_now()), body from held
       on conflict do nothing
     )
     select distinct session || ' ' || run_id || '.' || node || '.' || path || '@' || fence as key from held`,
    [
      segments.map((s) => s.runId),
      segments.map((s) => s.node),
      segments.map((s) => s.path),
      segments.map((s) => s.session),
      segments.map((s) => s.fence),
      segments.map((s) => s.index),
      segments.map((s) => s.stream),
      segments.map((s) => s.agoMs),
      segments.map((s) => s.text),
    ],
    { name: 'append_segments' },
  )
  return new Set(rows.map((r) => r.key))
}

export interface SegmentRow {
  node: number
  path: string
  fence: number
  idx: number
  stream: 'stdout' | 'stderr' | 'system' | 'agent'
  at: Date
  recorded_at: Date
  body: string
}

/** Where a reader of a run's log stands: the order of recording, then of the attempt. */
export interface LogCursor {
  /** ms. */
  recordedAt: number
  node: number
  path: string
  fence: number
  idx: number
}

/** Segments of a run after a cursor, in the order in which they were recorded. */
export async function listSegments(
  db: Queryable,
  params: { runId: string; node: number | null; path: string | null; after: LogCursor | null; limit: number },
): Promise<SegmentRow[]> {
  const a = params.after
  return db.query<SegmentRow>(
    `select node, path, fence, idx, stream, at, date_trunc('milliseconds', recorded_at) as recorded_at, body from log_segment
      where run_id = $1 and ($2::int is null or node = $2) and ($3::text is null or path = $3)
        and ($4::float8 is null or (date_trunc('milliseconds', recorded_at), node, path, fence, idx)
             > ($4 * interval '1 ms' + timestamptz 'epoch', $5::int, $6::text collate "C", $7::int, $8::int))
      order by date_trunc('milliseconds', recorded_at), node, path, fence, idx limit $9`,
    [
      params.runId,
      params.node,
      params.path,
      a?.recordedAt ?? null,
      a?.node ?? 0,
      a?.path ?? '',
      a?.fence ?? 0,
      a?.idx ?? 0,
      params.limit,
    ],
    { name: 'list_segments' },
  )
}
