import type {
  BudgetFacts,
  DoctorWorker,
  ModelFacts,
  RefusalFacts,
  ServerFacts,
  TokenFacts,
} from '../domain/installation-facts.ts'
import { Failure } from '../domain/failure.ts'
import { covers, reachOf } from '../domain/tenancy.ts'
import { listApprovals } from '../store/approvals/approvals.ts'
import { examineStore, readClock } from '../store/examine-store.ts'
import { listServers } from '../store/sessions/servers.ts'
import { listSessions, type SessionRow } from '../store/sessions/sessions.ts'
import { listTokens } from '../store/tokens/tokens.ts'
import type { EngineContext } from './context.ts'
import type { Caller } from './engine.ts'
import type { Hints } from './hints.ts'
import { canSeeWorker, reach } from './visible.ts'

const SESSIONS_MAX = 500
const SERVERS_MAX = 100
const APPROVALS_MAX = 500
const TOKENS_MAX = 2_000

/** What this server knows of the installation. Workers that the caller may not see are left out. */
export async function examineServer(
  ctx: EngineContext,
  asked: {
    caller: Caller
    refusals: RefusalFacts[]
    models(): Promise<ModelFacts[]>
    budgets(): Promise<BudgetFacts[]>
    hints: Pick<Hints, 'probe'>
  },
): Promise<ServerFacts> {
  const { db, clock, version } = ctx
  try {
    const before = clock.monotonic()
    await db.query('select 1')
    const latencyMs = clock.monotonic() - before
    const store = await examineStore(db)
    const sentAt = clock.now()
    const databaseNow = await readClock(db)
    // The answer was made somewhere between asking and hearing: the middle is the best guess.
    const skewMs = (sentAt + clock.now()) / 2 - databaseNow
    const sessions = await listSessions(db, SESSIONS_MAX)
    const seen = sessions.filter((s) => canSeeWorker(asked.caller, s.namespaces))
    const servers = (await listServers(db, SERVERS_MAX)).filter((s) => s.id !== ctx.serverId)
    const bus = db.kind === 'pglite' ? null : { hearing: await asked.hints.probe(), others: servers }
    const approvals = await examineApprovals(ctx, asked.caller)
    return {
      version,
      store: { kind: 'open', engine: db.kind, version: store.version, latencyMs },
      migrations: store.migrations,
      clocks: [{ between: 'server and database', skewMs }],
      workers: workersOf(seen),
      // Who was refused has no namespace yet: told to those alone who see all.
      refusals: reach(asked.caller) === null ? asked.refusals : [],
      models: await asked.models(),
      budgets: await asked.budgets(),
      servers,
      bus,
      approvals,
    }
  } catch (error) {
    if (!(error instanceof Failure) || !error.code.startsWith('storage.')) throw error
    const failure = error.toRecord()
    return {
      version,
      store: { kind: 'unreachable', failure },
      migrations: null,
      clocks: [],
      workers: [],
      refusals: [],
      models: [],
      budgets: [],
      servers: [],
      bus: null,
      approvals: null,
    }
  }
}

/** What waits for people, of what the caller may see, and who there is to decide it. Null when there are too many tokens to tell. */
async function examineApprovals({ db }: EngineContext, caller: Caller): Promise<ServerFacts['approvals']> {
  const namespaces = reach(caller)
  const states = ['pending' as const]
  const filter = { namespaces, states, runId: null, step: null, before: null, limit: APPROVALS_MAX }
  const pending = await listApprovals(db, filter)
  const rows = await listTokens(db, { reach: null, all: false, before: null, limit: TOKENS_MAX })
  if (rows.length === TOKENS_MAX) return null
  const tokens = rows.map(({ id, name, role, organisation, namespaces: own }): TokenFacts => {
    const within = reachOf(organisation, own)
    return { id, name, role, organisation, reach: within, isSeen: covers(namespaces, within) }
  })
  return {
    pending: pending.map(({ id, run_id, step, namespace, approvers }) => {
      return { approval: id, run: run_id, step, namespace, approvers }
    }),
    tokens,
    seesAll: namespaces === null,
  }
}

/** Live workers, then those lost lately that have not come back, each once. */
function workersOf(sessions: readonly SessionRow[]): DoctorWorker[] {
  const known = new Set<string>()
  return sessions.flatMap((s) => {
    const isLost = s.state === 'ended' || s.expired
    if (known.has(s.worker) || (s.state === 'ended' && (s.ended_code !== 'worker.lost' || s.draining))) return []
    known.add(s.worker)
    return [
      {
        worker: s.worker,
        state: isLost ? ('lost' as const) : s.draining ? ('draining' as const) : ('live' as const),
        version: s.version,
        clockSkewMs: s.clock_skew_ms,
        lastHeartbeatMs: s.seen_ago_ms,
        held: s.held,
        capacity: s.capacity,
      },
    ]
  })
}
