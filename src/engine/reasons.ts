import type { StepView } from '../contract/api-types.ts'
import { failureRecord, type FailureRecord } from '../domain/failure.ts'
import { missingFor, type Definition } from '../domain/workflow.ts'
import { listSessions, type SessionRow } from '../store/sessions/sessions.ts'
import { findHolders, findQueuePlace, type StepReadRow } from '../store/steps/read-steps.ts'
import type { EngineContext } from './context.ts'
import { stepIdOf } from './step-id.ts'

/** Places ahead in a queue are counted up to this. */
const AHEAD_CAP = 10_000
const WORKERS_SHOWN = 20
const HOLDERS_SHOWN = 10

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

/** Sessions that were lost, each worker's last one, unless it has come back. */
function lostOf(sessions: readonly SessionRow[], live: readonly SessionRow[]): SessionRow[] {
  const known = new Set(live.map((s) => s.worker))
  return sessions.filter((s) => {
    const isNews = s.state === 'ended' && s.ended_code === 'worker.lost' && !s.draining && !known.has(s.worker)
    if (isNews) known.add(s.worker)
    return isNews
  })
}

const stateOf = (s: SessionRow): string =>
  s.state === 'ended' || s.expired ? 'lost' : s.draining ? 'draining' : 'live'

function notReady(doing: string, workers: readonly SessionRow[]): FailureRecord {
  const [first] = workers
  const others = workers.length > 1 ? ` and ${workers.length - 1} more` : ''
  const heard = first ? `${Math.round(first.seen_ago_ms / 1000)} s ago` : ''
  return failureRecord('dispatch.no_ready_worker', doing, {
    evidence: { workers: workers.slice(0, WORKERS_SHOWN).map(workerFacts) },
    ...(first
      ? {
          remediation: `Worker ${first.worker}${others} is ${stateOf(first)}, last heard of ${heard}: look at its host and log, or start another: orrery worker --server URL.`,
        }
      : {}),
  })
}

const workerFacts = (s: SessionRow) => ({
  worker: s.worker,
  state: stateOf(s),
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
): Promise<FailureRecord> {
  const doing = `waiting ${Math.round((row.queued_ms ?? 0) / 1000)} s for a worker`
  const requirements = ctx.queues.all().get(row.queue_id)
  const sessions = await listSessions(ctx.db, 500)
  const live = sessions.filter((s) => s.state === 'live')
  const ready = live.filter((s) => !s.expired && !s.draining)
  if (ready.length === 0) {
    const known = [...live, ...lostOf(sessions, live)]
    return known.length === 0 ? failureRecord('dispatch.no_worker', doing) : notReady(doing, known)
  }
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
  const holders = await findHolders(ctx.db, {
    sessions: fitting.slice(0, WORKERS_SHOWN).map((s) => s.id),
    namespace: requirements?.namespace ?? '',
    limit: HOLDERS_SHOWN,
  })
  return failureRecord('dispatch.saturated', doing, {
    evidence: {
      ahead: place.ahead,
      oldestWaitMs: Math.round(place.oldestMs),
      workers: fitting.slice(0, WORKERS_SHOWN).map(workerFacts),
      holders: holders.map((h) => ({ step: stepIdOf(h), worker: h.worker, forMs: Math.round(h.heldMs) })),
    },
  })
}
