import type { WorkflowNode } from '../domain/workflow.ts'
import { recordAudit } from '../store/audit/audit.ts'
import { findSessions } from '../store/sessions/sessions.ts'
import type { LeasedStep } from '../store/steps/complete-steps.ts'
import type { StepSecrets } from './assignment-secrets.ts'
import type { EngineContext } from './context.ts'
import { stepIdOf } from './step-id.ts'

/**
 * Writes down which worker is given which secrets, before it is given them: what cannot be written down is not handed out. An
 * assignment that is sent again is one more use.
 */
export async function noteSecretUse(
  ctx: Pick<EngineContext, 'db' | 'ids'>,
  steps: readonly { step: LeasedStep; node: WorkflowNode; namespace: string }[],
  found: ReadonlyMap<LeasedStep, StepSecrets>,
): Promise<void> {
  const given = steps.filter(({ step }) => {
    const secrets = found.get(step)
    return secrets !== undefined && !(secrets instanceof Error)
  })
  if (given.length === 0) return
  const sessions = await findSessions(ctx.db, [...new Set(given.map(({ step }) => step.session))])
  const tokens = new Map(sessions.map((s) => [s.id, s]))
  await recordAudit(
    ctx.db,
    given.flatMap(({ step, node, namespace }) =>
      Object.entries(node.secrets ?? {}).map(([as, { secret, key }]) => ({
        id: ctx.ids.make('audit'),
        actor: tokens.get(step.session)?.token_id ?? step.session,
        role: 'worker',
        about: { namespace },
        action: 'secrets.use',
        object: secret,
        outcome: 'done' as const,
        requestId: null,
        details: { key, as, step: stepIdOf(step), worker: tokens.get(step.session)?.worker ?? null },
      })),
    ),
  )
}
