import { fitsName } from '../../name-pattern.ts'
import type { AskedCall, Denial, OperationClass, RuleName, RunFacts, Verdict } from '../verdict.ts'
import { type ReadPolicy, type RuleSet, type Subject, whyNotFor } from './rule-set.ts'

/** A rule that was looked at, with what it says of the call. */
export interface LookedAt {
  rule: RuleName
  /** Which part of it, as a path; null when it does not hold, or says nothing. */
  part: string | null
  says: 'allow' | 'deny' | 'approval' | 'nothing' | 'not_applied'
  why: string
}

export interface Judged {
  verdict: Verdict
  /** Every rule that was looked at, policies first. */
  looked: LookedAt[]
}

type Approval = Extract<Verdict, { verdict: 'approval' }>
/** What one rule says of a call. */
interface Said {
  part: string
  why: string
  verdict: Verdict
}

/**
 * Whether a call may be made. Policies come before roles, roles before what the agent's own spec gives, and that before the default of the tool's
 * class; but whoever says it, deny beats approval, and approval beats allow. Total: an error denies. The order of rules means nothing. Pure.
 */
export function judgeCall(rules: RuleSet, asked: AskedCall, run: RunFacts): Judged {
  try {
    if (rules.problem !== null) return { verdict: brokenRules(rules.problem), looked: [] }
    const looked: LookedAt[] = []
    const said = [
      ...policiesSay(rules.policies, asked, run, looked),
      ...rolesSay(rules, asked, looked),
      ...agentSays(asked, looked),
    ]
    return { verdict: strictest(said.map(({ verdict }) => verdict)), looked }
  } catch (error) {
    return { verdict: brokenRules(error instanceof Error ? error.message : String(error)), looked: [] }
  }
}

/**
 * Why the run that an allowed call begins may not begin: what policies say of delegation, with the runs below that there are at this moment. Null: it
 * may. Total: an error denies. Pure.
 */
export function judgeBeginning(rules: RuleSet, asked: AskedCall, run: RunFacts): Denial | null {
  try {
    if (rules.problem !== null) return brokenRules(rules.problem)
    const said = rules.policies
      .filter((policy) => whyNotFor(policy, subjectOf(asked, run)) === null)
      .flatMap((policy) => (policy.spec === null ? policySays(policy, asked, run) : routingSays(policy, asked, run)))
    return said.map(({ verdict }) => verdict).find((verdict) => verdict.verdict === 'deny') ?? null
  } catch (error) {
    return brokenRules(error instanceof Error ? error.message : String(error))
  }
}

const brokenRules = (problem: string): Denial => ({
  verdict: 'deny',
  code: 'policy.denied',
  rule: 'default',
  reason: `the rules cannot be read: ${problem.slice(0, 500)}`,
  remediation:
    'Nothing is allowed while the rules cannot be read. Look at the log of the server, and at orrery get policies.',
})

/** Of several verdicts the strictest; of those alike the first. Approvals together ask for what all of them ask for. */
function strictest(said: readonly Verdict[]): Verdict {
  const deny = said.find((one) => one.verdict === 'deny')
  if (deny) return deny
  const approvals = said.filter((one) => one.verdict === 'approval')
  const [first] = approvals
  if (first) return together(first, approvals)
  return said.find((one) => one.verdict === 'allow') ?? brokenRules('none of them says anything')
}

