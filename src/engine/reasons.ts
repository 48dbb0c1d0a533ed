import type { Reason } from '../domain/reasons/reason.ts'
import { type FailureRecord, failureRecord } from '../domain/failure.ts'
import { isStepTerminal, type StepState } from '../domain/machines.ts'
import { judgeWorkers, saturated, type Verdict, type WorkerFacts } from '../domain/reasons/dispatch-reason.ts'
import { type StepFacts, stepReason } from '../domain/reasons/step-reason.ts'
import { ringOf } from '../domain/rings.ts'
import { displayName } from '../domain/step.ts'
import type { Definition } from '../domain/workflow.ts'
import type { RunReadRow } from '../store/runs/read-runs.ts'
import { findQuestions } from '../store/approvals/approvals.ts'
import { findSessions, listSessions, type SessionRow } from '../store/sessions/sessions.ts'
import {
  findActiveActivations,
  findHolders,
  findNodeStates,
  findQueuePlace,
  type StepReadRow,
} from '../store/steps/read-steps.ts'
import { findUnready } from './agents/readiness.ts'
import type { EngineContext } from './context.ts'
import { stepIdOf } from './step-id.ts'

/** Places ahead in a queue are counted up to this. */
const AHEAD_CAP = 10_000
const HOLDERS_SHOWN = 10
/** Sessions that are asked which of them could take a step. */
const HOLDING_SESSIONS = 20
const SESSIONS_MAX = 500
/** Steps of one page whose place in the queue is counted: a query each. */
const PLACES_MAX = 20
/** forEach steps of one page whose places are looked up: a query each. */
const GROUPS_MAX = 20

/** Approvals, or names of budgets, that a step waits for. */
const idsOf = (row: Pick<StepReadRow, 'waits_on'>): string[] => row.waits_on?.split(' ') ?? []

type QueuedRow = Pick<StepReadRow, 'queue_id' | 'node' | 'path' | 'queued_ms'>

/**
 * Reads what the reasons of a page of steps are made of. Asked for when somebody looks, never while work moves; the number of
 * queries does not grow with the number of steps.
 */
export class ReasonFinder {
  readonly #ctx: EngineContext
  readonly #run: Pick<RunReadRow, 'id' | 'stop' | 'created_at' | 'namespace'>
  readonly #definition: Definition
  /** Namespaces that whoever asks may see; null: all. */
  readonly #viewer: readonly string[] | null
  #sessions: Promise<SessionRow[]> | null = null
  #places = 0
  readonly #unreadyQueues = new Map<number, Promise<FailureRecord | null>>()

  constructor(
    ctx: EngineContext,
    of: {
      run: Pick<RunReadRow, 'id' | 'stop' | 'created_at' | 'namespace'>
      definition: Definition
      viewer: readonly string[] | null
    },
  ) {
    this.#ctx = ctx
    this.#run = of.run
    this.#definition = of.definition
    this.#viewer = of.viewer
  }

