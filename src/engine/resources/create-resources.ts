import type { JsonObject } from '../../base/json.ts'
import { nearest } from '../../base/nearest.ts'
import { assert } from '../../base/assert.ts'
import type { ApplyResponse, VersionWithSpec } from '../../contract/resource-types.ts'
import { Failure, failureOfProblems } from '../../domain/failure.ts'
import { FAILURES } from '../../domain/failures.ts'
import { namedElsewhere, remarkOn } from '../../domain/agents/dangling.ts'
import { LIMITS } from '../../domain/limits.ts'
import { API_VERSION } from '../../domain/kinds/envelope.ts'
import type { ResourceDocument } from '../../domain/kinds/documents.ts'
import { kindOf } from '../../domain/kinds/registry.ts'
import { lifecycleOf } from '../../domain/kinds/workflow.ts'
import { plainNamespace } from '../../domain/tenancy.ts'
import { recordAudit } from '../../store/audit/audit.ts'
import type { Queryable } from '../../store/db.ts'
import { definitionHash, putDefinition } from '../../store/definitions/put-definition.ts'
import { deleteMemory } from '../../store/memory/write-entries.ts'
import { deleteResources, putResources, type ResourceWrite } from '../../store/resources/put-resources.ts'
import {
  findResources,
  findResourceVersions,
  listNames,
  listResources,
  type ResourceFilter,
} from '../../store/resources/read-resources.ts'
import { advanceResourceClock, lockResourceClock, readResourceClock } from '../../store/resources/resource-clock.ts'
import type { ResourceRow } from '../../store/resources/resource-rows.ts'
import { deleteVersions, findVersion, listVersions, putVersions } from '../../store/resources/resource-versions.ts'
import type { EngineContext } from '../context.ts'
import { entryIn } from '../access.ts'
import type { Caller } from '../engine.ts'
import { canSee, reach, shownReach } from '../visible.ts'
import { wakeForChanges } from '../agents/wake-for-changes.ts'
import { conflictOf, meets, type PlannedWrite, planWrite } from './plan-apply.ts'
import type { Precondition, Ref, ResourceEngine, ResourceSelection } from './resource-engine.ts'
import { findStart } from './start-of-workflow.ts'
import { viewResource, viewVersion } from './view-resource.ts'
import { ResourceFeed } from './watch-resources.ts'

interface Written {
  document: ResourceDocument
  spec: JsonObject
  former: ResourceRow | null
  plan: PlannedWrite
}

/** As messages name it: its people call a namespace by its plain name. */
const nameOf = (ref: Ref): string => `${ref.kind} ${plainNamespace(ref.namespace)}/${ref.name}`
const keyOf = (ref: Ref): string => `${ref.kind} ${ref.namespace}/${ref.name}`

