import { type FailureRecord, failureRecord } from '../../failure.ts'
import { isLocalEndpoint, type ModelEndpointSpec } from '../../kinds/model-endpoint.ts'
import { fitsName } from '../../name-pattern.ts'
import type { RuleName } from '../verdict.ts'
import { type ReadPolicy, type RuleSet, type Subject, whyNotFor } from './rule-set.ts'
import type { LookedAt } from './judge-call.ts'

/** The endpoint that is about to be asked; without a spec when there is none of the name. */
export interface AskedEndpoint {
  name: string
  spec: Pick<ModelEndpointSpec, 'provider' | 'model' | 'local'> | null
}

interface Objection {
  rule: RuleName
  part: string
  reason: string
  remediation: string
}

/** Why a model may not be asked; null when it may. Only policies speak of models. Total: an error denies. Pure. */
export function judgeModel(
  rules: RuleSet,
  subject: Subject,
  endpoint: AskedEndpoint,
): { failure: FailureRecord | null; looked: LookedAt[] } {
  const looked: LookedAt[] = []
  const refuse = (first: Objection): FailureRecord =>
    failureRecord(
      'policy.denied',
      `asking model endpoint ${endpoint.name}${subject.agent === null ? '' : ` for agent ${subject.agent}`}`,
      {
        evidence: {
          rule: first.rule,
          part: first.part,
          reason: first.reason,
          endpoint: endpoint.name,
          ...(endpoint.spec
            ? { provider: endpoint.spec.provider, model: endpoint.spec.model, local: isLocalEndpoint(endpoint.spec) }
            : {}),
        },
        remediation: first.remediation,
      },
    )
  try {
    if (rules.problem !== null) throw new Error(rules.problem)
    const objections = rules.policies.flatMap((policy) => {
      const whyNot = whyNotFor(policy, subject)
      if (whyNot !== null) {
        looked.push({ rule: policy.name, part: null, says: 'not_applied', why: whyNot })
        return []
      }
      const found = objectionsOf(policy, endpoint)
      if (found.length === 0)
        looked.push({ rule: policy.name, part: null, says: 'nothing', why: 'it has nothing against this model' })
      for (const { rule, part, reason } of found) looked.push({ rule, part, says: 'deny', why: reason })
      return found
    })
    const [first] = objections
    return { failure: first ? refuse(first) : null, looked }
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error)
    return {
      looked,
      failure: refuse({
        rule: 'default',
        part: 'rules',
        reason: `the rules cannot be read: ${problem.slice(0, 500)}`,
        remediation:
          'No model is asked while the rules cannot be read. Look at the log of the server, and at orrery get policies.',
      }),
    }
  }
}

/** `gpt*` is about names of endpoints, `openai/gpt-5*` about what they are. */
const isMeant = (pattern: string, { name, spec }: AskedEndpoint): boolean =>
  pattern.includes('/') ? spec !== null && fitsName(pattern, `${spec.provider}/${spec.model}`) : fitsName(pattern, name)

function objectionsOf(policy: ReadPolicy, endpoint: AskedEndpoint): Objection[] {
  const { name: rule, spec } = policy
  const objection = (part: string, reason: string, remediation: string): Objection => ({
    rule,
    part,
    reason,
    remediation,
  })
  if (spec === null)
    return [
      objection(
        'spec',
        `${rule} cannot be read: ${policy.problem}`,
        `Apply ${rule} again in a form that this server takes.`,
      ),
    ]
  const { models } = spec
  if (!models) return []
  if (endpoint.spec === null)
    return [
      objection(
        'models',
        `there is no endpoint ${endpoint.name} to hold against ${rule}`,
        `Apply a ModelEndpoint ${endpoint.name}, or correct the name.`,
      ),
    ]
  const { provider, model } = endpoint.spec
  const shown = `${endpoint.name} (${provider}/${model})`
  const found: Objection[] = []
  const denied = models.denied?.findIndex((pattern) => isMeant(pattern, endpoint)) ?? -1
  if (denied >= 0)
    found.push(
      objection(
        `models.denied[${denied}]`,
        `${rule} denies ${shown}`,
        `Use another model, or change spec.models.denied[${denied}] of ${rule}.`,
      ),
    )
  if (models.allowed && !models.allowed.some((pattern) => isMeant(pattern, endpoint)))
    found.push(
      objection(
        'models.allowed',
        `${shown} is not among ${models.allowed.join(', ')}, which ${rule} leaves allowed`,
        `Use one of ${models.allowed.join(', ')}, or add ${endpoint.name} to spec.models.allowed of ${rule}.`,
      ),
    )
  if (models.localOnly && !isLocalEndpoint(endpoint.spec))
    found.push(
      objection(
        'models.localOnly',
        `${rule} lets no prompt leave, and endpoint ${shown} is not marked local`,
        `Use an endpoint with local: true. Mark ${endpoint.name} so only when it runs on your own machines.`,
      ),
    )
  return found
}
