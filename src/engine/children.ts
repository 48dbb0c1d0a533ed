import type { Json } from '../base/json.ts'
import type { BesideRows } from '../domain/advance/beside-rows.ts'
import type { ChildEnd, Happening } from '../domain/advance/happenings.ts'
import { type FailureRecord, failureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Queryable } from '../store/db.ts'
import { linkChildren, type EndedChild, putDeadlines } from '../store/runs/child-runs.ts'
import { createRuns } from '../store/runs/create-runs.ts'
import type { LockedRun } from '../store/steps/save-advance.ts'
import { loadOutputs } from '../store/steps/step-rows.ts'
import type { EngineContext } from './context.ts'
import { withNote } from './definitions.ts'

/**
 * Starts runs below a run, in the transaction that lets their steps wait for them: there is never a step without its run, nor a run
 * without its step. Gives the queues that got steps.
 */
export async function startChildren(
  ctx: EngineContext,
  tx: Queryable,
  parent: Pick<LockedRun, 'id' | 'depth'>,
  children: BesideRows['children'],
): Promise<{ queued: number[]; started: string[] }> {
  if (children.length === 0) return { queued: [], started: [] }
  const queued = new Set<number>()
  const rows = []
  const timed: { runId: string; timeoutMs: number }[] = []
  for (const { runId, workflow, inputs } of children) {
    const { definition, roots, firstChanges, queueIds } = await ctx.definitions.get(workflow.hash, tx)
    for (const root of roots) queued.add(queueIds[root] ?? 0)
    if (definition.timeoutMs !== null) timed.push({ runId, timeoutMs: definition.timeoutMs })
    rows.push({
      id: runId,
      namespace: definition.namespace,
      workflow: definition.name,
      definition: workflow.hash,
      inputs: JSON.stringify(inputs),
      labels: JSON.stringify(workflow.labels),
      nodes: definition.nodes.length,
      roots: roots.length,
      changes: workflow.note === null ? firstChanges : withNote(firstChanges, workflow.note),
      idempotency: null,
      born: null,
      // Its parent tells who asked for it.
      createdBy: null,
    })
  }
  await createRuns(tx, rows, ctx.times.deadlineGraceMs)
  await linkChildren(
    tx,
    children.map(({ runId, node, path, fence }) => {
      return { runId, parentRun: parent.id, node, path, fence, depth: parent.depth + 1 }
    }),
  )
  if (timed.length > 0) await putDeadlines(tx, timed)
  ctx.metrics.count('orrery_runs_created_total', rows.length)
  return { queued: [...queued], started: rows.map((r) => r.id) }
}

/** What the parent of a run that has ended is told. */
export async function endOfChild(ctx: EngineContext, child: EndedChild): Promise<Happening> {
  const key = { node: child.parent_node, path: child.parent_path, fence: child.parent_fence }
  return {
    type: 'child_ended',
    ...key,
    run: child.id,
    end: { ...(await endOf(ctx, child)), definition: child.definition },
  }
}

async function endOf(ctx: EngineContext, child: EndedChild): Promise<Omit<ChildEnd, 'definition'>> {
  const failure = child.failure as FailureRecord | null // written by this very engine
  if (child.state !== 'succeeded') return { state: child.state, failure, output: null }
  const { definition, dependents } = await ctx.definitions.get(child.definition)
  const last = definition.nodes.flatMap((_, node) => ((dependents[node] ?? []).length === 0 ? [node] : []))
  const rows = await loadOutputs(
    ctx.db,
    last.map((node) => ({ runId: child.id, node })),
  )
  const output: Record<string, Json> = Object.fromEntries(
    rows
      .filter((row) => row.output !== null && row.state !== 'canceled')
      .map((row) => [definition.nodes[row.node]?.name ?? '', row.output]),
  )
  const bytes = Buffer.byteLength(JSON.stringify(output))
  if (bytes <= LIMITS.outputBytes) return { state: 'succeeded', failure: null, output }
  const tooLarge = failureRecord('output.too_large', `taking over what ${child.id} gave`, {
    evidence: { bytes, limit: LIMITS.outputBytes },
  })
  return { state: 'failed', failure: tooLarge, output: null }
}
