import type { ContentRequest, ContentResponse, FilesRequest, FilesResponse } from '../contract/exchange.ts'
import { indexOf } from '../domain/step.ts'
import { type FileWant, WantedFiles } from '../domain/wanted-files.ts'
import { takesFiles } from '../domain/workflow.ts'
import { listArtifactsOf } from '../store/artifacts/artifacts.ts'
import { findChunkOf } from '../store/artifacts/blobs.ts'
import type { EngineContext } from './context.ts'
import type { Dispatcher } from './dispatcher.ts'
import type { Caller } from './engine.ts'
import { heldStep, type HeldStep } from './held-step.ts'

/** Each page is looked through at one go, and others wait meanwhile. */
const PAGE = 250

const wantsOf = ({ at, definition }: HeldStep): readonly FileWant[] => {
  const node = definition.nodes[at.node]
  return (node && takesFiles(node) && node.files) || []
}

/** The files of earlier steps that an attempt is given: those that its step names, and no others. */
export async function listWanted(
  ctx: EngineContext,
  dispatcher: Dispatcher,
  caller: Caller,
  request: FilesRequest,
): Promise<FilesResponse> {
  const held = await heldStep(ctx, dispatcher, caller, request)
  if (!held) return { state: 'stale', files: [] }
  const wants = wantsOf(held)
  const wanted = new WantedFiles(wants)
  for (const node of new Set(wants.map((want) => want.from))) {
    let after = { path: '', name: '' }
    for (let isMore = true; isMore && !wanted.areTooMany;) {
      const rows = await listArtifactsOf(ctx.db, { runId: held.at.runId, node, after, limit: PAGE })
      for (const { path, name, bytes, sha256 } of rows)
        wanted.add({ node, index: path === '' ? null : indexOf(path), name, bytes, sha256 })
      isMore = rows.length === PAGE
      after = rows.at(-1) ?? after
    }
  }
  return { state: 'held', files: wanted.files }
}

/** One piece of a content of those files. */
export async function readWanted(
  ctx: EngineContext,
  dispatcher: Dispatcher,
  caller: Caller,
  request: ContentRequest,
): Promise<ContentResponse> {
  const held = await heldStep(ctx, dispatcher, caller, request)
  if (!held) return { base64: null }
  const nodes = wantsOf(held).map((want) => want.from)
  const { sha256, index } = request
  return { base64: await findChunkOf(ctx.db, { runId: held.at.runId, nodes, sha256, index }) }
}
