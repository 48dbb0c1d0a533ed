import type { Change, RunEvent, RunState, RunView, StepState, StepView } from '../contract/api-types.ts'

/** What is known of a run while it is followed: first as the server showed it, then event by event. */
export interface RunProgress {
  id: string
  workflow: string
  state: RunState
  canceling: boolean
  createdAtMs: number
  endedAtMs: number | null
  /** Steps of the workflow by name, in the order of the workflow. */
  steps: Map<string, StepProgress>
}

export interface StepProgress {
  name: string
  state: StepState
  startedAtMs: number | null
  endedAtMs: number | null
  /** Why it waits, what failed, by whom it is blocked. */
  detail: string | null
  /** Of a forEach; null for a plain step. */
  fan: FanProgress | null
}

export interface FanProgress {
  /** How many there are, as far as the server said. */
  total: number
  counts: Record<StepState, number>
  activations: Map<string, StepProgress>
  /** Names of those worth a line: running, waiting or ended badly. */
  notable: Set<string>
}

const STATES: Record<StepState, 'open' | 'active' | 'good' | 'bad'> = {
  pending: 'open',
  queued: 'open',
  running: 'active',
  waiting: 'active',
  succeeded: 'good',
  skipped: 'good',
  failed: 'bad',
  blocked: 'bad',
  canceled: 'bad',
}

export const isStepState = (text: string): text is StepState => Object.hasOwn(STATES, text)
export const standingOf = (state: StepState): 'open' | 'active' | 'good' | 'bad' => STATES[state]
export const isEnded = (state: StepState): boolean => STATES[state] === 'good' || STATES[state] === 'bad'

const RUN_STATES: Record<RunState, true> = {
  pending: true,
  running: true,
  waiting: true,
  succeeded: true,
  failed: true,
  canceled: true,
}
const isRunState = (text: string): text is RunState => Object.hasOwn(RUN_STATES, text)

const toMs = (at: string | null | undefined): number | null => {
  const ms = at ? Date.parse(at) : Number.NaN
  return Number.isNaN(ms) ? null : ms
}

/** Progress as one answer of the server shows it. */
export function progressOf(run: RunView): RunProgress {
  const steps = new Map<string, StepProgress>()
  for (const step of run.stepList) if (!step.name.includes('[')) steps.set(step.name, stepProgress(step))
  const progress: RunProgress = {
    id: run.id,
    workflow: run.workflow,
    state: run.state,
    canceling: run.canceling,
    createdAtMs: toMs(run.startedAt) ?? toMs(run.createdAt) ?? 0,
    endedAtMs: toMs(run.endedAt),
    steps,
  }
  for (const step of run.stepList) if (step.name.includes('[')) addActivation(progress, step)
  return progress
}

function stepProgress(step: StepView): StepProgress {
  const fan = step.activations ? newFan(step.activations.total) : null
  if (fan && step.activations) {
    fan.counts.succeeded = step.activations.succeeded
    fan.counts.failed = step.activations.failed
  }
  return {
    name: step.name,
    state: step.state,
    startedAtMs: toMs(step.startedAt),
    endedAtMs: toMs(step.endedAt),
    detail: detailOf(step),
    fan,
  }
}

/** Shows why a step waits, until it moves. */
export function noteReason(progress: RunProgress, view: StepView): void {
  const top = progress.steps.get(view.name.includes('[') ? parentName(view.name) : view.name)
  const step = top?.fan?.activations.get(view.name) ?? top
  if (step) step.detail = detailOf(view)
}

/** Shows what the agent of a step is at, while it runs. */
export function noteDoing(progress: RunProgress, name: string, doing: string): void {
  const top = progress.steps.get(name.includes('[') ? parentName(name) : name)
  const step = top?.fan?.activations.get(name) ?? top
  if (step?.state === 'running') step.detail = doing
}

/** Why a step is where it is, in one line. */
function detailOf(step: StepView): string | null {
  if (step.failure) {
    const by = step.state === 'blocked' ? step.failure.evidence?.['blockedBy'] : undefined
    return typeof by === 'string' ? `${step.failure.code} (${by})` : step.failure.code
  }
  // What runs needs no words, and what is queued for a moment none yet.
  if (step.reason && !['running', 'starting', 'queued', 'decision'].includes(step.reason.code)) {
    const until = step.reason.until ? ` (until ${step.reason.until})` : ''
    return `${step.reason.code}: ${step.reason.message}${until}`
  }
  return null
}

