import { z } from 'zod'
import type { Egress } from '../../agents/index.ts'
import type { Clock } from '../../base/clock.ts'
import type { Json, JsonObject } from '../../base/json.ts'
import { Redactor } from '../../base/redact.ts'
import { Failure } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import { plainNamespace } from '../../domain/tenancy.ts'
import type { MemoryAt, MemoryEntry, MemoryProvider, MemoryWrite, Written } from './memory-provider.ts'

export interface HttpProviderDeps {
  clock: Clock
  egress: Egress
  /** The credentials that a memory names; null where it names none. Throws `secret.*`. */
  credentials(at: Omit<MemoryAt, 'scope'>): Promise<string | null>
}

/** Entries of one request. */
const AT_ONCE = 100

const time = z.string().refine((text) => !Number.isNaN(Date.parse(text)), { error: 'is no time' })
const entrySchema = z.object({
  scope: z.string().optional(),
  key: z.string().min(1).max(LIMITS.memoryKeyChars),
  text: z.string().max(LIMITS.memoryTextChars),
  metadata: z.record(z.string(), z.json()).default({}),
  updatedAt: time,
  expiresAt: time.nullish(),
})
const count = z.int().min(0)
const ANSWERS = {
  put: z.object({ replaced: z.array(z.string()).default([]) }),
  get: z.object({ entry: entrySchema.nullable() }),
  search: z.object({
    entries: z.array(entrySchema.extend({ score: z.number() })).max(LIMITS.memoryFoundMax),
    warnings: z.array(z.string()).max(20).default([]),
  }),
  list: z.object({ entries: z.array(entrySchema).max(LIMITS.pageMax), next: z.string().max(1_024).nullish() }),
  delete: z.object({ deleted: count }),
} as const
type Verb = keyof typeof ANSWERS

/** Memories at a service that keeps the contract of docs/guides/agents/memory.md. What it answers is parsed, not believed. */
export function createHttpProvider(deps: HttpProviderDeps): MemoryProvider & {
  /** Whether the service is there and takes the credentials. */
  ping(at: Omit<MemoryAt, 'scope'>): Promise<void>
} {
  const ask = async <V extends Verb>(
    at: Omit<MemoryAt, 'scope'> & { scope: string | null },
    verb: V,
    body: JsonObject,
    key: string | null = null,
  ): Promise<z.output<(typeof ANSWERS)[V]>> => {
    const { namespace, memory, scope } = at
    const answer = await send(deps, at, { path: verb, body: { namespace, memory, scope, ...body }, key })
    const parsed = ANSWERS[verb].safeParse(answer)
    if (!parsed.success)
      throw broken(at, verb, {
        problems: parsed.error.issues.slice(0, 5).map((issue) => `${issue.path.join('.')} ${issue.message}`),
      })
    return parsed.data as z.output<(typeof ANSWERS)[V]> // of the schema of this verb
  }
  const isThere = (entry: z.output<typeof entrySchema>): boolean =>
    !entry.expiresAt || Date.parse(entry.expiresAt) > deps.clock.now()

  const put = async (at: MemoryAt, { entries, replaces, once }: MemoryWrite): Promise<Written> => {
    const written: Written = { replaced: [], removed: 0 }
    const name = once ? `${once.runId}.${once.node}.${once.path}/${once.call}` : null
    const { ttl } = at.spec
    const expiresAt = ttl === undefined ? null : new Date(deps.clock.now() + ttl).toISOString()
    if (replaces !== null) {
      const keep = entries.map(({ key }) => key)
      written.removed = (await ask(at, 'delete', { prefix: replaces, keep }, name && `${name}/delete`)).deleted
    }
    for (let from = 0; from < entries.length; from += AT_ONCE) {
      const part = entries.slice(from, from + AT_ONCE).map((entry) => ({ ...entry, expiresAt }))
      const { replaced } = await ask(at, 'put', { entries: part }, name && `${name}/${from}`)
      written.replaced.push(...replaced)
    }
    return written
  }

  return {
    put: async (at, write) => ({ kind: 'written', ...(await put(at, write)) }),
    async get(at, key) {
      const { entry } = await ask(at, 'get', { key })
      return entry && isThere(entry) ? entryOf(entry, at.scope) : null
    },
    async search(at, { query, by, limit, minScore }) {
      const { entries, warnings } = await ask(at, 'search', { query, by, limit, minScore })
      const found = entries.filter(isThere).filter(({ score }) => score >= minScore)
      return { entries: found.slice(0, limit).map((e) => ({ ...entryOf(e, at.scope), score: e.score })), warnings }
    },
    async list(at, { prefix, cursor, limit }) {
      const { entries, next } = await ask(at, 'list', { prefix, cursor, limit })
      return { entries: entries.filter(isThere).map((e) => entryOf(e, at.scope ?? '')), next: next ?? null }
    },
    async delete(at, which) {
      const body = 'keys' in which ? { keys: [...which.keys] } : { prefix: which.prefix }
      return (await ask(at, 'delete', body)).deleted
    },
    async ping(at) {
      await send(deps, at, { path: 'ping', body: null, key: null })
    },
  }
}

