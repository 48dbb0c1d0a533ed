import { nearest } from '../../base/nearest.ts'
import { readAgent } from '../kinds/agent.ts'
import type { ResourceDocument } from '../kinds/documents.ts'
import { readTool } from '../kinds/tool.ts'
import { organisationOf, plainNamespace, storedNamespace } from '../tenancy.ts'
import { parseWorkflowRef, WORKFLOW_REF } from '../workflow-ref.ts'
import {
  type Reference,
  type ReferredKind,
  referencesOfAgent,
  referencesOfTool,
  referencesOfWorkflow,
} from './references.ts'

type Document = Pick<ResourceDocument, 'kind' | 'namespace' | 'name' | 'spec' | 'definition'>

/** A name that a document has in it, with the namespace that it is looked for in. */
export interface NamedThing {
  kind: ReferredKind
  namespace: string
  name: string
  by: string
  field: string
}

/** What the agents, tools and agent steps among these documents name and is not among them; each name once for each place. */
export function namedElsewhere(documents: readonly Document[]): NamedThing[] {
  const there = new Set(documents.map(({ kind, namespace, name }) => keyOf({ kind, namespace, name })))
  return documents.flatMap((document) =>
    referencesOf(document).flatMap((reference) => {
      const named = placed(reference, document.namespace)
      return there.has(keyOf(named)) ? [] : [named]
    }),
  )
}

function referencesOf({ kind, name, spec, definition }: Document): Reference[] {
  if (kind === 'Workflow') return definition ? referencesOfWorkflow(definition) : []
  if (kind === 'Agent') return referencesOfAgent(name, readAgent(spec))
  return kind === 'Tool' ? referencesOfTool(name, readTool(spec)) : []
}

/** A workflow may be named with a version, and in another namespace of the organisation. */
function placed({ kind, name, by, field }: Reference, namespace: string): NamedThing {
  if (kind !== 'Workflow' || !WORKFLOW_REF.test(name)) return { kind, namespace, name, by, field }
  const ref = parseWorkflowRef(name)
  const at = ref.namespace === undefined ? namespace : storedNamespace(organisationOf(namespace), ref.namespace)
  return { kind, namespace: at, name: ref.name, by, field }
}

const keyOf = ({ kind, namespace, name }: { kind: string; namespace: string; name: string }): string =>
  `${kind} ${namespace}/${name}`

/** What somebody should hear who wrote it. `where` it is not; `names` are those that are there. */
export function remarkOn(
  { kind, namespace, name, by, field }: NamedThing,
  where: string,
  names: readonly string[],
): string {
  const near = nearest(name, [...names])
  const meant = near === null ? '' : `; did you mean ${near}?`
  return `${by} names ${kind} ${name} in ${field}, which is not ${where}: no run starts before it is stored in namespace ${plainNamespace(namespace)}${meant}`
}
