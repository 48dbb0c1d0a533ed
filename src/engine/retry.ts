import type { JsonObject } from '../base/json.ts'
import { Failure } from '../domain/failure.ts'
import { isStepTerminal } from '../domain/machines.ts'
import { isNotNeeded, reopen, settledNodes } from '../domain/reopen.ts'
import { endsWell } from '../domain/rings.ts'
import { displayName, type Step, type StepKey } from '../domain/step.ts'
import { loadAllSteps } from '../store/steps/step-rows.ts'
import type { LockedRun } from '../store/steps/save-advance.ts'
import { type ByHand, change, findStepByName, mustSee } from './by-hand.ts'
import type { EngineContext } from './context.ts'
import type { Compiled } from './definitions.ts'

/** Steps that are named when one that was meant cannot be retried. */
const NAMED_MAX = 20

/** Re-opens what failed or was canceled. `run.not_recoverable` when the run has not ended, or ended well; `run.retry_in_progress`. */
export async function retryRun(
  ctx: EngineContext,
  runId: string,
  namespaces: readonly string[] | null,
): Promise<ByHand> {
  await mustSee(ctx, runId, namespaces)
  return change(ctx, runId, async (tx, run, compiled) => {
    const doing = `retrying run ${runId}`
    if (!run.ended && run.epoch > 1)
      throw new Failure('run.retry_in_progress', doing, {
        evidence: { state: run.state, epoch: run.epoch, allowed: ['cancel'] },
      })
    if (run.state !== 'failed' && run.state !== 'canceled') {
      throw new Failure('run.not_recoverable', doing, {
        evidence: { state: run.state, allowed: run.ended ? [] : ['cancel'] },
        remediation: run.ended
          ? 'The run succeeded; start a new one.'
          : 'The run has not ended: wait for it, or cancel it first.',
      })
    }
    const steps = await loadAllSteps(tx, runId)
    const what = { type: 'retry' as const, step: null }
    return { ...reopen({ ...compiled, run, steps, now: run.now, what }), epoch: run.epoch + 1, outputs: [] }
  })
}

/**
 * Re-opens one failed step, or one failed activation, and what was blocked or stopped because of it; what else failed stays as it is.
 * The run need not have ended. `step.not_failed`, `run.not_recoverable`, `run.retry_in_progress` say what is allowed now.
 */
export async function retryStep(
  ctx: EngineContext,
  runId: string,
  name: string,
  namespaces: readonly string[] | null,
): Promise<ByHand> {
  await mustSee(ctx, runId, namespaces)
  return change(ctx, runId, async (tx, run, compiled) => {
    const { steps, step } = await findStepByName(tx, compiled, { runId, name })
    const refusal = refusalOf({ run, compiled, steps, step, name })
    if (refusal) throw refusal
    const what = { type: 'retry' as const, step: { node: step.node, path: step.path } }
    return { ...reopen({ ...compiled, run, steps, now: run.now, what }), epoch: run.epoch + 1, outputs: [] }
  })
}

interface Asked {
  run: LockedRun
  compiled: Compiled
  steps: readonly Step[]
  step: Step
  name: string
}

/** Why a step cannot be retried now; null when it can. Each says what can be done instead. */
function refusalOf({ run, compiled, steps, step, name }: Asked): Failure | null {
  const doing = `retrying step ${name} of run ${run.id}`
  const { definition } = compiled
  const nameOf = ({ node, path }: StepKey) => displayName(definition.nodes[node]?.name ?? '', path)
  const done = settledNodes({ definition, steps })
  const isDone = (s: Step) => done.has(s.node) || endsWell(definition.nodes[s.node], s)
  const failed = steps.filter((s) => s.state === 'failed' && !isDone(s))
  const isStopping = run.stop !== null && !run.ended
  const isOver = run.ended && run.state === 'succeeded'
  // What takes turns is skipped turn by turn.
  const takesTurns = step.path === '' && definition.nodes[step.node]?.turns !== undefined
  const canSkip =
    !isStopping && run.state !== 'canceled' && SKIPPABLE.includes(step.state) && !isDone(step) && !takesTurns
  const evidence: JsonObject = {
    run: run.state,
    state: step.state,
    allowed: [
      ...(run.ended || isStopping ? [] : ['cancel']),
      ...(run.ended && !isOver ? ['retry'] : []),
      ...(failed.length > 0 && !isStopping ? ['retry_step'] : []),
      ...(canSkip ? ['skip_step'] : []),
    ],
    failed: failed.slice(0, NAMED_MAX).map(nameOf),
  }
  const refuse = (code: Failure['code'], remediation?: string) =>
    new Failure(code, doing, { evidence, ...(remediation === undefined ? {} : { remediation }) })
  if (isOver) return refuse('run.not_recoverable', 'The run succeeded; start a new one.')
  if (isStopping)
    return refuse('run.not_recoverable', 'The run is being stopped. Wait for its end, and retry it or its steps then.')
  if (step.state === 'failed' && isDone(step))
    return refuse(
      'step.not_failed',
      'Its failure counts as success, and what follows has gone on from it. Start a new run for another outcome.',
    )
  if (step.state === 'failed') {
    const others = failed.filter((s) => s.node !== step.node)
    if (!definition.failFast || others.length === 0) return null
    return refuse(
      'run.not_recoverable',
      `The workflow has failFast, so that the run would stop at once for ${others.slice(0, NAMED_MAX).map(nameOf).join(', ')}. Retry all of it with orrery runs retry ${run.id}.`,
    )
  }
  if (!run.ended && run.epoch > 1 && !isStepTerminal(step.state)) return refuse('run.retry_in_progress')
  if (step.state === 'blocked') {
    const by = String(step.failure.evidence?.['blockedBy'] ?? 'a need')
    return refuse('step.not_failed', `It is blocked by ${by}. Retry that; this one follows by itself.`)
  }
  if (step.state === 'canceled' && !isNotNeeded(step) && run.ended)
    return refuse('step.not_failed', `It was stopped. Retry what was stopped with orrery runs retry ${run.id}.`)
  return refuse('step.not_failed')
}

const SKIPPABLE: readonly Step['state'][] = ['pending', 'queued', 'waiting', 'failed', 'blocked']
