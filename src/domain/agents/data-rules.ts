import type { RuleName } from './verdict.ts'

/** What is done to texts that go to a model, and to what comes back. */
export interface DataRule {
  rule: RuleName
  /** A regular expression; what it finds is meant. */
  pattern: string
  /** `pseudonymise`: another value goes out in its place, and comes back as the one that it stands for. */
  action: 'redact' | 'block' | 'pseudonymise'
}

export type DataRules = readonly DataRule[]
