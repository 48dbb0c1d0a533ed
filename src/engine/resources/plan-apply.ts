import type { JsonObject } from '../../base/json.ts'
import type { ApplyOutcome, ResourceStatus } from '../../contract/resource-types.ts'
import type { Problem } from '../../domain/failure.ts'
import type { ResourceDocument } from '../../domain/kinds/documents.ts'
import { kindOf } from '../../domain/kinds/registry.ts'
import { plainNamespace } from '../../domain/tenancy.ts'
import { canonicalJson } from '../../store/definitions/put-definition.ts'
import type { ResourceRow } from '../../store/resources/resource-rows.ts'
import type { Precondition } from './resource-engine.ts'

export interface PlannedWrite {
  outcome: ApplyOutcome
  generation: number
  /** The spec is another one: a new version of a kind that has versions. */
  isNewSpec: boolean
  status: ResourceStatus
}

/** Pure: what a document makes of what is stored; `spec` is the document's, sealed where its kind is. */
export function planWrite(
  document: ResourceDocument,
  spec: JsonObject,
  former: ResourceRow | null,
  at: string,
): PlannedWrite {
  const isNewSpec = former === null || canonicalJson(former.spec) !== canonicalJson(spec)
  const isSame =
    !isNewSpec &&
    canonicalJson(former.labels) === canonicalJson(document.labels) &&
    canonicalJson(former.annotations) === canonicalJson(document.annotations)
  const generation = former === null ? 1 : former.generation + (isNewSpec ? 1 : 0)
  return {
    outcome: former === null ? 'created' : isSame ? 'unchanged' : 'configured',
    generation,
    isNewSpec,
    status: statusOf(document, generation, former, at),
  }
}

/** A condition that says what it said before keeps the time since when. */
function statusOf(
  document: ResourceDocument,
  generation: number,
  former: ResourceRow | null,
  at: string,
): ResourceStatus {
  const { phase, conditions } = kindOf(document.kind).statusOf(document.spec)
  const before = former === null ? [] : (former.status as unknown as ResourceStatus).conditions // as this function made it
  return {
    phase,
    conditions: conditions.map((found) => {
      const known = before.find((c) => c.type === found.type && c.status === found.status && c.reason === found.reason)
      return { ...found, since: known?.since ?? at }
    }),
    observedGeneration: generation,
  }
}

/** Pure: what of a stored resource is not as the writer of a document knew it. */
export function conflictOf(document: ResourceDocument, former: ResourceRow | null): Problem | null {
  const { uid, resourceVersion } = document.expected
  const { file, line, column } = document.place
  const problem = (key: string, message: string): Problem => ({
    code: 'resource.conflict',
    message,
    path: `metadata.${key}`,
    file,
    line,
    column,
  })
  const what = `${document.kind} ${plainNamespace(document.namespace)}/${document.name}`
  if (uid === null && resourceVersion === null) return null
  if (former === null)
    return problem(uid === null ? 'resourceVersion' : 'uid', `${what} does not exist any more, or never did`)
  if (uid !== null && uid !== former.uid)
    return problem('uid', `${what} was deleted and made again; it is ${former.uid} now`)
  if (resourceVersion !== null && Number(resourceVersion) !== former.resource_version)
    return problem('resourceVersion', `${what} is at ${former.resource_version} now, not at ${resourceVersion}`)
  return null
}

/** Pure: whether a stored resource is as an `If-Match` or `If-None-Match` demands. */
export function meets(precondition: Precondition, former: ResourceRow | null): boolean {
  if (precondition.absent && former !== null) return false
  const { match } = precondition
  if (match === null) return true
  return former !== null && (match.includes('*') || match.includes(String(former.resource_version)))
}
