import { dependentsOf } from '../domain/advance/dependents.ts'
import { Failure } from '../domain/failure.ts'
import {
  type Definition,
  isDecided,
  isOfAgents,
  queueKey,
  readsInputs,
  type Requirements,
  requirementsOf,
} from '../domain/workflow.ts'
import type { Queryable } from '../store/db.ts'
import { findDefinition, listQueues } from '../store/definitions/put-definition.ts'
import { factsOf, type NodeFacts } from '../store/steps/node-facts.ts'

/** A definition with what is computed from it once. */
export interface Compiled {
  hash: string
  definition: Definition
  dependents: number[][]
  /** It has steps of agents, and what they refer to is not bound to it yet: a run of it holds another definition. */
  isOpen: boolean
  /** Plain nodes without needs: queued when a run is created. */
  roots: number[]
  /** Decided nodes without needs: looked at at once. */
  owedRoots: number[]
  /** The changes of a run's first event, as JSON text. */
  firstChanges: string
  /** Per node: its work has no template, so what is sent never changes. */
  isConstant: boolean[]
  /** Per node: a template may read the run's inputs. */
  readsInputs: boolean[]
  /** Per node: the queue in which it waits. */
  queueIds: number[]
  /** Per node: what the recording of its success has to know. */
  facts: NodeFacts[]
}

const CACHE_MAX = 500
/** A first event names each queued root, up to this many; beyond, it says how many. */
const NAMED_ROOTS_MAX = 200

export function compileDefinition(
  hash: string,
  definition: Definition,
  queueIdOf: (r: Requirements) => number,
): Compiled {
  const rootNodes = definition.nodes.flatMap((n, i) => (n.needs.length === 0 ? [i] : []))
  const at = (i: number) => definition.nodes[i]
  const roots = rootNodes.filter((i) => {
    const node = at(i)
    return node !== undefined && !isDecided(node)
  })
  const named = roots.slice(0, NAMED_ROOTS_MAX).map((i) => ({ of: at(i)?.name ?? '', to: 'queued' }))
  const more = roots.length - named.length
  const queueIds = definition.nodes.map((n) => queueIdOf(requirementsOf(definition, n)))
  return {
    hash,
    definition,
    dependents: dependentsOf(definition),
    isOpen: definition.bound === undefined && definition.nodes.some(isOfAgents),
    roots,
    owedRoots: rootNodes.filter((i) => !roots.includes(i)),
    firstChanges: JSON.stringify([
      { of: 'run', to: 'pending' },
      ...named,
      ...(more > 0 ? [{ of: '*', to: 'queued', note: `${more} more` }] : []),
    ]),
    isConstant: definition.nodes.map((n) => !JSON.stringify(n).includes('${{')),
    readsInputs: definition.nodes.map(readsInputs),
    queueIds,
    facts: factsOf(definition, queueIds),
  }
}

/** A run's first changes with a remark on the run itself. */
export function withNote(changes: string, note: string): string {
  const [first, ...rest] = JSON.parse(changes) as object[] // as compileDefinition wrote it
  return JSON.stringify([{ ...first, note }, ...rest])
}

/** Definitions by hash, kept in memory: they never change. */
export interface DefinitionCache {
  /** Throws `definition.not_found`. Inside a transaction pass its handle. */
  get(hash: string, on?: Queryable): Promise<Compiled>
  /** What is in memory already, without asking the store. */
  peek(hash: string): Compiled | null
}

export function createDefinitionCache(db: Queryable, queues: QueueRegistry): DefinitionCache {
  const cache = new Map<string, Compiled>()
  return {
    peek: (hash) => cache.get(hash) ?? null,
    async get(hash, on = db) {
      const known = cache.get(hash)
      if (known) return known
      const definition = await findDefinition(on, hash)
      if (!definition) throw new Failure('definition.not_found', `looking for definition ${hash}`)
      await queues.refresh(on)
      const compiled = compileDefinition(hash, definition, queues.idOf)
      if (cache.size >= CACHE_MAX) cache.delete(cache.keys().next().value ?? '')
      cache.set(hash, compiled)
      return compiled
    },
  }
}

/** Queues by id. There are few, and they are never changed or removed. */
export interface QueueRegistry {
  /** Asks the store for queues made since the last time. True when there are new ones. */
  refresh(on?: Queryable): Promise<boolean>
  all(): ReadonlyMap<number, Requirements>
  /** 0 when the queue is not known yet. */
  idOf(this: void, r: Requirements): number
}

export function createQueueRegistry(db: Queryable, onNew: () => void): QueueRegistry {
  const queues = new Map<number, Requirements>()
  const ids = new Map<string, number>()
  return {
    async refresh(on = db) {
      // All of them: ids are given out before they commit, so asking for what is above the last one would miss some.
      const fresh = (await listQueues(on, 0)).filter((q) => !queues.has(q.id))
      for (const q of fresh) {
        queues.set(q.id, q.requirements)
        ids.set(queueKey(q.requirements), q.id)
      }
      if (fresh.length > 0) onNew()
      return fresh.length > 0
    },
    all: () => queues,
    idOf: (r) => ids.get(queueKey(r)) ?? 0,
  }
}
