import type { JsonObject } from '../../base/json.ts'
import { nearest } from '../../base/nearest.ts'
import { Failure } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import { isWithin, plainNamespace } from '../../domain/tenancy.ts'
import type { Queryable } from '../../store/db.ts'
import { findResources, listNames, listResources } from '../../store/resources/read-resources.ts'
import type { ResourceRow } from '../../store/resources/resource-rows.ts'
import { findPublished, findVersion, type VersionRow } from '../../store/resources/resource-versions.ts'
import type { WorkflowStart } from './resource-engine.ts'

export interface WorkflowName {
  namespace: string
  name: string
  /** Null: the latest active one. */
  version: number | null
}

/** Other namespaces that are named when a workflow is not where it was looked for. */
const ELSEWHERE_MAX = 5

/** What a name comes to, whoever asks. */
export type Startable =
  | { kind: 'found'; resource: ResourceRow; version: VersionRow; start: WorkflowStart }
  | { kind: 'absent' }
  | { kind: 'no_version'; latest: number }
  /** `version` is the one that was meant: the newest when none was named. */
  | { kind: 'inactive'; lifecycle: 'draft' | 'archived'; version: number; uid: string }

/** The stored version that a run starts from, by the workflow's lifecycle. */
export async function findStartable(db: Queryable, which: WorkflowName): Promise<Startable> {
  const { namespace, name } = which
  const [resource] = await findResources(db, [{ kind: 'Workflow', namespace, name }])
  if (!resource) return { kind: 'absent' }
  const { uid } = resource
  const published = await findPublished(db, uid)
  const version = which.version === null ? published : await findVersion(db, uid, which.version)
  if (!version && which.version !== null) return { kind: 'no_version', latest: resource.generation }
  const refusal = version ? refusalOf(version, published) : 'draft'
  if (!version || refusal !== null)
    return { kind: 'inactive', lifecycle: refusal ?? 'draft', version: version?.version ?? resource.generation, uid }
  const isOld = version.lifecycle === 'deprecated' || published?.lifecycle === 'deprecated'
  const start = {
    definition: version.definition,
    version: version.version,
    labels: resource.labels,
    warning: isOld ? `workflow ${nameOf(which)} is deprecated; version ${version.version} was started` : null,
  }
  return { kind: 'found', resource, version, start }
}

/** Like findStartable, for a caller: what is not to be started is a Failure. `namespaces` are those that the caller sees; null: all. */
export async function findStart(
  db: Queryable,
  which: WorkflowName,
  namespaces: readonly string[] | null,
): Promise<Startable & { kind: 'found' }> {
  const sees = isWithin(namespaces, which.namespace)
  const found: Startable = sees ? await findStartable(db, which) : { kind: 'absent' }
  switch (found.kind) {
    case 'found':
      return found
    case 'absent':
      throw await notFound(db, which, { sees, namespaces })
    case 'no_version':
      throw new Failure('workflow.not_found', `looking for version ${which.version} of workflow ${nameOf(which)}`, {
        evidence: { latest: found.latest },
        remediation: `Its versions go up to ${found.latest}: orrery describe workflow ${which.name} -n ${plainNamespace(which.namespace)} lists them.`,
      })
    case 'inactive': {
      const what = which.version === null ? 'workflow' : `version ${which.version} of workflow`
      throw new Failure('workflow.inactive', `starting ${what} ${nameOf(which)}`, {
        evidence: { lifecycle: found.lifecycle, version: found.version },
      })
    }
  }
}

/**
 * Why a version does not start; null when it does. The newest version that is no draft speaks for the workflow: one that was
 * archived starts nothing, not even a version of better days.
 */
function refusalOf(version: VersionRow, published: VersionRow | null): 'draft' | 'archived' | null {
  if (version.lifecycle === 'draft') return 'draft'
  return version.lifecycle === 'archived' || published?.lifecycle === 'archived' ? 'archived' : null
}

const nameOf = (which: WorkflowName): string => `${plainNamespace(which.namespace)}/${which.name}`

async function notFound(
  db: Queryable,
  which: WorkflowName,
  seen: { sees: boolean; namespaces: readonly string[] | null },
): Promise<Failure> {
  const names = seen.sees ? await listNames(db, { kind: 'Workflow', namespace: which.namespace }, LIMITS.pageMax) : []
  const near = nearest(which.name, names)
  const filter = { kind: 'Workflow', namespaces: seen.namespaces, name: which.name, terms: [] }
  const elsewhere = (await listResources(db, filter, { after: null, limit: ELSEWHERE_MAX })).map((r) =>
    plainNamespace(r.namespace),
  )
  const evidence: JsonObject = {
    ...(near === null ? {} : { nearest: near }),
    ...(elsewhere.length > 0 ? { namespaces: elsewhere } : {}),
  }
  const hint =
    near !== null
      ? {
          remediation: `Did you mean ${near}? orrery get workflows -n ${plainNamespace(which.namespace)} lists what there is.`,
        }
      : elsewhere.length > 0
        ? { remediation: `There is a workflow of this name in namespace ${elsewhere.join(', ')}: name it with -n.` }
        : {}
  return new Failure('workflow.not_found', `looking for workflow ${nameOf(which)}`, { evidence, ...hint })
}
