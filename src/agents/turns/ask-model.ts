import type { JsonObject } from '../../base/json.ts'
import type { Purpose } from '../../domain/agents/journal.ts'
import { failureRecord, type FailureRecord } from '../../domain/failure.ts'
import { FAILURES } from '../../domain/failures.ts'
import type { AgentSpec } from '../../domain/kinds/agent.ts'
import { isLocalEndpoint } from '../../domain/kinds/model-endpoint.ts'
import type { ModelRequest } from '../../domain/model-call.ts'
import { costOf } from '../../domain/prices.ts'
import { ANSWER_TOKENS_ASSUMED, estimateRequest } from '../gateway/estimate-tokens.ts'
import type { Action } from './action.ts'
import type { Plan } from './plan.ts'
import type { ModelAsk, TurnState } from './turn-state.ts'

export interface Asking {
  purpose: Purpose
  turn: number
  agent: string
  /** The endpoint to ask, and others for when it does not answer. */
  model: string
  fallbacks: readonly string[]
  /** Calls for the same answer so far. */
  asks: readonly ModelAsk[]
  request: ModelRequest
  warnings: string[]
  /** Of the step's agent; null for a route, which is one call. */
  limits: AgentSpec['limits'] | null
}

/** The next call for one answer: at the endpoint, or at the next of its fallbacks while that may help; else why there is none. */
export function askModel(plan: Plan, state: TurnState, asking: Asking): Action {
  const { purpose, turn, agent, asks, warnings, limits } = asking
  const open = asks.find(({ answer, failed }) => answer === null && failed === null)
  if (open) {
    const { entry } = open
    const request = limits?.maxTokens === undefined ? asking.request : bounded(asking.request, entry.tokens.output)
    return { do: 'call_model', call: { entry, request, warnings } }
  }
  const chain = chainOf(plan, asking)
  const endpoint = chain[asks.length]
  const first = asks[0]?.failed ?? null
  if (first !== null && (endpoint === undefined || FAILURES[first.code].retry !== 'later'))
    return { do: 'end', end: { ok: false, failure: withTried(first, asks) } }
  if (endpoint === undefined)
    return {
      do: 'end',
      end: { ok: false, failure: failureRecord('resource.not_found', `looking for ModelEndpoint ${asking.model}`) },
    }
  const input = estimateRequest(asking.request)
  const left = limits?.maxTokens === undefined ? null : limits.maxTokens - state.spent.tokens - input
  const wanted =
    asking.request.maxTokens ??
    plan.endpoints[endpoint]?.defaults.maxTokens ??
    (left === null ? ANSWER_TOKENS_ASSUMED : left)
  const output = left === null ? wanted : Math.min(wanted, left)
  const refused = limits ? overLimit(plan, state, { endpoint, input, left, limits, agent }) : null
  if (refused !== null) return { do: 'end', end: { ok: false, failure: refused } }
  const call = callIdOf({ purpose, turn, state, nth: asks.length })
  return {
    do: 'ask_model',
    call: {
      entry: { kind: 'model_asked', call, turn, purpose, agent, endpoint, tokens: { input, output } },
      request: left === null ? asking.request : bounded(asking.request, output),
      warnings,
    },
  }
}

/** An answer gets no more tokens than were set aside for it. */
const bounded = (request: ModelRequest, output: number): ModelRequest =>
  request.maxTokens !== undefined && request.maxTokens <= output ? request : { ...request, maxTokens: output }

/** Unique within the activation, and the same whenever the same journal is read. */
function callIdOf({
  purpose,
  turn,
  state,
  nth,
}: {
  purpose: Purpose
  turn: number
  state: TurnState
  nth: number
}): string {
  const further = nth === 0 ? '' : `-${nth + 1}`
  if (purpose === 'route') return `route${further}`
  if (purpose !== 'judge') return `t${turn}${further}`
  const judgements = state.turns.at(-1)?.judgements ?? []
  const closed = judgements.filter(({ answer }) => answer !== null).length
  return `t${turn}j${closed + 1}${further}`
}

/** Endpoints in the order in which they are asked. Where the first keeps prompts local, the others have to. */
function chainOf(plan: Plan, { model, fallbacks, limits }: Asking): string[] {
  const first = plan.endpoints[model]
  if (!first) return []
  const others = [...new Set([...fallbacks, ...(first.fallbacks ?? [])])].filter((name) => {
    const spec = plan.endpoints[name]
    if (!spec || name === model) return false
    if (first.local && !isLocalEndpoint(spec)) return false
    return limits?.maxCost === undefined || priceOf(plan, name, { input: 1, output: 1 }) !== null
  })
  return [model, ...others]
}

function priceOf(plan: Plan, endpoint: string, tokens: { input: number; output: number }) {
  const spec = plan.endpoints[endpoint]
  const table = spec?.prices === undefined ? undefined : plan.prices[spec.prices]
  if (!spec || !table) return null
  return costOf(table, spec, {
    inputTokens: tokens.input,
    outputTokens: tokens.output,
    cachedInputTokens: 0,
    cacheWriteTokens: 0,
  })
}

function overLimit(
  plan: Plan,
  state: TurnState,
  of: { endpoint: string; input: number; left: number | null; limits: AgentSpec['limits']; agent: string },
): FailureRecord | null {
  const { endpoint, input, left, limits, agent } = of
  const what = `asking endpoint ${endpoint} for agent ${agent} in ${plan.what}`
  if (left !== null && left <= 0)
    return tokenLimit(what, {
      agent,
      maxTokens: limits.maxTokens ?? 0,
      spentTokens: state.spent.tokens,
      nextTokens: input,
    })
  if (limits.maxCost === undefined) return null
  const next = priceOf(plan, endpoint, { input, output: 0 })
  const { currency, money, unpriced } = state.spent
  if (next === null || unpriced > 0 || (currency !== null && currency !== next.currency))
    return failureRecord('agent.cost_unknown', what, {
      evidence: { agent, endpoint, maxCost: limits.maxCost, prices: plan.endpoints[endpoint]?.prices ?? null },
    })
  if (money + next.amount <= limits.maxCost) return null
  return costLimit(what, { agent, maxCost: limits.maxCost, spent: money, next: next.amount, currency: next.currency })
}

export const tokenLimit = (what: string, evidence: JsonObject): FailureRecord =>
  failureRecord('agent.token_limit', what, { evidence })
export const costLimit = (what: string, evidence: JsonObject): FailureRecord =>
  failureRecord('agent.cost_limit', what, { evidence })

/** The failure of the endpoint that was asked for, with what became of the others. */
function withTried(failure: FailureRecord, asks: readonly ModelAsk[]): FailureRecord {
  if (asks.length < 2) return failure
  const tried = asks.map(({ entry, failed }) => ({
    endpoint: entry.endpoint,
    code: failed?.code ?? null,
    message: failed?.message ?? null,
  }))
  return { ...failure, evidence: { ...failure.evidence, tried } }
}
