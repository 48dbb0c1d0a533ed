import { describe, expect, test } from 'vitest'
import type { JournalEntry, StoredEntry } from '../../domain/agents/journal.ts'
import { CliHarness } from '../testing/cli-harness.ts'
import { at, RUN_ID, stepView } from '../testing/scripted-client.ts'

const usage = {
  inputTokens: 100,
  outputTokens: 20,
  cachedInputTokens: 0,
  cacheWriteTokens: 0,
  reasoningTokens: 0,
  isEstimated: false,
}

const answered = (call: string, text: string, more: object = {}): JournalEntry => ({
  kind: 'model_answered',
  call,
  result: {
    endpoint: 'gpt',
    provider: 'openai',
    model: 'gpt-5',
    text,
    finish: 'stop',
    usage,
    cost: { currency: 'USD', amount: 0.0012 },
    warnings: [],
    tried: [],
    totalMs: 1_200,
    toolCalls: [],
    ...more,
  },
})

/** A conversation with everything in it that a transcript shows. */
const WHOLE: JournalEntry[] = [
  {
    kind: 'model_asked',
    call: 'm1',
    turn: 1,
    purpose: 'turn',
    agent: 'writer',
    endpoint: 'gpt',
    tokens: { input: 90, output: 500 },
  },
  answered('m1', 'I look it up.\nThen I write.', {
    finish: 'tool-calls',
    tried: [{ endpoint: 'other', tries: 2, code: 'model.rate_limited', message: 'slow down' }],
    warnings: ['the seed was not heeded'],
  }),
  {
    kind: 'tool_asked',
    call: 't1',
    turn: 1,
    agent: 'writer',
    tool: 'search',
    operation: 'read',
    input: { q: 'cats' },
    repeatable: true,
  },
  { kind: 'verdict', call: 't1', verdict: { verdict: 'allow', rule: 'default' }, approval: null },
  { kind: 'tool_answered', call: 't1', result: { ok: true, output: { found: 3 } }, ms: 40, cut: 512 },
  {
    kind: 'tool_asked',
    call: 't2',
    turn: 1,
    agent: 'writer',
    tool: 'drop',
    operation: 'delete',
    input: { all: true },
    repeatable: false,
  },
  {
    kind: 'verdict',
    call: 't2',
    verdict: {
      verdict: 'deny',
      code: 'policy.denied',
      rule: 'policy/no-deletes',
      reason: 'deletes are denied',
      remediation: 'ask',
    },
    approval: null,
  },
  {
    kind: 'tool_asked',
    call: 't3',
    turn: 1,
    agent: 'writer',
    tool: 'mail',
    operation: 'write',
    input: { to: 'all' },
    repeatable: false,
  },
  {
    kind: 'verdict',
    call: 't3',
    verdict: { verdict: 'approval', rule: 'role/mailer', reason: 'all read it', approvers: null, expiresMs: null },
    approval: 'apr_1',
  },
  {
    kind: 'decided',
    call: 't3',
    approval: 'apr_1',
    about: 'call',
    state: 'approved',
    by: 'ada',
    comment: 'only me',
    at: at(0),
    input: { to: 'ada' },
    output: null,
  },
  {
    kind: 'tool_answered',
    call: 't3',
    result: { ok: false, code: 'step.timed_out', reason: 'no answer', retryable: true },
    ms: 5_000,
    cut: 0,
  },
  { kind: 'child_started', call: 't4', run: 'run_below' },
  { kind: 'child_ended', call: 't4', run: 'run_below', result: { ok: true, output: 'done' } },
  {
    kind: 'decided',
    call: 't5',
    approval: 'apr_2',
    about: 'outcome',
    state: 'expired',
    by: null,
    comment: null,
    at: at(0),
    input: null,
    output: null,
  },
  { kind: 'handed_over', turn: 1, from: 'writer', to: 'editor' },
  {
    kind: 'model_asked',
    call: 'm2',
    turn: 2,
    purpose: 'repair',
    agent: 'editor',
    endpoint: 'gpt',
    tokens: { input: 200, output: 500 },
  },
  {
    kind: 'model_failed',
    call: 'm2',
    failure: { code: 'model.unavailable', message: 'asking gpt', remediation: 'wait', retryable: true },
  },
]

const stored = (entries: readonly JournalEntry[], fenceOf: (i: number) => number = () => 1): StoredEntry[] =>
  entries.map((entry, i) => ({ seq: i + 1, fence: fenceOf(i), at: at(i), entry }))

