import { createHash } from 'node:crypto'
import type { ArtifactView, Page } from '../contract/api-types.ts'
import type { ArtifactsRequest, ArtifactsResponse, ChunkRequest, ChunkResponse } from '../contract/exchange.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { displayName } from '../domain/step.ts'
import type { Definition } from '../domain/workflow.ts'
import { type ArtifactRow, findArtifact, listArtifacts, recordArtifacts } from '../store/artifacts/artifacts.ts'
import { type BlobKey, confirmBlob, discardChunks, findChunk, openBlobs, putChunk } from '../store/artifacts/blobs.ts'
import { findRun } from '../store/runs/read-runs.ts'
import type { EngineContext } from './context.ts'
import type { Dispatcher } from './dispatcher.ts'
import type { Caller } from './engine.ts'
import { heldStep } from './held-step.ts'
import { createNameIndex } from './views.ts'

/**
 * Takes the files of an attempt. Their contents come first, each once per namespace: what is not there yet is answered as `missing`, and the worker
 * sends it in pieces and asks again with `sent`. Only when all is there, and found right, are the files recorded, all at once.
 */
export async function takeArtifacts(
  ctx: EngineContext,
  dispatcher: Dispatcher,
  caller: Caller,
  request: ArtifactsRequest,
): Promise<ArtifactsResponse> {
  const held = await heldStep(ctx, dispatcher, caller, request)
  if (!held) return { state: 'stale', missing: [] }
  const { at, definition } = held
  const { namespace } = definition
  const files = request.files
  const contents = new Map(files.map((f) => [f.sha256, { namespace, sha256: f.sha256, bytes: f.bytes }]))
  const open = await openBlobs(ctx.db, [...contents.values()])
  const missing: string[] = []
  for (const { sha256 } of open) {
    const bytes = contents.get(sha256)?.bytes ?? 0
    const isWhole = (request.sent || bytes === 0) && (await checkContent(ctx, { namespace, sha256 }, bytes))
    if (!isWhole) missing.push(sha256)
  }
  if (missing.length > 0) return { state: 'open', missing }
  const recorded = await recordArtifacts(
    ctx.db,
    files.map((f) => ({ ...at, session: request.session, fence: request.fence, namespace, ...f })),
  )
  return { state: recorded.size === new Set(files.map((f) => f.name)).size ? 'recorded' : 'stale', missing: [] }
}

/** Keeps one piece of a content that an attempt is sending. */
export async function takeChunk(
  ctx: EngineContext,
  dispatcher: Dispatcher,
  caller: Caller,
  request: ChunkRequest,
): Promise<ChunkResponse> {
  const held = await heldStep(ctx, dispatcher, caller, request)
  if (!held) return { kept: false }
  const { sha256, index, base64 } = request
  const chunkBytes = LIMITS.artifactChunkBytes
  return { kept: await putChunk(ctx.db, { namespace: held.definition.namespace, sha256, index, base64, chunkBytes }) }
}

/** Whether a content is all there with the checksum that names it. What is wrong is forgotten, so that it can be sent anew. */
async function checkContent(ctx: EngineContext, key: BlobKey, bytes: number): Promise<boolean> {
  const hash = createHash('sha256')
  let read = 0
  for (let index = 0; read < bytes; index++) {
    const chunk = await findChunk(ctx.db, key, index)
    if (chunk === null) break
    hash.update(chunk)
    read += chunk.length
  }
  if (read === bytes && hash.digest('hex') === key.sha256) {
    await confirmBlob(ctx.db, key)
    return true
  }
  await discardChunks(ctx.db, key)
  return false
}

interface ReadableRun {
  definition: Definition
}

async function mustSee(ctx: EngineContext, runId: string, namespaces: readonly string[] | null): Promise<ReadableRun> {
  const run = await findRun(ctx.db, runId, namespaces)
  if (!run) throw new Failure('run.not_found', `looking for run ${runId}`)
  return ctx.definitions.get(run.definition)
}

const viewOf = (definition: Definition, row: ArtifactRow): ArtifactView => ({
  step: displayName(definition.nodes[row.node]?.name ?? '', row.path),
  name: row.name,
  bytes: row.bytes,
  sha256: row.sha256,
  createdAt: row.created_at.toISOString(),
  expiresAt: row.expires_at.toISOString(),
})

/** Files that the steps of a run left, in the order of the steps. */
export async function listRunArtifacts(
  ctx: EngineContext,
  namespaces: readonly string[] | null,
  runId: string,
  page: { cursor: string | null; limit: number },
): Promise<Page<ArtifactView>> {
  const { definition } = await mustSee(ctx, runId, namespaces)
  const size = Math.min(page.limit, LIMITS.pageMax)
  const rows = await listArtifacts(ctx.db, { runId, after: placeOf(page.cursor), limit: size + 1 })
  const last = rows[size - 1]
  const next = rows.length > size && last ? cursorOf(last) : null
  return { items: rows.slice(0, size).map((row) => viewOf(definition, row)), next }
}

const cursorOf = (row: ArtifactRow): string =>
  Buffer.from(JSON.stringify([row.node, row.path, row.name])).toString('base64url')

function placeOf(cursor: string | null): { node: number; path: string; name: string } | null {
  if (cursor === null) return null
  try {
    const place = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8')) as unknown
    if (Array.isArray(place) && place.length === 3) {
      const [node, path, name] = place as unknown[]
      if (Number.isInteger(node) && Math.abs(Number(node)) < 2 ** 31 && isText(path) && isText(name))
        return { node: Number(node), path, name }
    }
  } catch {
    // Refused below, like everything else that this server did not give out.
  }
  throw new Failure('request.invalid', 'reading the cursor of a page of artifacts')
}

const isText = (value: unknown): value is string =>
  typeof value === 'string' && value.isWellFormed() && !value.includes('\0')

/** One file of a run with its bytes, read as they are asked for. Throws `artifact.not_found`, also when its time is over. */
export async function openRunArtifact(
  ctx: EngineContext,
  namespaces: readonly string[] | null,
  runId: string,
  file: { step: string; name: string },
): Promise<{ view: ArtifactView; read(): AsyncIterable<Uint8Array> }> {
  const { definition } = await mustSee(ctx, runId, namespaces)
  const key = createNameIndex(definition).find(file.step)
  const row = key && (await findArtifact(ctx.db, { runId, ...key, name: file.name }))
  if (!row) throw new Failure('artifact.not_found', `looking for ${file.name} of step ${file.step} of run ${runId}`)
  async function* read(found: ArtifactRow): AsyncIterable<Uint8Array> {
    let left = found.bytes
    for (let index = 0; left > 0; index++) {
      const chunk = await findChunk(ctx.db, found, index)
      // Its time was over while it was read; whoever reads must not take the rest for the whole.
      if (chunk === null) throw new Failure('artifact.not_found', `reading ${found.name} of run ${runId} to its end`)
      left -= chunk.length
      yield chunk
    }
  }
  return { view: viewOf(definition, row), read: () => read(row) }
}
