import type { JsonObject } from '../../../base/json.ts'
import { DEFAULT_NAMESPACE } from '../../kinds/envelope.ts'
import { type PolicySpec, readPolicy } from '../../kinds/policy.ts'
import { readRole, type RoleSpec } from '../../kinds/role.ts'
import { LIMITS } from '../../limits.ts'
import { fitsName } from '../../name-pattern.ts'
import { isObject } from '../../placed-problem.ts'
import { matchesTerms, parseSelector } from '../../kinds/selector.ts'
import { organisationOf, plainNamespace, storedNamespace } from '../../tenancy.ts'
import type { RuleName } from '../verdict.ts'

/** A Policy or Role as it is stored. */
export interface RuleRow {
  kind: string
  namespace: string
  name: string
  uid: string
  /** Of the resource: another one with each change. */
  version: number
  spec: JsonObject
}

/** A rule as it was read. One that cannot be read is kept: whoever it might hold for is denied. */
export type ReadRule<S> = { name: RuleName; namespace: string; uid: string; version: number } & (
  | { spec: S; problem: null }
  | { spec: null; problem: string; raw: JsonObject }
)
export type ReadPolicy = ReadRule<PolicySpec>
export type ReadRole = ReadRule<RoleSpec>

/** All rules that may hold in one namespace. */
export interface RuleSet {
  policies: readonly ReadPolicy[]
  /** By the name that agents call them by. */
  roles: ReadonlyMap<string, ReadRole>
  /** Why the rules could not be had at all; everything is denied then. */
  problem: string | null
}

export const NO_RULES: RuleSet = { policies: [], roles: new Map(), problem: null }

/** What stands for rules that could not be had: everything is denied. */
export const unreadableRules = (problem: string): RuleSet => ({ ...NO_RULES, problem })

/** Whose policies may hold in other namespaces of the organisation too. */
export const governingNamespace = (namespace: string): string =>
  storedNamespace(organisationOf(namespace), DEFAULT_NAMESPACE)

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error)).slice(0, 500)

function read<S>(row: RuleRow, readSpec: (spec: JsonObject) => S): ReadRule<S> {
  const common = {
    name: `${row.kind.toLowerCase()}/${row.name}`,
    namespace: row.namespace,
    uid: row.uid,
    version: row.version,
  }
  try {
    return { ...common, spec: readSpec(row.spec), problem: null }
  } catch (error) {
    return { ...common, spec: null, problem: messageOf(error), raw: row.spec }
  }
}

export const readPolicyRow = (row: RuleRow): ReadPolicy => read(row, readPolicy)
export const readRoleRow = (row: RuleRow): ReadRole => read(row, readRole)

const byName = (a: { name: string; namespace: string }, b: { name: string; namespace: string }): number =>
  `${a.namespace} ${a.name}` < `${b.namespace} ${b.name}` ? -1 : 1

/** The rules of a namespace, in an order of their own: in which order they come means nothing. Never throws. */
export function ruleSetOf(namespace: string, policies: readonly ReadPolicy[], roles: readonly ReadRole[]): RuleSet {
  if (policies.length + roles.length > LIMITS.rulesReadMax)
    return unreadableRules(`there are more than ${LIMITS.rulesReadMax} policies and roles`)
  const own = roles.filter((role) => role.namespace === namespace)
  return {
    policies: policies.toSorted(byName),
    roles: new Map(own.map((role) => [role.name.slice('role/'.length), role])),
    problem: null,
  }
}

/** Whom rules are asked about. */
export interface Subject {
  /** As it is stored. */
  namespace: string
  /** Null when a step calls a tool by itself, or a person asks a model. */
  agent: string | null
  /** See `RunFacts`. */
  labels: Readonly<Record<string, string>>
  workflows: readonly string[]
}

/** Why a policy does not hold for somebody; null when it does. One that cannot be read holds for all whom it might be for. */
export function whyNotFor(policy: ReadPolicy, subject: Subject): string | null {
  const { spec } = policy
  const selector = spec ? spec.appliesTo : isObject(policy.raw['appliesTo']) ? policy.raw['appliesTo'] : undefined
  const namespaces: unknown = selector?.namespaces
  const isGoverning = policy.namespace === governingNamespace(subject.namespace)
  if (isGoverning && namespaces !== undefined) {
    if (spec && !(spec.appliesTo?.namespaces ?? []).some((one) => fitsName(one, plainNamespace(subject.namespace))))
      return `it is for the namespaces ${spec.appliesTo?.namespaces?.join(', ')}`
  } else if (policy.namespace !== subject.namespace)
    return `it is one of the namespace ${plainNamespace(policy.namespace)}`
  if (!spec?.appliesTo) return null
  const { workflows, agents, labels } = spec.appliesTo
  if (workflows && !workflows.some((one) => subject.workflows.some((name) => fitsName(one, name))))
    return `it is for the workflows ${workflows.join(', ')}`
  const { agent } = subject
  if (agents && (agent === null || !agents.some((one) => fitsName(one, agent))))
    return `it is for the agents ${agents.join(', ')}`
  if (labels !== undefined) {
    const parsed = parseSelector(labels)
    // What cannot be read holds: it was checked when it was stored.
    if (parsed.kind === 'parsed' && !matchesTerms(subject.labels, parsed.terms)) return `it is for runs with ${labels}`
  }
  return null
}
