import { dropOldest } from '../../base/drop-oldest.ts'
import { findOrigins, type Origin } from '../../store/budgets/origins.ts'
import type { Queryable } from '../../store/db.ts'

const KEPT_MAX = 10_000

/** Where runs come from, which never changes: each is looked up once. */
export class OriginBook {
  readonly #known = new Map<string, Origin>()

  /** One that is not there is left out. */
  async of(on: Queryable, runIds: readonly string[]): Promise<ReadonlyMap<string, Origin>> {
    const unknown = runIds.filter((id) => !this.#known.has(id))
    const fresh = unknown.length === 0 ? [] : [...(await findOrigins(on, unknown)).values()]
    const found = new Map(fresh.map((origin) => [origin.runId, origin]))
    for (const id of runIds) {
      const origin = this.#known.get(id)
      if (origin) found.set(id, origin)
    }
    for (const origin of fresh) this.#known.set(origin.runId, origin)
    dropOldest(this.#known, KEPT_MAX)
    return found
  }
}
