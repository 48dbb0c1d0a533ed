import type { FailureRecord } from '../failure.ts'
import type { ModelEndpointSpec } from '../kinds/model-endpoint.ts'
import type { PriceTable } from '../kinds/price-table.ts'
import type { SecretRef } from '../secrets.ts'
import type { DataRules } from './data-rules.ts'

/**
 * What a step of agents uses as it is now, and not as it was when its run was created. It has values of secrets: it is nowhere but in this answer, no store
 * and no log ever holds it.
 */
export interface AgentContext {
  /** Another one than that of the last append: something here may have changed, and is asked for again. */
  version: string
  /** By name; those that are not there are absent. With the endpoints that they fall back to. */
  endpoints: Record<string, ModelEndpointSpec>
  /** By name, those that the endpoints name. */
  prices: Record<string, PriceTable>
  /** Values of the secrets that the endpoints, tools and MCP servers of the step name, and of no others. */
  secrets: (SecretRef & { value: string })[]
  /** Those of them that have no value now, and why. */
  missing: (SecretRef & { failure: FailureRecord })[]
  /** What is done to texts on their way to models and back, by the agent that speaks; '' is a step without one. */
  rules: Record<string, DataRules>
}