export function createResources(ctx: EngineContext): ResourceEngine {
  const { db } = ctx
  const feed = new ResourceFeed(db, ctx.deadlines, (views) => ctx.withUse(views))
  const { sealing } = ctx

  const notFound = async (caller: Caller, ref: Ref): Promise<Failure> => {
    const names = canSee(caller, ref.namespace) ? await listNames(db, ref, LIMITS.pageMax) : []
    const near = nearest(ref.name, names)
    return new Failure(
      'resource.not_found',
      `looking for ${nameOf(ref)}`,
      near === null
        ? {}
        : {
            evidence: { nearest: near },
            remediation: `Did you mean ${near}? ${FAILURES['resource.not_found'].advice}`,
          },
    )
  }
  const mustFind = async (caller: Caller, ref: Ref, on: Queryable = db): Promise<ResourceRow> => {
    const [row] = canSee(caller, ref.namespace) ? await findResources(on, [ref]) : []
    if (!row) throw await notFound(caller, ref)
    return row
  }
  const filterOf = (caller: Caller, which: ResourceSelection): ResourceFilter => ({
    kind: which.kind,
    name: which.name,
    terms: which.terms,
    // A namespace that the caller may not see is one without resources.
    namespaces: which.namespace === null ? reach(caller) : canSee(caller, which.namespace) ? [which.namespace] : [],
  })

  /** Reads what is stored and plans each document, under the lock of the clock. */
  const planAll = async (
    tx: Queryable,
    documents: readonly ResourceDocument[],
    { precondition, dryRun }: { precondition: Precondition | undefined; dryRun: boolean },
  ): Promise<Written[]> => {
    const stored = new Map((await findResources(tx, documents)).map((row) => [keyOf(row as Ref), row]))
    const formerOf = (document: ResourceDocument) => stored.get(keyOf(document)) ?? null
    const conflicts = documents.flatMap((document) => conflictOf(document, formerOf(document)) ?? [])
    if (conflicts.length > 0) throw failureOfProblems(conflicts, 'storing resources')
    for (const document of documents)
      if (precondition) requireMet(precondition, document, formerOf(document), 'storing')
    const at = new Date(ctx.clock.now()).toISOString()
    const written: Written[] = []
    for (const document of documents) {
      const former = formerOf(document)
      const { isSealed } = kindOf(document.kind)
      const spec = isSealed
        ? await sealing.seal(tx, document, document.spec, { former: former?.spec ?? null, dryRun })
        : document.spec
      written.push({ document, spec, former, plan: planWrite(document, spec, former, at) })
    }
    return written
  }

  /** Writes what is to change; gives the version of each, by its place. */
  const writeAll = async (tx: Queryable, caller: Caller, all: readonly Written[], clock: number) => {
    const changed = all.filter(({ plan }) => plan.outcome !== 'unchanged')
    const rows = changed.map((w, i) => ({ written: w, row: rowOf(w, clock + i + 1) }))
    if (rows.length === 0) return new Map<Written, number>()
    const stored = await putResources(
      tx,
      rows.map(({ row }) => row),
    )
    assert(stored.length === rows.length, 'a resource changed under the lock of the clock')
    const versions = rows.filter(({ written: w }) => w.plan.isNewSpec && w.document.definition !== null)
    if (versions.length > 0)
      await putVersions(
        tx,
        versions.map(({ written: { document, spec, plan }, row }) => ({
          uid: row.uid,
          version: plan.generation,
          definition: hashOf(document),
          lifecycle: lifecycleOf(document.spec),
          spec,
          created_by: caller.actor,
        })),
      )
    await advanceResourceClock(tx, clock + rows.length)
    await recordAudit(
      tx,
      rows.map(({ written: { document, plan } }) =>
        entryIn(ctx, caller, document.namespace, {
          action: `${kindOf(document.kind).plural}.apply`,
          object: document.name,
          details: { outcome: plan.outcome, generation: plan.generation },
        }),
      ),
    )
    return new Map(rows.map(({ written, row }) => [written, row.resource_version]))
  }

  const rowOf = ({ document, spec, former, plan }: Written, version: number): ResourceWrite => ({
    kind: document.kind,
    namespace: document.namespace,
    name: document.name,
    uid: former?.uid ?? ctx.ids.make('resource'),
    generation: plan.generation,
    resource_version: version,
    first_version: former?.first_version ?? version,
    labels: document.labels,
    annotations: document.annotations,
    spec,
    status: plan.status as unknown as JsonObject, // interfaces have no index signature, JSON objects do
    replaces: former?.resource_version ?? 0,
  })

  return {
    async apply(caller, documents, { dryRun, precondition }) {
      const foreign = documents.find((document) => !canSee(caller, document.namespace))
      if (foreign)
        throw new Failure('client.forbidden', `storing ${nameOf(foreign)}`, {
          evidence: { namespaces: shownReach(caller) ?? [] },
        })
      // Content-addressed: one that is left over when the rest is refused does no harm.
      if (!dryRun)
        for (const { definition } of documents)
          if (definition) await putDefinition(db, versionless(definition), { standalone: false })
      let woken = 0
      let changed: ResourceDocument[] = []
      const answer = await db.transaction(async (tx): Promise<ApplyResponse> => {
        const clock = await lockResourceClock(tx)
        const all = await planAll(tx, documents, { precondition, dryRun })
        const versions = dryRun ? new Map<Written, number>() : await writeAll(tx, caller, all, clock.version)
        changed = dryRun ? [] : all.filter(({ plan }) => plan.outcome !== 'unchanged').map(({ document }) => document)
        woken = await wakeForChanges(tx, changed)
        return {
          dryRun,
          resources: all.map((written) => {
            const { document, former, plan } = written
            const version = versions.get(written) ?? former?.resource_version ?? null
            return {
              kind: document.kind,
              namespace: document.namespace,
              name: document.name,
              outcome: plan.outcome,
              generation: plan.generation,
              resourceVersion: version === null ? null : String(version),
            }
          }),
        }
      })
      if (!dryRun) feed.wake()
      woken += await wakeForChanges(db, changed)
      if (woken > 0) ctx.tickWithin(0)
      const warnings = await danglingNames(db, documents)
      return warnings.length === 0 ? answer : { ...answer, warnings }
    },

    async get(caller, ref) {
      const view = viewResource(await mustFind(caller, ref))
      return (await ctx.withUse([view]))[0] ?? view
    },

    async list(caller, which, { cursor, limit }) {
      // The clock before the rows: a watch from there may repeat what is on the page, and misses nothing.
      const clock = await readResourceClock(db)
      const rows = await listResources(db, filterOf(caller, which), { after: placeOfCursor(cursor), limit: limit + 1 })
      const shown = rows.slice(0, limit)
      const last = rows.length > limit ? shown.at(-1) : undefined
      return {
        apiVersion: API_VERSION,
        kind: 'List',
        items: await ctx.withUse(shown.map(viewResource)),
        next: last ? cursorOf(last) : null,
        resourceVersion: String(clock.version),
      }
    },

    async remove(caller, ref, { precondition, dryRun }) {
      let woken = 0
      const row = await db.transaction(async (tx) => {
        const clock = await lockResourceClock(tx)
        const [found] = canSee(caller, ref.namespace) ? await findResources(tx, [ref]) : []
        if (!found) return null
        requireMet(precondition, ref, found, 'deleting')
        if (dryRun) return found
        const version = clock.version + 1
        const gone = await deleteResources(tx, [
          { ...ref, replaces: found.resource_version, resource_version: version },
        ])
        assert(gone.length === 1, 'a resource changed under the lock of the clock')
        await deleteVersions(tx, [found.uid])
        if (kindOf(ref.kind).isSealed) await sealing.forget(tx, ref)
        if (ref.kind === 'Memory') await deleteMemory(tx, { namespace: ref.namespace, memory: ref.name })
        await advanceResourceClock(tx, version)
        const action = `${kindOf(ref.kind).plural}.delete`
        await recordAudit(tx, [entryIn(ctx, caller, ref.namespace, { action, object: ref.name })])
        woken = await wakeForChanges(tx, [ref])
        return found
      })
      if (!row) throw await notFound(caller, ref)
      feed.wake()
      if (!dryRun) woken += await wakeForChanges(db, [ref])
      if (woken > 0) ctx.tickWithin(0)
      return viewResource(row)
    },

    checkWatch: (since) => feed.check(since),
    watch: (caller, which, since, signal) => feed.follow(filterOf(caller, which), since, signal),

    async listVersions(caller, ref, { cursor, limit }) {
      const { uid } = await mustFind(caller, ref)
      const below = cursor === null ? 2 ** 31 - 1 : versionOfCursor(cursor)
      const rows = await listVersions(db, uid, { below, limit: limit + 1 })
      const shown = rows.slice(0, limit)
      const last = rows.length > limit ? shown.at(-1) : undefined
      return { items: shown.map(viewVersion), next: last ? String(last.version) : null }
    },

    async getVersion(caller, ref, version): Promise<VersionWithSpec> {
      const { namespace, name } = ref
      if (version === 'active') {
        const found = await findStart(db, { namespace, name, version: null }, reach(caller))
        return { ...viewVersion(found.version), spec: found.version.spec }
      }
      const resource = await mustFind(caller, ref)
      const found = await findVersion(db, resource.uid, version)
      if (!found)
        throw new Failure('resource.not_found', `looking for version ${version} of ${nameOf(ref)}`, {
          evidence: { latest: resource.generation },
        })
      return { ...viewVersion(found), spec: found.spec }
    },

    async startOf(caller, which) {
      return (await findStart(db, which, reach(caller))).start
    },
  }
}