  /** The reasons of these steps, in their order; null for those that have ended. */
  async find(rows: readonly StepReadRow[]): Promise<(Reason | null)[]> {
    const open = rows.filter((row) => !isStepTerminal(row.state))
    if (open.length === 0) return rows.map(() => null)
    const states = await this.#statesOf(rows, open)
    const groups = await this.#groupsOf(open)
    const running = await this.#sessionsOf(open)
    const asked = await findQuestions(
      this.#ctx.db,
      open.flatMap((r) => (r.waits === 'approval' ? idsOf(r) : [])),
    )
    const budgets = await this.#ctx.budgetsHolding(
      this.#run.id,
      open.flatMap((r) => (r.waits === 'budget' ? idsOf(r) : [])),
    )
    const found: (Reason | null)[] = []
    for (const row of rows) {
      if (isStepTerminal(row.state)) found.push(null)
      else
        found.push(
          stepReason({
            ...this.#factsOf(row, { states, groups, running, asked, budgets }),
            dispatch: await this.#waitOf(row),
          }),
        )
    }
    return found
  }

  #factsOf(
    row: StepReadRow,
    {
      states,
      groups,
      running,
      asked,
      budgets,
    }: {
      states: ReadonlyMap<number, StepState>
      groups: ReadonlyMap<number, string[]>
      running: ReadonlyMap<string, SessionRow>
      asked: ReadonlyMap<string, StepFacts['asks'][number]>
      budgets: ReadonlyMap<string, StepFacts['budgets'][number]>
    },
  ): StepFacts {
    const node = this.#definition.nodes[row.node]
    const session = row.session === null ? undefined : running.get(row.session)
    const nameOf = (n: number) => this.#definition.nodes[n]?.name ?? ''
    const iso = (at: Date | null) => at?.toISOString() ?? null
    return {
      runId: this.#run.id,
      name: displayName(node?.name ?? '', row.path),
      state: row.state,
      waits: row.waits,
      on: row.waits_on,
      asks: row.waits === 'approval' ? idsOf(row).flatMap((id) => asked.get(id) ?? []) : [],
      budgets: row.waits === 'budget' ? idsOf(row).flatMap((name) => budgets.get(name) ?? []) : [],
      tries: row.tries,
      stop: this.#run.stop,
      runCreatedAt: this.#run.created_at.toISOString(),
      queuedAt: iso(row.queued_at),
      leasedAt: iso(row.leased_at),
      startedAt: iso(row.started_at),
      dueAt: iso(row.due_at),
      needs:
        row.path === '' && row.state === 'pending'
          ? this.#needsOf(row.node).map((n) => ({ step: nameOf(n), state: states.get(n) ?? 'pending' }))
          : [],
      group:
        row.path === ''
          ? null
          : { step: node?.name ?? '', maxParallel: node?.maxParallel ?? null, holders: groups.get(row.node) ?? [] },
      activations:
        row.waits === 'children'
          ? {
              total: row.total,
              ended: row.ok + row.bad,
              released: row.released,
              maxParallel: node?.maxParallel ?? null,
            }
          : null,
      turns:
        node?.turns === undefined || row.path !== ''
          ? null
          : {
              max: row.need,
              joined: ringOf(this.#definition, row.node)
                .filter((n) => n !== row.node)
                .map(nameOf),
            },
      session: session
        ? {
            worker: session.worker,
            isOver: session.state === 'ended' || session.expired,
            silentMs: session.seen_ago_ms,
            leaseLeftMs: session.lease_left_ms,
            expiresAt: session.expires_at.toISOString(),
          }
        : null,
      silentBelowMs: this.#ctx.times.leaseMs / 2,
      dispatch: null,
    }
  }

  /** What a node needs before it begins: what `next` joins begins together. */
  #needsOf(node: number): number[] {
    const { nodes } = this.#definition
    if (nodes[node]?.turns === undefined) return nodes[node]?.needs ?? []
    return [...new Set(ringOf(this.#definition, node).flatMap((member) => nodes[member]?.needs ?? []))]
  }

  /** How the steps stand that pending ones need: from the page, the others in one query. */
  async #statesOf(rows: readonly StepReadRow[], open: readonly StepReadRow[]): Promise<Map<number, StepState>> {
    const states = new Map(rows.filter((r) => r.path === '').map((r) => [r.node, r.state]))
    const asked = new Set<number>()
    for (const row of open) {
      if (row.state !== 'pending' || row.path !== '') continue
      for (const n of this.#needsOf(row.node)) if (!states.has(n)) asked.add(n)
    }
    if (asked.size === 0) return states
    const found = await findNodeStates(this.#ctx.db, { runId: this.#run.id, nodes: [...asked] })
    for (const { node, state } of found) states.set(node, state)
    return states
  }

  /** Who holds the places of each forEach that has activations waiting for one. */
  async #groupsOf(open: readonly StepReadRow[]): Promise<Map<number, string[]>> {
    const groups = new Map<number, string[]>()
    const nodes = new Set(open.filter((r) => r.path !== '' && r.state === 'pending').map((r) => r.node))
    for (const node of [...nodes].slice(0, GROUPS_MAX)) {
      const active = await findActiveActivations(this.#ctx.db, { runId: this.#run.id, node, limit: HOLDERS_SHOWN })
      const name = this.#definition.nodes[node]?.name ?? ''
      groups.set(
        node,
        active.map(({ path }) => displayName(name, path)),
      )
    }
    return groups
  }

  async #sessionsOf(open: readonly StepReadRow[]): Promise<Map<string, SessionRow>> {
    const ids = new Set(open.flatMap((r) => (r.state === 'running' && r.session !== null ? [r.session] : [])))
    if (ids.size === 0) return new Map()
    return new Map((await findSessions(this.#ctx.db, [...ids])).map((s) => [s.id, s]))
  }

  /** Once for all steps of one queue. */
  async #unready(queueId: number): Promise<FailureRecord | null> {
    const requirements = this.#ctx.queues.all().get(queueId)
    if (!requirements?.ready) return null
    const known = this.#unreadyQueues.get(queueId) ?? findUnready(this.#ctx, requirements)
    this.#unreadyQueues.set(queueId, known)
    return known
  }

  async #waitOf(row: StepReadRow): Promise<FailureRecord | null> {
    if (row.state !== 'queued') return null
    // What is not there is told at once: no worker is asked before it is.
    const unready = await this.#unready(row.queue_id)
    if (unready) return unready
    if ((row.queued_ms ?? 0) < this.#ctx.times.dispatchGraceMs) return null
    this.#sessions ??= listSessions(this.#ctx.db, SESSIONS_MAX)
    const counts = ++this.#places <= PLACES_MAX
    return dispatchFailure(this.#ctx, {
      runId: this.#run.id,
      row,
      viewer: this.#viewer,
      sessions: await this.#sessions,
      counts,
      looksAtReady: false,
    })
  }
}

/** What keeps a queued step from being taken, told to those who may see the namespace of its run and no other. */
export async function dispatchReason(ctx: EngineContext, runId: string, row: QueuedRow): Promise<FailureRecord> {
  const namespace = ctx.queues.all().get(row.queue_id)?.namespace
  const sessions = await listSessions(ctx.db, SESSIONS_MAX)
  return dispatchFailure(ctx, {
    runId,
    row,
    viewer: namespace === undefined ? [] : [namespace],
    sessions,
    counts: true,
    looksAtReady: true,
  })
}

async function dispatchFailure(
  ctx: EngineContext,
  asked: {
    runId: string
    row: QueuedRow
    viewer: readonly string[] | null
    sessions: readonly SessionRow[]
    /** Whether its place in the queue is counted. */
    counts: boolean
    /** Whether model endpoints and secrets are looked for as well. */
    looksAtReady: boolean
  },
): Promise<FailureRecord> {
  const { runId, row, viewer, sessions } = asked
  const waitedMs = row.queued_ms ?? 0
  const requirements = ctx.queues.all().get(row.queue_id)
  // Made by another server a moment ago and not read here yet: nothing can be said of who fits.
  if (!requirements) return failureRecord('dispatch.no_worker', `waiting ${Math.round(waitedMs / 1000)} s for a worker`)
  if (asked.looksAtReady) {
    const unready = await findUnready(ctx, requirements)
    if (unready) return unready
  }
  const verdict: Verdict = judgeWorkers({ requirements, workers: workersOf(sessions), waitedMs, viewer })
  if (verdict.kind === 'unserved') return verdict.failure
  const fitting = verdict.workers
  if (!asked.counts) return saturated({ waitedMs, fitting, place: null, holders: [] })
  const place = await findQueuePlace(ctx.db, {
    queueId: row.queue_id,
    runId,
    node: row.node,
    path: row.path,
    cap: AHEAD_CAP,
  })
  const holders = await findHolders(ctx.db, {
    sessions: fitting.slice(0, HOLDING_SESSIONS).map((w) => w.session),
    namespace: requirements.namespace,
    limit: HOLDERS_SHOWN,
  })
  return saturated({
    waitedMs,
    fitting,
    place,
    holders: holders.map((h) => ({ step: stepIdOf(h), worker: h.worker, forMs: h.heldMs })),
  })
}

/** Live workers, then those that were lost: each one's last session, unless it has come back. */
function workersOf(sessions: readonly SessionRow[]): WorkerFacts[] {
  const live = sessions.filter((s) => s.state === 'live')
  const known = new Set(live.map((s) => s.worker))
  const lost = sessions.filter((s) => {
    const isNews = s.state === 'ended' && s.ended_code === 'worker.lost' && !s.draining && !known.has(s.worker)
    if (isNews) known.add(s.worker)
    return isNews
  })
  return [...live, ...lost].map((s) => ({
    worker: s.worker,
    session: s.id,
    namespaces: s.namespaces,
    backends: s.backends,
    features: s.features,
    modules: s.modules,
    labels: s.labels,
    state: s.state === 'ended' || s.expired ? 'lost' : s.draining ? 'draining' : 'live',
    lastHeartbeatMs: s.seen_ago_ms,
    held: s.held,
    capacity: s.capacity,
  }))
}