const entryOf = (entry: z.output<typeof entrySchema>, scope: string): MemoryEntry => {
  const { key, text } = entry
  const metadata = entry.metadata as JsonObject // of the schema
  return {
    scope: entry.scope ?? scope,
    key,
    text,
    metadata,
    bytes: Buffer.byteLength(key) + Buffer.byteLength(text) + Buffer.byteLength(JSON.stringify(metadata)),
    writtenBy: null,
    updatedAt: new Date(entry.updatedAt).toISOString(),
    expiresAt: entry.expiresAt ? new Date(entry.expiresAt).toISOString() : null,
  }
}

const whatOf = (at: Omit<MemoryAt, 'scope'>, path: string): string =>
  `asking the provider of memory ${plainNamespace(at.namespace)}/${at.memory} for /${path}`

const broken = (at: Omit<MemoryAt, 'scope'>, path: string, evidence: JsonObject): Failure =>
  new Failure('memory.contract_broken', whatOf(at, path), { evidence: { url: at.spec.http?.url ?? '', ...evidence } })

interface Sent {
  path: string
  /** Null: it is asked by GET. */
  body: JsonObject | null
  /** What names the write, so that the provider does it once. */
  key: string | null
}

async function send(deps: HttpProviderDeps, at: Omit<MemoryAt, 'scope'>, sent: Sent): Promise<Json> {
  const { http } = at.spec
  if (!http) throw new Error(`memory ${at.memory} has no service`)
  const credentials = await deps.credentials(at)
  const redactor = new Redactor(credentials === null ? [] : [credentials])
  const url = `${http.url.replace(/\/+$/, '')}/${sent.path}`
  const fetch = deps.egress.fetch({ allowPrivate: http.allowPrivateAddresses, onlyPrivate: false })
  const over = new AbortController()
  const watch = deps.clock
    .sleep(http.timeout, over.signal)
    .then(() => over.abort(new Error(`no answer in ${http.timeout} ms`)))
  watch.catch(() => {})
  let response: Response
  let text: string
  try {
    response = await fetch(url, {
      method: sent.body === null ? 'GET' : 'POST',
      headers: {
        accept: 'application/json',
        ...(sent.body === null ? {} : { 'content-type': 'application/json' }),
        ...(sent.key === null ? {} : { 'idempotency-key': sent.key }),
        ...(credentials === null ? {} : headerOf(http.header, credentials)),
      },
      ...(sent.body === null ? {} : { body: JSON.stringify(sent.body) }),
      // Credentials are for this address and for no other.
      redirect: 'manual',
      signal: over.signal,
    })
    text = redactor.text(await response.text())
  } catch (error) {
    throw unanswered(error, at, { url, path: sent.path, redactor })
  } finally {
    over.abort(new Error('the request is over'))
  }
  return read(at, sent.path, { url, status: response.status, text })
}

const headerOf = (header: string | undefined, credentials: string): Record<string, string> =>
  header === undefined ? { authorization: `Bearer ${credentials}` } : { [header]: credentials }

function unanswered(
  error: unknown,
  at: Omit<MemoryAt, 'scope'>,
  { url, path, redactor }: { url: string; path: string; redactor: Redactor },
): Failure {
  if (error instanceof Failure && error.code === 'model.address_blocked')
    return new Failure(error.code, whatOf(at, path), {
      evidence: { ...error.evidence, memory: at.memory },
      remediation:
        'Correct spec.http.url of the memory, or set allowPrivateAddresses: true beside it when it is meant to be here.',
    })
  const reason = redactor.text(deepest(error))
  return new Failure('memory.unavailable', whatOf(at, path), { evidence: { url, reason } })
}

/** What the runtime found at the bottom: `fetch failed` says nothing, its cause does. */
function deepest(error: unknown): string {
  let message = String(error)
  for (let at = error; at instanceof Error; at = at.cause) message = at.message || message
  return message.slice(0, 500)
}

function read(
  at: Omit<MemoryAt, 'scope'>,
  path: string,
  { url, status, text }: { url: string; status: number; text: string },
): Json {
  const evidence = { url, status, answer: text.slice(0, LIMITS.modelRefusalChars) }
  if (status === 401 || status === 403) {
    const ref = at.spec.http?.credentials
    throw new Failure('memory.auth_failed', whatOf(at, path), {
      evidence: { ...evidence, ...(ref ? { secret: ref.secret, key: ref.key } : {}) },
      ...(ref ? {} : { remediation: 'The service wants credentials, and spec.http names none.' }),
    })
  }
  if (status === 507) throw new Failure('memory.full', whatOf(at, path), { evidence })
  if (status === 429 || status >= 500) throw new Failure('memory.unavailable', whatOf(at, path), { evidence })
  if (status < 200 || status > 299) throw broken(at, path, evidence)
  if (path === 'ping') return null
  try {
    return JSON.parse(text) as Json // JSON.parse gives Json or throws
  } catch {
    throw broken(at, path, evidence)
  }
}
