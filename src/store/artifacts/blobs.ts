import type { Queryable } from '../db.ts'

export interface BlobKey {
  namespace: string
  /** In hex. */
  sha256: string
}

export interface NewBlob extends BlobKey {
  bytes: number
}

/** Announces contents that are about to be uploaded. Gives those that are not there yet, whole and found right. Twice is safe. */
export async function openBlobs(db: Queryable, blobs: readonly NewBlob[]): Promise<BlobKey[]> {
  return db.query(
    `with u as materialized (select distinct namespace, sha256, bytes from unnest($1::text[], $2::text[], $3::bigint[]) as u(namespace, sha256, bytes)),
     opened as (
       insert into blob (namespace, sha256, bytes, created_at) select namespace, sha256, bytes, clock_now() from u order by namespace, sha256
       -- Somebody uploads it again: the sweep of what nobody needs shall not take it meanwhile.
       on conflict (namespace, sha256) do update set created_at = excluded.created_at
       returning namespace, sha256, verified_at)
     select namespace, sha256 from opened where verified_at is null`,
    [blobs.map((b) => b.namespace), blobs.map((b) => b.sha256), blobs.map((b) => b.bytes)],
    { name: 'open_blobs' },
  )
}

/** Keeps one piece of a content that was announced and is not whole yet, no further than its size. False otherwise. Twice is safe. */
export async function putChunk(
  db: Queryable,
  chunk: BlobKey & { index: number; base64: string; chunkBytes: number },
): Promise<boolean> {
  const rows = await db.query(
    `insert into blob_chunk (namespace, sha256, idx, body)
     select b.namespace, b.sha256, $3::int, decode($4::text, 'base64') from blob b
      where b.namespace = $1 and b.sha256 = $2 and b.verified_at is null and $3::int::bigint * $5::bigint < b.bytes
     on conflict (namespace, sha256, idx) do update set body = excluded.body
     returning 1 as one`,
    [chunk.namespace, chunk.sha256, chunk.index, chunk.base64, chunk.chunkBytes],
    { name: 'put_chunk' },
  )
  return rows.length > 0
}

/** One piece of a content; null behind the last one. */
export async function findChunk(db: Queryable, key: BlobKey, index: number): Promise<Buffer | null> {
  const rows = await db.query<{ body: string }>(
    `select encode(body, 'base64') as body from blob_chunk where namespace = $1 and sha256 = $2 and idx = $3`,
    [key.namespace, key.sha256, index],
    { name: 'find_chunk' },
  )
  return rows[0] ? Buffer.from(rows[0].body, 'base64') : null
}

/** One piece, in base64, of a content that a file of these steps has; null behind the last piece, and when no such file has it any more. */
export async function findChunkOf(
  db: Queryable,
  key: { runId: string; nodes: readonly number[]; sha256: string; index: number },
): Promise<string | null> {
  const rows = await db.query<{ body: string }>(
    `select encode(c.body, 'base64') as body
       from (select namespace, sha256 from artifact
              where run_id = $1 and node = any($2::int[]) and sha256 = $3 and expires_at > (select clock_now()) limit 1) a
       join blob_chunk c on c.namespace = a.namespace and c.sha256 = a.sha256 and c.idx = $4`,
    [key.runId, key.nodes, key.sha256, key.index],
    { name: 'find_chunk_of' },
  )
  return rows[0]?.body.replaceAll('\n', '') ?? null
}

/** The content is all there and its checksum right. */
export async function confirmBlob(db: Queryable, key: BlobKey): Promise<void> {
  await db.query(
    `update blob set verified_at = clock_now() where namespace = $1 and sha256 = $2 and verified_at is null`,
    [key.namespace, key.sha256],
    { name: 'confirm_blob' },
  )
}

/** Forgets what was uploaded of a content, so that it can be uploaded anew. A whole one stays. */
export async function discardChunks(db: Queryable, key: BlobKey): Promise<void> {
  await db.query(
    `delete from blob_chunk c using blob b
      where b.namespace = $1 and b.sha256 = $2 and b.verified_at is null and c.namespace = b.namespace and c.sha256 = b.sha256`,
    [key.namespace, key.sha256],
    { name: 'discard_chunks' },
  )
}

/** Removes contents that no artifact names and that nobody announced for a while. Gives how many. */
export async function sweepBlobs(db: Queryable, params: { idleMs: number; limit: number }): Promise<number> {
  const rows = await db.query<{ count: number }>(
    `with idle as materialized (
       select b.namespace, b.sha256 from blob b
        where b.created_at < (select clock_now()) - $1::float8 * interval '1 ms'
          and not exists (select 1 from artifact a where a.namespace = b.namespace and a.sha256 = b.sha256)
        order by b.namespace, b.sha256 limit $2 for update skip locked),
     chunks as (delete from blob_chunk c using idle i where c.namespace = i.namespace and c.sha256 = i.sha256),
     gone as (delete from blob b using idle i where b.namespace = i.namespace and b.sha256 = i.sha256 returning 1)
     select count(*)::int as count from gone`,
    [params.idleMs, params.limit],
    { name: 'sweep_blobs' },
  )
  return rows[0]?.count ?? 0
}
