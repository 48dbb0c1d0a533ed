import { hash } from 'node:crypto'
import type { Json, JsonObject } from '../base/json.ts'
import type {
  CreateDefinitionRequest,
  CreateRunRequest,
  CreateRunsRequest,
  CreateRunsResponse,
  DefinitionView,
  RunCreated,
  RunState,
} from '../contract/api-types.ts'
import { invalidRequest } from '../contract/check-request.ts'
import { Failure } from '../domain/failure.ts'
import { parseSelector } from '../domain/kinds/selector.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Definition } from '../domain/workflow.ts'
import type { CreateOutcome } from '../engine/engine.ts'
import type { Answer, Exchange } from './context.ts'
import { idempotencyKey, preferWaitMs } from './request-headers.ts'
import { compileSource, type RunStart, startOf } from './run-source.ts'
import { ownDefinition, shown } from './tenancy.ts'

// Bodies and queries were checked by the schema of their route before a handler sees them: that is the reason for each `as` here.

export async function createDefinition(x: Exchange): Promise<Answer> {
  const definition = compileSource(x.body as CreateDefinitionRequest)
  const { hash } = await x.deps.engine.putDefinition(x.caller, ownDefinition(x.caller, definition))
  return x.respondJson(201, viewOf(hash, definition), { location: `/v1/definitions/${hash}` })
}

function viewOf(hash: string, definition: Definition): DefinitionView {
  const { namespace, name, nodes } = definition
  return {
    hash,
    namespace,
    name,
    nodes: nodes.map((n) => ({ name: n.name, kind: n.kind, needs: n.needs.map((i) => nodes[i]?.name ?? String(i)) })),
  }
}

export async function getDefinition(x: Exchange): Promise<Answer> {
  const view = await x.deps.engine.getDefinition(x.caller, x.param('hash'))
  return x.respondJson(200, { ...shown(x.caller, view), definition: shown(x.caller, view.definition) })
}

const NO_INPUTS: JsonObject = {}

export async function createRun(x: Exchange): Promise<Answer> {
  const { engine, clock } = x.deps
  const body = x.body as CreateRunRequest
  const key = idempotencyKey(x.header('idempotency-key'))
  const waitMs = preferWaitMs(x.header('prefer'))
  const start = await startOf(engine, x.caller, body)
  const { definition, warning } = start
  const [outcome] = await engine.createRuns(x.caller, [
    {
      definition,
      inputs: body.inputs ?? NO_INPUTS,
      labels: labelsOf(start, body.labels),
      note: warning,
      idempotencyKey: key,
      fingerprint: key === null ? null : fingerprint(x.bodyText),
    },
  ])
  const { runId, existing, definition: held, remarks } = requireRun(outcome, key)
  if (!existing) x.made(runId)
  const status = existing ? 200 : 201
  const headers: Record<string, string> = { location: `/v1/runs/${runId}`, ...warningHeader(warning) }
  if (waitMs !== null) {
    headers['preference-applied'] = 'wait'
    return x.respondJson(status, shown(x.caller, await engine.waitForRun(x.caller, runId, waitMs, x.signal)), headers)
  }
  if (existing) return x.respondJson(status, shown(x.caller, await engine.getRun(x.caller, runId)), headers)
  const createdAt = new Date(clock.now()).toISOString()
  const heard = [...(warning === null ? [] : [warning]), ...remarks]
  const warnings = heard.length === 0 ? {} : { warnings: heard }
  const answer: RunCreated = { id: runId, state: 'pending', definition: held ?? definition, createdAt, ...warnings }
  return x.respondJson(status, answer, headers)
}

export async function createRuns(x: Exchange): Promise<Answer> {
  const { engine } = x.deps
  const body = x.body as CreateRunsRequest
  const key = idempotencyKey(x.header('idempotency-key'))
  const print = key === null ? null : fingerprint(x.bodyText)
  const start = await startOf(engine, x.caller, body)
  const { definition, warning } = start
  const outcomes = await engine.createRuns(
    x.caller,
    body.items.map((item, i) => ({
      definition,
      inputs: item.inputs ?? NO_INPUTS,
      labels: labelsOf(start, item.labels),
      note: warning,
      // U+001F is no printable character: the key of an item never meets a key that a caller chose.
      idempotencyKey: key === null ? null : `${key}\u001f${i}`,
      fingerprint: print,
    })),
  )
  const runs = outcomes.map((outcome) => requireRun(outcome, key))
  x.madeMany(runs.flatMap((r) => (r.existing ? [] : [r.runId])))
  const answer: CreateRunsResponse = { ids: runs.map((r) => r.runId) }
  return x.respondJson(runs.every((r) => r.existing) ? 200 : 201, answer, warningHeader(warning))
}

