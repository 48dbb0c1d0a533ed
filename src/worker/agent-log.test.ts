import { expect, test } from 'vitest'
import { HandClock } from '../base/index.ts'
import { AgentLog } from './agent-log.ts'
import { type Attempt, newAttempt, type PendingReport } from './attempt.ts'
import { agentStep } from './scripted-server.ts'

/** A log, and what it has given out so far: the lines of each report. */
function logOf() {
  const clock = new HandClock(0)
  const attempt = newAttempt({ ...agentStep('write'), fence: 1 })
  const reports: PendingReport[] = []
  const makeReport = (of: Attempt, body: PendingReport['body'], bytes: number): PendingReport => {
    const common = { startedAt: 0, endedAt: null, madeAt: clock.monotonic(), sent: true, onDisk: false }
    const report = { attempt: of, seq: reports.length + 1, body, bytes, ...common }
    reports.push(report)
    return report
  }
  const log = new AgentLog(attempt, { clock, makeReport })
  const told = () =>
    reports.map(({ body }) => (body.kind === 'log' ? body.segments.flatMap(({ text }) => text.trim().split('\n')) : []))
  /** Time passes, and the log is looked after as a worker does. */
  const pass = (ms: number) => {
    for (let passed = 0; passed < ms; passed += 25) {
      clock.advance(25)
      log.refresh()
    }
  }
  return { log, told, pass, reports }
}

const note = (text: string) => ({ type: 'note', text }) as const
const line = (text: string) => JSON.stringify(note(text))

test('what an agent does gathers for a moment, and is given out together and in its order', () => {
  const { log, told, pass, reports } = logOf()
  for (const text of ['a', 'b', 'c', 'd', 'e']) {
    log.show(note(text))
    pass(25)
  }
  expect(told()).toEqual([['a', 'b', 'c', 'd'].map(line)])
  pass(200)
  expect(told()).toEqual([['a', 'b', 'c', 'd'].map(line), ['e'].map(line)])
  // Nothing more is said, so nothing more is reported.
  pass(1_000)
  expect(reports.length).toBe(2)
  expect(
    reports.flatMap(({ body }) => (body.kind === 'log' ? body.segments.map(({ index, at }) => [index, at]) : [])),
  ).toEqual([
    [1, 0],
    [2, 100],
  ])
})

test('what it is saying is shown while it goes on', () => {
  const { log, told, pass } = logOf()
  for (const text of ['One ', 'two ', 'three.']) {
    log.show({ type: 'text', text })
    pass(125)
  }
  expect(told()).toEqual([[JSON.stringify({ type: 'text', text: 'One two ' })]])
})

test('its end gives out the rest at once, and before it what was said before', () => {
  const { log, told } = logOf()
  log.show(note('a'))
  log.show({ type: 'text', text: 'bye' })
  expect(told()).toEqual([])
  log.finish()
  expect(told()).toEqual([[line('a'), JSON.stringify({ type: 'text', text: 'bye' })]])
})
