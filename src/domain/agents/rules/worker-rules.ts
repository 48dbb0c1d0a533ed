import type { DataRule, DataRules } from '../data-rules.ts'
import { DATA_PLACES } from '../data-rules.ts'
import type { RuleName } from '../verdict.ts'
import { type ReadPolicy, type RuleSet, type Subject, whyNotFor } from './rule-set.ts'

const applying = (rules: RuleSet, subject: Subject): ReadPolicy[] =>
  rules.policies.filter((policy) => whyNotFor(policy, subject) === null)

/** Stops every text: what stands for a policy that cannot be read. */
const blockAll = (rule: RuleName): DataRule => ({
  rule,
  name: 'anything',
  find: { pattern: '[\\s\\S]', ignoreCase: false },
  action: 'block',
  on: DATA_PLACES,
  salt: '',
})

/** What a worker has to hold to by itself: what it does to texts, and whom its tools may call. A policy that cannot be read stops every text. Pure. */
export function workerRules(rules: RuleSet, subject: Subject): DataRules {
  if (rules.problem !== null) return { rules: [blockAll('default')], egress: [{ rule: 'default', hosts: [] }] }
  const policies = applying(rules, subject)
  return {
    rules: policies.flatMap(({ name: rule, uid, spec }) =>
      spec === null
        ? [blockAll(rule)]
        : (spec.data ?? []).map(({ name, kind, pattern, ignoreCase, action, on }): DataRule => ({
            rule,
            name,
            find: kind === undefined ? { pattern: pattern ?? '', ignoreCase } : { kind },
            action,
            on,
            salt: uid,
          })),
    ),
    egress: policies.flatMap(({ name: rule, spec }) =>
      spec === null ? [{ rule, hosts: [] }] : spec.egress ? [{ rule, hosts: spec.egress.hosts }] : [],
    ),
  }
}

/** The most tokens that a run, and those below it, may use, as a rule has it. */
export interface TokenCap {
  rule: RuleName
  /** Of the rule. */
  uid: string
  /** Of the rule: another one with each change. */
  version: number
  tokens: number
}

/** The most tokens that a run may use, by each policy that says so, the least first. One that cannot be read lets it use none. Pure. */
export function tokenCaps(rules: RuleSet, subject: Subject): TokenCap[] {
  if (rules.problem !== null) return [{ rule: 'default', uid: 'default', version: 0, tokens: 0 }]
  const caps = applying(rules, subject).flatMap(({ name: rule, uid, version, spec }): TokenCap[] =>
    spec === null
      ? [{ rule, uid, version, tokens: 0 }]
      : spec.maxTokens === undefined
        ? []
        : [{ rule, uid, version, tokens: spec.maxTokens }],
  )
  return caps.toSorted((a, b) => a.tokens - b.tokens)
}
