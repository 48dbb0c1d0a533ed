import type { StepState } from '../machines.ts'
import { isStepTerminal } from '../machines.ts'
import type { JsonObject } from '../../base/json.ts'
import { type Reason, waitReason } from './reason.ts'
import { type FailureRecord, failureRecord } from '../failure.ts'
import { reasonOfFailure } from './reason.ts'

/** What rows tell of a step that may not have ended. Instants are RFC 3339, durations ms. */
export interface StepFacts {
  runId: string
  name: string
  state: StepState
  waits: string | null
  /** Name of the event, or id of the run below, that it waits for; ids of approvals or names of budgets, with blanks between them. */
  on: string | null
  /** What approvals ask that it waits for and that are not decided; empty when there are none, or their rows are gone. */
  asks: readonly { approval: string; message: string; isCall: boolean }[]
  /** Budgets that it waits for, as they stand; empty of those that are gone. */
  budgets: readonly { budget: string; text: string; figures: JsonObject }[]
  tries: number
  /** A stop of the whole run was asked for. */
  stop: 'cancel' | 'fail_fast' | 'timeout' | null
  runCreatedAt: string
  queuedAt: string | null
  leasedAt: string | null
  startedAt: string | null
  dueAt: string | null
  /** Steps that it needs, those first that have not ended. */
  needs: readonly { step: string; state: StepState }[]
  /** Of an activation: the forEach that it belongs to, and the activations that hold its places. */
  group: { step: string; maxParallel: number | null; holders: readonly string[] } | null
  /** Of a forEach that has spread. */
  activations: { total: number; ended: number; released: number; maxParallel: number | null } | null
  /** Of a step that takes turns: how many it may take, and what else `next` joins to it. */
  turns: { max: number; joined: readonly string[] } | null
  /** The session that runs it; null when its row is gone. */
  session: { worker: string; isOver: boolean; silentMs: number; leaseLeftMs: number; expiresAt: string } | null
  /** The session counts as silent when less than this is left of its lease. */
  silentBelowMs: number
  /** Why no worker has taken it; null while it has been queued for a moment only. */
  dispatch: FailureRecord | null
}

const NAMES_SHOWN = 5

const list = (names: readonly string[]): string =>
  names.slice(0, NAMES_SHOWN).join(', ') + (names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : '')

/** Why a step does not go on. Total: every step that has not ended has a reason, every step that has ended has none. */
export function stepReason(f: StepFacts): Reason | null {
  if (isStepTerminal(f.state)) return null
  switch (f.state) {
    case 'running':
      return runningReason(f)
    case 'queued':
      if (f.dispatch) return reasonOfFailure(f.dispatch, f.queuedAt)
      return waitReason('queued', 'in its queue; ready workers are being asked', {
        remediation: 'Nothing is to be done: it is taken as soon as a worker has a free slot.',
        since: f.queuedAt,
        until: f.dueAt,
      })
    case 'waiting':
      return waitingReason(f)
    default:
      return pendingReason(f)
  }
}

function pendingReason(f: StepFacts): Reason {
  const since = f.runCreatedAt
  if (f.stop) return stopping(f)
  if (f.group) {
    const { maxParallel, holders, step } = f.group
    return waitReason(
      'max_parallel',
      `waiting for one of ${maxParallel ?? 'the'} places of ${step}${holders.length > 0 ? `: ${list(holders)} hold them` : ''}`,
      {
        evidence: {
          limit: 'maxParallel',
          value: maxParallel,
          source: `maxParallel of step ${step} in the workflow`,
          holders: holders.slice(0, NAMES_SHOWN),
        },
        remediation: `It goes on when an activation ends. Raise maxParallel of step ${step} for later runs.`,
        since,
      },
    )
  }
  const open = f.needs.filter((n) => !isStepTerminal(n.state))
  if (open.length === 0) {
    return waitReason('decision', 'what it needs has ended; the engine decides what follows', {
      remediation: 'It goes on by itself within a moment; a decision that was forgotten is made up for by itself.',
      since,
      until: f.dueAt,
    })
  }
  return waitReason('dependency', `waiting for ${list(open.map((n) => n.step))}`, {
    evidence: {
      needs: open.slice(0, NAMES_SHOWN).map((n) => ({ step: n.step, state: n.state })),
      open: open.length,
      of: f.needs.length,
    },
    remediation: `It goes on when they have ended. Look at the first of them: orrery explain step/${f.runId}/${open[0]?.step ?? ''}`,
    since,
  })
}

