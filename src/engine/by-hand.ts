import type { Json } from '../base/json.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { reopen, settledNodes } from '../domain/reopen.ts'
import { displayName, pathOf, type Step, type StepKey } from '../domain/step.ts'
import type { Queryable } from '../store/db.ts'
import { putDeadlines } from '../store/runs/child-runs.ts'
import { findRun } from '../store/runs/read-runs.ts'
import { type LockedRun, lockRun, saveAdvance } from '../store/steps/save-advance.ts'
import { saveBeside } from '../store/steps/save-beside.ts'
import { loadAllSteps } from '../store/steps/step-rows.ts'
import type { EngineContext } from './context.ts'
import type { Compiled } from './definitions.ts'
import { noteSettled } from './observe.ts'
import { settleRun, stepEndsOf } from './settle.ts'
import { createNameIndex } from './views.ts'

/** What a change by hand made possible: queues that got steps. */
export interface ByHand {
  queued: number[]
}

const gone = (runId: string) => new Failure('run.not_found', `looking for run ${runId}`)

/** `run.not_found` when it is not within reach. */
export async function mustSee(ctx: EngineContext, runId: string, namespaces: readonly string[] | null): Promise<void> {
  if (!(await findRun(ctx.db, runId, namespaces))) throw gone(runId)
}

/** All steps of a run, and the one that is meant by a name such as `measure[3]`. `step.not_found` when there is none. */
export async function findStepByName(
  tx: Queryable,
  compiled: Compiled,
  { runId, name }: { runId: string; name: string },
): Promise<{ steps: Step[]; step: Step; key: StepKey }> {
  const key = createNameIndex(compiled.definition).find(name)
  const steps = key ? await loadAllSteps(tx, runId) : []
  const step = steps.find((s) => s.node === key?.node && s.path === key.path)
  if (!key || !step) throw new Failure('step.not_found', `looking for step ${name} of run ${runId}`)
  return { steps, step, key }
}

/** Stops a run. Twice is safe; a run that has ended is refused with `run.finished`. */
export async function cancelRun(
  ctx: EngineContext,
  runId: string,
  namespaces: readonly string[] | null,
): Promise<void> {
  const row = await findRun(ctx.db, runId, namespaces)
  if (!row) throw gone(runId)
  if (row.ended_at !== null)
    throw new Failure('run.finished', `canceling run ${runId}`, { evidence: { state: row.state } })
  await settleRun(ctx, runId, [{ type: 'stop', why: 'cancel' }])
}

/** Takes a step as done with the given output. `step.not_skippable` when it runs, has ended well, or its failure was taken for success. */
export async function skipStep(
  ctx: EngineContext,
  runId: string,
  name: string,
  output: Json,
  namespaces: readonly string[] | null,
): Promise<ByHand> {
  await mustSee(ctx, runId, namespaces)
  return change(ctx, runId, async (tx, run, compiled) => {
    const { steps, step, key } = await findStepByName(tx, compiled, { runId, name })
    const { turns } = compiled.definition.nodes[step.node] ?? {}
    if (turns !== undefined && step.path === '')
      throw new Failure('step.not_skippable', `skipping step ${name} of run ${runId}`, {
        evidence: { state: step.state, run: run.state },
        remediation: `It takes turns: skip one of them, such as '${displayName(name, pathOf(Math.max(0, step.total - 1)))}', and the way goes on from what you give for it.`,
      })
    const childRuns = steps.some((s) => s.node === step.node && s.path !== '' && s.state === 'running')
    if (
      !['pending', 'queued', 'waiting', 'failed', 'blocked'].includes(step.state) ||
      (step.path === '' && childRuns) ||
      run.state === 'canceled' ||
      // While a run is being stopped nothing revives it.
      (run.stop !== null && !run.ended)
    ) {
      throw new Failure('step.not_skippable', `skipping step ${name} of run ${runId}`, {
        evidence: { state: childRuns ? 'running' : step.state, run: run.state },
      })
    }
    const isFollowed = turns !== undefined && step.released > 0
    if (isFollowed || settledNodes({ ...compiled, steps }).has(step.node)) {
      throw new Failure('step.not_skippable', `skipping step ${name} of run ${runId}`, {
        evidence: { state: step.state, run: run.state },
        remediation: 'What follows has gone on from how it ended. For another output start a new run.',
      })
    }
    return {
      ...reopen({ ...compiled, run, steps, now: run.now, what: { type: 'skip', ...key } }),
      epoch: run.epoch,
      outputs: [{ ...key, output }],
    }
  })
}

type Change = ReturnType<typeof reopen> & { epoch: number; outputs: (StepKey & { output: Json })[] }

/** Changes a run by hand: decided and written under its lock. */
export async function change(
  ctx: EngineContext,
  runId: string,
  decide: (tx: Queryable, run: LockedRun, compiled: Compiled) => Promise<Change>,
): Promise<ByHand> {
  const { queued, ...settled } = await ctx.db.transaction(async (tx) => {
    const run = await lockRun(tx, runId)
    if (!run) throw gone(runId)
    const compiled = await ctx.definitions.get(run.definition, tx)
    const result = await decide(tx, run, compiled)
    const named = result.changes.map((c) => ({
      of: displayName(compiled.definition.nodes[c.node]?.name ?? '', c.path),
      to: c.to,
    }))
    const nameOf = ({ node, path }: StepKey) => displayName(compiled.definition.nodes[node]?.name ?? '', path)
    await saveBeside(tx, run, result.beside, nameOf)
    const { timeoutMs } = compiled.definition
    // Its time begins anew with each retry.
    if (timeoutMs !== null && result.epoch > run.epoch) await putDeadlines(tx, [{ runId, timeoutMs }])
    await saveAdvance(
      tx,
      runId,
      { ...result, created: [], attempts: [] },
      {
        state: result.ended ?? (run.state === 'pending' ? 'pending' : 'running'),
        ended: result.ended !== null,
        epoch: result.epoch,
        cancelRequested: false,
      },
      [
        ...(run.ended && !result.ended ? [{ of: 'run', to: 'running' }] : []),
        ...named,
        ...(result.ended ? [{ of: 'run', to: result.ended }] : []),
      ],
      LIMITS.inlineOutputBytes,
    )
    return {
      queued: [
        ...new Set(result.changed.filter((s) => s.state === 'queued').map((s) => compiled.queueIds[s.node] ?? 0)),
      ],
      ended: result.ended,
      attempts: [],
      stepsEnded: stepEndsOf(result.changes),
    }
  })
  noteSettled(ctx, runId, settled)
  ctx.tickWithin(0)
  return { queued }
}