/** Labels of the request win over those of the stored workflow. */
function labelsOf(start: RunStart, given: Record<string, string> | undefined): Record<string, string> {
  return given === undefined ? start.labels : { ...start.labels, ...given }
}

const warningHeader = (warning: string | null): Record<string, string> =>
  warning === null ? {} : { warning: `299 orrery ${JSON.stringify(warning)}` }

const fingerprint = (bodyText: string) => hash('sha256', bodyText, 'base64url')

interface Required {
  runId: string
  existing: boolean
  /** What a new run holds; null of one that was there. */
  definition: string | null
  remarks: readonly string[]
}

function requireRun(outcome: CreateOutcome | undefined, key: string | null): Required {
  if (!outcome) throw new Error('the engine gave no outcome for a new run')
  if (outcome.kind === 'key_reused')
    throw new Failure('idempotency.key_reused', `creating a run under the key ${JSON.stringify(key)}`, {
      evidence: { key, runId: outcome.runId },
    })
  const { runId } = outcome
  if (outcome.kind === 'existing') return { runId, existing: true, definition: null, remarks: [] }
  return { runId, existing: false, definition: outcome.definition, remarks: outcome.remarks }
}

export async function listRuns(x: Exchange): Promise<Answer> {
  const q = x.query as {
    namespace?: string
    workflow?: string
    state?: RunState[]
    labelSelector?: string
    since?: string
    cursor?: string
    limit?: number
  }
  const labels = parseSelector(q.labelSelector ?? '')
  if (labels.kind === 'wrong' && q.labelSelector)
    throw invalidRequest('reading the query', 'labelSelector', labels.message)
  const page = await x.deps.engine.listRuns(x.caller, {
    namespace: q.namespace ?? null,
    workflow: q.workflow ?? null,
    states: q.state ?? [],
    terms: labels.kind === 'parsed' ? labels.terms : [],
    since: q.since ?? null,
    cursor: q.cursor ?? null,
    limit: q.limit ?? LIMITS.pageDefault,
  })
  return x.respondJson(200, { ...page, items: page.items.map((run) => shown(x.caller, run)) })
}

export async function getRun(x: Exchange): Promise<Answer> {
  const { engine } = x.deps
  const id = x.param('id')
  const waitMs = preferWaitMs(x.header('prefer'))
  if (waitMs === null) return x.respondJson(200, shown(x.caller, await engine.getRun(x.caller, id)))
  const run = await engine.waitForRun(x.caller, id, waitMs, x.signal)
  return x.respondJson(200, shown(x.caller, run), { 'preference-applied': 'wait' })
}

export async function listSteps(x: Exchange): Promise<Answer> {
  const q = x.query as { cursor?: string; limit?: number }
  const filter = { cursor: q.cursor ?? null, limit: q.limit ?? LIMITS.pageDefault }
  return x.respondJson(200, await x.deps.engine.listSteps(x.caller, x.param('id'), filter))
}

export async function cancelRun(x: Exchange): Promise<Answer> {
  return x.respondJson(200, shown(x.caller, await x.deps.engine.cancelRun(x.caller, x.param('id'))))
}

export async function retryRun(x: Exchange): Promise<Answer> {
  return x.respondJson(200, shown(x.caller, await x.deps.engine.retryRun(x.caller, x.param('id'))))
}

export async function retryStep(x: Exchange): Promise<Answer> {
  return x.respondJson(200, shown(x.caller, await x.deps.engine.retryStep(x.caller, x.param('id'), x.param('name'))))
}

export async function nudgeRun(x: Exchange): Promise<Answer> {
  const nudged = await x.deps.engine.nudgeRun(x.caller, x.param('id'))
  return x.respondJson(200, { ...nudged, run: shown(x.caller, nudged.run) })
}

export async function skipStep(x: Exchange): Promise<Answer> {
  const { output } = x.body as { output: Json }
  return x.respondJson(
    200,
    shown(x.caller, await x.deps.engine.skipStep(x.caller, x.param('id'), x.param('name'), output)),
  )
}
