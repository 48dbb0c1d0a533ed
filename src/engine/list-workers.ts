import type { WorkerView } from '../contract/api-types.ts'
import { LIMITS } from '../domain/limits.ts'
import { workerProblems } from '../domain/worker-problems.ts'
import { listSessions } from '../store/sessions/sessions.ts'
import type { EngineContext } from './context.ts'
import type { Caller } from './engine.ts'
import { canSeeWorker } from './visible.ts'

/** The sessions that the caller may see, the newest first. */
export async function listWorkers(ctx: EngineContext, caller: Caller): Promise<WorkerView[]> {
  const rows = await listSessions(ctx.db, LIMITS.pageMax)
  return rows
    .filter((r) => canSeeWorker(caller, r.namespaces))
    .map((r) => ({
      worker: r.worker,
      session: r.id,
      state:
        r.state === 'ended'
          ? r.ended_code === 'worker.lost'
            ? 'lost'
            : 'ended'
          : r.expired
            ? 'lost'
            : r.draining
              ? 'draining'
              : 'live',
      capacity: r.capacity,
      held: r.held,
      labels: r.labels,
      modules: r.modules,
      backends: r.backends,
      version: r.version,
      heartbeatAgoMs: Math.round(r.seen_ago_ms),
      clockSkewMs: r.clock_skew_ms,
      problems:
        r.state === 'ended' || r.expired
          ? []
          : workerProblems({
              worker: r.worker,
              clockSkewMs: r.clock_skew_ms,
              version: r.version,
              serverVersion: ctx.version,
            }),
    }))
}
