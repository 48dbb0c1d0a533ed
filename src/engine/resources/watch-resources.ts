import type { Deadlines } from '../../base/deadlines.ts'
import type { ResourceEvent, ResourceView } from '../../contract/resource-types.ts'
import { Failure } from '../../domain/failure.ts'
import { matchesTerms } from '../../domain/kinds/selector.ts'
import type { Queryable } from '../../store/db.ts'
import { listChanges, type ResourceFilter } from '../../store/resources/read-resources.ts'
import { readResourceClock, type ResourceClock } from '../../store/resources/resource-clock.ts'
import type { ResourceRow } from '../../store/resources/resource-rows.ts'
import { createWatch, type Watch } from '../watch.ts'
import { viewResource } from './view-resource.ts'

/** What another server wrote is seen after this at the latest; the clock's one row is all that is read meanwhile. */
const LOOK_MS = 1_000
const CHANGES_PAGE = 200
const TOPIC = 'resources'

/** Resources as they are, with what is known of their use at the moment. */
type WithUse = (views: ResourceView[]) => Promise<ResourceView[]>
type Change = ResourceEvent & { resource: ResourceView }

/** Changes of resources for those who watch them on this server. */
export class ResourceFeed {
  readonly #db: Queryable
  readonly #watch: Watch
  readonly #withUse: WithUse
  /** Counts what was written here, so that a write between reading and waiting is not slept over. */
  #writes = 0

  constructor(db: Queryable, deadlines: Deadlines, withUse: WithUse) {
    this.#db = db
    this.#withUse = withUse
    this.#watch = createWatch(deadlines)
  }

  /** Something was written here: whoever watches looks now. */
  wake(): void {
    this.#writes++
    this.#watch.notify(TOPIC)
  }

  async check(since: number): Promise<void> {
    requireKnown(await readResourceClock(this.#db), since)
  }

  async *follow(filter: ResourceFilter, since: number, signal: AbortSignal): AsyncIterable<ResourceEvent> {
    /** Those that the reader was told of. */
    const known = new Set<string>()
    let cursor = since
    let told = since
    while (!signal.aborted) {
      const writes = this.#writes
      // The clock before the rows: what is written in between is read again, never left out.
      const clock = await readResourceClock(this.#db)
      requireKnown(clock, cursor)
      let page: ResourceRow[] = []
      if (clock.version > cursor) {
        page = await listChanges(this.#db, filter, { after: cursor, limit: CHANGES_PAGE })
        const changes = page.flatMap((row) => eventOf(row, filter, { known, since }) ?? [])
        const views = await this.#withUse(changes.map(({ resource }) => resource))
        for (const [i, change] of changes.entries()) {
          told = Number(change.resourceVersion)
          yield { ...change, resource: views[i] ?? change.resource }
        }
        cursor =
          page.length === CHANGES_PAGE
            ? (page.at(-1)?.resource_version ?? cursor)
            : Math.max(clock.version, page.at(-1)?.resource_version ?? 0)
      }
      if (page.length === CHANGES_PAGE) continue
      if (cursor > told) {
        told = cursor
        yield { type: 'bookmark', resourceVersion: String(cursor), resource: null }
      }
      if (writes === this.#writes) await this.#watch.wait(TOPIC, LOOK_MS, signal)
    }
  }
}

function requireKnown(clock: ResourceClock, since: number): void {
  if (since === 0 || (since >= clock.pruned && since <= clock.version)) return
  throw new Failure('resource.watch_too_old', `watching from ${since}`, {
    evidence: { resourceVersion: String(since), oldest: String(clock.pruned), newest: String(clock.version) },
  })
}

/** What a change means to a reader who began at `since`; null: nothing. */
function eventOf(
  row: ResourceRow,
  filter: ResourceFilter,
  reader: { known: Set<string>; since: number },
): Change | null {
  const { known, since } = reader
  const resourceVersion = String(row.resource_version)
  if (row.deleted_at === null && matchesTerms(row.labels, filter.terms)) {
    const type = known.has(row.uid) || row.first_version <= since ? 'modified' : 'added'
    known.add(row.uid)
    return { type, resourceVersion, resource: viewResource(row) }
  }
  // One that was there before the reader began may be on the reader's list; one that came and went since is not.
  const mayBeKnown = known.delete(row.uid) || (since > 0 && row.first_version <= since)
  return mayBeKnown ? { type: 'deleted', resourceVersion, resource: viewResource(row) } : null
}
