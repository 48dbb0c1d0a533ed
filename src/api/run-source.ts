import type { JsonObject } from '../base/json.ts'
import type { Definition } from '../domain/workflow.ts'
import { failureOfProblems } from '../domain/failure.ts'
import { DEFAULT_NAMESPACE } from '../domain/kinds/envelope.ts'
import { compileWorkflow, parseManifest } from '../domain/manifest.ts'
import { storedNamespace } from '../domain/tenancy.ts'
import type { Caller, Engine } from '../engine/engine.ts'
import { ownDefinition } from './tenancy.ts'

export interface RunSource {
  definition?: string
  workflow?: JsonObject
  manifest?: string
  workflowRef?: string
  namespace?: string
}

/** Compiles what came with a request; throws a Failure that lists every problem. */
export function compileSource(source: RunSource): Definition {
  if (source.manifest !== undefined) return parseManifest(source.manifest, { file: 'request' }).definition
  const compiled = compileWorkflow(source.workflow ?? {})
  if (compiled.ok) return compiled.definition
  throw failureOfProblems(compiled.problems, 'compiling the workflow')
}

/** What a run starts from. */
export interface RunStart {
  definition: string
  /** Of the stored workflow, for its runs. */
  labels: Record<string, string>
  /** What whoever starts it should hear. */
  warning: string | null
}

/** What to run: the hash as given, that of the workflow that came along, which is stored, or a version of a stored workflow. */
export async function startOf(engine: Engine, caller: Caller, source: RunSource): Promise<RunStart> {
  const { definition, workflowRef } = source
  if (definition !== undefined) return { definition, labels: NO_LABELS, warning: null }
  if (workflowRef !== undefined) {
    const [name = '', version] = workflowRef.split('@')
    const namespace = source.namespace ?? DEFAULT_NAMESPACE
    return engine.resources.startOf(caller, {
      namespace: storedNamespace(caller.organisation, namespace),
      name,
      version: version === undefined ? null : Number(version),
    })
  }
  const { hash } = await engine.putDefinition(caller, ownDefinition(caller, compileSource(source)))
  return { definition: hash, labels: NO_LABELS, warning: null }
}

const NO_LABELS: Record<string, string> = {}
