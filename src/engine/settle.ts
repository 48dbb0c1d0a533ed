import { advance } from '../domain/advance/advance.ts'
import { type Anything, type Happening, isKeyed } from '../domain/advance/happenings.ts'
import type { Given, Need } from '../domain/advance/needs.ts'
import type { AdvanceResult } from '../domain/advance/result.ts'
import type { JsonObject } from '../base/json.ts'
import type { Scope } from '../domain/expression.ts'
import { LIMITS } from '../domain/limits.ts'
import { displayName, type Step, type StepKey } from '../domain/step.ts'
import { lockCallApprovals } from '../store/approvals/call-approvals.ts'
import type { Queryable } from '../store/db.ts'
import { findCallOfChild, listCallEntries } from '../store/journal/read-entries.ts'
import { listKept } from '../store/runs/sent-events.ts'
import { areLive } from '../store/sessions/sessions.ts'
import { areBudgetsWoken } from '../store/steps/budget-waits.ts'
import { type LockedRun, lockRun, type NamedChange, saveAdvance } from '../store/steps/save-advance.ts'
import { saveBeside } from '../store/steps/save-beside.ts'
import {
  loadActivationOutputs,
  loadEventWaits,
  loadFailedActivation,
  loadIdleSteps,
  loadOpenActivations,
  loadOutputs,
  loadPendingActivations,
  loadSteps,
  loadTurnsToFollow,
} from '../store/steps/step-rows.ts'
import { isRetryableConflict } from '../store/storage-failure.ts'
import { startChildren } from './children.ts'
import type { EngineContext } from './context.ts'
import type { Compiled } from './definitions.ts'
import { findWorkflowBelow } from './find-workflow-below.ts'
import { noteSettled } from './observe.ts'

export interface Settled {
  /** Happenings that did not apply. */
  stale: Happening[]
  /** Queues that got steps. */
  queued: number[]
  /** When the earliest of the changed steps is due, in ms from now; null when none is. */
  dueInMs: number | null
  ended: AdvanceResult['ended']
  /** The run, or some of its steps, is being stopped: sessions that hold steps must hear of it. */
  stopping: boolean
  /** Outcomes of the attempts that ended. */
  attempts: AttemptOutcome[]
  /** States in which steps ended. */
  stepsEnded: string[]
  /** Runs that were started below this one. */
  started: string[]
  /** It ended, or let go of what is below it: a tick has to pass that on. */
  tellsParent: boolean
}

const NOTHING: Settled = {
  stale: [],
  queued: [],
  dueInMs: null,
  ended: null,
  stopping: false,
  attempts: [],
  stepsEnded: [],
  started: [],
  tellsParent: false,
}

export type AttemptOutcome = 'succeeded' | 'failed' | 'lost' | 'returned' | 'canceled' | 'parked'

const CONFLICT_TRIES = 5

/**
 * Everything that is not the hot path: locks the run, asks the pure function what follows from what happened, writes it, in one
 * transaction. Null when there is no such run.
 */
export async function settleRun(
  ctx: EngineContext,
  runId: string,
  happenings: readonly Anything[],
  onLocked: OnLocked = async () => {},
): Promise<Settled | null> {
  for (let tries = 1; ; tries++) {
    try {
      const settled = await ctx.db.transaction((tx) => settleIn(ctx, tx, { runId, happenings, onLocked }))
      if (settled) noteSettled(ctx, runId, settled)
      if (settled) passOn(ctx, settled)
      if (settled?.dueInMs != null) ctx.tickWithin(settled.dueInMs)
      return settled
    } catch (error) {
      if (!isRetryableConflict(error) || tries >= CONFLICT_TRIES) throw error
    }
  }
}

/** What is to happen first, under the run's lock and in its transaction; also when the run has ended. What it throws undoes all. */
export type OnLocked = (tx: Queryable, run: LockedRun) => Promise<void>

