/**
 * The three state machines as tables. Everything that moves a row — the SQL of the hot path, `advance`, the check constraints,
 * the diagram in ARCHITECTURE.md — is held against them by a test.
 */

export const STEP_STATES = [
  'pending',
  'queued',
  'running',
  'waiting',
  'succeeded',
  'failed',
  'skipped',
  'blocked',
  'canceled',
] as const
export type StepState = (typeof STEP_STATES)[number]

/** `waiting` is derived from counters and never stored. */
export const RUN_STATES = ['pending', 'running', 'waiting', 'succeeded', 'failed', 'canceled'] as const
export type RunState = (typeof RUN_STATES)[number]

export const ATTEMPT_STATES = ['leased', 'running', 'succeeded', 'failed', 'lost', 'parked', 'canceled'] as const
export type AttemptState = (typeof ATTEMPT_STATES)[number]

/** From a state to each state that may follow, with what leads there. */
type Edges<S extends string> = Record<S, Partial<Record<S, string>>>

export const STEP_EDGES: Edges<StepState> = {
  pending: {
    queued: 'needs met',
    waiting: 'spread, or waits for a timer, event, approval or child',
    succeeded: 'forEach of nothing',
    failed: 'expression unresolved',
    skipped: 'if is false, or by hand',
    blocked: 'a need failed',
    canceled: 'cancel',
  },
  queued: { running: 'leased', failed: 'waited too long', skipped: 'by hand', canceled: 'cancel' },
  running: {
    succeeded: 'reported',
    failed: 'reported, out of retries',
    waiting: 'reported: back-off, or an agent waits for approvals, a run below or a budget',
    queued: 'lost or given back',
    canceled: 'cancel confirmed',
  },
  waiting: {
    queued: 'back-off over, or what the agent waited for came',
    waiting: 'a child run failed, or begins anew',
    succeeded: 'what it waited for came',
    failed: 'what it waited for failed, or too late',
    skipped: 'by hand, or no way led to it',
    blocked: 'a step failed that next joins to it',
    canceled: 'cancel',
  },
  succeeded: {},
  failed: { queued: 'retry by hand', pending: 'retry by hand', waiting: 'retry by hand', skipped: 'by hand' },
  skipped: {},
  blocked: { pending: 'retry by hand', queued: 'retry by hand', waiting: 'retry by hand', skipped: 'by hand' },
  canceled: { queued: 'retry by hand', pending: 'retry by hand', waiting: 'retry by hand' },
}

export const RUN_EDGES: Edges<RunState> = {
  pending: {
    running: 'first attempt began',
    succeeded: 'all steps ended well',
    failed: 'all steps ended',
    canceled: 'cancel',
  },
  running: {
    waiting: 'nothing queued or running',
    succeeded: 'all steps ended well',
    failed: 'all steps ended',
    canceled: 'last attempt stopped',
  },
  waiting: { running: 'something is due', succeeded: 'by hand', failed: 'all steps ended', canceled: 'cancel' },
  succeeded: {},
  failed: { running: 'retry by hand', succeeded: 'skip by hand' },
  canceled: { running: 'retry by hand' },
}

export const ATTEMPT_EDGES: Edges<AttemptState> = {
  leased: {
    running: 'began',
    succeeded: 'reported',
    failed: 'reported',
    lost: 'session ended',
    parked: 'given back',
    canceled: 'cancel confirmed',
  },
  running: {
    succeeded: 'reported',
    failed: 'reported',
    lost: 'session ended',
    parked: 'given back',
    canceled: 'cancel confirmed',
  },
  succeeded: {},
  failed: {},
  lost: {},
  parked: {},
  canceled: {},
}

export const isStepTerminal = (state: StepState): boolean =>
  state === 'succeeded' || state === 'failed' || state === 'skipped' || state === 'blocked' || state === 'canceled'

/** Ended so that what needs it may go on. A skipped step counts as well: its output is null, or what the person gave. */
export const isStepGood = (state: StepState): boolean => state === 'succeeded' || state === 'skipped'

export const isRunTerminal = (state: RunState): boolean =>
  state === 'succeeded' || state === 'failed' || state === 'canceled'

/** May a step go from one state to another. */
export const mayStepMove = (from: StepState, to: StepState): boolean => STEP_EDGES[from][to] !== undefined
export const mayRunMove = (from: RunState, to: RunState): boolean => RUN_EDGES[from][to] !== undefined

/** What a person sees: the stored state, or `waiting` when nothing is queued or running. */
export function runStateShown(run: { state: Exclude<RunState, 'waiting'>; active: number }): RunState {
  return run.state === 'running' && run.active === 0 ? 'waiting' : run.state
}
