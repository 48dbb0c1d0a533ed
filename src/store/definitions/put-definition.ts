import { createHash } from 'node:crypto'
import {
  type Definition,
  isDecided,
  needOf,
  queueKey,
  readsInputs,
  type Requirements,
  requirementsOf,
} from '../../domain/workflow.ts'
import type { Db, Queryable } from '../db.ts'

/** JSON with sorted keys: equal values give equal text. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (value !== null && typeof value === 'object') {
    const entries = Object.entries(value).filter(([, v]) => v !== undefined)
    return `{${entries
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([k, v]) => `${JSON.stringify(k)}:${canonicalJson(v)}`)
      .join(',')}}`
  }
  return JSON.stringify(value)
}

/** Names a definition by its content: SHA-256, base64url. */
export const definitionHash = (definition: Definition): string =>
  createHash('sha256').update(canonicalJson(definition)).digest('base64url')

export interface PutDefinitionOptions {
  /** Steps may find it by its name; false of what is only a version of a workflow. Once it is, it stays so. */
  standalone?: boolean
  /** Called in the transaction that makes it, and only then. */
  onNew?: (tx: Queryable, hash: string) => Promise<void>
}

/** Keeps a definition under its hash. Twice is safe. */
export async function putDefinition(
  db: Db,
  definition: Definition,
  { standalone = true, onNew = () => Promise.resolve() }: PutDefinitionOptions = {},
): Promise<string> {
  const hash = definitionHash(definition)
  const known = await findKnown(db, hash)
  if (known && standalone && !known.standalone) await markStandalone(db, hash)
  if (!known) await db.transaction((tx) => insertDefinition(tx, hash, definition, { standalone, onNew }))
  return hash
}

/** Keeps a definition under a hash that speaks for it, in the transaction of whoever asks when there is one. No step finds it by its name. Twice is safe. */
export async function keepDefinition(on: Db | Queryable, hash: string, definition: Definition): Promise<void> {
  if (await findKnown(on, hash)) return
  const insert = (tx: Queryable) =>
    insertDefinition(tx, hash, definition, { standalone: false, onNew: () => Promise.resolve() })
  await ('transaction' in on ? on.transaction(insert) : insert(on))
}

async function findKnown(db: Queryable, hash: string): Promise<{ standalone: boolean } | null> {
  const [known] = await db.query<{ standalone: boolean }>(`select standalone from definition where hash = $1`, [hash], {
    name: 'definition_known',
  })
  return known ?? null
}

async function insertDefinition(
  tx: Queryable,
  hash: string,
  definition: Definition,
  { standalone, onNew }: Required<PutDefinitionOptions>,
): Promise<void> {
  const requirements = new Map<string, Requirements>()
  for (const node of definition.nodes) {
    const r = requirementsOf(definition, node)
    requirements.set(queueKey(r), r)
  }
  const ids = await putQueues(tx, requirements)
  const inserted = await tx.query(
    `insert into definition (hash, namespace, name, body, standalone, created_at)
       values ($1, $2, $3, $4::text::jsonb, $5, clock_now()) on conflict do nothing returning hash`,
    [hash, definition.namespace, definition.name, JSON.stringify(definition), standalone],
  )
  if (inserted.length === 0) {
    if (standalone) await markStandalone(tx, hash)
    return
  }
  const nodes = definition.nodes
  await tx.query(
    `insert into definition_node (definition, node, name, queue_id, total, need, decided, uses_inputs, timeout_ms, queue_timeout_ms)
       select $1, * from unnest($2::int[], $3::text[], $4::int[], $5::int[], $6::int[], $7::boolean[], $8::boolean[], $9::int[], $10::int[])`,
    [
      hash,
      nodes.map((_, i) => i),
      nodes.map((n) => n.name),
      nodes.map((n) => ids.get(queueKey(requirementsOf(definition, n)))),
      nodes.map((n) => n.needs.length),
      nodes.map(needOf),
      nodes.map(isDecided),
      nodes.map(readsInputs),
      nodes.map((n) => n.timeoutMs),
      nodes.map((n) => n.queueTimeoutMs),
    ],
  )
  await onNew(tx, hash)
}

/** It counts as stored now: it is the newest of its name. */
async function markStandalone(db: Queryable, hash: string): Promise<void> {
  await db.query(
    `update definition set standalone = true, created_at = clock_now() where hash = $1 and not standalone`,
    [hash],
    { name: 'mark_standalone' },
  )
}

/** Queue ids of requirement sets, made when new. */
async function putQueues(tx: Queryable, requirements: ReadonlyMap<string, Requirements>): Promise<Map<string, number>> {
  const keys = [...requirements.keys()].sort()
  await tx.query(
    `insert into queue (key, requirements) select k, r::jsonb from unnest($1::text[], $2::text[]) as u(k, r) on conflict (key) do nothing`,
    [keys, keys.map((k) => JSON.stringify(requirements.get(k)))],
  )
  const rows = await tx.query<{ key: string; id: number }>(`select key, id from queue where key = any($1::text[])`, [
    keys,
  ])
  return new Map(rows.map((r) => [r.key, r.id]))
}

/** The definition under a hash, or null. */
export async function findDefinition(db: Queryable, hash: string): Promise<Definition | null> {
  const rows = await db.query<{ body: Definition }>(`select body from definition where hash = $1`, [hash], {
    name: 'find_definition',
  })
  return rows[0]?.body ?? null
}

/** The newest definition of a name that was stored by itself in a namespace, or null. */
export async function findNewestDefinition(
  db: Queryable,
  { namespace, name }: { namespace: string; name: string },
): Promise<string | null> {
  const rows = await db.query<{ hash: string }>(
    `select hash from definition where namespace = $1 and name = $2 and standalone order by created_at desc, hash limit 1`,
    [namespace, name],
    { name: 'find_newest_definition' },
  )
  return rows[0]?.hash ?? null
}

/** Names under which definitions were stored by themselves in a namespace. */
export async function listDefinitionNames(db: Queryable, namespace: string, limit: number): Promise<string[]> {
  const rows = await db.query<{ name: string }>(
    `select distinct name from definition where namespace = $1 and standalone order by name limit $2`,
    [namespace, limit],
  )
  return rows.map((r) => r.name)
}

/** All queues: there are as many as there are different requirement sets, which is few. */
export async function listQueues(
  db: Queryable,
  afterId: number,
): Promise<{ id: number; requirements: Requirements }[]> {
  return db.query(`select id, requirements from queue where id > $1 order by id`, [afterId], { name: 'list_queues' })
}