/** What follows a commit that started runs, or ended one that another waits for. */
function passOn(ctx: EngineContext, { started, tellsParent }: Settled): void {
  for (const id of started) ctx.children.add(id)
  if (started.length > 0 || tellsParent) ctx.tickWithin(0)
}

/** Whose word it is; null when it is the server's own, which holds also of a session that has ended. */
const sessionOf = (h: Anything): string | null =>
  'session' in h && h.type !== 'attempt_lost' && h.type !== 'attempt_left' ? h.session : null

async function settleIn(
  ctx: EngineContext,
  tx: Queryable,
  { runId, happenings, onLocked }: { runId: string; happenings: readonly Anything[]; onLocked: OnLocked },
): Promise<Settled | null> {
  const run = await lockRun(tx, runId)
  if (!run) return null
  await onLocked(tx, run)
  if (run.ended) return { ...NOTHING, stale: happenings.filter(isKeyed) }
  // A worker's word counts only while its session lives. Whoever ends the session requeues its steps under this same lock.
  const sessions = [...new Set(happenings.map(sessionOf).filter((s) => s !== null))]
  const live = sessions.length > 0 ? await areLive(tx, sessions) : new Set<string>()
  const speaks = (h: Anything) => {
    const session = sessionOf(h)
    return session === null || live.has(session)
  }
  const compiled = await ctx.definitions.get(run.definition, tx)
  const result = await drive(ctx, tx, run, compiled, happenings.filter(speaks))
  const stale = [...result.stale, ...happenings.filter(isKeyed).filter((h) => !speaks(h))]
  if (
    result.changed.length === 0 &&
    result.created.length === 0 &&
    result.run.stop === run.stop &&
    result.outputs.length === 0 &&
    result.beside.asked.length === 0 &&
    result.beside.journaled.length === 0
  ) {
    return { ...NOTHING, stale, stopping: run.stop !== null }
  }
  // A run begins with its first attempt, or with the first step that waits for something outside.
  const isParked = (s: Step) => s.state === 'waiting' && s.waits !== 'children' && s.waits !== 'backoff'
  const began =
    run.state === 'pending' &&
    (happenings.some((h) => h.type.startsWith('attempt_')) || [...result.changed, ...result.created].some(isParked))
  await saveAdvance(
    tx,
    runId,
    result,
    {
      state: result.ended ?? (began ? 'running' : run.state),
      ended: result.ended !== null,
      epoch: run.epoch,
      cancelRequested: result.run.stop === 'cancel',
    },
    namedChanges(compiled, run, result, began),
    LIMITS.inlineOutputBytes,
  )
  const nameOf = ({ node, path }: StepKey) => displayName(compiled.definition.nodes[node]?.name ?? '', path)
  await saveBeside(tx, run, result.beside, nameOf)
  const children = await startChildren(ctx, tx, run, result.beside.children)
  const rows = [...result.changed, ...result.created]
  const dues = rows.flatMap((s) => (s.dueAt === null ? [] : [Math.max(0, s.dueAt - run.now)]))
  return {
    stale,
    queued: [
      ...new Set([
        ...rows.filter((s) => s.state === 'queued').map((s) => compiled.queueIds[s.node] ?? 0),
        ...children.queued,
      ]),
    ],
    dueInMs: dues.length > 0 ? Math.min(...dues) : null,
    ended: result.ended,
    attempts: happenings.filter(isKeyed).flatMap((h) => (stale.includes(h) ? [] : outcomeOf(h))),
    stepsEnded: stepEndsOf(result.changes),
    stopping: result.run.stop !== null || rows.some((s) => s.state === 'running' && s.stopping),
    started: children.started,
    tellsParent: (result.ended !== null && run.depth > 0) || result.beside.orphans.length > 0,
  }
}

function outcomeOf(h: Happening): AttemptOutcome[] {
  if (h.type === 'attempt_left') return ['returned']
  return h.type.startsWith('attempt_') ? [h.type.slice('attempt_'.length) as AttemptOutcome] : [] // the happenings are called so
}

