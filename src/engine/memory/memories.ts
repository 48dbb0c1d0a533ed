import { createHash } from 'node:crypto'
import type { Egress } from '../../agents/index.ts'
import type { JsonObject } from '../../base/json.ts'
import type { Page } from '../../contract/api-types.ts'
import { invalidRequest } from '../../contract/check-request.ts'
import type {
  IngestMemoryRequest,
  MemoryCheckView,
  MemoryEntryDetail,
  MemoryEntryView,
  MemoryFoundView,
  MemoryIngestedView,
  MemoryWrittenView,
  PutMemoryEntryRequest,
  SearchMemoryRequest,
} from '../../contract/memory-types.ts'
import { chunkKey, chunkPrefix, chunkText } from '../../domain/agents/chunk-text.ts'
import { Failure } from '../../domain/failure.ts'
import { type MemorySpec, readMemory } from '../../domain/kinds/memory.ts'
import { LIMITS } from '../../domain/limits.ts'
import { plainNamespace } from '../../domain/tenancy.ts'
import { recordAudit } from '../../store/audit/audit.ts'
import { findCall, recordCall } from '../../store/memory/memory-calls.ts'
import { entryIn } from '../access.ts'
import type { EngineContext } from '../context.ts'
import type { Caller } from '../engine.ts'
import type { Models } from '../models.ts'
import type { ResourceEngine } from '../resources/resource-engine.ts'
import { createHttpProvider } from './http-provider.ts'
import type {
  MemoryAt,
  MemoryDeletion,
  MemoryEntry,
  MemoryFound,
  MemoryProvider,
  MemoryQuery,
  MemoryWrite,
  WriteOutcome,
} from './memory-provider.ts'
import { createStoreProvider } from './store-provider.ts'

export type MemoryVerb = 'read' | 'write' | 'search' | 'list' | 'ingest' | 'delete'

/** Names a memory and whose entries of it; a scope of null is the one that there is, else all. */
export interface MemoryRef {
  namespace: string
  name: string
  scope: string | null
}

/** What of the text of an entry a list shows. */
const EXCERPT_CHARS = 200

/** Memories, as people use them, and what is the same when agents do. */
export class Memories {
  readonly #ctx: EngineContext
  readonly #models: Models
  readonly #resources: ResourceEngine
  readonly #store: MemoryProvider
  readonly #http: ReturnType<typeof createHttpProvider>

