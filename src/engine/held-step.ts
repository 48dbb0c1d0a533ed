import type { Definition } from '../domain/workflow.ts'
import { findOrigins } from '../store/runs/read-runs.ts'
import { findAttemptFates } from '../store/steps/find-steps.ts'
import type { EngineContext } from './context.ts'
import type { Dispatcher } from './dispatcher.ts'
import type { Caller } from './engine.ts'
import { parseStepId, type StepAddress } from './step-id.ts'

export interface HeldStep {
  at: StepAddress
  definition: Definition
}

/** Where the step is that a request speaks of, and what it is a step of; null when its session does not hold it. */
export async function heldStep(
  ctx: EngineContext,
  dispatcher: Dispatcher,
  caller: Caller,
  request: { session: string; step: string; fence: number },
): Promise<HeldStep | null> {
  const session = await dispatcher.workers.session(caller, request.session)
  const at = parseStepId(request.step)
  if (session === 'ended' || !at) return null
  const owned = session.owned.get(`${request.step}@${request.fence}`)
  if (!owned) {
    const [fate] = await findAttemptFates(ctx.db, [{ ...at, fence: request.fence, session: session.id }])
    if (!fate?.mine || fate.state !== 'running') return null
  }
  const hash = owned?.definition ?? (await findOrigins(ctx.db, [at.runId])).get(at.runId)?.definition
  if (hash === undefined) return null
  return { at, definition: (await ctx.definitions.get(hash)).definition }
}