const WHY_STOPPED = {
  cancel: 'a cancel was asked for',
  fail_fast: 'another step failed and the workflow says failFast',
  timeout: 'the time of the run is over',
} as const

function stopping(f: StepFacts): Reason {
  const why = WHY_STOPPED[f.stop ?? 'cancel']
  const confirms = f.session ? `; worker ${f.session.worker} has to confirm that it stopped` : ''
  return waitReason('stopping', `${why}${confirms}`, {
    evidence: f.session ? { worker: f.session.worker } : {},
    remediation: 'It ends when the worker confirms, or when the lease of a worker that is gone is over.',
    since: f.startedAt ?? f.leasedAt,
    ...(f.session ? { until: f.session.expiresAt } : {}),
  })
}

function runningReason(f: StepFacts): Reason {
  const { session } = f
  if (!session || session.isOver || session.leaseLeftMs < f.silentBelowMs) {
    const who = session ? `worker ${session.worker}` : 'its worker'
    const isOver = !session || session.isOver || session.leaseLeftMs <= 0
    return waitReason(
      'session_lost',
      isOver
        ? `the session of ${who} is over; the step is being taken back`
        : `${who} has not been heard of for ${Math.round(session.silentMs / 1000)} s; its lease ends in ${Math.ceil(session.leaseLeftMs / 1000)} s`,
      {
        evidence: session ? { worker: session.worker, silentMs: Math.round(session.silentMs) } : {},
        remediation: `The step goes to another worker by itself when the lease is over. Look at the host and the log of ${who}.`,
        since: f.startedAt ?? f.leasedAt,
        until: session?.expiresAt ?? null,
      },
    )
  }
  if (f.stop) return stopping(f)
  const evidence = { worker: session.worker }
  if (f.startedAt === null) {
    return waitReason('starting', `given to worker ${session.worker}, which has not begun it yet`, {
      evidence,
      remediation: 'An assignment that is not confirmed goes to another worker by itself.',
      since: f.leasedAt,
    })
  }
  return waitReason('running', `at work on worker ${session.worker}`, {
    evidence,
    remediation: `Follow what it writes: orrery runs logs ${f.runId} --step '${f.name}' -f`,
    since: f.startedAt,
    until: f.dueAt,
  })
}

/** What a step waits for in a row. An approval whose row is gone is a failure, which repairs itself. */
function parkedReason(f: StepFacts, since: string): Reason | null {
  const on = f.on ?? ''
  const when = { since, until: f.dueAt }
  switch (f.waits) {
    case 'timer':
      return waitReason('timer', `waiting until ${f.dueAt ?? 'its time'}`, {
        remediation: 'It goes on by itself when the time has come.',
        ...when,
      })
    case 'event':
      return waitReason('event', `waiting for event ${on}`, {
        evidence: { event: on },
        remediation: `Send it: orrery runs send ${f.runId} ${on} --payload JSON`,
        ...when,
      })
    case 'child': {
      const [run = '', ...more] = on.split(' ')
      const others = more.length === 0 ? '' : ` and ${more.length} more`
      return waitReason('child', `waiting for ${run}${others} to end`, {
        evidence: { run, ...(more.length === 0 ? {} : { runs: [run, ...more] }) },
        remediation: `Look at what it waits for: orrery runs show ${run}`,
        ...when,
      })
    }
    case 'approval': {
      const [first] = f.asks
      if (first) return approvalReason(f, first, when)
      const doing = `looking for ${on} of run ${f.runId}`
      return reasonOfFailure(failureRecord('approval.missing', doing, { evidence: { approval: on } }), since)
    }
    case 'budget': {
      const budgets = on.split(' ')
      const again = f.dueAt === null ? 'when its limit is raised' : 'when its window moves, or its limit is raised'
      if (f.budgets.length > 0) return budgetReason(f, when)
      return waitReason('budget', `waiting for ${list(budgets)}: it is used up`, {
        evidence: { budgets },
        remediation: `It goes on by itself ${again}. Look at it: orrery get budget ${(budgets[0] ?? '').split('/').at(-1)}`,
        ...when,
      })
    }
    default:
      return null
  }
}