  constructor(ctx: EngineContext, parts: { models: Models; resources: ResourceEngine; egress: Egress }) {
    this.#ctx = ctx
    this.#models = parts.models
    this.#resources = parts.resources
    this.#store = createStoreProvider({
      db: ctx.db,
      embed: (at, texts) => this.#embed(at, texts),
      onFallback: () => ctx.metrics.count('orrery_memory_fallbacks_total'),
    })
    this.#http = createHttpProvider({
      clock: ctx.clock,
      egress: parts.egress,
      credentials: (at) => this.#credentials(at),
    })
  }

  async list(
    caller: Caller,
    ref: MemoryRef,
    page: { prefix: string; cursor: string | null; limit: number },
  ): Promise<Page<MemoryEntryView>> {
    const at = await this.#find(caller, ref)
    const scope = at.spec.provider === 'http' ? scopeOf(at.spec, ref) : ref.scope && scopeOf(at.spec, ref)
    const { entries, next } = await this.measured('list', () => this.of(at.spec).list({ ...at, scope }, page))
    return { items: entries.map(viewEntry), next }
  }

  async get(caller: Caller, ref: MemoryRef, key: string): Promise<MemoryEntryDetail> {
    const at = await this.#findPlace(caller, ref)
    const entry = await this.measured('read', () => this.of(at.spec).get(at, key))
    if (!entry) throw notFound(at, key)
    return detailOf(entry)
  }

  async put(caller: Caller, ref: MemoryRef, key: string, body: PutMemoryEntryRequest): Promise<MemoryWrittenView> {
    const at = await this.#findPlace(caller, ref)
    const { text, metadata = {} } = body
    checkMetadata(metadata)
    await this.#note(caller, at, { key })
    const write = { entries: [{ key, text, metadata }], replaces: null, writtenBy: caller.actor, once: null }
    const outcome = await this.measured('write', () => this.write(at, write))
    return { key, replaced: outcome.kind === 'written' && outcome.replaced.includes(key) }
  }

  async search(caller: Caller, ref: MemoryRef, asked: SearchMemoryRequest): Promise<MemoryFoundView> {
    const at = await this.#findPlace(caller, ref)
    const { query, limit, by, minScore } = asked
    const { entries, warnings } = await this.measured('search', () => this.find(at, { query, limit, by, minScore }))
    return { items: entries.map((entry) => ({ ...detailOf(entry), score: entry.score })), warnings }
  }

  async ingest(caller: Caller, ref: MemoryRef, body: IngestMemoryRequest): Promise<MemoryIngestedView> {
    const at = await this.#findPlace(caller, ref)
    const { source, text, metadata = {} } = body
    const write = ingestOf(at.spec, { source, text, metadata })
    await this.#note(caller, at, { source, chunks: write.entries.length })
    const outcome = await this.measured('ingest', () =>
      this.write(at, { ...write, writtenBy: caller.actor, once: null }),
    )
    return { source, chunks: write.entries.length, removed: outcome.kind === 'written' ? outcome.removed : 0 }
  }

  async delete(caller: Caller, ref: MemoryRef, which: MemoryDeletion): Promise<{ deleted: number }> {
    const at = await this.#findPlace(caller, ref)
    await this.#note(caller, at, {
      ...('keys' in which ? { keys: [...which.keys] } : { prefix: which.prefix }),
      deleted: true,
    })
    return { deleted: await this.measured('delete', () => this.of(at.spec).delete(at, which)) }
  }

  /** Whether the memory can be used: its service is asked, and its model of embeddings, whose answer is thrown away. */
  async check(caller: Caller, ref: MemoryRef): Promise<MemoryCheckView> {
    const at = await this.#find(caller, ref)
    if (at.spec.provider === 'http') await this.#http.ping(at)
    const { vectors } = at.spec.embedding ? await this.#embed(at, ['hello']) : { vectors: [] }
    return { provider: at.spec.provider, numbers: vectors[0]?.length ?? null }
  }

  /** Where the entries of a memory are. */
  of(spec: MemorySpec): MemoryProvider {
    return spec.provider === 'http' ? this.#http : this.#store
  }

  /** Writes, once under the name of the call where it has one. */
  async write(at: MemoryAt, write: MemoryWrite): Promise<WriteOutcome> {
    const { once } = write
    if (at.spec.provider === 'store' || once === null) return this.of(at.spec).put(at, write)
    // A service is told the name of the call as well: it may have done it, and its answer was lost.
    const former = await findCall(this.#ctx.db, once)
    if (former) return { kind: 'done', result: former.result }
    const outcome = await this.#http.put(at, write)
    if (outcome.kind === 'written') await recordCall(this.#ctx.db, once, once.result(outcome))
    return outcome
  }

  find(
    at: MemoryAt,
    asked: Pick<MemoryQuery, 'query'> & { [K in keyof Omit<MemoryQuery, 'query'>]?: MemoryQuery[K] | undefined },
  ): Promise<MemoryFound> {
    const { search } = at.spec
    const { query, by = search.by, limit = search.limit, minScore = search.minScore } = asked
    return this.of(at.spec).search(at, { query, by, limit, minScore })
  }

  /** Counts and times what is done with memories. */
  async measured<T>(operation: MemoryVerb, work: () => Promise<T>): Promise<T> {
    const { clock, metrics } = this.#ctx
    const from = clock.monotonic()
    let result = 'failed'
    try {
      const value = await work()
      result = 'ok'
      return value
    } finally {
      metrics.count('orrery_memory_calls_total', 1, { operation, result })
      metrics.observe('orrery_memory_call_seconds', (clock.monotonic() - from) / 1000, { operation })
    }
  }

  async #find(caller: Caller, { namespace, name }: MemoryRef): Promise<Omit<MemoryAt, 'scope'>> {
    const { spec } = await this.#resources.get(caller, { kind: 'Memory', namespace, name })
    return { namespace, memory: name, spec: readMemory(spec), user: { caller, agent: null } }
  }

  async #findPlace(caller: Caller, ref: MemoryRef): Promise<MemoryAt> {
    const at = await this.#find(caller, ref)
    return { ...at, scope: scopeOf(at.spec, ref) }
  }

  /** Written down before it is done: what cannot be written down is not done. */
  #note(caller: Caller, at: MemoryAt, details: JsonObject): Promise<void> {
    const what = { action: 'memories.write', object: at.memory, details: { scope: at.scope, ...details } }
    return recordAudit(this.#ctx.db, [entryIn(this.#ctx, caller, at.namespace, what)])
  }

  async #embed(at: Omit<MemoryAt, 'scope'>, texts: readonly string[]) {
    const { namespace, user, spec } = at
    const { endpoint = '', model } = spec.embedding ?? {}
    const { workflow, runId, name } = user.agent ?? { workflow: '', runId: null, name: null }
    const { clock } = this.#ctx
    const over = new AbortController()
    const limitMs = LIMITS.memoryIngestMs
    clock.sleep(limitMs, over.signal).then(
      () =>
        over.abort(
          new Failure('model.timeout', `waiting for vectors of endpoint ${endpoint}`, {
            evidence: { endpoint, limitMs },
          }),
        ),
      () => {},
    )
    try {
      return await this.#models.embed(
        user.caller,
        { namespace, workflow, runId, agent: name, endpoint },
        { texts, model },
        over.signal,
      )
    } finally {
      over.abort(new Error('the call is over'))
    }
  }

  async #credentials({ namespace, memory, spec, user }: Omit<MemoryAt, 'scope'>): Promise<string | null> {
    const ref = spec.http?.credentials
    if (!ref) return null
    const attempted = `resolving secret ${ref.secret}, key ${ref.key}, for memory ${plainNamespace(namespace)}/${memory}`
    const [value] = await this.#ctx.secretResolver.resolve([{ ...ref, namespace, attempted, evidence: { memory } }])
    if (value === undefined || value instanceof Failure) throw value ?? new Error('nothing was resolved')
    const use = { action: 'secrets.use', object: ref.secret, details: { key: ref.key, as: 'credentials', memory } }
    await recordAudit(this.#ctx.db, [entryIn(this.#ctx, user.caller, namespace, use)])
    return value.trim()
  }
}

