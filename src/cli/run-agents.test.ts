import { expect, test } from 'vitest'
import type { LogLine, RunView } from '../contract/api-types.ts'
import { watchAgents } from './run-agents.ts'

const line = (stream: LogLine['stream'], text: string): LogLine => ({
  step: 'write',
  fence: 1,
  index: 1,
  stream,
  at: '',
  text,
})
const runOf = (kind: string) => ({ id: 'run_1', stepList: [{ name: 'write', kind }] }) as RunView

async function shownOf(kind: string, lines: readonly (LogLine | Error)[]) {
  const shown: [string, string | null][] = []
  let asked = 0
  await watchAgents({
    run: runOf(kind),
    display: { agent: (step, doing) => void shown.push([step, doing]) },
    signal: new AbortController().signal,
    client: {
      async *followLogs() {
        asked++
        for (const one of lines) {
          if (one instanceof Error) throw one
          yield one
        }
      },
    },
  })
  return { shown, asked }
}

test('what agents are at is shown, and nothing else of the log; a log that breaks off stops nothing', async () => {
  const lines = [line('agent', '{"type":"tool","tool":"look"}\n'), line('stdout', 'noise\n'), new Error('cut')]
  expect(await shownOf('agent', lines)).toEqual({ shown: [['write', 'calls look']], asked: 1 })
})

test('the log of a run without agents is not followed', async () => {
  expect(await shownOf('command', [line('agent', '{}')])).toEqual({ shown: [], asked: 0 })
})
