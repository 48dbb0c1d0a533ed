import type { Clock } from '../../base/clock.ts'
import type { JsonObject } from '../../base/json.ts'
import { Failure, type FailureRecord, failureRecord } from '../../domain/failure.ts'
import { readModelEndpoint, secretsOfEndpoint } from '../../domain/kinds/model-endpoint.ts'
import { plainNamespace } from '../../domain/tenancy.ts'
import type { Requirements } from '../../domain/workflow.ts'
import type { Queryable } from '../../store/db.ts'
import { findResources } from '../../store/resources/read-resources.ts'
import type { SecretResolver } from '../secret-resolver.ts'

export interface ReadinessDeps {
  db: Queryable
  secretResolver: SecretResolver
}

/** What of a step's model endpoints and secrets is not there; null: all is. Two queries at most. */
export async function findUnready(
  { db, secretResolver }: ReadinessDeps,
  { namespace, ready }: Requirements,
): Promise<FailureRecord | null> {
  if (!ready) return null
  const plain = plainNamespace(namespace)
  const unready = (evidence: JsonObject, remediation: string, cause?: Failure): FailureRecord =>
    failureRecord('dispatch.endpoint_not_ready', `looking for what the step needs in namespace ${plain}`, {
      evidence: { namespace: plain, ...evidence },
      remediation,
      ...(cause ? { cause } : {}),
    })
  const rows = await findResources(
    db,
    ready.endpoints.map((name) => ({ kind: 'ModelEndpoint', namespace, name })),
    { name: 'find_unready' },
  )
  const absent = ready.endpoints.find((name) => !rows.some((row) => row.name === name))
  if (absent !== undefined)
    return unready(
      { endpoint: absent, lacks: 'endpoint' },
      `There is no model endpoint ${absent} in namespace ${plain}: store it with orrery apply -f FILE. The step goes on by itself within a second.`,
    )
  const ofEndpoints = rows.flatMap((row) =>
    secretsOfEndpoint(readModelEndpoint(row.spec)).map(({ ref }) => ({ ...ref, endpoint: row.name })),
  )
  const ofTools = ready.secrets.map((text) => {
    const at = text.indexOf('/')
    return { secret: text.slice(0, at), key: text.slice(at + 1), endpoint: null }
  })
  const wanted = [...ofEndpoints, ...ofTools]
  if (wanted.length === 0) return null
  const values = await secretResolver.resolve(
    wanted.map(({ secret, key, endpoint }) => ({
      secret,
      key,
      namespace,
      attempted: `looking for secret ${secret}, key ${key}${endpoint === null ? '' : `, of model endpoint ${plain}/${endpoint}`}`,
    })),
  )
  const at = values.findIndex((value) => value instanceof Failure)
  const [lacking, failure] = [wanted[at], values[at]]
  if (!lacking || !(failure instanceof Failure)) return null
  const { secret, key, endpoint } = lacking
  return unready(
    { ...(endpoint === null ? {} : { endpoint }), lacks: 'secret', secret, key },
    `Set it: orrery secret set ${secret} ${key}=… -n ${plain}. The step goes on by itself within a second.`,
    failure,
  )
}

/** Which queues wait for something that is not there, as this server saw it last. */
export class HeldQueues {
  readonly #deps: ReadinessDeps & { clock: Clock }
  readonly #staleMs: number
  /** Monotonic ms until which a queue counts as ready without being looked at. */
  readonly #readyUntil = new Map<number, number>()
  readonly #held = new Set<number>()

  constructor(deps: ReadinessDeps & { clock: Clock }, staleMs: number) {
    this.#deps = deps
    this.#staleMs = staleMs
  }

  has(queue: number): boolean {
    return this.#held.has(queue)
  }

  /** Those of these that may be claimed from now. */
  async ready(
    queues: readonly number[],
    requirementsOf: (queue: number) => Requirements | undefined,
  ): Promise<number[]> {
    const found: number[] = []
    for (const queue of queues) {
      const requirements = requirementsOf(queue)
      if (!requirements?.ready || (await this.#isReady(queue, requirements))) found.push(queue)
    }
    return found
  }

  async #isReady(queue: number, requirements: Requirements): Promise<boolean> {
    const now = this.#deps.clock.monotonic()
    if (now < (this.#readyUntil.get(queue) ?? 0)) return true
    const isReady = (await findUnready(this.#deps, requirements)) === null
    if (isReady) {
      this.#readyUntil.set(queue, now + this.#staleMs)
      this.#held.delete(queue)
    } else {
      this.#readyUntil.delete(queue)
      this.#held.add(queue)
    }
    return isReady
  }
}
