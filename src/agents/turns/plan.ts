import type { Json } from '../../base/json.ts'
import type { Bound, BoundAgent } from '../../domain/agents/bound.ts'
import { Failure } from '../../domain/failure.ts'
import type { AgentSpec } from '../../domain/kinds/agent.ts'
import type { ModelEndpointSpec } from '../../domain/kinds/model-endpoint.ts'
import type { PriceTable } from '../../domain/kinds/price-table.ts'
import { isObject } from '../../domain/placed-problem.ts'
import type { TableEntry, ToolTable } from './tool-table.ts'

/** What live things a step of agents sees: looked up anew by each attempt, and again when they changed. */
export interface LiveModels {
  endpoints: Readonly<Record<string, ModelEndpointSpec>>
  prices: Readonly<Record<string, PriceTable>>
}

interface PlanCommon extends LiveModels {
  /** Id of the step: what idempotency keys are made of. */
  step: string
  /** For messages: `step write of run_1`. */
  what: string
  fence: number
}

export interface AgentPlan extends PlanCommon {
  kind: 'agent'
  /** The agent that the step names: its limits, schema, check and execution hold whoever answers. */
  agent: string
  bound: Bound
  input: Json
  /** Tools of an agent that takes part. */
  tools(agent: string): ToolTable
}

export interface ToolPlan extends PlanCommon {
  kind: 'tool'
  entry: TableEntry
  input: Json
}

export interface RoutePlan extends PlanCommon {
  kind: 'route'
  model: string
  question: string
  /** What each way is for, by the name of its step. */
  to: Readonly<Record<string, string>>
  fallback: string | null
}

export type Plan = AgentPlan | ToolPlan | RoutePlan

export function boundAgent(bound: Bound, agent: string): BoundAgent {
  const found = bound.agents[agent]
  // A definition is bound as a whole, so this is one of another version.
  if (!found) throw new Failure('internal.bug', `the definition has no agent ${agent}`)
  return found
}

export const agentSpecOf = (plan: AgentPlan, agent = plan.agent): AgentSpec => boundAgent(plan.bound, agent).spec

/**
 * `<step id>@<fence>/<call>`: the same for every try of one call, also after a crash. The fence is that of the attempt that began the journal: a retry after a
 * failure begins anew, with calls of its own that may have the same names. `began` is null of a step that is one call: tried again it is the same call, and
 * whoever did it already does not do it twice.
 */
export const idempotencyKeyOf = (step: string, began: number | null, call: string): string =>
  began === null ? `${step}/${call}` : `${step}@${began}/${call}`

/** The prompt of a step: a text, the text of `prompt`, or any other JSON as JSON. */
export function promptOf(input: Json): string {
  if (typeof input === 'string') return input
  if (isObject(input) && Object.keys(input).length === 1 && typeof input['prompt'] === 'string') return input['prompt']
  return JSON.stringify(input, null, 2)
}
