import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { LIMITS } from '../limits.ts'
import { agentKind, readAgent } from './agent.ts'
import { readResources } from './documents.ts'
import { instructionsKind } from './instructions.ts'

const plain: JsonObject = { model: 'gpt', instructions: 'Be brief.' }
const contract = { profile: 'contract', outputMarkers: ['DONE'] }

function problemsOf(spec: JsonObject, kind = 'Agent'): string[] {
  const text = JSON.stringify({ apiVersion: 'orrery.dev/v1', kind, metadata: { name: 'it' }, spec })
  const { problems } = readResources([{ text, file: 'a.json' }], null)
  return problems.map(({ path, message, line, nearest }) =>
    line === 1 ? `${path} ${message}${nearest === undefined ? '' : ` (${nearest}?)`}` : 'no place',
  )
}

describe('an Agent', () => {
  test.for<[what: string, spec: JsonObject, problem: RegExp]>([
    ['no model', { instructions: 'x' }, /^spec\.model is required/],
    ['no instructions', { model: 'gpt' }, /^spec\.instructions/],
    ['an unknown key', { ...plain, tolls: ['a'] }, /^spec\.tolls "tolls" is no key of spec \(tools\?\)/],
    [
      'instructions that are neither',
      { ...plain, instructions: [{ text: 'x', ref: 'y' }] },
      /^spec\.instructions\[0\]/,
    ],
    ['a tool twice', { ...plain, tools: ['a', 'a'] }, /^spec\.tools\[1\] is there twice/],
    ['a delegate twice', { ...plain, delegates: ['a', 'a'] }, /^spec\.delegates\[1\] is there twice/],
    [
      'a server twice',
      { ...plain, mcpServers: [{ name: 's' }, { name: 's' }] },
      /^spec\.mcpServers\[1\]\.name is there/,
    ],
    [
      'a memory twice',
      {
        ...plain,
        memories: [
          { name: 'm', allow: ['read'] },
          { name: 'm', allow: ['write'] },
        ],
      },
      /^spec\.memories\[1\]\.name is there twice/,
    ],
    ['itself to hand over to', { ...plain, handoffs: ['it'] }, /^spec\.handoffs\[0\] is this agent itself/],
    ['its model as a fallback', { ...plain, fallbackModels: ['gpt'] }, /^spec\.fallbackModels\[0\] is spec\.model/],
    [
      'a contract without terms',
      { ...plain, execution: { profile: 'contract' } },
      /^spec\.execution\.profile asks for/,
    ],
    [
      'terms without a contract',
      { ...plain, execution: { outputMarkers: ['x'] } },
      /^spec\.execution\.outputMarkers is for/,
    ],
    [
      'a violation without a contract',
      { ...plain, execution: { onViolation: 'fail' } },
      /^spec\.execution\.onViolation is/,
    ],
    [
      'a tool that has to succeed and is not offered',
      { ...plain, tools: ['send-mail'], execution: { profile: 'contract', mustSucceed: ['sendmail'] } },
      /^spec\.execution\.mustSucceed\[0\] "sendmail" is no tool that it is offered \(send-mail\?\)/,
    ],
    ['approvers for nothing', { ...plain, approvers: ['ann'] }, /^spec\.approvers is for approval: always/],
    ['an expiry of nothing', { ...plain, approvalExpires: '1h' }, /^spec\.approvalExpires is for approval: always/],
    [
      'a schema that is none',
      { ...plain, outputSchema: { type: 'strin' } },
      /^spec\.outputSchema\.type is no valid JSON/,
    ],
    ['no turns', { ...plain, limits: { maxTurns: 0 } }, /^spec\.limits\.maxTurns must be at least 1/],
    [
      'a grant that is none',
      { ...plain, memories: [{ name: 'm', allow: ['eat'] }] },
      /^spec\.memories\[0\]\.allow\[0\]/,
    ],
    [
      'more instructions than fit',
      { ...plain, instructions: [{ text: 'x'.repeat(LIMITS.instructionsChars - 1) }, { text: 'y' }] },
      /^spec\.instructions are 200002 characters; the limit is 200000/,
    ],
  ])('%s is refused', ([, spec, problem]) => {
    expect(problemsOf(spec)).toEqual([expect.stringMatching(problem)])
  })

  test('all problems are told at once', () => {
    const spec = { ...plain, tools: ['a', 'a'], approvers: ['ann'], handoffs: ['it'] }
    expect(problemsOf(spec)).toHaveLength(3)
  })

  test('tools of servers and memories may have to succeed: what they have is known only later', () => {
    const execution = { profile: 'contract', mustSucceed: ['files.write', 'notes.search'] }
    const memories = [{ name: 'notes', allow: ['search'] }]
    expect(problemsOf({ ...plain, mcpServers: [{ name: 'files' }], memories, execution })).toEqual([])
  })

  test('a text alone is one part of its instructions; what is left out has its default', () => {
    expect(readAgent(plain)).toMatchObject({
      instructions: [{ text: 'Be brief.' }],
      limits: { maxTurns: 10, maxRepeats: 3, toolOutputBytes: 65_536 },
      execution: { profile: 'dynamic', duplicateCalls: 'allow', stopAfterTool: false, onViolation: 'fail' },
      context: { keepTurns: 4 },
      repairs: 2,
      approval: 'by-rule',
    })
    const full = readAgent({
      ...plain,
      execution: contract,
      limits: { timeout: '2m' },
      check: { criteria: 'is polite' },
    })
    expect(full).toMatchObject({ limits: { timeout: 120_000, maxTurns: 10 }, check: { retries: 1 } })
  })

  test('long instructions are taken, and it says so', () => {
    const text = 'x'.repeat(LIMITS.instructionsChars / 2 + 1)
    expect(agentKind.statusOf({ ...plain, instructions: text }).conditions).toMatchObject([
      { type: 'ready', status: 'true', reason: 'long', message: expect.stringContaining('100001 characters') },
    ])
    expect(agentKind.statusOf(plain).conditions).toMatchObject([{ reason: 'accepted' }])
    expect(instructionsKind.statusOf({ text }).conditions).toMatchObject([{ reason: 'long' }])
    expect(instructionsKind.statusOf({ text: 'x' }).conditions).toMatchObject([{ reason: 'accepted' }])
  })

  test('a list shows model, tools and delegates', () => {
    const spec = { ...plain, tools: ['a', 'b'], delegates: ['c'] }
    const shown = { spec, status: { phase: 'ready' }, metadata: { generation: 1 } }
    expect(agentKind.columns.map((column) => column.text(shown))).toEqual(['gpt', 'a,b', 'c'])
  })
})

describe('Instructions', () => {
  test('have a text, and no more than an agent may have', () => {
    expect(problemsOf({ text: '' }, 'Instructions')).toEqual([expect.stringMatching(/^spec\.text/)])
    expect(problemsOf({ text: 'x'.repeat(LIMITS.instructionsChars + 1) }, 'Instructions')).toHaveLength(1)
    expect(problemsOf({ text: 'Be brief.', more: 1 }, 'Instructions')).toEqual([expect.stringMatching(/^spec\.more/)])
    const shown = { spec: { text: 'abc' }, status: { phase: 'ready' }, metadata: { generation: 1 } }
    expect(instructionsKind.columns.map((column) => column.text(shown))).toEqual(['3'])
  })
})
