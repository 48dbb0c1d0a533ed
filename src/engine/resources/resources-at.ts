import { LIMITS } from '../../domain/limits.ts'
import { listBudgets, type LiveBudget } from '../../store/budgets/live-budgets.ts'
import type { Db } from '../../store/db.ts'
import { listRules, type StoredRule } from '../../store/resources/list-rules.ts'
import { findResources } from '../../store/resources/read-resources.ts'
import { readResourceClock } from '../../store/resources/resource-clock.ts'
import type { ResourceRow } from '../../store/resources/resource-rows.ts'
import { PriceBook } from '../budgets/price-book.ts'

/** Names of namespaces and endpoints that are kept of one version. */
const KEPT_MAX = 10_000

/**
 * Resources as they are at one version of their clock, each read when it is first asked for. What is read may be newer than the version: then the clock
 * is too, so that whatever follows from it counts only where the version is compared again in the statement that writes.
 */
export class ResourcesAt {
  readonly version: number
  readonly #db: Db
  readonly #read = new Map<string, Promise<unknown>>()

  constructor(db: Db, version: number) {
    this.#db = db
    this.version = version
  }

  /** Policies and roles of a namespace. One more than are read at most shows that there are too many. */
  rules(namespace: string): Promise<StoredRule[]> {
    return this.#once(`rules ${namespace}`, () => listRules(this.#db, [namespace], []))
  }

  budgets(namespace: string): Promise<LiveBudget[]> {
    return this.#once(`budgets ${namespace}`, async () => {
      const { budgets } = await listBudgets(this.#db, [namespace], { after: null, limit: LIMITS.budgetsMax })
      return budgets
    })
  }

  endpoint(namespace: string, name: string): Promise<ResourceRow | null> {
    return this.#once(`endpoint ${namespace} ${name}`, async () => {
      const [row = null] = await findResources(this.#db, [{ kind: 'ModelEndpoint', namespace, name }])
      return row
    })
  }

  /** What an endpoint charges. */
  prices(namespace: string, endpoint: string): Promise<PriceBook> {
    return this.#once(`prices ${namespace} ${endpoint}`, () => PriceBook.read(this.#db, [{ namespace, endpoint }]))
  }

  #once<T>(key: string, read: () => Promise<T>): Promise<T> {
    let known = this.#read.get(key) as Promise<T> | undefined // a key is of one kind of value
    if (!known) {
      if (this.#read.size >= KEPT_MAX) this.#read.clear()
      known = read()
      this.#read.set(key, known)
      // What failed is read anew by the next one who asks.
      known.catch(() => this.#read.delete(key))
    }
    return known
  }
}

/** Resources at the version that this server heard of last. It may be behind. */
export class HeardResources {
  readonly #db: Db
  #last: ResourcesAt | null = null

  constructor(db: Db) {
    this.#db = db
  }

  async get(): Promise<ResourcesAt> {
    return this.#last ?? this.heard((await readResourceClock(this.#db)).version)
  }

  /** A statement told of a version. */
  heard(version: number): ResourcesAt {
    if (this.#last?.version !== version) this.#last = new ResourcesAt(this.#db, version)
    return this.#last
  }
}
