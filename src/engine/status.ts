import type { StatusView } from '../contract/api-types.ts'
import { missingFor, type Requirements } from '../domain/workflow.ts'
import { listSessions, type SessionRow } from '../store/sessions/sessions.ts'
import { countLiveRuns, countQueued, countServers } from '../store/status/read-status.ts'
import type { EngineContext } from './context.ts'
import type { Caller } from './engine.ts'
import { canSee, canSeeWorker, reach } from './visible.ts'

/** Live sessions that are looked at. */
const SESSIONS_MAX = 1_000

/** What is under way: live runs by state, queues with those who serve them, workers. Reads; changes nothing. */
export async function readStatus(ctx: EngineContext, caller: Caller): Promise<StatusView> {
  await ctx.queues.refresh()
  const [runs, queued, servers, sessions] = await Promise.all([
    countLiveRuns(ctx.db, reach(caller)),
    countQueued(ctx.db),
    countServers(ctx.db),
    listSessions(ctx.db, SESSIONS_MAX),
  ])
  const seen = sessions.filter((s) => s.state === 'live' && canSeeWorker(caller, s.namespaces))
  const live = seen.filter((s) => !s.expired)
  const count = (state: string) => runs.find((r) => r.state === state)?.count ?? 0
  return {
    server: {
      id: ctx.serverId,
      version: ctx.version,
      store: ctx.db.kind === 'pglite' ? 'embedded' : 'postgres',
      servers,
    },
    runs: { pending: count('pending'), running: count('running'), waiting: count('waiting') },
    queues: queued.flatMap(({ queueId, queued: steps, oldestMs }) => {
      const requirements = ctx.queues.all().get(queueId)
      if (!requirements || !canSee(caller, requirements.namespace)) return []
      const oldest = Math.round(oldestMs)
      return [{ ...requirements, queued: steps, oldestMs: oldest, workers: countServing(live, requirements) }]
    }),
    workers: {
      live: live.filter((s) => !s.draining).length,
      draining: live.filter((s) => s.draining).length,
      lost: seen.length - live.length,
      capacity: sum(live.map((s) => s.capacity)),
      held: sum(live.map((s) => s.held)),
    },
  }
}

const countServing = (sessions: readonly SessionRow[], requirements: Requirements): number =>
  sessions.filter((s) => !s.draining && missingFor(requirements, s).length === 0).length

const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0)
