import { Failure } from '../domain/failure.ts'
import { displayName } from '../domain/step.ts'
import type { WorkflowNode } from '../domain/workflow.ts'
import type { LeasedStep } from '../store/steps/complete-steps.ts'
import type { SecretResolver, WantedSecret } from './secret-resolver.ts'

/** Values by variable or alias, or why the attempt cannot have them. */
export type StepSecrets = Record<string, string> | Failure

/**
 * The secrets of steps that are about to be assigned, as they are now: the next attempt gets what was set meanwhile. Steps that ask
 * for none cost nothing; all others together cost one query.
 */
export async function secretsOf(
  resolver: SecretResolver,
  steps: readonly { step: LeasedStep; node: WorkflowNode; namespace: string }[],
): Promise<ReadonlyMap<LeasedStep, StepSecrets>> {
  const found = new Map<LeasedStep, StepSecrets>()
  const wanted: (WantedSecret & { of: LeasedStep; as: string })[] = []
  for (const { step, node, namespace } of steps) {
    if (!node.secrets) continue
    const name = displayName(node.name, step.path)
    for (const [as, ref] of Object.entries(node.secrets)) {
      const field = node.kind === 'command' ? 'env' : 'secrets'
      const attempted = `resolving secret ${ref.secret}, key ${ref.key}, for ${field}.${as} of step ${name} of ${step.runId}`
      wanted.push({ ...ref, namespace, attempted, evidence: { step: name }, of: step, as })
    }
  }
  if (wanted.length === 0) return found
  const values = await resolver.resolve(wanted)
  for (const [i, { of, as }] of wanted.entries()) {
    const value = values[i]
    const former = found.get(of)
    if (value === undefined || former instanceof Failure) continue
    found.set(of, value instanceof Failure ? value : { ...former, [as]: value })
  }
  return found
}
