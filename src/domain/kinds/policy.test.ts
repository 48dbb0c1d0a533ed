import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { readResources } from './documents.ts'
import { policyKind } from './policy.ts'

const problemsOf = (kind: string, spec: JsonObject, namespace?: string): string[] => {
  const metadata = { name: 'it', ...(namespace === undefined ? {} : { namespace }) }
  const text = JSON.stringify({ apiVersion: 'orrery.dev/v1', kind, metadata, spec })
  return readResources([{ text, file: 'm.json' }], null).problems.map(({ path, message, line }) =>
    line === 1 ? `${path} ${message}` : 'no place',
  )
}
const tools = { denied: [{ tools: ['slack'] }] }
const data = (...rules: JsonObject[]): JsonObject => ({ data: rules })
const rule = { name: 'k', pattern: 'K-\\d+', action: 'redact' }

describe('a Policy is refused that', () => {
  test.for<[what: string, spec: JsonObject, problem: RegExp]>([
    ['says nothing', {}, /^spec says nothing: name models, tools, maxTokens, delegation, egress or data/],
    ['only says whom it is for', { appliesTo: { agents: ['x'] } }, /^spec says nothing/],
    ['has an empty part', { models: {} }, /^spec\.models says nothing/],
    ['has an empty selector', { appliesTo: {}, tools }, /^spec\.appliesTo says nothing/],
    ['has an unknown key', { tools, tool: 1 }, /^spec\.tool "tool" is no key/],
    [
      'has a class that there is not',
      { tools: { denied: [{ tools: ['a'], operations: ['raed'] }] } },
      /must be one of read, write/,
    ],
    [
      'has labels that are no selector',
      { tools, appliesTo: { labels: 'a=b=c' } },
      /^spec\.appliesTo\.labels "a=b=c" is no requirement/,
    ],
    ['lets a host be that is none', { egress: { hosts: ['http://x'] } }, /^spec\.egress\.hosts\[0\] must be a host/],
    ['names a port', { egress: { hosts: ['api.example.com:443'] } }, /^spec\.egress\.hosts\[0\] must be a host/],
    ['goes deeper than anything does', { delegation: { maxDepth: 99 } }, /^spec\.delegation\.maxDepth must be at most/],
    ['finds nothing', data({ name: 'k', action: 'redact' }), /^spec\.data\[0\] finds nothing/],
    [
      'finds two things at once',
      data({ ...rule, kind: 'email' }),
      /^spec\.data\[0\]\.pattern cannot stand beside kind/,
    ],
    ['calls two things alike', data(rule, rule), /^spec\.data\[1\]\.name is there twice/],
    [
      'has a pattern that cannot be matched in one pass',
      data({ ...rule, pattern: '(a)\\1' }),
      /^spec\.data\[0\]\.pattern a group cannot be referred to/,
    ],
    [
      'has a pattern that finds everything',
      data({ ...rule, pattern: 'a*' }),
      /^spec\.data\[0\]\.pattern fits the empty text/,
    ],
    [
      'minds the case of what has none',
      data({ name: 'k', kind: 'email', ignoreCase: true, action: 'redact' }),
      /ignoreCase is for a pattern/,
    ],
    [
      'puts back what never left',
      data({ ...rule, action: 'pseudonymise', on: ['tools'] }),
      /^spec\.data\[0\]\.on must be prompts alone/,
    ],
  ])('%s', ([, spec, problem]) => {
    expect(problemsOf('Policy', spec)).toEqual([expect.stringMatching(problem)])
  })

  test('names other namespaces, unless it stands in the namespace default', () => {
    const spec = { appliesTo: { namespaces: ['team-*'] }, tools }
    expect(problemsOf('Policy', spec, 'team-a')).toEqual([
      'spec.appliesTo.namespaces is for a policy of the namespace default; this one holds in team-a',
    ])
    expect(problemsOf('Policy', spec, 'default')).toEqual([])
    expect(problemsOf('Policy', spec)).toEqual([])
  })

  test('shows what it governs and whom it is for', () => {
    const shown = (spec: JsonObject) =>
      policyKind.columns.map(({ text }) => text({ spec, status: { phase: 'ready' }, metadata: { generation: 1 } }))
    expect(shown({ models: { localOnly: true }, tools, appliesTo: { agents: ['a', 'b'], labels: 'x=y' } })).toEqual([
      'models,tools',
      'agents: a,b; labels: x=y',
    ])
    expect(shown({ maxTokens: 5 })).toEqual(['maxTokens', 'all'])
  })
})

describe('a Role is refused that', () => {
  test.for<[what: string, spec: JsonObject, problem: RegExp]>([
    ['says nothing', { description: 'x' }, /^spec permits nothing and says nothing/],
    ['permits without a class', { permissions: [{ tools: ['a'] }] }, /^spec\.permissions\[0\]\.operations is required/],
    [
      'allows without a class',
      { rules: [{ tools: ['a'], verdict: 'allow' }] },
      /^spec\.rules\[0\]\.operations is required where calls are allowed/,
    ],
    [
      'names approvers of what nobody decides',
      { rules: [{ tools: ['a'], verdict: 'deny', approvers: ['ann'] }] },
      /approvers is for the verdict approval/,
    ],
    [
      'expires what nobody decides',
      { rules: [{ tools: ['a'], verdict: 'deny', expires: '1h' }] },
      /expires is for the verdict approval/,
    ],
    [
      'has a verdict that there is not',
      { rules: [{ tools: ['a'], verdict: 'ask' }] },
      /must be one of allow, deny, approval/,
    ],
    [
      'is for no tool',
      { permissions: [{ tools: [], operations: ['read'] }] },
      /^spec\.permissions\[0\]\.tools must be at least 1/,
    ],
  ])('%s', ([, spec, problem]) => {
    expect(problemsOf('Role', spec)).toEqual([expect.stringMatching(problem)])
  })

  test('one that denies all classes may leave them out', () => {
    expect(problemsOf('Role', { rules: [{ tools: ['a'], verdict: 'deny', reason: 'no' }] })).toEqual([])
  })
})
