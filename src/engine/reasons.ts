import type { StepView } from '../contract/api-types.ts'
import { failureRecord } from '../domain/failure.ts'
import { missingFor, type Definition } from '../domain/workflow.ts'
import { listSessions, type SessionRow } from '../store/sessions/sessions.ts'
import { findQueuePlace, type StepReadRow } from '../store/steps/read-steps.ts'
import type { EngineContext } from './context.ts'

/** Places ahead in a queue are counted up to this. */
const AHEAD_CAP = 10_000
const WORKERS_SHOWN = 20

/** Why a step that has not ended does not go on, from rows alone; null when it does. */
export async function reasonOf(
  ctx: EngineContext,
  runId: string,
  definition: Definition,
  row: StepReadRow,
  steps: readonly StepReadRow[],
): Promise<StepView['reason']> {
  if (row.state === 'pending' && row.path === '') return dependencyReason(definition, row, steps)
  if (row.state === 'waiting' && row.waits === 'backoff') {
    return {
      code: 'backoff',
      message: `waiting to be tried again (try ${row.tries + 1})`,
      ...(row.due_at ? { until: row.due_at.toISOString() } : {}),
    }
  }
  if (row.state === 'waiting') {
    return { code: 'activations', message: `${row.ok + row.bad} of ${row.total} activations have ended` }
  }
  if (row.state === 'queued' && (row.queued_ms ?? 0) >= ctx.times.dispatchGraceMs)
    return dispatchReason(ctx, runId, row)
  return null
}

function dependencyReason(definition: Definition, row: StepReadRow, steps: readonly StepReadRow[]): StepView['reason'] {
  const needs = definition.nodes[row.node]?.needs ?? []
  const open = needs.filter((n) => {
    const s = steps.find((x) => x.node === n && x.path === '')
    return s === undefined || !['succeeded', 'skipped', 'failed', 'blocked', 'canceled'].includes(s.state)
  })
  if (open.length === 0) return null
  const names = open.slice(0, 5).map((n) => definition.nodes[n]?.name ?? '')
  return {
    code: 'dependency',
    message: `waiting for ${names.join(', ')}${open.length > names.length ? ` and ${open.length - names.length} more` : ''}`,
  }
}

const workerFacts = (s: SessionRow) => ({
  worker: s.worker,
  lastHeartbeatMs: Math.round(s.seen_ago_ms),
  held: s.held,
  capacity: s.capacity,
  draining: s.draining,
})

/** What keeps a queued step from being taken. */
export async function dispatchReason(
  ctx: EngineContext,
  runId: string,
  row: Pick<StepReadRow, 'queue_id' | 'node' | 'path' | 'queued_ms'>,
): Promise<StepView['reason']> {
  const doing = `waiting ${Math.round((row.queued_ms ?? 0) / 1000)} s for a worker`
  const requirements = ctx.queues.all().get(row.queue_id)
  const sessions = (await listSessions(ctx.db, 500)).filter((s) => s.state === 'live')
  if (sessions.length === 0) return failureRecord('dispatch.no_worker', doing)
  const ready = sessions.filter((s) => !s.expired && !s.draining)
  if (ready.length === 0)
    return failureRecord('dispatch.no_ready_worker', doing, {
      evidence: { workers: sessions.slice(0, WORKERS_SHOWN).map(workerFacts) },
    })
  const missing = ready.map((s) => ({ worker: s.worker, lacks: requirements ? missingFor(requirements, s) : [] }))
  const fitting = ready.filter((_, i) => missing[i]?.lacks.length === 0)
  if (fitting.length === 0)
    return failureRecord('dispatch.requirements_unmet', doing, {
      evidence: { workers: missing.slice(0, WORKERS_SHOWN) },
    })
  const place = await findQueuePlace(ctx.db, {
    queueId: row.queue_id,
    runId,
    node: row.node,
    path: row.path,
    cap: AHEAD_CAP,
  })
  return failureRecord('dispatch.saturated', doing, {
    evidence: {
      ahead: place.ahead,
      oldestWaitMs: Math.round(place.oldestMs),
      workers: fitting.slice(0, WORKERS_SHOWN).map(workerFacts),
    },
  })
}
