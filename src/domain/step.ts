import type { Json } from '../base/json.ts'
import { assert } from '../base/assert.ts'
import type { FailureRecord } from './failure.ts'
import { isStepTerminal, mayStepMove } from './machines.ts'

/** (node, path): names an activation inside its run. `path` is empty, or five digits of an index. */
export interface StepKey {
  node: number
  path: string
}

export const keyOf = ({ node, path }: StepKey): StepKey => ({ node, path })
export const keyText = (key: StepKey): string => `${key.node}/${key.path}`

/** Path of activation `index`; sorts as text. */
export const pathOf = (index: number): string => String(index).padStart(5, '0')
export const indexOf = (path: string): number => Number(path)

/** Name for people: `measure[3]`. */
export const displayName = (name: string, path: string): string => (path === '' ? name : `${name}[${indexOf(path)}]`)

/** The join of a step, or of its activations once it has spread; of a step that takes turns `need` is how many it may take. */
export interface JoinCounts {
  need: number
  ok: number
  bad: number
  total: number
}

export const isJoinMet = (join: JoinCounts): boolean => join.ok >= join.need
export const isJoinImpossible = (join: JoinCounts): boolean => join.total - join.bad < join.need

interface StepCommon extends StepKey, JoinCounts {
  fence: number
  tries: number
  losses: number
  /** Activations that were let go; of a step that takes turns those whose `next` was followed, and 1 of such a turn itself. */
  released: number
  /** Entries of its journal count from the attempts above this fence; those before were of a try that failed. */
  journalFrom: number
  /** The engine owes this step a look at this time (ms, database clock); null when it does not. */
  dueAt: number | null
  item: Json
}

/** What a waiting step waits for: its next try, its own activations, a time, an event, a person, a run below it, a budget. */
export const WAITS = ['backoff', 'children', 'timer', 'event', 'approval', 'child', 'budget'] as const
export type Waits = (typeof WAITS)[number]
/** Those that hold nothing but a row. */
export type Parked = Exclude<Waits, 'backoff' | 'children'>

/** A step's row as the pure functions see it. A field exists only in the states that have it. */
export type Step = StepCommon &
  (
    | { state: 'pending' | 'queued' | 'succeeded' | 'skipped' }
    /** `stopping`: nobody needs it any more, and its worker has to be told. */
    | { state: 'running'; session: string; stopping: boolean }
    /** `on`: the name of the event, or the ids of runs below or of approvals, or names of budgets, with blanks between them. */
    | { state: 'waiting'; waits: Waits; on: string | null }
    | { state: 'failed' | 'blocked'; failure: FailureRecord }
    | { state: 'canceled'; failure: FailureRecord | null }
  )

/** What a step that waits waits for, one by one. */
export const idsOf = ({ on }: Pick<Step & { state: 'waiting' }, 'on'>): string[] =>
  on === null || on === '' ? [] : on.split(' ')

/** A fresh activation. `needs` counts them, `need` says how many have to end well. */
export function newStep(key: StepKey, needs: number, item: Json = null, need = needs): Step {
  return {
    ...key,
    state: 'pending',
    need,
    ok: 0,
    bad: 0,
    total: needs,
    fence: 0,
    tries: 0,
    losses: 0,
    released: 0,
    journalFrom: 0,
    dueAt: null,
    item,
  }
}

const commonOf = (step: Step): StepCommon => ({
  node: step.node,
  path: step.path,
  need: step.need,
  ok: step.ok,
  bad: step.bad,
  total: step.total,
  fence: step.fence,
  tries: step.tries,
  losses: step.losses,
  released: step.released,
  journalFrom: step.journalFrom,
  dueAt: null,
  item: step.item,
})

export type StepEvent =
  | { type: 'ready'; expiresAt: number | null }
  | { type: 'spread'; count: number; released: number }
  /** A ring begins: the step takes turns from now on, so many at most. */
  | { type: 'opened'; turns: number }
  | { type: 'parked'; waits: Parked; on: string | null; until: number | null }
  | { type: 'leased'; session: string; deadlineAt: number | null }
  | { type: 'succeeded' }
  | { type: 'failed'; failure: FailureRecord }
  /** The failure is to be tried again, at `at`. */
  | { type: 'backed_off'; at: number }
  /** Lost with its session, given back, or what its attempt waited for has come; `loss` counts toward quarantine. */
  | { type: 'requeued'; loss: boolean; expiresAt: number | null }
  | { type: 'skipped' }
  | { type: 'blocked'; failure: FailureRecord }
  | { type: 'canceled'; failure: FailureRecord | null }

