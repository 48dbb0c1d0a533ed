import { readdir, readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import {
  ATTEMPT_EDGES,
  ATTEMPT_STATES,
  isRunTerminal,
  isStepGood,
  isStepTerminal,
  RUN_EDGES,
  RUN_STATES,
  runStateShown,
  STEP_EDGES,
  STEP_STATES,
} from './machines.ts'

const MIGRATIONS = new URL('../store/migrations/', import.meta.url)

/** The states that the type of a table's column `state` allows, from the text of the migrations. */
async function allowedStates(table: string): Promise<string[]> {
  const files = (await readdir(MIGRATIONS)).filter((f) => f.endsWith('.sql')).sort()
  const sql = (await Promise.all(files.map((f) => readFile(new URL(f, MIGRATIONS), 'utf8')))).join('\n')
  const body = new RegExp(`create table ${table} \\(([\\s\\S]*?)\\n\\)`).exec(sql)?.[1] ?? ''
  const type = /\bstate (\w+) not null/.exec(body)?.[1] ?? ''
  const list = new RegExp(`create type ${type} as enum \\(([^)]*)\\)`).exec(sql)?.[1] ?? ''
  return list.split(',').map((s) => s.trim().replaceAll("'", ''))
}

describe('the tables and the machines', () => {
  test('a step is stored in exactly the states of its machine', async () => {
    expect(await allowedStates('step')).toEqual([...STEP_STATES])
  })

  test('a run is stored in every state but the derived one', async () => {
    expect(await allowedStates('run')).toEqual(RUN_STATES.filter((s) => s !== 'waiting'))
  })

  test('attempts are stored when they ended otherwise than well', async () => {
    const ended = ATTEMPT_STATES.filter((s) => Object.keys(ATTEMPT_EDGES[s]).length === 0 && s !== 'succeeded')
    expect(await allowedStates('attempt')).toEqual(ended)
  })
})

describe('the machines', () => {
  const machines = { step: STEP_EDGES, run: RUN_EDGES, attempt: ATTEMPT_EDGES } as Record<
    string,
    Record<string, Partial<Record<string, string>>>
  >
  const first: Record<string, string> = { step: 'pending', run: 'pending', attempt: 'leased' }

  test.each(Object.keys(machines))('every state of a %s can be reached from the first', (machine) => {
    const edges = machines[machine] ?? {}
    const seen = new Set([first[machine] ?? ''])
    for (const state of seen) for (const to of Object.keys(edges[state] ?? {})) seen.add(to)
    expect([...seen].sort()).toEqual(Object.keys(edges).sort())
  })

  test('what has ended leaves its state by hand alone', () => {
    const leaving = [
      ...STEP_STATES.filter(isStepTerminal).flatMap((s) => Object.values(STEP_EDGES[s])),
      ...RUN_STATES.filter(isRunTerminal).flatMap((s) => Object.values(RUN_EDGES[s])),
    ]
    expect(leaving.filter((why) => !why.endsWith('by hand'))).toEqual([])
  })

  test('what succeeded is never left', () => {
    expect([STEP_EDGES.succeeded, RUN_EDGES.succeeded, ATTEMPT_EDGES.succeeded]).toEqual([{}, {}, {}])
  })

  test('only what ended can be good', () => {
    expect(STEP_STATES.filter(isStepGood).every(isStepTerminal)).toBe(true)
    expect(STEP_STATES.filter(isStepGood)).toEqual(['succeeded', 'skipped'])
  })

  test('a run waits when it is running and nothing of it is queued or running', () => {
    expect(runStateShown({ state: 'running', active: 0 })).toBe('waiting')
    expect(runStateShown({ state: 'running', active: 1 })).toBe('running')
    for (const state of ['pending', 'succeeded', 'failed', 'canceled'] as const) {
      expect(runStateShown({ state, active: 0 })).toBe(state)
    }
  })
})