function budgetReason(f: StepFacts, { since, until }: { since: string; until: string | null }): Reason {
  const names = f.budgets.map(({ budget }) => budget)
  // A window that moves frees all of it: who waits for nothing there asks for more than there ever is.
  const never = f.budgets.every(({ figures }) => figures['window'] === 'run')
    ? 'Nothing of it becomes free by itself'
    : 'No waiting helps: the next call may take more than a whole limit'
  const when = until === null ? never : `It goes on by itself at ${until} or before`
  const failure = failureRecord('budget.exceeded', `waiting for ${f.budgets.map(({ text }) => text).join('; ')}`, {
    evidence: { budgets: f.budgets.map(({ figures }) => figures) },
    remediation: `${when}. To go on at once, raise the limits of ${list(names)} (orrery edit budget ${(names[0] ?? '').split('/').at(-1)}), or delete it.`,
  })
  return { ...reasonOfFailure(failure, since), ...(until === null ? {} : { until }) }
}

function approvalReason(
  f: StepFacts,
  first: StepFacts['asks'][number],
  when: { since: string; until: string | null },
): Reason {
  const { approval, message, isCall } = first
  if (!isCall)
    return waitReason('approval', `waiting for approval ${approval}: ${message}`, {
      evidence: { approval },
      remediation: `Decide it: orrery runs approve ${f.runId} '${f.name}', or orrery runs deny ${f.runId} '${f.name}'.`,
      ...when,
    })
  const more = f.asks.length > 1 ? `, and ${f.asks.length - 1} more` : ''
  return waitReason('approval', `waiting for approval ${approval}: ${message}${more}`, {
    evidence: { approval, approvals: f.asks.slice(0, NAMES_SHOWN).map((a) => a.approval), open: f.asks.length },
    remediation: `Look at what it would call: orrery approvals show ${approval}. Decide it: orrery approvals approve ${approval}, or orrery approvals deny ${approval}.`,
    ...when,
  })
}

function waitingReason(f: StepFacts): Reason {
  const since = f.startedAt ?? f.queuedAt ?? f.runCreatedAt
  if (f.waits === 'backoff') {
    return waitReason('backoff', `waiting to be tried again (try ${f.tries + 1})`, {
      evidence: { tries: f.tries },
      remediation: `It is tried again by itself. What failed: orrery runs show ${f.runId}`,
      since,
      until: f.dueAt,
    })
  }
  if (f.activations && f.turns && f.waits === 'children') {
    const { total, ended } = f.activations
    const { max, joined } = f.turns
    const atWork = Math.max(0, total - ended)
    const others = joined.length > 0 ? `, nor one of ${list(joined)}` : ''
    return waitReason('activations', `${total} of at most ${max} turns taken, ${atWork} under way`, {
      evidence: { total, ended, atWork, maxTurns: max, joined: joined.slice(0, NAMES_SHOWN) },
      remediation: `It ends when no turn of it is under way${others}; each says why it waits: GET /v1/runs/${f.runId}/steps.`,
      since,
    })
  }
  if (f.activations && f.waits === 'children') {
    const { total, ended, released, maxParallel } = f.activations
    const atWork = Math.max(0, released - ended)
    const held = Math.max(0, total - released)
    return waitReason('activations', `${ended} of ${total} activations have ended`, {
      evidence: {
        total,
        ended,
        atWork,
        ...(held > 0 ? { notYet: held, limit: 'maxParallel', value: maxParallel } : {}),
      },
      remediation: `It goes on when all of them have ended; each says why it waits: GET /v1/runs/${f.runId}/steps.`,
      since,
    })
  }
  const parked = parkedReason(f, since)
  if (parked) return parked
  return waitReason('waiting', `waiting for ${f.waits ?? 'what the workflow names'}`, {
    evidence: { waits: f.waits },
    remediation: 'It goes on by itself when what it waits for has come.',
    since,
    until: f.dueAt,
  })
}