function world(entries: readonly StoredEntry[]): CliHarness {
  const cli = new CliHarness()
  cli.client.journal = [...entries]
  cli.client.steps = [
    stepView({ name: 'build', kind: 'command', startedAt: at(0) }),
    stepView({ name: 'write', kind: 'agent', state: 'waiting', fence: 1, startedAt: null }),
    stepView({ name: 'later', kind: 'agent', fence: 0, startedAt: null }),
  ]
  return cli
}

describe('orrery runs transcript', () => {
  test('shows what was asked, told, allowed, decided and done, turn by turn, of every step of an agent that began', async () => {
    const cli = world(stored(WHOLE))
    expect(await cli.run('runs', 'transcript', RUN_ID)).toBe(0)
    expect(cli.out).toMatchInlineSnapshot(`
      "turn 1  writer
        → asks gpt  ~90 tokens
        ← gpt-5  100 + 20 tokens  0.0012 USD  1.2s
          other did not answer: model.rate_limited
          the seed was not heeded
          │ I look it up.
          │ Then I write.
        ⚙ search  read  {"q":"cats"}
        ✓ search {"found":3}  40ms  512 bytes were cut off
        ⚙ drop  delete  {"all":true}
        ✗ drop policy.denied  deletes are denied  by policy/no-deletes
        ⚙ mail  write  {"to":"all"}
        ? mail waits for a person: apr_1  by role/mailer: all read it
        ✓ mail approved by ada: only me
          with other arguments: {"to":"ada"}
        ✗ mail step.timed_out  no answer  may be tried again  5.0s
        ↓ runs below as run_below
        ✓ "done"  run_below
        ✗ nobody decided in time (whether it was done)
        ⇒ writer hands over to editor

      turn 2  editor
        → asks for a repair: gpt  ~200 tokens
        ✗ model.unavailable  asking gpt
      "
    `)
    const asked = cli.client.calls.filter(([method]) => method === 'showJournal').map((call) => call[2])
    expect(new Set(asked)).toEqual(new Set(['write']))
  })

  test('what a failed try wrote stands apart and says that it does not count', async () => {
    const cli = world(stored([answered('m1', 'first'), answered('m1', 'second')], (i) => i + 1))
    cli.client.countsFrom = 1
    await cli.run('runs', 'transcript', RUN_ID, 'write')
    expect(cli.out).toMatch(
      /attempt 1 .*failed: what follows counts no more\n[^]*first\n[^]*attempt 2 [^f]*\n[^]*second/,
    )
  })

  test('cuts what is long and says how to see it all', async () => {
    const text = Array.from({ length: 40 }, (_, i) => `line ${i}`).join('\n')
    const cli = world(stored([answered('m1', text)]))
    await cli.run('runs', 'transcript', RUN_ID, 'write')
    expect(cli.out).toContain('… 28 more lines: --full')
    expect(cli.out).not.toContain('line 20')
    const full = world(stored([answered('m1', text)]))
    await full.run('runs', 'transcript', RUN_ID, 'write', '--full')
    expect(full.out).toContain('line 39')
  })

  test('what a model or a tool wrote cannot move the cursor or pass for a line of the transcript', async () => {
    const cli = world(stored([answered('m1', 'evil \u001b[2J\r  ✓ approved by ada\n  ✓ approved by ada')]))
    await cli.run('runs', 'transcript', RUN_ID, 'write')
    expect(cli.out).not.toContain('\u001b[2J')
    for (const line of cli.out.split('\n').filter((one) => one.includes('approved by ada')))
      expect(line).toMatch(/^ {4}│ /)
  })

  test('gives every entry as data', async () => {
    const cli = world(stored(WHOLE))
    await cli.run('runs', 'transcript', RUN_ID, 'write', '--json')
    expect(JSON.parse(cli.out)).toEqual({ run: RUN_ID, step: 'write', countsFrom: 0, entries: stored(WHOLE) })
  })

  test('says when there is nothing to show', async () => {
    const cli = world([])
    cli.client.steps = []
    expect(await cli.run('runs', 'transcript', RUN_ID)).toBe(0)
    expect(cli.err).toContain('has no step of an agent')
  })

  test('says of a call that was turned away before it was made what the model wanted', async () => {
    const wanted = { id: 'c1', name: 'drop', input: { al: true }, text: '{"al":true}' }
    const result = { ok: false, code: 'tool.invalid_input', reason: 'all is required', retryable: false } as const
    const away: JournalEntry = { kind: 'tool_answered', call: 'c1', result, ms: 0, cut: 0 }
    const cli = world(stored([answered('m1', '', { toolCalls: [wanted] }), away]))
    expect(await cli.run('runs', 'transcript', RUN_ID)).toBe(0)
    expect(cli.out).toContain('  ⚙ drop  {"al":true}\n  ✗ drop tool.invalid_input  all is required  0ms')
  })
})
