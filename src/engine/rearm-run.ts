import { Failure } from '../domain/failure.ts'
import { ringsOf } from '../domain/rings.ts'
import { rearmSteps } from '../store/runs/read-runs.ts'
import type { EngineContext } from './context.ts'

/** Arms the steps of a run that could go on and that nobody will look at, and gives them. */
export async function rearmRun(
  ctx: EngineContext,
  run: { id: string; definition: string },
): Promise<{ node: number; path: string }[]> {
  return rearmSteps(ctx.db, run.id, await ringsOfRun(ctx, run.definition))
}

async function ringsOfRun(ctx: EngineContext, hash: string): Promise<(readonly number[])[]> {
  try {
    return ringsOf((await ctx.definitions.get(hash)).definition)
  } catch (error) {
    // Whoever settles the run says so, and one such run must not keep the others from being looked at.
    if (error instanceof Failure && error.code === 'definition.not_found') return []
    throw error
  }
}
