import type { JsonObject } from '../base/json.ts'
import type { Definition } from '../domain/workflow.ts'
import { failureOfProblems } from '../domain/failure.ts'
import { compileWorkflow, parseManifest } from '../domain/manifest.ts'
import type { Caller, Engine } from '../engine/engine.ts'

export interface RunSource {
  definition?: string
  workflow?: JsonObject
  manifest?: string
}

/** Compiles what came with a request; throws a Failure that lists every problem. */
export function compileSource(source: RunSource): Definition {
  if (source.manifest !== undefined) return parseManifest(source.manifest, { file: 'request' }).definition
  const compiled = compileWorkflow(source.workflow ?? {})
  if (compiled.ok) return compiled.definition
  throw failureOfProblems(compiled.problems, 'compiling the workflow')
}

/** The hash to run: as given, or of the workflow that came along, which is stored. */
export async function definitionHash(engine: Engine, caller: Caller, source: RunSource): Promise<string> {
  if (source.definition !== undefined) return source.definition
  return (await engine.putDefinition(caller, compileSource(source))).hash
}