function together(first: Approval, all: readonly Approval[]): Verdict {
  const named = all.filter(({ approvers }) => approvers !== null)
  const approvers = named.reduce<readonly string[] | null>(
    (both, { approvers: one }) => (both === null ? one : both.filter((name) => one?.includes(name))),
    null,
  )
  if (approvers?.length === 0)
    return {
      verdict: 'deny',
      code: 'policy.denied',
      rule: first.rule,
      reason: `${named.map(({ rule }) => rule).join(' and ')} want decisions of different people: nobody may decide for all of them`,
      remediation: 'Name at least one token or role in the approvers of all of these rules.',
    }
  // What a default or the agent itself says is of interest where no rule that somebody wrote says anything.
  const written = all.filter(({ rule }) => rule === first.rule || /^(policy|role)\//.test(rule))
  const said = written.flatMap(({ rule, reason }) =>
    reason === undefined ? [] : [written.length === 1 ? reason : `${reason} (${rule})`],
  )
  const limits = all.flatMap(({ expiresMs }) => (expiresMs === null ? [] : [expiresMs]))
  return {
    verdict: 'approval',
    rule: first.rule,
    ...(said.length === 0 ? {} : { reason: said.join('; ') }),
    approvers: approvers === null ? null : approvers.toSorted(),
    expiresMs: limits.length > 0 ? Math.min(...limits) : null,
  }
}

interface CallRule {
  tools: readonly string[]
  operations?: readonly OperationClass[] | undefined
}

const isAbout = (rule: CallRule, { tool, operation }: Pick<AskedCall, 'tool' | 'operation'>): boolean =>
  rule.tools.some((pattern) => fitsName(pattern, tool)) && (rule.operations?.includes(operation) ?? true)

const callText = ({ tool, operation }: Pick<AskedCall, 'tool' | 'operation'>): string => `${tool} (${operation})`

const subjectOf = ({ namespace, agent }: AskedCall, { labels, workflows }: RunFacts): Subject => ({
  namespace,
  agent,
  labels,
  workflows,
})

/** Notes what a rule says, or that it says nothing. */
function note(looked: LookedAt[], rule: RuleName, said: readonly Said[]): readonly Said[] {
  if (said.length === 0) looked.push({ rule, part: null, says: 'nothing', why: 'it has nothing about this call' })
  for (const { part, why, verdict } of said) looked.push({ rule, part, says: verdict.verdict, why })
  return said
}

function policiesSay(policies: readonly ReadPolicy[], asked: AskedCall, run: RunFacts, looked: LookedAt[]): Said[] {
  return policies.flatMap((policy) => {
    const whyNot = whyNotFor(policy, subjectOf(asked, run))
    if (whyNot === null) return note(looked, policy.name, policySays(policy, asked, run))
    looked.push({ rule: policy.name, part: null, says: 'not_applied', why: whyNot })
    return []
  })
}

const denies = (rule: RuleName, code: Denial['code'], part: string, reason: string, remediation: string): Said => ({
  part,
  why: reason,
  verdict: { verdict: 'deny', code, rule, reason, remediation },
})

function policySays(policy: ReadPolicy, asked: AskedCall, run: RunFacts): Said[] {
  const { name: rule, spec } = policy
  const deny = (part: string, reason: string, remediation: string): Said =>
    denies(rule, 'policy.denied', part, reason, remediation)
  if (spec === null)
    return [
      deny(
        'spec',
        `${rule} cannot be read: ${policy.problem}`,
        `Apply ${rule} again in a form that this server takes.`,
      ),
    ]
  const said: Said[] = []
  const { allowed, denied, approval, requireRoles } = spec.tools ?? {}
  for (const [i, one] of (denied ?? []).entries())
    if (isAbout(one, asked)) {
      const part = `tools.denied[${i}]`
      said.push(
        deny(
          part,
          one.reason ?? `${rule} denies ${callText(asked)}`,
          `Change spec.${part} of ${rule}, or do without the call.`,
        ),
      )
    }
  if (allowed && !allowed.some((one) => isAbout(one, asked)))
    said.push(
      deny(
        'tools.allowed',
        `${callText(asked)} is not among the calls that ${rule} leaves allowed`,
        `Add { tools: [${asked.tool}], operations: [${asked.operation}] } to spec.tools.allowed of ${rule}, or do without the call.`,
      ),
    )
  if (requireRoles && asked.own !== null && asked.own.roles.length === 0)
    said.push(
      deny(
        'tools.requireRoles',
        `${rule} lets only agents with a role call tools, and agent ${asked.agent} has none`,
        `Name a role in spec.roles of agent ${asked.agent}.`,
      ),
    )
  for (const [i, one] of (approval ?? []).entries())
    if (isAbout(one, asked)) said.push(asks(rule, `tools.approval[${i}]`, one))
  if (spec.egress?.unconfined === 'deny' && asked.isUnconfined)
    said.push(
      deny(
        'egress.unconfined',
        `${asked.tool} is a program that makes connections of its own, and ${rule} lets only some hosts be called`,
        `Run it in a sandbox, or set spec.egress.unconfined: allow in ${rule}.`,
      ),
    )
  return [...said, ...routingSays(policy, asked, run)]
}

function asks(
  rule: RuleName,
  part: string,
  {
    approvers,
    expires,
    reason,
  }: { approvers?: readonly string[] | undefined; expires?: number | undefined; reason?: string | undefined },
): Said {
  return {
    part,
    why: reason ?? 'a person decides about each such call',
    verdict: {
      verdict: 'approval',
      rule,
      ...(reason === undefined ? {} : { reason }),
      approvers: approvers ?? null,
      expiresMs: expires ?? null,
    },
  }
}

/** Of calls by which work is given away, or the conversation handed over. */
function routingSays({ name: rule, spec }: ReadPolicy, { target }: AskedCall, run: RunFacts): Said[] {
  const { to, maxDepth, maxRuns } = spec?.delegation ?? {}
  if (target === null) return []
  const block = (part: string, reason: string, remediation: string): Said =>
    denies(rule, 'policy.routing_blocked', part, reason, remediation)
  const said: Said[] = []
  if (to && !to.some((pattern) => fitsName(pattern, target.name)))
    said.push(
      block(
        'delegation.to',
        `${rule} gives no work to the ${target.of === 'workflow' ? 'workflow' : 'agent'} ${target.name}; it lets pass ${to.join(', ')}`,
        `Give the work to one of ${to.join(', ')}, or add ${target.name} to spec.delegation.to of ${rule}.`,
      ),
    )
  // Who hands over begins no run.
  if (target.of === 'handoff') return said
  if (maxDepth !== undefined && run.depth + 1 > maxDepth)
    said.push(
      block(
        'delegation.maxDepth',
        `the run below would be at depth ${run.depth + 1}, and ${rule} lets them go to ${maxDepth}`,
        `Let this agent do the work itself, or raise spec.delegation.maxDepth of ${rule}.`,
      ),
    )
  if (maxRuns !== undefined && run.runsBelow + 1 > maxRuns)
    said.push(
      block(
        'delegation.maxRuns',
        `this run has ${run.runsBelow} runs below it, and ${rule} lets it have ${maxRuns}`,
        `Let this agent do the work itself, or raise spec.delegation.maxRuns of ${rule}.`,
      ),
    )
  return said
}

/** What roles say; without any, what the agent's spec gives and the defaults of the tools. */
function rolesSay(rules: RuleSet, asked: AskedCall, looked: LookedAt[]): readonly Said[] {
  const { agent, own, operation } = asked
  if (agent === null)
    return note(looked, 'default', [
      allows('default', 'steps', 'the workflow itself makes this call, as its author wrote it'),
    ])
  // Neither is asked for by whoever keeps to what he was given.
  if (!own?.isOffered)
    return note(looked, `agent/${agent}`, [
      denies(
        `agent/${agent}`,
        'tool.permission_denied',
        own ? 'tools' : 'metadata.name',
        own ? `agent ${agent} is offered no tool ${asked.tool}` : `the workflow has no agent ${agent}`,
        own
          ? `Name ${asked.tool} in spec.tools of agent ${agent}, or its server in spec.mcpServers.`
          : `Name agent ${agent} in the workflow, or in delegates or handoffs of an agent of it.`,
      ),
    ])
  const given = own.given
    ? note(looked, `agent/${agent}`, [allows(`agent/${agent}`, own.given, 'its own spec gives it')])
    : []
  if (own.roles.length === 0) {
    if (given.length > 0) return given
    const isRead = operation === 'read'
    const why = `agent ${agent} has no role: calls that read are allowed, a person decides about all others`
    return note(looked, 'default', [
      isRead ? allows('default', operation, why) : asks('default', operation, { reason: why }),
    ])
  }
  const said = own.roles.toSorted().flatMap((name) => note(looked, `role/${name}`, roleSays(rules, name, asked)))
  if (said.length > 0 || given.length > 0) return [...said, ...given]
  const names = own.roles.map((name) => `role/${name}`).toSorted()
  return note(looked, names.join(', '), [
    denies(
      names.join(', '),
      'tool.permission_denied',
      'permissions',
      `no role of agent ${agent} permits ${callText(asked)}`,
      `Give ${names.length === 1 ? names[0] : `one of ${names.join(', ')}`} a permission, such as { tools: [${asked.tool}], operations: [${operation}] } in spec.permissions.`,
    ),
  ])
}

const allows = (rule: RuleName, part: string, why: string): Said => ({ part, why, verdict: { verdict: 'allow', rule } })

function roleSays(rules: RuleSet, name: string, asked: AskedCall): Said[] {
  const rule = `role/${name}`
  const deny = (part: string, reason: string, remediation: string): Said =>
    denies(rule, 'tool.permission_denied', part, reason, remediation)
  const role = rules.roles.get(name)
  if (!role)
    return [
      deny(
        'metadata.name',
        `agent ${asked.agent} names the role ${name}, and there is none`,
        `Apply a Role ${name}, or take it out of spec.roles of agent ${asked.agent}.`,
      ),
    ]
  const { spec } = role
  if (spec === null)
    return [
      deny('spec', `${rule} cannot be read: ${role.problem}`, `Apply ${rule} again in a form that this server takes.`),
    ]
  const said: Said[] = []
  for (const [i, one] of (spec.rules ?? []).entries()) {
    if (!isAbout(one, asked)) continue
    const part = `rules[${i}]`
    if (one.verdict === 'deny')
      said.push(
        deny(
          part,
          one.reason ?? `${rule} denies ${callText(asked)}`,
          `Change spec.${part} of ${rule}, or do without the call.`,
        ),
      )
    else if (one.verdict === 'approval') said.push(asks(rule, part, one))
    else said.push(allows(rule, part, one.reason ?? 'it allows the call'))
  }
  for (const [i, one] of (spec.permissions ?? []).entries())
    if (isAbout(one, asked)) said.push(allows(rule, `permissions[${i}]`, 'it permits the call'))
  return said
}

/** An agent may ask for a person's word on all that it does. */
function agentSays({ agent, own }: AskedCall, looked: LookedAt[]): readonly Said[] {
  if (own?.approval !== 'always') return []
  const wants = { approvers: own.approvers ?? undefined, expires: own.approvalExpiresMs ?? undefined }
  const reason = 'its spec has every call wait for a person'
  const said = asks(`agent/${agent}`, 'approval', { ...wants, reason })
  return note(looked, `agent/${agent}`, [said])
}