/** Names in these documents behind which there is nothing, as somebody should hear it. */
async function danglingNames(db: Queryable, documents: readonly ResourceDocument[]): Promise<string[]> {
  // A workflow may be stored as a definition alone: whether it is there shows when a run starts.
  const named = namedElsewhere(documents).filter(({ kind }) => kind !== 'Workflow')
  if (named.length === 0) return []
  const there = new Set((await findResourceVersions(db, named)).map((row) => keyOf(row as Ref)))
  const missing = named.filter((one) => !there.has(`${one.kind} ${one.namespace}/${one.name}`))
  const remarks: string[] = []
  for (const one of missing.slice(0, LIMITS.problemsMax))
    remarks.push(remarkOn(one, 'there', await listNames(db, one, LIMITS.pageMax)))
  return remarks
}

function requireMet(precondition: Precondition, ref: Ref, former: ResourceRow | null, doing: string): void {
  if (meets(precondition, former)) return
  throw new Failure('resource.precondition_failed', `${doing} ${nameOf(ref)}`, {
    evidence: {
      expected: precondition.absent ? 'none' : (precondition.match ?? []),
      actual: former === null ? 'none' : String(former.resource_version),
    },
  })
}

/** Labels are not part of a version: runs get those that the workflow has when they start. */
const versionless = (definition: NonNullable<ResourceDocument['definition']>) => ({ ...definition, labels: {} })

function hashOf({ definition }: ResourceDocument): string {
  assert(definition, 'a version of something that is no workflow')
  return definitionHash(versionless(definition))
}

const cursorOf = ({ namespace, name }: ResourceRow): string =>
  Buffer.from(JSON.stringify([namespace, name])).toString('base64url')

function placeOfCursor(cursor: string | null): { namespace: string; name: string } | null {
  if (cursor === null) return null
  try {
    const parsed: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString())
    if (Array.isArray(parsed) && parsed.length === 2) {
      const [namespace, name] = parsed as unknown[]
      if (typeof namespace === 'string' && typeof name === 'string') return { namespace, name }
    }
  } catch {
    // Told below, with what else is no cursor.
  }
  throw badCursor()
}

function versionOfCursor(cursor: string): number {
  if (/^[1-9]\d{0,8}$/.test(cursor)) return Number(cursor)
  throw badCursor()
}

const badCursor = (): Failure =>
  failureOfProblems(
    [{ code: 'request.invalid', path: 'cursor', message: 'is no cursor that this list gave' }],
    'reading the query',
  )
