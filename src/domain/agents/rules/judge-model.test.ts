import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../../base/json.ts'
import { judgeModel } from './judge-model.ts'
import { readPolicyRow, type RuleSet, ruleSetOf, type Subject, unreadableRules } from './rule-set.ts'
import { tokenCaps, workerRules } from './worker-rules.ts'

const rulesOf = (policies: Record<string, JsonObject>): RuleSet =>
  ruleSetOf(
    'default',
    Object.entries(policies).map(([name, spec]) =>
      readPolicyRow({ kind: 'Policy', namespace: 'default', name, uid: `uid-${name}`, version: 7, spec }),
    ),
    [],
  )
const SUBJECT: Subject = { namespace: 'default', workflows: ['report'], agent: 'writer', labels: {} }
const GPT = { name: 'gpt', spec: { provider: 'openai' as const, model: 'gpt-5-mini', local: false } }
const LLAMA = { name: 'llama', spec: { provider: 'ollama' as const, model: 'llama3.2', local: true } }
const MOCK = { name: 'scripted', spec: { provider: 'mock' as const, model: 'm', local: false } }
const why = (rules: RuleSet, endpoint: Parameters<typeof judgeModel>[2], subject = SUBJECT) =>
  judgeModel(rules, subject, endpoint).failure?.evidence?.['part'] ?? null

describe('a model', () => {
  test.for<[models: JsonObject, endpoint: typeof GPT | typeof LLAMA | typeof MOCK, part: string | null]>([
    [{ allowed: ['gpt'] }, GPT, null],
    [{ allowed: ['g*'] }, GPT, null],
    [{ allowed: ['openai/gpt-5*'] }, GPT, null],
    [{ allowed: ['openai/*'] }, LLAMA, 'models.allowed'],
    [{ allowed: ['gpt-5-mini'] }, GPT, 'models.allowed'],
    [{ denied: ['gpt'] }, GPT, 'models.denied[0]'],
    [{ denied: ['x', 'openai/*'] }, GPT, 'models.denied[1]'],
    [{ denied: ['openai/*'] }, LLAMA, null],
    [{ allowed: ['gpt'], denied: ['openai/*'] }, GPT, 'models.denied[0]'],
    [{ localOnly: true }, GPT, 'models.localOnly'],
    [{ localOnly: true }, LLAMA, null],
    [{ localOnly: true }, MOCK, null],
    [{ localOnly: false }, GPT, null],
  ])('under %j: %j %s', ([models, endpoint, part]) => {
    expect(why(rulesOf({ p: { models } }), endpoint)).toBe(part)
  })

  test('has to be allowed by every policy that holds', () => {
    const rules = rulesOf({
      a: { models: { allowed: ['gpt', 'llama'] } },
      b: { models: { allowed: ['llama'] }, appliesTo: { agents: ['writer'] } },
    })
    expect(why(rules, GPT)).toBe('models.allowed')
    expect(why(rules, LLAMA)).toBe(null)
    expect(why(rules, GPT, { ...SUBJECT, agent: 'reader' })).toBe(null)
  })

  test('that is refused is told of with rule, reason and what would pass', () => {
    const { failure, looked } = judgeModel(
      rulesOf({ a: { tools: { requireRoles: true } }, 'stay-here': { models: { localOnly: true } } }),
      SUBJECT,
      GPT,
    )
    expect(failure).toEqual({
      code: 'policy.denied',
      message: 'asking model endpoint gpt for agent writer',
      evidence: {
        rule: 'policy/stay-here',
        part: 'models.localOnly',
        reason: 'policy/stay-here lets no prompt leave, and endpoint gpt (openai/gpt-5-mini) is not marked local',
        endpoint: 'gpt',
        provider: 'openai',
        model: 'gpt-5-mini',
        local: false,
      },
      remediation: 'Use an endpoint with local: true. Mark gpt so only when it runs on your own machines.',
      retryable: false,
    })
    expect(looked.map(({ rule, says }) => `${rule} ${says}`)).toEqual(['policy/a nothing', 'policy/stay-here deny'])
  })

  test('is refused where a rule, or all of them, cannot be read, and where it is not there to be looked at', () => {
    expect(why(rulesOf({ p: { models: 7 } }), LLAMA)).toBe('spec')
    expect(why(unreadableRules('gone'), LLAMA)).toBe('rules')
    expect(why(rulesOf({ p: { models: { localOnly: true } } }), { name: 'gone', spec: null })).toBe('models')
  })
})

describe('what a worker holds to by itself', () => {
  const data = [
    { name: 'mail', kind: 'email', action: 'pseudonymise' },
    { name: 'k', pattern: 'K-\\d+', ignoreCase: true, action: 'block', on: ['prompts', 'tools'] },
  ]

  test('are the data rules and hosts of the policies that hold', () => {
    const rules = rulesOf({
      p: { data, egress: { hosts: ['api.example.com'] } },
      q: { egress: { hosts: ['*.example.com'] }, appliesTo: { agents: ['x'] } },
    })
    expect(workerRules(rules, SUBJECT)).toEqual({
      rules: [
        {
          rule: 'policy/p',
          name: 'mail',
          find: { kind: 'email' },
          action: 'pseudonymise',
          on: ['prompts'],
          salt: 'uid-p',
        },
        {
          rule: 'policy/p',
          name: 'k',
          find: { pattern: 'K-\\d+', ignoreCase: true },
          action: 'block',
          on: ['prompts', 'tools'],
          salt: 'uid-p',
        },
      ],
      egress: [{ rule: 'policy/p', hosts: ['api.example.com'] }],
    })
  })

  test.for([rulesOf({ p: { data: 7 } }), unreadableRules('gone')])(
    'stops every text and every call when a rule cannot be read',
    (rules) => {
      expect(workerRules(rules, SUBJECT)).toMatchObject({
        rules: [{ name: 'anything', action: 'block' }],
        egress: [{ hosts: [] }],
      })
      expect(tokenCaps(rules, SUBJECT)).toMatchObject([{ tokens: 0 }])
    },
  )

  test('the least of the tokens that policies let a run use counts first', () => {
    const rules = rulesOf({
      p: { maxTokens: 900 },
      q: { maxTokens: 500 },
      r: { maxTokens: 1, appliesTo: { workflows: ['x'] } },
    })
    expect(tokenCaps(rules, SUBJECT)).toEqual([
      { rule: 'policy/q', uid: 'uid-q', version: 7, tokens: 500 },
      { rule: 'policy/p', uid: 'uid-p', version: 7, tokens: 900 },
    ])
  })
})