const STEP_ENDS = ['succeeded', 'failed', 'skipped', 'blocked', 'canceled']
/** The ends among what happened to steps. */
export const stepEndsOf = (changes: AdvanceResult['changes']): string[] =>
  changes.flatMap(({ to }) => (STEP_ENDS.includes(to) ? [to] : []))

async function drive(
  ctx: EngineContext,
  tx: Queryable,
  run: LockedRun,
  compiled: Compiled,
  happenings: Anything[],
): Promise<AdvanceResult> {
  const { definition, dependents } = compiled
  const machine = advance({ definition, dependents, run, happenings, now: run.now, random: ctx.random })
  let at = machine.next({})
  while (!at.done) at = machine.next(await give(ctx, { tx, run, compiled }, at.value))
  return at.value
}

async function give(
  ctx: EngineContext,
  { tx, run, compiled }: { tx: Queryable; run: LockedRun; compiled: Compiled },
  need: Need,
): Promise<Given> {
  switch (need.type) {
    case 'steps':
      return { steps: await loadSteps(tx, run.id, need.keys) }
    case 'idle_steps':
      return { steps: await loadIdleSteps(tx, run.id) }
    case 'failed_activation':
      return { steps: await loadFailedActivation(tx, run.id, need.node) }
    case 'pending_activations':
      return { steps: await loadPendingActivations(tx, { runId: run.id, ...need }) }
    case 'open_activations':
      return { steps: await loadOpenActivations(tx, run.id, need.node) }
    case 'turns_to_follow':
      return { steps: await loadTurnsToFollow(tx, run.id, need.nodes) }
    case 'outputs':
      return { outputs: await loadActivationOutputs(tx, run.id, need.keys) }
    case 'event_waits':
      return { steps: await loadEventWaits(tx, run.id, need.name) }
    case 'events':
      return { events: await listKept(tx, run.id, need.name) }
    case 'workflow':
      return { workflow: await findWorkflowBelow(ctx, tx, run, need.ref) }
    case 'approvals':
      return { approvals: await lockCallApprovals(tx, run.id, need.ids) }
    case 'child_call': {
      const call = await findCallOfChild(tx, { runId: run.id, ...need, child: need.run })
      return call === null ? {} : { call }
    }
    case 'call_entries':
      return { entries: await listCallEntries(tx, { runId: run.id, ...need }) }
    case 'delegation':
      return { refusal: await ctx.gate.beginning(tx, need.call, need.begun) }
    case 'budgets_woken':
      return { isWoken: await areBudgetsWoken(tx, { runId: run.id, ...need }) }
    case 'scope': {
      const rows = await loadOutputs(
        tx,
        need.nodes.map((node) => ({ runId: run.id, node })),
      )
      const steps: Scope['steps'] = {}
      for (const row of rows)
        steps[compiled.definition.nodes[row.node]?.name ?? ''] = { output: row.output, state: row.state }
      return { scope: { inputs: run.inputs as JsonObject, steps } } // inputs are checked to be an object when the run is created
    }
  }
}

function namedChanges(compiled: Compiled, run: LockedRun, result: AdvanceResult, began: boolean): NamedChange[] {
  const stopChange =
    result.run.stop !== run.stop
      ? [
          {
            of: 'run',
            to: 'canceling',
            ...(result.run.stop === 'fail_fast'
              ? { note: 'failFast' }
              : result.run.stop === 'timeout'
                ? { note: 'timeout' }
                : {}),
          },
        ]
      : []
  return [
    ...(began ? [{ of: 'run', to: 'running' }] : []),
    ...stopChange,
    ...result.changes.map(({ node, path, ...rest }) => ({
      of: displayName(compiled.definition.nodes[node]?.name ?? '', path),
      ...rest,
    })),
    ...(result.ended ? [{ of: 'run', to: result.ended }] : []),
  ]
}