/** Shows one activation of a forEach below its step; the counts stay as the step's own answer gave them. */
export function addActivation(progress: RunProgress, step: StepView): void {
  const parent = progress.steps.get(parentName(step.name))
  if (!parent) return
  parent.fan ??= newFan(0)
  const activation = stepProgress(step)
  parent.fan.activations.set(step.name, activation)
  if (standingOf(step.state) === 'active' || standingOf(step.state) === 'bad') parent.fan.notable.add(step.name)
}

const newFan = (total: number): FanProgress => ({
  total,
  counts: {
    pending: 0,
    queued: 0,
    running: 0,
    waiting: 0,
    succeeded: 0,
    failed: 0,
    skipped: 0,
    blocked: 0,
    canceled: 0,
  },
  activations: new Map(),
  notable: new Set(),
})

const parentName = (name: string): string => name.slice(0, name.indexOf('['))

/**
 * Forgets how far the steps were, keeping their names and order: the events from the first one on tell it again, and an
 * answer that is newer than an event would otherwise be counted twice.
 */
export function rewind(progress: RunProgress): void {
  progress.state = 'pending'
  progress.endedAtMs = null
  for (const step of progress.steps.values()) {
    step.state = 'pending'
    step.startedAtMs = step.endedAtMs = step.detail = null
    if (step.fan) step.fan = newFan(step.fan.total)
  }
}

/** One change as a line tells it; `tookMs` once something that began has ended. */
export interface Told {
  atMs: number | null
  of: string
  to: string
  tookMs: number | null
  detail: string | null
}

/** Takes in one event; the lines of what it changed. Constant work for each change, however wide a forEach is. */
export function applyEvent(progress: RunProgress, event: RunEvent): Told[] {
  return event.changes.map((change) => {
    const atMs = toMs(change.at ?? event.at)
    const detail = [change.code, change.note].filter(Boolean).join(': ') || null
    const told: Told = { atMs, of: change.of, to: change.to, tookMs: null, detail }
    if (change.of === 'run') applyToRun(progress, change, told)
    else applyToStep(progress, change, told)
    return told
  })
}

function applyToRun(progress: RunProgress, change: Change, told: Told): void {
  if (change.to === 'canceling') progress.canceling = true
  if (!isRunState(change.to)) return
  progress.state = change.to
  const ended = change.to === 'succeeded' || change.to === 'failed' || change.to === 'canceled'
  progress.endedAtMs = ended ? told.atMs : null
  if (ended && told.atMs !== null) told.tookMs = Math.max(0, told.atMs - progress.createdAtMs)
}

function applyToStep(progress: RunProgress, change: Change, told: Told): void {
  if (change.of === '*') return // a note on many steps at once, without their names
  const isActivation = change.of.includes('[')
  const topName = isActivation ? parentName(change.of) : change.of
  const top = progress.steps.get(topName) ?? newStep(topName)
  progress.steps.set(topName, top)
  let step = top
  if (isActivation) {
    const fan = (top.fan ??= newFan(0))
    const known = fan.activations.get(change.of)
    step = known ?? newStep(change.of)
    if (!known) {
      fan.activations.set(change.of, step)
      fan.counts.pending++
      fan.total = Math.max(fan.total, fan.activations.size)
    }
  }
  const state = stateOf(change.to)
  if (state === null) {
    if (told.detail) step.detail = told.detail
    return
  }
  if (isActivation && top.fan) {
    top.fan.counts[step.state]--
    top.fan.counts[state]++
    const standing = standingOf(state)
    if (standing === 'active' || standing === 'bad') top.fan.notable.add(change.of)
    else top.fan.notable.delete(change.of)
    // The step of a forEach has no attempt of its own: it runs while its activations do.
    if (!isEnded(top.state) && state === 'running') {
      top.state = 'running'
      top.startedAtMs ??= told.atMs
    }
  }
  step.state = state
  step.detail = told.detail
  if (state === 'running') step.startedAtMs = told.atMs
  step.endedAtMs = isEnded(state) ? told.atMs : null
  if (step.endedAtMs !== null && step.startedAtMs !== null) {
    told.tookMs = Math.max(0, step.endedAtMs - step.startedAtMs)
  }
}

/** The state of the step that a change leads to; null for what happened to an attempt without moving the step. */
function stateOf(to: string): StepState | null {
  if (isStepState(to)) return to
  // A step that goes back into the queue is told by what happened to its attempt.
  if (to === 'lost' || to === 'retrying' || to === 'returned') return 'queued'
  return to === 'parked' ? 'waiting' : null
}

const newStep = (name: string): StepProgress => ({
  name,
  state: 'pending',
  startedAtMs: null,
  endedAtMs: null,
  detail: null,
  fan: null,
})
