import { expect, test } from 'vitest'
import { agentDoing, agentLines } from './agent-lines.ts'

const shown = (...events: unknown[]): string[] =>
  agentLines(`${events.map((event) => JSON.stringify(event)).join('\n')}\n`).map((line) =>
    line.map(({ text }) => text).join(''),
  )

test('what an agent does is told in words', () => {
  expect(
    shown(
      { type: 'turn', turn: 1, agent: 'writer', purpose: 'turn', endpoint: 'gpt' },
      { type: 'text', text: 'I look.\nThen I write.' },
      { type: 'answered', turn: 1, tokens: 120, cost: 0.01, currency: 'EUR' },
      { type: 'tool', call: 'c', tool: 'look', input: { at: 1 } },
      { type: 'tool_result', call: 'c', tool: 'look', ok: true, code: null, reason: null, ms: 12 },
      { type: 'tool_result', call: 'c', tool: 'send', ok: false, code: 'policy.denied', reason: 'no', ms: 0 },
      { type: 'turn', turn: 2, agent: 'writer', purpose: 'repair', endpoint: 'gpt' },
      { type: 'retrying', endpoint: 'gpt', code: 'model.rate_limited', delayMs: 1 },
      { type: 'failed', endpoint: 'gpt', code: 'model.unavailable' },
      { type: 'handed_over', from: 'triage', to: 'billing' },
      { type: 'waiting', on: 'approvals' },
      { type: 'tool_log', tool: 'look', line: 'reading' },
      { type: 'note', text: 'the contract does not hold' },
    ),
  ).toEqual([
    'turn 1: writer asks gpt',
    'I look.',
    'Then I write.',
    '120 tokens, 0.01 EUR',
    '→ look {"at":1}',
    '← look 12ms',
    '← send policy.denied: no',
    'turn 2 (repair): writer asks gpt',
    'gpt: model.rate_limited, asked again',
    'gpt does not answer: model.unavailable',
    'triage hands over to billing',
    'waits for a person, about a call of a tool',
    'look: reading',
    'the contract does not hold',
  ])
})

test('a route asks without an agent, and what is waited for is told in words', () => {
  const waiting = (on: string) => ({ type: 'waiting', on })
  expect(
    shown(
      { type: 'turn', turn: 1, agent: '', purpose: 'route', endpoint: 'gpt' },
      waiting('child'),
      waiting('budget'),
      waiting('outcome'),
      waiting('later'),
    ),
  ).toEqual([
    'turn 1 (route): asks gpt',
    'waits for a run below it',
    'waits for its budget',
    'waits for a person, about a call whose outcome is not known',
    'waits for later',
  ])
  expect(agentDoing(JSON.stringify(waiting('child')))).toBe('waits for a run below it')
})

test('what is not known is shown as it is, and nothing drives the terminal', () => {
  expect(agentLines('no JSON\n').map((line) => line[0]?.text)).toEqual(['no JSON'])
  expect(shown({ type: 'later', a: 1 })).toEqual(['{"type":"later","a":1}'])
  expect(shown({ type: 'text', text: 'a\u001b[31mb' }).join('')).not.toContain('\u001b')
  expect(shown({ type: 'tool', tool: 'a\u001b[2J', input: { x: '\u001b]0;t' } }).join('')).not.toContain('\u001b')
})

test('what it is at is in the newest line that says it', () => {
  const lines = [
    { type: 'turn', turn: 3, endpoint: 'gpt' },
    { type: 'tool', tool: 'look' },
    { type: 'text', text: 'x' },
  ]
  expect(agentDoing(lines.map((line) => JSON.stringify(line)).join('\n'))).toBe('calls look')
  expect(agentDoing('{"type":"text","text":"x"}\n')).toBeNull()
})
