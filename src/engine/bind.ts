import { createHash } from 'node:crypto'
import { boundOf, contentOf, definitionOfAgent, type Roots } from '../domain/agents/gathered.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { isWithin, plainNamespace, type Reach } from '../domain/tenancy.ts'
import type { Definition } from '../domain/workflow.ts'
import type { Db, Queryable } from '../store/db.ts'
import { canonicalJson, definitionHash, keepDefinition } from '../store/definitions/put-definition.ts'
import { findResourceVersions } from '../store/resources/read-resources.ts'
import { gather, type Gathering, type SeenResource } from './agents/gather.ts'
import type { Compiled, DefinitionCache } from './definitions.ts'

/** What a run is to hold, with what whoever starts it should hear. */
export interface Binding {
  hash: string
  remarks: readonly string[]
}

export interface Binder {
  /**
   * The definition that a run of this one holds: with everything in it that its agent, tool and route steps refer to, as it is now. Itself where it has
   * no such steps, or is bound. One query when nothing has changed since the last time. Throws `agent.not_found`, `resource.not_found` and
   * `agent.too_large`. `sees`: what the one who starts the run may see. Inside a transaction pass its handle.
   */
  bind(definition: Compiled, options: { sees: Reach; on?: Queryable }): Promise<Binding>
}

const CACHE_MAX = 500

export function createBinder(deps: { db: Db; definitions: DefinitionCache }): Binder {
  const known = new Map<string, Binding & { seen: readonly SeenResource[] }>()

  async function stillHolds(on: Queryable, seen: readonly SeenResource[]): Promise<boolean> {
    const versions = await findResourceVersions(on, seen)
    return seen.every((one) => versions.some((row) => isSame(row, one) && row.version === one.version))
  }

  return {
    async bind({ hash, definition, isOpen }, { sees, on = deps.db }) {
      if (!isOpen) return { hash, remarks: NO_REMARKS }
      const former = known.get(hash)
      // Who bound it before may have seen more.
      const isSeen = former?.seen.every(
        (one) => one.namespace === definition.namespace || isWithin(sees, one.namespace),
      )
      if (former && isSeen && (await stillHolds(on, former.seen))) return former
      const inputsOf = async (of: string) => (await deps.definitions.get(of, on)).definition.inputs
      const gathering = await gather({ on, sees, inputsOf }, definition)
      const binding = { hash: await keep(on, definition, gathering), remarks: gathering.remarks }
      if (gathering.isWhole) {
        if (known.size >= CACHE_MAX) known.delete(known.keys().next().value ?? '')
        known.set(hash, { ...binding, seen: gathering.seen })
      }
      return binding
    },
  }
}

const NO_REMARKS: readonly string[] = []

const isSame = (a: { kind: string; namespace: string; name: string }, b: typeof a): boolean =>
  a.kind === b.kind && a.namespace === b.namespace && a.name === b.name

/** Keeps the definition with what it refers to, and before it those of the agents that run below others. */
async function keep(on: Queryable, definition: Definition, { gathered }: Gathering): Promise<string> {
  const { namespace, nodes } = definition
  const addresses = new Map<string, string>()
  const addressOf = (agent: string): string => {
    const address = addresses.get(agent) ?? hashOf(canonicalJson(contentOf(gathered, { namespace, agent })))
    addresses.set(agent, address)
    return address
  }
  const roots: Roots = {
    agents: nodes.flatMap((node) => (node.kind === 'agent' ? [node.agent] : [])),
    tools: nodes.flatMap((node) => (node.kind === 'tool' ? [node.tool] : [])),
  }
  const bound = { ...definition, bound: boundOf(gathered, roots, addressOf) }
  const bytes = Buffer.byteLength(JSON.stringify(bound))
  if (bytes > LIMITS.boundBytes)
    throw new Failure('agent.too_large', `starting workflow ${plainNamespace(namespace)}/${definition.name}`, {
      evidence: { bytes, limit: LIMITS.boundBytes },
    })
  // An agent below may give work to others, which the definition itself has as well: what it reaches they reach.
  for (const [agent, { definition: address }] of Object.entries(bound.bound.agents)) {
    if (address === null) continue
    const below = boundOf(gathered, { agents: [agent], tools: [] }, addressOf)
    await keepDefinition(on, address, definitionOfAgent(agent, namespace, below))
  }
  const hash = definitionHash(bound)
  await keepDefinition(on, hash, bound)
  return hash
}

const hashOf = (text: string): string => createHash('sha256').update(text).digest('base64url')
