import type {
  ArtifactsRequest,
  ChunkRequest,
  ContentRequest,
  ExportsRequest,
  FilesRequest,
} from '../contract/exchange.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Answer, Exchange } from './context.ts'

// Bodies and queries were checked by their route: that is the reason for each `as` here.

export async function artifacts(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.takeArtifacts(x.caller, x.body as ArtifactsRequest))
}

export async function chunk(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.takeChunk(x.caller, x.body as ChunkRequest))
}

export async function exports(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.takeExports(x.caller, x.body as ExportsRequest))
}

export async function files(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.listWanted(x.caller, x.body as FilesRequest))
}

export async function content(x: Exchange): Promise<Answer> {
  return x.respondJson(200, await x.deps.engine.readWanted(x.caller, x.body as ContentRequest))
}

export async function listArtifacts(x: Exchange): Promise<Answer> {
  const q = x.query as { cursor?: string; limit?: number }
  const page = { cursor: q.cursor ?? null, limit: q.limit ?? LIMITS.pageDefault }
  return x.respondJson(200, await x.deps.engine.listArtifacts(x.caller, x.param('id'), page))
}

/** The file as an attachment of no type: a browser must never run what a step wrote in the name of this server. */
export async function downloadArtifact(x: Exchange): Promise<Answer> {
  const { view, read } = await x.deps.engine.openArtifact(
    x.caller,
    x.param('id'),
    x.query as { step: string; name: string },
  )
  const etag = `"${view.sha256}"`
  const known = (x.header('if-none-match') ?? '').split(',').map((tag) => tag.trim().replace(/^W\//, ''))
  if (known.includes(etag) || known.includes('*')) return x.respond(304, '', { etag })
  const file = view.name.split('/').at(-1) ?? 'artifact'
  return x.respond(200, pulled(read(), x.signal), {
    'content-type': 'application/octet-stream',
    'content-length': String(view.bytes),
    'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(file)}`,
    etag,
  })
}

/** A body that reads no further than it is read; whoever leaves ends it. A source that fails cuts the connection, so that nobody takes a part for the whole. */
function pulled(source: AsyncIterable<Uint8Array>, signal: AbortSignal): ReadableStream<Uint8Array> {
  const items = source[Symbol.asyncIterator]()
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const next = await items.next()
        if (next.done === true || signal.aborted) controller.close()
        else controller.enqueue(next.value)
      },
      async cancel() {
        await items.return?.()
      },
    },
    { highWaterMark: 0 },
  )
}
