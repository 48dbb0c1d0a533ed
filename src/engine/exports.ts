import type { ExportsRequest, ExportsResponse } from '../contract/exchange.ts'
import { Failure } from '../domain/failure.ts'
import { recordExport } from '../store/steps/exported-env.ts'
import type { EngineContext } from './context.ts'
import type { Dispatcher } from './dispatcher.ts'
import type { Caller } from './engine.ts'
import { heldStep } from './held-step.ts'

/** Keeps the variables that an attempt hands on, before its end is told. */
export async function takeExports(
  ctx: EngineContext,
  dispatcher: Dispatcher,
  caller: Caller,
  request: ExportsRequest,
): Promise<ExportsResponse> {
  const held = await heldStep(ctx, dispatcher, caller, request)
  if (!held) return { state: 'stale' }
  const { at, definition } = held
  const node = definition.nodes[at.node]
  if (node?.kind !== 'command' || !node.exportEnv)
    throw new Failure('request.invalid', `recording variables of step ${request.step}, which does not say exportEnv`)
  const { session, fence, env } = request
  return { state: (await recordExport(ctx.db, { ...at, session, fence, env })) ? 'recorded' : 'stale' }
}
