import type { AgentContextRequest, AgentContextResponse } from '../../contract/exchange.ts'
import type { AgentContext } from '../../domain/agents/context.ts'
import { needsOfStep } from '../../domain/agents/step-needs.ts'
import { Failure } from '../../domain/failure.ts'
import { type ModelEndpointSpec, readModelEndpoint, secretsOfEndpoint } from '../../domain/kinds/model-endpoint.ts'
import { readPriceTable } from '../../domain/kinds/price-table.ts'
import { displayName } from '../../domain/step.ts'
import { isOfAgents } from '../../domain/workflow.ts'
import { recordAudit } from '../../store/audit/audit.ts'
import type { Queryable } from '../../store/db.ts'
import { findResources } from '../../store/resources/read-resources.ts'
import { findSessions } from '../../store/sessions/sessions.ts'
import type { EngineContext } from '../context.ts'
import type { Dispatcher } from '../dispatcher.ts'
import type { Caller } from '../engine.ts'
import { heldStep, type HeldStep } from '../held-step.ts'
import { contextVersion } from './context-version.ts'

/** A secret that is wanted, with what it is for. */
interface Wanted {
  secret: string
  key: string
  use: string
}

/**
 * What an attempt at a step of agents uses as it is now: model endpoints, prices, values of secrets, data rules. For the session that holds the step alone. What
 * it takes is written down before it is given. Throws `request.invalid` for a step that is no agent's.
 */
export async function readAgentContext(
  ctx: EngineContext,
  dispatcher: Dispatcher,
  caller: Caller,
  request: AgentContextRequest,
): Promise<AgentContextResponse> {
  const held = await heldStep(ctx, dispatcher, caller, request)
  if (!held) return { state: 'stale', context: null }
  const { at, definition } = held
  const node = definition.nodes[at.node]
  if (!node || !isOfAgents(node) || !definition.bound)
    throw new Failure('request.invalid', `asking what step ${request.step} uses, which is no agent's`)
  // The version before what it is of: what changes in between is asked for once more.
  const version = await contextVersion(ctx.db)
  const { namespace, name: workflow } = definition
  const needs = needsOfStep(node, definition.bound)
  const endpoints = await findEndpoints(ctx.db, namespace, needs.endpoints)
  const prices = await findPrices(ctx.db, namespace, endpoints)
  const wanted = [
    ...needs.secrets,
    ...[...endpoints].flatMap(([name, spec]) =>
      secretsOfEndpoint(spec).map(({ ref, use }) => ({ ...ref, use: `${use} of model endpoint ${name}` })),
    ),
  ]
  const values = await resolve(ctx, held, wanted)
  await noteUse(ctx, held, request, values.given)
  const rules: AgentContext['rules'] = {}
  for (const agent of needs.agents.length > 0 ? needs.agents : [null])
    rules[agent ?? ''] = await ctx.gate.dataRules(ctx.db, { namespace, workflow, runId: at.runId, agent })
  const secrets = values.given.map(({ secret, key, value }) => ({ secret, key, value }))
  return {
    state: 'held',
    context: { version, endpoints: Object.fromEntries(endpoints), prices, secrets, missing: values.missing, rules },
  }
}

/** Those that are there, and those that they fall back to. */
async function findEndpoints(
  on: Queryable,
  namespace: string,
  names: readonly string[],
): Promise<Map<string, ModelEndpointSpec>> {
  const found = new Map<string, ModelEndpointSpec>()
  const read = async (wanted: readonly string[]): Promise<void> => {
    const fresh = wanted.filter((name) => !found.has(name))
    if (fresh.length === 0) return
    for (const row of await findResources(
      on,
      fresh.map((name) => ({ kind: 'ModelEndpoint', namespace, name })),
    ))
      found.set(row.name, readModelEndpoint(row.spec))
  }
  await read(names)
  await read([...new Set([...found.values()].flatMap(({ fallbacks = [] }) => fallbacks))])
  return found
}

async function findPrices(
  on: Queryable,
  namespace: string,
  endpoints: ReadonlyMap<string, ModelEndpointSpec>,
): Promise<AgentContext['prices']> {
  const names = new Set([...endpoints.values()].flatMap(({ prices }) => prices ?? []))
  if (names.size === 0) return {}
  const rows = await findResources(
    on,
    [...names].map((name) => ({ kind: 'PriceTable', namespace, name })),
  )
  return Object.fromEntries(rows.map((row) => [row.name, readPriceTable(row.spec)]))
}

async function resolve(
  ctx: EngineContext,
  { at, definition }: HeldStep,
  wanted: readonly Wanted[],
): Promise<{ given: (Wanted & { value: string })[]; missing: AgentContext['missing'] }> {
  const each = [...new Map(wanted.map((one) => [`${one.secret}/${one.key}`, one])).values()]
  const step = displayName(definition.nodes[at.node]?.name ?? '', at.path)
  const values = await ctx.secretResolver.resolve(
    each.map(({ secret, key, use }) => ({
      secret,
      key,
      namespace: definition.namespace,
      attempted: `resolving secret ${secret}, key ${key}, for ${use} of step ${step} of ${at.runId}`,
      evidence: { step, use },
    })),
  )
  const given: (Wanted & { value: string })[] = []
  const missing: AgentContext['missing'] = []
  for (const [i, one] of each.entries()) {
    const value = values[i]
    if (typeof value === 'string') given.push({ ...one, value })
    else if (value) missing.push({ secret: one.secret, key: one.key, failure: value.toRecord() })
  }
  return { given, missing }
}

/** What cannot be written down is not given. */
async function noteUse(
  ctx: EngineContext,
  { definition }: HeldStep,
  { session, step }: AgentContextRequest,
  given: readonly Wanted[],
): Promise<void> {
  if (given.length === 0) return
  const [row] = await findSessions(ctx.db, [session])
  await recordAudit(
    ctx.db,
    given.map(({ secret, key, use }) => ({
      id: ctx.ids.make('audit'),
      actor: row?.token_id ?? session,
      role: 'worker',
      about: { namespace: definition.namespace },
      action: 'secrets.use',
      object: secret,
      outcome: 'done' as const,
      requestId: null,
      details: { key, as: use, step, worker: row?.worker ?? null },
    })),
  )
}
