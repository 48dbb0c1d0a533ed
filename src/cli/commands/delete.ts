import { DEFAULT_NAMESPACE } from '../../domain/kinds/envelope.ts'
import { Failure } from '../../domain/failure.ts'
import type { ResourceRef } from '../../client/resource-client.ts'
import type { CliDeps } from '../deps.ts'
import type { Output } from '../output.ts'
import { readManifests } from '../resource-files.ts'
import { namesOf, shortName } from '../resource-text.ts'
import { span } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connectTo, type FileFlags } from './apply.ts'

export interface DeleteFlags extends FileFlags {
  ignoreNotFound?: boolean
}

/** `orrery delete KIND NAME…` or `orrery delete -f FILE…`. Runs of a deleted workflow go on. */
export async function deleteResources(
  deps: CliDeps,
  output: Output,
  given: { kind: string | undefined; names: string[] },
  flags: DeleteFlags,
): Promise<number> {
  const refs = await refsOf(deps, output, given, flags)
  const client = await connectTo(deps, flags)
  const dryRun = flags.dryRun ?? false
  const outcomes: (ResourceRef & { outcome: 'deleted' | 'absent' })[] = []
  for (const { kind, namespace, name } of refs) {
    const ref = { kind, namespace, name }
    let outcome: 'deleted' | 'absent' = 'deleted'
    try {
      await client.resources.remove(ref, { dryRun })
    } catch (error) {
      const isAbsent = error instanceof Failure && error.code === 'resource.not_found'
      if (!isAbsent || !flags.ignoreNotFound) throw error
      outcome = 'absent'
    }
    outcomes.push({ ...ref, outcome })
    if (output.isData) continue
    const remark = dryRun ? [span(' (dry run: nothing was deleted)', 'dim')] : []
    output.print([span(`${shortName(ref)} `), span(outcome, outcome === 'deleted' ? 'accent' : 'dim'), ...remark])
  }
  if (output.isData) output.printData({ dryRun, resources: outcomes })
  return 0
}

async function refsOf(
  deps: CliDeps,
  output: Output,
  given: { kind: string | undefined; names: string[] },
  flags: DeleteFlags,
): Promise<ResourceRef[]> {
  const paths = flags.filename ?? []
  const hint = 'Write orrery delete KIND NAME, or orrery delete -f FILE.'
  if (given.kind === undefined) {
    if (paths.length === 0) throw usageFailure('delete needs a kind and a name, or a file', hint)
    return readManifests(deps, output, {
      paths,
      recursive: flags.recursive ?? false,
      namespace: flags.namespace ?? null,
    })
  }
  if (paths.length > 0) throw usageFailure('a kind and a name cannot be used together with -f', hint)
  const { kind, names } = namesOf(given.kind, given.names)
  if (names.length === 0) throw usageFailure('delete needs the name of what to delete', hint)
  return names.map((name) => ({ kind, namespace: flags.namespace ?? DEFAULT_NAMESPACE, name }))
}
