import { nearest } from '../base/nearest.ts'
import { isEnough, ROLES } from '../domain/roles.ts'
import { isWithin, organisationOf, plainNamespace } from '../domain/tenancy.ts'
import { type DoctorRow, pass, warn } from './doctor-row.ts'
import type { ApprovalFacts, PendingApproval, TokenFacts } from '../domain/installation-facts.ts'

const SHOWN = 20

/**
 * Approvals that wait for a person: those that nobody can decide, and, for whoever sees all, from whom one is hidden and why. What is
 * said of tokens is said of those alone that the caller sees.
 */
export function checkApprovals({ pending, tokens, seesAll }: ApprovalFacts): DoctorRow[] {
  if (pending.length === 0) return [pass('approvals', 'none', { message: 'nothing waits for a decision' })]
  const stuck = pending.filter((p) => !tokens.some((token) => canDecide(token, p)))
  const rows = stuck.slice(0, SHOWN).map((p) => {
    const approvers = p.approvers?.slice(0, SHOWN).map((name) => ({ approver: name, why: whyNot(name, p, tokens) }))
    return warn('approvals', `step ${p.step} of ${p.run}`, {
      code: 'approval.undecidable',
      message: 'nobody can decide it',
      evidence: {
        approval: p.approval,
        namespace: plainNamespace(p.namespace),
        approvers: approvers ?? [{ approver: 'anybody', why: 'no token may decide in this namespace' }],
      },
    })
  })
  const waits = `${pending.length} wait${pending.length === 1 ? 's' : ''} for a decision`
  const summary = pass('approvals', String(pending.length), { message: waits })
  return [summary, ...rows, ...(seesAll ? hiddenRows(pending, tokens) : [])]
}

const isNamed = (token: TokenFacts, name: string): boolean =>
  token.id === name || token.name === name || token.role === name

function canDecide(token: TokenFacts, { namespace, approvers }: PendingApproval): boolean {
  const isAsked = approvers === null || approvers.some((name) => isNamed(token, name))
  return isAsked && isEnough(token.role, 'operator') && isWithin(token.reach, namespace)
}

function whyNot(name: string, { namespace }: PendingApproval, tokens: readonly TokenFacts[]): string {
  const seen = tokens.filter((t) => t.isSeen)
  const named = seen.filter((t) => isNamed(t, name))
  if (named.length === 0) {
    if ((ROLES as readonly string[]).includes(name)) return 'no token has this role'
    const near = nearest(name, [...ROLES, ...seen.map((t) => t.name)])
    return `no token and no role has this name${near === null ? '' : `; did you mean ${near}?`}`
  }
  if (named.every((t) => !isEnough(t.role, 'operator'))) return `its role may not decide: ${named[0]?.role ?? ''}`
  return `may not see namespace ${plainNamespace(namespace)}`
}

/** For each namespace with approvals: which tokens of people do not see them, and why. */
function hiddenRows(pending: readonly PendingApproval[], tokens: readonly TokenFacts[]): DoctorRow[] {
  const people = tokens.filter((t) => t.role !== 'worker')
  const spaces = [...Map.groupBy(pending, (p) => p.namespace)].slice(0, SHOWN)
  return spaces.flatMap(([namespace, asked]) => {
    const blind = people.filter((t) => !isWithin(t.reach, namespace)).slice(0, SHOWN)
    if (blind.length === 0) return []
    const from = blind.map((t) => ({ token: t.name, why: whyBlind(t, namespace) }))
    return [
      pass('approvals', `organisation ${organisationOf(namespace)}, namespace ${plainNamespace(namespace)}`, {
        message: `${asked.length} hidden from ${from.map(({ token, why }) => `${token} (${why})`).join(', ')}`,
        evidence: { approvals: asked.slice(0, SHOWN).map((p) => p.approval), hiddenFrom: from },
      }),
    ]
  })
}

const whyBlind = (token: TokenFacts, namespace: string): string =>
  token.organisation === organisationOf(namespace)
    ? 'of this organisation, for other namespaces'
    : `of organisation ${token.organisation}`
