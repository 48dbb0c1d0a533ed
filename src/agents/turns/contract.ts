import type { Json } from '../../base/json.ts'
import { failureRecord } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { Action } from './action.ts'
import { type AgentPlan, agentSpecOf } from './plan.ts'
import type { TurnState } from './turn-state.ts'

/** The end of an agent with an answer: a success where its contract holds. */
export function contractEnd(plan: AgentPlan, state: TurnState, answer: { text: string; output: Json }): Action {
  const { profile, mustSucceed = [], outputMarkers = [], onViolation } = agentSpecOf(plan).execution
  const succeeded = new Set(
    [...state.calls.values()].flatMap(({ tool, result }) => (result?.ok === true ? [tool] : [])),
  )
  const missingTools = profile === 'contract' ? mustSucceed.filter((tool) => !succeeded.has(tool)) : []
  const missingMarkers = profile === 'contract' ? outputMarkers.filter((marker) => !answer.text.includes(marker)) : []
  if (missingTools.length + missingMarkers.length === 0)
    return { do: 'end', end: { ok: true, output: answer.output, notes: [] } }
  if (onViolation === 'observe') {
    const tools = missingTools.map((tool) => `the contract does not hold: ${tool} did not succeed`)
    const markers = missingMarkers.map(
      (marker) => `the contract does not hold: the answer has no ${JSON.stringify(marker)}`,
    )
    return { do: 'end', end: { ok: true, output: answer.output, notes: [...tools, ...markers] } }
  }
  const evidence = {
    agent: plan.agent,
    missingTools,
    missingMarkers,
    output: answer.text.slice(0, LIMITS.evidenceBytes / 4),
  }
  const failure = failureRecord('agent.contract_violated', `running agent ${plan.agent} in ${plan.what}`, { evidence })
  return { do: 'end', end: { ok: false, failure } }
}