/** The scope of a memory that was named: `request.invalid` when it has no such one. */
function scopeOf({ scope }: MemorySpec, ref: MemoryRef): string {
  const wrong = (message: string) => invalidRequest(`using memory ${ref.name}`, 'scope', message)
  if (scope === 'shared') {
    if (ref.scope !== null && ref.scope !== 'shared') throw wrong('must be shared or left out: its entries are shared')
    return 'shared'
  }
  const form = scope === 'run' ? /^run\/run_[A-Za-z0-9]{1,64}$/ : /^agent\/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
  if (ref.scope === null || !form.test(ref.scope))
    throw wrong(
      scope === 'run'
        ? 'must be run/ID: its entries are of one run each'
        : 'must be agent/NAME: its entries are of one agent each',
    )
  return ref.scope
}

/** A text cut into what is written of it. */
export function ingestOf(
  spec: MemorySpec,
  { source, text, metadata }: { source: string; text: string; metadata: JsonObject },
): Pick<MemoryWrite, 'entries' | 'replaces'> {
  checkMetadata(metadata)
  const bytes = Buffer.byteLength(text)
  if (bytes > LIMITS.memoryIngestBytes)
    throw new Failure('request.too_large', `taking in ${source}`, {
      evidence: { bytes, limit: LIMITS.memoryIngestBytes },
    })
  const pieces = chunkText(text, spec.ingest)
  const sha256 = createHash('sha256').update(text).digest('hex')
  const entries = pieces.map((piece, i) => ({
    key: chunkKey(source, i + 1),
    text: piece,
    metadata: { ...metadata, source, chunk: i + 1, chunks: pieces.length, sha256 },
  }))
  return { entries, replaces: chunkPrefix(source) }
}

export function checkMetadata(metadata: JsonObject): void {
  const bytes = Buffer.byteLength(JSON.stringify(metadata))
  if (bytes > LIMITS.memoryMetadataBytes)
    throw invalidRequest(
      'writing to a memory',
      'metadata',
      `has ${bytes} bytes; ${LIMITS.memoryMetadataBytes} is the limit`,
    )
}

const notFound = (at: MemoryAt, key: string): Failure =>
  new Failure('memory.entry_not_found', `looking for an entry of memory ${plainNamespace(at.namespace)}/${at.memory}`, {
    evidence: { key, scope: at.scope },
  })

const detailOf = ({
  scope,
  key,
  text,
  metadata,
  bytes,
  writtenBy,
  updatedAt,
  expiresAt,
}: MemoryEntry): MemoryEntryDetail => ({
  scope,
  key,
  text,
  metadata,
  bytes,
  writtenBy,
  updatedAt,
  expiresAt,
})

function viewEntry(entry: MemoryEntry): MemoryEntryView {
  const { text, ...view } = detailOf(entry)
  return { ...view, excerpt: text.slice(0, EXCERPT_CHARS).toWellFormed() }
}