/**
 * Pure and total: the same step and event give the same answer. Null when the event does not apply in this state. Every
 * transition it makes is in STEP_EDGES.
 */
export function applyToStep(step: Step, event: StepEvent): Step | null {
  const next = moved(step, event)
  if (next) assert(mayStepMove(step.state, next.state), `step may not go from ${step.state} to ${next.state}`)
  return next
}

const isWaitingFor = (step: Step, waits: Waits): boolean => step.state === 'waiting' && step.waits === waits

/** What an attempt may end for though its step has not: a worker goes on when it has come. */
const RESUMABLE = ['approval', 'child', 'budget'] as const

/** Something is under way that can fail and be tried again: an attempt of a worker, or a run below. */
export const isTry = (step: Step): boolean => step.state === 'running' || isWaitingFor(step, 'child')

function moved(step: Step, event: StepEvent): Step | null {
  const base = commonOf(step)
  switch (event.type) {
    case 'ready':
      if (step.state !== 'pending' && !isWaitingFor(step, 'backoff')) return null
      return { ...base, state: 'queued', dueAt: event.expiresAt }
    case 'spread':
      if (step.state !== 'pending') return null
      return {
        ...base,
        state: 'waiting',
        waits: 'children',
        on: null,
        need: event.count,
        ok: 0,
        bad: 0,
        total: event.count,
        released: event.released,
      }
    case 'opened':
      if (step.state !== 'pending') return null
      return {
        ...base,
        state: 'waiting',
        waits: 'children',
        on: null,
        need: event.turns,
        ok: 0,
        bad: 0,
        total: 0,
        released: 0,
      }
    case 'parked':
      if (step.state !== 'pending' && step.state !== 'running' && !isWaitingFor(step, 'backoff')) return null
      // Where no worker has it, the fence counts here what an attempt is elsewhere: the approval or the child run of each try is another.
      return {
        ...base,
        state: 'waiting',
        waits: event.waits,
        on: event.on,
        fence: step.state === 'running' ? step.fence : step.fence + 1,
        dueAt: event.until,
      }
    case 'leased':
      if (step.state !== 'queued') return null
      return {
        ...base,
        state: 'running',
        session: event.session,
        stopping: false,
        fence: step.fence + 1,
        dueAt: event.deadlineAt,
      }
    case 'succeeded':
      if (isStepTerminal(step.state) || step.state === 'queued') return null
      return { ...base, state: 'succeeded' }
    case 'failed':
      if (isStepTerminal(step.state)) return null
      return {
        ...base,
        state: 'failed',
        failure: event.failure,
        tries: isTry(step) ? step.tries + 1 : step.tries,
      }
    case 'backed_off':
      if (!isTry(step)) return null
      return {
        ...base,
        state: 'waiting',
        waits: 'backoff',
        on: null,
        tries: step.tries + 1,
        journalFrom: step.fence,
        dueAt: event.at,
      }
    case 'requeued':
      if (step.state !== 'running' && !RESUMABLE.some((waits) => isWaitingFor(step, waits))) return null
      return { ...base, state: 'queued', losses: step.losses + (event.loss ? 1 : 0), dueAt: event.expiresAt }
    case 'skipped':
      if (
        step.state === 'running' ||
        step.state === 'succeeded' ||
        step.state === 'skipped' ||
        step.state === 'canceled'
      )
        return null
      return { ...base, state: 'skipped' }
    case 'blocked':
      if (step.state !== 'pending' && !isWaitingFor(step, 'children')) return null
      return { ...base, state: 'blocked', failure: event.failure }
    case 'canceled':
      if (isStepTerminal(step.state)) return null
      return { ...base, state: 'canceled', failure: event.failure }
  }
}
