import { expect, test } from 'vitest'
import { createDeadlines } from '../base/deadlines.ts'
import { systemClock } from '../base/clock.ts'
import type { WorkerEntry } from '../domain/agents/journal.ts'
import { newAttempt } from './attempt.ts'
import { AttemptAsker } from './attempt-asker.ts'
import { AttemptJournal, Stale } from './attempt-journal.ts'
import { agentStep, ScriptedServer } from './scripted-server.ts'

const asked = (call: string): WorkerEntry => ({
  kind: 'model_asked',
  call,
  turn: 1,
  purpose: 'turn',
  agent: 'writer',
  endpoint: 'gpt',
  tokens: { input: 10, output: 20 },
})
const REGISTRATION = {
  worker: 'w',
  version: '0',
  host: 'h',
  pid: 1,
  pidStart: null,
  clock: 0,
  capacity: 1,
  labels: {},
  namespaces: null,
  backends: ['agent' as const],
  modules: [],
  replaces: null,
  held: [],
}

async function begun() {
  const server = new ScriptedServer()
  server.add(agentStep('write'))
  const { session } = await server.register(REGISTRATION)
  const { assignments } = await server.poll({ session, free: 1, held: [], draining: false })
  const [assignment] = assignments
  if (!assignment) throw new Error('nothing was assigned')
  const attempt = newAttempt(assignment)
  const rests: number[] = []
  const link = { up: () => {}, down: () => {}, rest: (tries: number) => void rests.push(tries) }
  const asker = new AttemptAsker({
    deadlines: createDeadlines(systemClock),
    // What the journal asks of a link: that it be told, and how long to rest.
    link: link as never,
    session: () => session,
    signal: new AbortController().signal,
  })
  return { server, session, attempt, rests, journal: new AttemptJournal({ lane: server, asker }, attempt) }
}

test('an append whose answer was lost is sent again and written once', async () => {
  const { server, journal, rests } = await begun()
  let lost = false
  server.fate = (call) => (call === 'append' && !lost && (lost = true) ? 'lose' : 'ok')
  await journal.append([asked('m1')])
  await journal.append([asked('m2')])
  expect(rests).toEqual([1])
  expect((await journal.read()).map(({ seq, entry }) => [seq, 'call' in entry ? entry.call : null])).toEqual([
    [1, 'm1'],
    [2, 'm2'],
  ])
})

test('a journal is read by pages', async () => {
  const { server, journal } = await begun()
  server.journalPage = 2
  for (const call of ['a', 'b', 'c', 'd', 'e']) await journal.append([asked(call)])
  expect((await journal.read()).map((e) => e.seq)).toEqual([1, 2, 3, 4, 5])
})

test('who lost the step writes nothing and is told so', async () => {
  const { server, session, journal } = await begun()
  await journal.append([asked('m1')])
  server.endSession(session)
  await expect(journal.append([asked('m2')])).rejects.toThrow(Stale)
  await expect(journal.read()).rejects.toThrow(Stale)
  expect(server.step('run_1.write').journal).toHaveLength(1)
})

test('who is told to stop asks nothing more', async () => {
  const { server, attempt, journal } = await begun()
  attempt.stopReason = 'canceled'
  await expect(journal.append([asked('m1')])).rejects.toThrow(Stale)
  expect(server.requests.some(({ call }) => call === 'append')).toBe(false)
})
