import { expect, test } from 'vitest'
import { HandClock } from '../base/clock.ts'
import type { RunView, StepView } from '../contract/api-types.ts'
import { RunReasons } from './run-reasons.ts'

/** What is looked at of a run. */
const runOf = (codes: Record<string, string | null>): RunView =>
  ({
    stepList: Object.entries(codes).map(([name, code]) => ({
      name,
      reason: code === null ? null : { code, message: code },
    })),
  }) as unknown as RunView

function follow(first: Record<string, string | null>) {
  const clock = new HandClock(0)
  const stop = new AbortController()
  const told: string[] = []
  const now = { codes: first, asked: 0, fails: false }
  const reasons = new RunReasons({
    client: {
      getRun: async () => {
        now.asked += 1
        if (now.fails) throw new Error('away')
        return runOf(now.codes)
      },
    },
    clock,
    runId: 'run_1',
    signal: stop.signal,
    told: (step: StepView) => void told.push(`${step.name} ${step.reason?.code}`),
  })
  const watching = reasons.watch()
  const pass = async (ms: number) => {
    clock.advance(ms)
    for (let i = 0; i < 10; i++) await Promise.resolve()
  }
  return { now, told, reasons, pass, end: () => (stop.abort(), watching) }
}

test('a run that moves is not asked; one that stands still says once why', async () => {
  const { now, told, reasons, pass, end } = follow({ gpu: 'dispatch.requirements_unmet', fine: 'running', done: null })
  await pass(2_000)
  reasons.moved()
  await pass(2_000)
  expect(now.asked).toBe(0)
  await pass(1_000)
  expect(told).toEqual(['gpu dispatch.requirements_unmet'])
  await pass(3_000)
  await pass(3_000)
  expect(now.asked).toBe(3)
  expect(told).toHaveLength(1)
  await end()
})

test('another reason of the same step is told, and one that comes back after the step went on', async () => {
  const { now, told, pass, end } = follow({ gpu: 'dispatch.no_worker' })
  await pass(3_000)
  now.codes = { gpu: 'dispatch.saturated' }
  await pass(3_000)
  now.codes = { gpu: 'running' }
  await pass(3_000)
  now.codes = { gpu: 'dispatch.saturated' }
  await pass(3_000)
  expect(told).toEqual(['gpu dispatch.no_worker', 'gpu dispatch.saturated', 'gpu dispatch.saturated'])
  await end()
})

test('of many only the first are told; an approval is asked for elsewhere', async () => {
  const many = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`each[${i}]`, 'dispatch.no_worker']))
  const { told, pass, end } = follow({ ship: 'approval', ...many })
  await pass(3_000)
  expect(told).toEqual([0, 1, 2, 3, 4].map((i) => `each[${i}] dispatch.no_worker`))
  await end()
})

test('a server that does not answer is asked again', async () => {
  const { now, told, pass, end } = follow({ gpu: 'dispatch.no_worker' })
  now.fails = true
  await pass(3_000)
  now.fails = false
  await pass(3_000)
  expect(told).toEqual(['gpu dispatch.no_worker'])
  await end()
})
