import { describe, expect, test } from 'vitest'
import { failureRecord } from './failure.ts'
import { isStepTerminal, STEP_EDGES, STEP_STATES, type StepState } from './machines.ts'
import {
  applyToStep,
  displayName,
  isJoinImpossible,
  isJoinMet,
  newStep,
  pathOf,
  type Step,
  type StepEvent,
  WAITS,
} from './step.ts'

const failure = failureRecord('step.function_threw', 'testing')

/** A step in each state; `waiting` for each reason. */
function stepsOf(state: StepState): Step[] {
  const base = { ...newStep({ node: 3, path: '00007' }, 2, { a: 1 }), fence: 4, tries: 1, losses: 1, dueAt: 77 }
  switch (state) {
    case 'running':
      return [{ ...base, state, session: 'ses_a', stopping: false }]
    case 'waiting':
      return WAITS.map((waits) => ({ ...base, state, waits, on: null }))
    case 'failed':
    case 'blocked':
      return [{ ...base, state, failure }]
    case 'canceled':
      return [{ ...base, state, failure: null }]
    default:
      return [{ ...base, state }]
  }
}

const EVENTS: StepEvent[] = [
  { type: 'ready', expiresAt: 500 },
  { type: 'spread', count: 5, released: 2 },
  { type: 'opened', turns: 3 },
  { type: 'parked', waits: 'event', on: 'paid', until: 700 },
  { type: 'leased', session: 'ses_b', deadlineAt: 900 },
  { type: 'succeeded' },
  { type: 'failed', failure },
  { type: 'backed_off', at: 800 },
  { type: 'requeued', loss: true, expiresAt: null },
  { type: 'requeued', loss: false, expiresAt: 600 },
  { type: 'skipped' },
  { type: 'blocked', failure },
  { type: 'canceled', failure: null },
]

/** These are made by `reopen`, which looks at the whole run. */
const BY_REOPEN = new Set<string>()
for (const from of ['failed', 'blocked', 'canceled'])
  for (const to of ['queued', 'pending', 'waiting']) BY_REOPEN.add(`${from}>${to}`)

const reached = new Map<string, string>()
for (const state of STEP_STATES) {
  for (const step of stepsOf(state)) {
    for (const event of EVENTS) {
      const next = applyToStep(step, event)
      if (next) reached.set(`${state}>${next.state}`, event.type)
    }
  }
}

describe('the step machine', () => {
  test('events reach every edge of the table, and reopening the rest', () => {
    const edges = STEP_STATES.flatMap((from) => Object.keys(STEP_EDGES[from]).map((to) => `${from}>${to}`))
    expect([...reached.keys()].sort()).toEqual(edges.filter((e) => !BY_REOPEN.has(e)).sort())
  })

  test.each(STEP_STATES)('%s: each event gives the table its due or nothing', (state) => {
    for (const step of stepsOf(state)) {
      for (const event of EVENTS) {
        const before = JSON.stringify(step)
        const next = applyToStep(step, event)
        expect(JSON.stringify(step)).toBe(before)
        expect(applyToStep(step, event)).toEqual(next)
        if (next) expect(STEP_EDGES[state]).toHaveProperty(next.state)
      }
    }
  })

  test('what has ended is moved by no event but a skip by hand', () => {
    for (const state of STEP_STATES.filter(isStepTerminal)) {
      for (const step of stepsOf(state)) {
        const moved = EVENTS.filter((e) => applyToStep(step, e) !== null).map((e) => e.type)
        expect(moved).toEqual(state === 'failed' || state === 'blocked' ? ['skipped'] : [])
      }
    }
  })

  test('only a lease and what waits in a row raise the fence, only a failed attempt the tries, only a loss the losses', () => {
    for (const state of STEP_STATES) {
      for (const step of stepsOf(state)) {
        for (const event of EVENTS) {
          const next = applyToStep(step, event)
          if (!next) continue
          const isTry =
            (state === 'running' || (step.state === 'waiting' && step.waits === 'child')) &&
            (event.type === 'failed' || event.type === 'backed_off')
          const isLoss = event.type === 'requeued' && event.loss
          expect([next.fence - step.fence, next.tries - step.tries, next.losses - step.losses]).toEqual([
            event.type === 'leased' || (event.type === 'parked' && step.state !== 'running') ? 1 : 0,
            isTry ? 1 : 0,
            isLoss ? 1 : 0,
          ])
        }
      }
    }
  })

  test('what was due before a move is not due after it', () => {
    const [running] = stepsOf('running')
    if (!running) throw new Error('no step')
    expect(applyToStep(running, { type: 'succeeded' })?.dueAt).toBeNull()
    expect(applyToStep(running, { type: 'backed_off', at: 800 })?.dueAt).toBe(800)
    expect(applyToStep(running, { type: 'requeued', loss: false, expiresAt: 600 })?.dueAt).toBe(600)
  })

  test('a field exists only in the states that have it', () => {
    const [queued] = stepsOf('queued')
    const leased = queued && applyToStep(queued, { type: 'leased', session: 'ses_b', deadlineAt: null })
    expect(leased).toMatchObject({ state: 'running', session: 'ses_b', fence: 5 })
    const done = leased && applyToStep(leased, { type: 'succeeded' })
    expect(done).not.toHaveProperty('session')
    expect(done).not.toHaveProperty('failure')
  })
})

describe('joins and names', () => {
  test('a join is met with enough that ended well and impossible when too few can', () => {
    expect(isJoinMet({ need: 2, ok: 2, bad: 0, total: 2 })).toBe(true)
    expect(isJoinMet({ need: 2, ok: 1, bad: 0, total: 2 })).toBe(false)
    expect(isJoinImpossible({ need: 2, ok: 0, bad: 1, total: 2 })).toBe(true)
    expect(isJoinImpossible({ need: 1, ok: 0, bad: 1, total: 2 })).toBe(false)
    expect(isJoinMet({ need: 0, ok: 0, bad: 0, total: 0 })).toBe(true)
  })

  test('paths sort as their indices do', () => {
    const indices = [0, 9, 10, 99, 12_345, 49_999]
    expect(indices.map(pathOf).toSorted()).toEqual(indices.map(pathOf))
    expect(displayName('measure', pathOf(3))).toBe('measure[3]')
    expect(displayName('measure', '')).toBe('measure')
  })
})
